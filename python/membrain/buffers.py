"""Memory of all kinds as (address, bytes), and what must be held while it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

from membrain import _native
from membrain.errors import InvalidArgument

Piece = tuple[int, int]

HOST = -1  # the device of host memory; GPUs count from 0

# DLPack's device types (dlpack.h, DLDeviceType): host memory, CUDA's, and CUDA's pinned host memory
_DL_CPU, _DL_CUDA, _DL_CUDA_HOST = 1, 2, 3


class Pieces:
    """Runs of memory of one device, one behind the other. `keep` holds them still."""

    __slots__ = ("device", "keep", "runs")

    def __init__(self, runs: list[Piece], keep: list[object], device: int = HOST) -> None:
        self.runs = runs
        self.keep = keep
        self.device = device

    @property
    def size(self) -> int:
        return sum(size for _, size in self.runs)


def _is_piece(memory: object) -> TypeGuard[Piece]:
    return (
        isinstance(memory, tuple)
        and len(memory) == 2
        and all(isinstance(number, int) for number in memory)
    )


def _of_tensor(tensor: Any) -> Pieces:
    """Anything with `data_ptr()`: a torch.Tensor, without importing torch."""
    if not tensor.is_contiguous():
        raise InvalidArgument("the tensor is not contiguous: pass tensor.contiguous(), or its rows")
    if tensor.device.type not in ("cpu", "cuda"):
        raise InvalidArgument(f"the tensor is on {tensor.device}, which is no memory known here")
    size = tensor.numel() * tensor.element_size()
    device = HOST if tensor.device.type == "cpu" else int(tensor.device.index or 0)
    return _checked([(tensor.data_ptr(), size)], [tensor], device)


def _of_dlpack(array: Any) -> Pieces:
    try:
        tensor = _native.DlTensor(array.__dlpack__())
    except (ValueError, TypeError, RuntimeError, BufferError) as error:
        raise _unusable(array, error) from error
    if tensor.device_type in (_DL_CPU, _DL_CUDA_HOST):
        device = HOST
    elif tensor.device_type == _DL_CUDA:
        device = tensor.device
    else:
        raise InvalidArgument(f"memory of a device of DLPack's type {tensor.device_type}")
    return _checked([(tensor.address, tensor.size)], [tensor], device)


def _of_cuda_array(array: Any, *, writable: bool) -> Pieces:
    """The CUDA array interface names no GPU: the array does, in `device`."""
    face: dict[str, Any] = array.__cuda_array_interface__
    address, read_only = face["data"]
    if writable and read_only:
        raise InvalidArgument("the array is read-only")
    item = int(face["typestr"][2:])
    size = item
    for length in reversed(face["shape"]):
        size *= length
    strides = face.get("strides")
    if strides is not None:
        expected = item
        for length, stride in zip(reversed(face["shape"]), reversed(strides), strict=True):
            if length != 1 and stride != expected:
                raise InvalidArgument("the array is not contiguous")
            expected *= length
    device = getattr(array, "device", None)
    number = device if isinstance(device, int) else getattr(device, "id", None)
    if not isinstance(number, int):
        raise InvalidArgument("the array does not say on which GPU it is: it has no `device`")
    return _checked([(address, size)], [array], number)


def _checked(runs: list[Piece], keep: list[object], device: int) -> Pieces:
    if any(size == 0 for _, size in runs):
        raise InvalidArgument("an empty buffer")
    return Pieces(runs, keep, device)


def _unusable(memory: object, error: Exception) -> InvalidArgument:
    kind = type(memory).__name__
    return InvalidArgument(f"a {kind} is no memory that can be used here: {error}")


def pieces_of(memory: object, *, writable: bool) -> Pieces:
    """`memory` is an object with the buffer protocol (bytes, a numpy array), one with `data_ptr()`
    (a torch tensor), with `__dlpack__` or `__cuda_array_interface__`, a pair (address, bytes) in
    the host's memory, or a list of these."""
    if _is_piece(memory):
        address, size = memory
        if address <= 0 or size <= 0:
            raise InvalidArgument("a piece is (address, bytes), both positive")
        return Pieces([(address, size)], [])
    if isinstance(memory, list | tuple):
        parts = [pieces_of(part, writable=writable) for part in memory]
        return Pieces(
            [run for part in parts for run in part.runs],
            [held for part in parts for held in part.keep],
            one_device(parts),
        )
    # The buffer protocol first: it says whether the memory may be written to, which DLPack 0.6 does
    # not, and most memory has it.
    try:
        buffer = _native.Buffer(memory, writable)
    except TypeError as error:
        if hasattr(memory, "data_ptr"):
            return _of_tensor(memory)
        if hasattr(memory, "__cuda_array_interface__"):
            return _of_cuda_array(memory, writable=writable)
        if hasattr(memory, "__dlpack__"):
            return _of_dlpack(memory)
        raise _unusable(memory, error) from error
    except (BufferError, ValueError) as error:
        raise _unusable(memory, error) from error
    return _checked([(buffer.address, buffer.size)], [buffer], HOST)


def all_pieces(memories: Sequence[object], *, writable: bool) -> list[Pieces]:
    return [pieces_of(memory, writable=writable) for memory in memories]


def one_device(parts: Sequence[Pieces]) -> int:
    """The device of them all."""
    devices = {part.device for part in parts}
    if len(devices) > 1:
        raise InvalidArgument("memory of several devices in one call")
    return devices.pop() if devices else HOST


def host_buffers(memories: Sequence[object], *, writable: bool) -> _native.Buffers | None:
    """The memory of them all, if they are what most are: whole objects with the buffer protocol."""
    try:
        return _native.Buffers(memories, writable)
    except (TypeError, BufferError, ValueError):
        return None  # one by one, `pieces_of` takes more, and says what it cannot take
