"""A transformer of numpy: attention over a paged KV cache, weights from a seed.

It computes a block of 16 tokens at a time, always with the same shapes, so that equal tokens give
equal bits however the prompt was cut before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]

BLOCK_TOKENS = 16


@dataclass(frozen=True)
class Shape:
    layers: int = 4
    heads: int = 4
    head_dim: int = 64
    vocabulary: int = 256  # bytes

    @property
    def width(self) -> int:
        return self.heads * self.head_dim


class Model:
    """Threads: any number at once; it does not change."""

    def __init__(self, shape: Shape, seed: int = 1) -> None:
        self.shape = shape
        random = np.random.default_rng(seed)
        width = shape.width

        def weights(rows: int, columns: int) -> Array:
            made: Array = (random.standard_normal((rows, columns)) / np.sqrt(rows)).astype("f4")
            return made

        self.embedding = weights(shape.vocabulary, width) * np.float32(np.sqrt(shape.vocabulary))
        self.layers = [
            {
                "qkv": weights(width, 3 * width),
                "out": weights(width, width),
                "up": weights(width, 4 * width),
                "down": weights(4 * width, width),
            }
            for _ in range(shape.layers)
        ]

    def block(
        self, tokens: Sequence[int], index: int, cache: Sequence[Array], ids: Sequence[int]
    ) -> Array:
        """Computes block `index` of a prompt: writes its keys and values into block ids[index] of
        each layer's cache (blocks, 2, 16, heads, head_dim), reads those before it. Returns the
        logits behind each of its tokens; fewer than 16 are filled up with token 0."""
        padded = np.zeros(BLOCK_TOKENS, np.int64)
        padded[: len(tokens)] = tokens
        positions = index * BLOCK_TOKENS + np.arange(BLOCK_TOKENS)
        x = self.embedding[padded] + _places(positions, self.shape.width)
        for layer, weights in enumerate(self.layers):
            q, k, v = np.split(_norm(x) @ weights["qkv"], 3, axis=1)
            page = cache[layer][ids[index]]
            page[0] = k.reshape(page[0].shape)
            page[1] = v.reshape(page[1].shape)
            pages = cache[layer][list(ids[: index + 1])]
            x = x + self._attend(q, pages, positions) @ weights["out"]
            x = x + np.maximum(_norm(x) @ weights["up"], 0) @ weights["down"]
        logits: Array = _norm(x) @ self.embedding.T
        return logits

    def _attend(self, q: Array, pages: Array, positions: Any) -> Array:
        shape = self.shape
        keys = pages[:, 0].reshape(-1, shape.heads, shape.head_dim).transpose(1, 2, 0)
        values = pages[:, 1].reshape(-1, shape.heads, shape.head_dim).transpose(1, 0, 2)
        queries = q.reshape(BLOCK_TOKENS, shape.heads, shape.head_dim).transpose(1, 0, 2)
        scores = queries @ keys / np.float32(np.sqrt(shape.head_dim))
        future = np.arange(keys.shape[2])[None, :] > positions[:, None]
        scores[:, future] = -np.inf
        scores = np.exp(scores - scores.max(axis=2, keepdims=True))
        mixed = scores / scores.sum(axis=2, keepdims=True) @ values
        return np.ascontiguousarray(mixed.transpose(1, 0, 2)).reshape(BLOCK_TOKENS, shape.width)


def _norm(x: Array) -> Array:
    normal: Array = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + np.float32(1e-5))
    return normal


def _places(positions: Any, width: int) -> Array:
    """Sines and cosines of the position (Vaswani et al. 2017, 3.5)."""
    rates = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angles = positions[:, None] * rates[None, :]
    places: Array = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    return places
