"""An engine around the model: a paged cache, a block manager, and the cluster behind it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from model import BLOCK_TOKENS, Array, Model

from membrain import Client, Layout, MembrainKVCacheManager, Namespace


@dataclass(frozen=True)
class Answer:
    logits: Array  # behind the last token
    seconds: float  # to the first token
    reused_tokens: int


def hashes_of(tokens: bytes) -> list[bytes]:
    """A hash a full block, of its tokens and all before."""
    hashes: list[bytes] = []
    for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        before = hashes[-1] if hashes else b"mini engine"
        hashes.append(hashlib.sha256(before + tokens[start : start + BLOCK_TOKENS]).digest())
    return hashes


class Engine:
    """Without a client it computes everything that it has not computed itself."""

    def __init__(
        self,
        model: Model,
        blocks: int,
        client: Client | None = None,
        space: Namespace | None = None,
    ) -> None:
        shape = model.shape
        page = (blocks, 2, BLOCK_TOKENS, shape.heads, shape.head_dim)
        self.model = model
        self.cache = [np.zeros(page, np.float32) for _ in range(shape.layers)]
        self.manager = MembrainKVCacheManager(
            blocks=blocks,
            block_tokens=BLOCK_TOKENS,
            client=client,
            space=space,
            layout=Layout.of_arrays(self.cache),
        )
        self._requests = 0

    async def prefill(self, tokens: bytes) -> Answer:
        """Reads a prompt, to its first token."""
        self._requests += 1
        request = SimpleNamespace(
            request_id=str(self._requests),
            block_hashes=hashes_of(tokens),
            num_tokens=len(tokens),
            num_computed_tokens=0,
        )
        begun = time.perf_counter()
        _, local = self.manager.get_computed_blocks(request)
        await self.manager.remote_tokens(request)
        if self.manager.allocate_slots(request, len(tokens) - local) is None:
            raise RuntimeError("the prompt is longer than the engine's cache")
        reused = await self.manager.fetch(request, local)
        request.num_computed_tokens = reused
        (ids,) = self.manager.get_block_ids(request.request_id)
        logits = np.zeros((1, 1), np.float32)
        for start in range(reused, len(tokens), BLOCK_TOKENS):
            part = tokens[start : start + BLOCK_TOKENS]
            logits = self.model.block(list(part), start // BLOCK_TOKENS, self.cache, ids)
        answer = Answer(
            logits[(len(tokens) - 1) % BLOCK_TOKENS], time.perf_counter() - begun, reused
        )
        await self.manager.save(request, len(tokens))
        self.manager.free(request)
        return answer
