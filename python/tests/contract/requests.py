"""A request, as the scheduler sees it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from contract.model import BLOCK_TOKENS, SEED_HASH, block_hashes, prefix_values


class Status(Enum):
    WAITING = 1
    WAITING_FOR_REMOTE_KVS = 2
    RUNNING = 3
    PREEMPTED = 4
    FINISHED = 5


class Request:
    def __init__(
        self,
        request_id: str,
        tokens: Sequence[int],
        output: int,
        seed: bytes = SEED_HASH,
        hash_tokens: int = BLOCK_TOKENS,
        skip_reading_prefix_cache: bool = False,
    ) -> None:
        self.request_id = request_id
        self.tokens = list(tokens)
        self.output_left = output
        self.num_computed_tokens = 0
        self.status = Status.WAITING
        self.ids: list[list[int]] = []  # by group
        self.seed = seed
        self._hash_tokens = hash_tokens
        # It wants logits of the prompt's tokens, say: all of them are computed.
        self.skip_reading_prefix_cache = skip_reading_prefix_cache
        self.failed_load = False
        self.external = 0  # tokens that were loaded last
        self.weights: dict[int, bytes] = {}  # with which tokens were computed, where not today's
        self._renew()

    def _renew(self) -> None:
        self.block_hashes = block_hashes(self.tokens, self._hash_tokens, self.seed)
        self.values = prefix_values(self.tokens)

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)

    def append(self, token: int) -> None:
        self.tokens.append(token)
        self.output_left -= 1
        self._renew()
