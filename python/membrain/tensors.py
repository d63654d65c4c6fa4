"""Blocks as tensors: what one must look like, and its bytes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from membrain.buffers import HOST, pieces_of
from membrain.errors import InvalidArgument


@dataclass(frozen=True)
class BlockShape:
    """Of every block of a namespace. `dtype` as the array library writes it: "float16",
    "torch.bfloat16"."""

    shape: tuple[int, ...]
    dtype: str

    def check(self, tensor: Any, what: str) -> None:
        """Raises InvalidArgument for a tensor that is not such a block."""
        for name in ("shape", "dtype"):
            if not hasattr(tensor, name):
                kind = type(tensor).__name__
                raise InvalidArgument(f"{what}: a {kind} is no tensor: it has no {name}")
        shape = tuple(int(length) for length in tensor.shape)
        if 0 in shape or not shape:
            raise InvalidArgument(f"{what}: an empty tensor, of shape {shape}")
        if shape != self.shape:
            raise InvalidArgument(f"{what}: its shape is {shape}, blocks have {self.shape}")
        if _plain(tensor.dtype) != _plain(self.dtype):
            raise InvalidArgument(f"{what}: its dtype is {tensor.dtype}, blocks have {self.dtype}")
        pieces_of(tensor, writable=False)  # that it is contiguous, and memory at all


def _plain(dtype: object) -> str:
    return str(dtype).rpartition(".")[2]


def bytes_of(tensor: object) -> bytes:
    """A copy. Of memory of the host."""
    memory = pieces_of(tensor, writable=False)
    if memory.device != HOST:
        raise InvalidArgument("only memory of the host is kept in this process")
    return b"".join(ctypes.string_at(address, size) for address, size in memory.runs)


def fill(tensor: object, content: bytes) -> None:
    memory = pieces_of(tensor, writable=True)
    if memory.size != len(content):
        raise InvalidArgument(f"{len(content)} bytes do not fit into {memory.size}")
    at = 0
    for address, size in memory.runs:
        ctypes.memmove(address, content[at : at + size], size)
        at += size
