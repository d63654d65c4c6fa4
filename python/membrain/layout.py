"""Layouts: where an engine's paged KV cache lies, told once, so that calls name blocks by ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from membrain import _native
from membrain.buffers import HOST, one_device, pieces_of
from membrain.core import value_of
from membrain.errors import InvalidArgument


@dataclass(frozen=True)
class Plane:
    """A piece of every block, at a fixed distance from one block to the next."""

    base: int  # address of block 0's piece
    stride: int  # bytes from a block's piece to the next block's
    piece: int  # bytes of one block in this plane


class Layout:
    """A whole cache, on one device. A block is its pieces, in the order of the planes."""

    def __init__(
        self, planes: Sequence[Plane], blocks: int, device: int = HOST, keep: object = None
    ) -> None:
        """`keep` is held as long as the layout: the memory that the planes lie in."""
        self.planes = tuple(planes)
        wanted = [(plane.base, plane.stride, plane.piece) for plane in planes]
        try:
            self.native: Any = value_of(_native.register_layout(wanted, blocks))
        except TypeError as error:
            raise InvalidArgument("a plane is three numbers that are not negative") from error
        self.device = device
        self.keep = keep

    @classmethod
    def of_arrays(cls, arrays: Sequence[Any]) -> Layout:
        """One plane an array (numpy, torch, ...) of the shape (blocks, ...), all of it
        contiguous."""
        if not arrays:
            raise InvalidArgument("a layout of no arrays")
        pieces = [pieces_of(array, writable=True) for array in arrays]
        counts = {len(array) for array in arrays}
        if len(counts) != 1:
            raise InvalidArgument("arrays of different numbers of blocks")
        count = counts.pop()
        planes = []
        for memory in pieces:
            (address, size), *_ = memory.runs
            planes.append(Plane(address, size // count, size // count))
        return cls(planes, count, one_device(pieces), pieces)

    @property
    def blocks(self) -> int:
        return int(self.native.block_count)

    @property
    def block_bytes(self) -> int:
        return int(self.native.block_bytes)
