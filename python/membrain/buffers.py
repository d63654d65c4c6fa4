"""Memory of all kinds as (address, bytes), and what must be held while it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

from membrain import _native
from membrain.errors import InvalidArgument

Piece = tuple[int, int]


class Pieces:
    """Runs of memory, one behind the other. `keep` holds them still."""

    __slots__ = ("keep", "runs")

    def __init__(self, runs: list[Piece], keep: list[object]) -> None:
        self.runs = runs
        self.keep = keep

    @property
    def size(self) -> int:
        return sum(size for _, size in self.runs)


def _is_piece(memory: object) -> TypeGuard[Piece]:
    return (
        isinstance(memory, tuple)
        and len(memory) == 2
        and all(isinstance(number, int) for number in memory)
    )


def _of_tensor(tensor: Any) -> Piece:
    """Anything with `data_ptr()`: a torch.Tensor, without importing torch."""
    if not tensor.is_contiguous():
        raise InvalidArgument("the tensor is not contiguous: pass tensor.contiguous(), or its rows")
    if tensor.device.type != "cpu":
        raise InvalidArgument(f"the tensor is on {tensor.device}: only memory of the host is taken")
    return tensor.data_ptr(), tensor.numel() * tensor.element_size()


def pieces_of(memory: object, *, writable: bool) -> Pieces:
    """`memory` is an object with the buffer protocol (bytes, a numpy array), one with `data_ptr()`
    (a torch tensor), a pair (address, bytes), or a list of these."""
    if _is_piece(memory):
        address, size = memory
        if address <= 0 or size <= 0:
            raise InvalidArgument("a piece is (address, bytes), both positive")
        return Pieces([(address, size)], [])
    if isinstance(memory, list | tuple):
        runs: list[Piece] = []
        keep: list[object] = []
        for part in memory:
            one = pieces_of(part, writable=writable)
            runs += one.runs
            keep += one.keep
        return Pieces(runs, keep)
    if hasattr(memory, "data_ptr"):
        return Pieces([_of_tensor(memory)], [memory])
    if hasattr(memory, "__cuda_array_interface__"):
        raise InvalidArgument("memory of a GPU: only memory of the host is taken")
    try:
        buffer = _native.Buffer(memory, writable)
    except (TypeError, BufferError, ValueError) as error:
        kind = type(memory).__name__
        raise InvalidArgument(f"a {kind} is no memory that can be used here: {error}") from error
    if buffer.size == 0:
        raise InvalidArgument("an empty buffer")
    return Pieces([(buffer.address, buffer.size)], [buffer])


def all_pieces(memories: Sequence[object], *, writable: bool) -> list[Pieces]:
    return [pieces_of(memory, writable=writable) for memory in memories]
