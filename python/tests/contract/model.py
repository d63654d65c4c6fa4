"""The engine's model: what its KV cache must hold, byte by byte."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, lcm
from types import SimpleNamespace
from typing import Any

import numpy as np

from contract.tensors import Bytes, Tensor

BLOCK_TOKENS = 4
PAGE_BYTES = 48  # of a block in one layer of one rank, whatever its group
MOST_TOKEN_BYTES = 24
SALTED = [bytes(byte ^ salt for byte in range(256)) for salt in range(256)]
SEED_HASH = b"the first value of the hash chain"


def prefix_values(tokens: Sequence[int]) -> list[bytes]:
    """For each token a value of it and all before it; its first bytes are kept."""
    values = []
    state = hashlib.blake2b(digest_size=MOST_TOKEN_BYTES)
    for token in tokens:
        state.update(token.to_bytes(4, "little"))
        values.append(state.digest())
    return values


def block_hashes(tokens: Sequence[int], tokens_each: int, seed: bytes = SEED_HASH) -> list[bytes]:
    """Of full blocks, as vLLM chains them."""
    hashes: list[bytes] = []
    parent = seed
    for start in range(0, len(tokens) - tokens_each + 1, tokens_each):
        digest = hashlib.sha256(parent)
        digest.update(repr(tuple(tokens[start : start + tokens_each])).encode())
        parent = digest.digest()
        hashes.append(parent)
    return hashes


@dataclass(frozen=True)
class GroupSpec:
    """`window_tokens` 0: full attention. `own`: no two ranks have the same heads of it, whatever
    the model's others do."""

    window_tokens: int = 0
    block_tokens: int = BLOCK_TOKENS
    own: bool = False

    @property
    def window_blocks(self) -> int:
        return -(-(self.window_tokens - 1) // self.block_tokens) if self.window_tokens else 0

    @property
    def token_bytes(self) -> int:
        return PAGE_BYTES // self.block_tokens


def hash_tokens_of(groups: Sequence[GroupSpec]) -> int:
    """Tokens that are hashed together."""
    return gcd(*(group.block_tokens for group in groups))


def align_of(groups: Sequence[GroupSpec]) -> int:
    """What hits are multiples of."""
    return lcm(*(group.block_tokens for group in groups))


class FullAttentionSpec(SimpleNamespace):
    """The connector tells specs apart by the names of their classes."""


class SlidingWindowSpec(SimpleNamespace):
    pass


def spec_of(group: GroupSpec) -> Any:
    words = {"block_size": group.block_tokens, "page_size_bytes": PAGE_BYTES}
    if group.window_tokens:
        return SlidingWindowSpec(sliding_window=group.window_tokens, **words)
    return FullAttentionSpec(**words)


class RankCache:
    """One rank's KV cache: `layers` pages a block, each of which belongs to one layer of every
    group, as vLLM shares them between groups."""

    def __init__(
        self, rank: int, heads: int, groups: Sequence[GroupSpec], layers: int, blocks: int
    ) -> None:
        self.rank = rank
        self.heads = heads  # which of the model's: several ranks may have the same
        self.layers = layers
        self.pages: Bytes = np.zeros((layers, blocks, PAGE_BYTES), np.uint8)
        self.groups = groups
        self._sizes = [group.token_bytes for group in groups]
        self._blocks = blocks
        self._bytes = self.pages.data.cast("B")

    def tensors(self) -> dict[str, Tensor]:
        blocks = self.pages.shape[1]
        return {
            f"group {group} layer {layer}": Tensor(
                self.pages[layer].reshape(-1), (blocks, spec.block_tokens, spec.token_bytes)
            )
            for group, spec in enumerate(self.groups)
            for layer in range(self.layers)
        }

    def _slot(self, group: int, layer: int, block: int, offset: int) -> slice:
        size = self._sizes[group]
        start = (layer * self._blocks + block) * PAGE_BYTES + offset * size
        return slice(start, start + size)

    def value(self, group: int, layer: int, prefix: bytes) -> bytes:
        cut = self.rank if self.groups[group].own else self.heads
        salt = 1 + cut * 31 + group * 7 + layer
        return prefix[: self._sizes[group]].translate(SALTED[salt])

    def write(self, group: int, block: int, offset: int, prefix: bytes) -> None:
        for layer in range(self.layers):
            slot = self._slot(group, layer, block, offset)
            self._bytes[slot] = self.value(group, layer, prefix)

    def check(self, group: int, block: int, offset: int, prefix: bytes, what: str) -> None:
        for layer in range(self.layers):
            right = self.value(group, layer, prefix)
            if self._bytes[self._slot(group, layer, block, offset)] != right:
                raise AssertionError(
                    f"{what}: wrong bytes in block {block} of group {group}, layer {layer}"
                )
