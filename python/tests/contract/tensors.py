"""As much of torch.Tensor as the connector looks at, over numpy."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Tensor:
    """A view of a storage: shape and strides in elements."""

    device = SimpleNamespace(type="cpu", index=None)

    def __init__(
        self,
        storage: Bytes,
        shape: Sequence[int],
        stride: Sequence[int] | None = None,
        item: int = 1,
    ) -> None:
        self._storage = storage
        self.shape = tuple(shape)
        steps = []
        step = 1
        for length in reversed(self.shape):
            steps.append(step)
            step *= length
        self._stride = tuple(stride) if stride is not None else tuple(reversed(steps))
        self._item = item

    def stride(self) -> tuple[int, ...]:
        return self._stride

    def element_size(self) -> int:
        return self._item

    def data_ptr(self) -> int:
        return int(self._storage.ctypes.data)

    def untyped_storage(self) -> Any:
        return SimpleNamespace(data_ptr=self.data_ptr, nbytes=lambda: self._storage.nbytes)
