"""The engine's model: what its KV cache must hold, byte by byte."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from contract.tensors import Bytes, Tensor

BLOCK_TOKENS = 4
TOKEN_BYTES = 8  # of one layer and one rank
SEED_HASH = b"the first value of the hash chain"


def prefix_values(tokens: Sequence[int]) -> list[bytes]:
    """For each token a value of it and all before it."""
    values = []
    state = hashlib.blake2b(digest_size=TOKEN_BYTES)
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
    """`window_tokens` 0: full attention."""

    window_tokens: int = 0

    @property
    def window_blocks(self) -> int:
        return -(-(self.window_tokens - 1) // BLOCK_TOKENS) if self.window_tokens else 0


class FullAttentionSpec(SimpleNamespace):
    """The connector tells specs apart by the names of their classes."""


class SlidingWindowSpec(SimpleNamespace):
    pass


def spec_of(group: GroupSpec) -> Any:
    page = BLOCK_TOKENS * TOKEN_BYTES
    if group.window_tokens:
        return SlidingWindowSpec(
            block_size=BLOCK_TOKENS, sliding_window=group.window_tokens, page_size_bytes=page
        )
    return FullAttentionSpec(block_size=BLOCK_TOKENS, page_size_bytes=page)


class RankCache:
    """One rank's KV cache: `layers` pages a block, each of which belongs to one layer of every
    group, as vLLM shares them between groups."""

    def __init__(self, rank_value: int, groups: Sequence[GroupSpec], layers: int, blocks: int):
        self.rank_value = rank_value  # ranks with the same heads have the same
        self.layers = layers
        self.pages: Bytes = np.zeros((layers, blocks, BLOCK_TOKENS, TOKEN_BYTES), np.uint8)
        self.groups = groups

    def tensors(self) -> dict[str, Tensor]:
        blocks = self.pages.shape[1]
        shape = (blocks, BLOCK_TOKENS, TOKEN_BYTES)
        return {
            f"group {group} layer {layer}": Tensor(self.pages[layer].reshape(-1), shape)
            for group in range(len(self.groups))
            for layer in range(self.layers)
        }

    def value(self, group: int, layer: int, prefix: bytes) -> Bytes:
        salt = 1 + self.rank_value * 31 + group * 7 + layer
        return np.frombuffer(prefix, np.uint8) ^ np.uint8(salt)

    def write(self, group: int, block: int, offset: int, prefix: bytes) -> None:
        for layer in range(self.layers):
            self.pages[layer, block, offset] = self.value(group, layer, prefix)

    def check(self, group: int, block: int, offset: int, prefix: bytes, what: str) -> None:
        for layer in range(self.layers):
            right = self.value(group, layer, prefix)
            if not np.array_equal(self.pages[layer, block, offset], right):
                raise AssertionError(
                    f"{what}: wrong bytes in block {block} of group {group}, layer {layer}"
                )
