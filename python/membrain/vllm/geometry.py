"""Where a block lies in KV cache tensors, found from their shapes and strides.

vLLM has laid out a layer's cache in three ways so far, and packs all layers together in others
(design: K and V outermost; K and V within a block; both packed in one dimension). What they have in
common: a storage of `blocks` equal pages, and dimensions whose stride is longer than a page, which
cut the storage into segments. A block is a piece of each segment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from membrain.layout import Plane
from membrain.vllm.options import WrongSetting
from membrain.vllm.settings import Group


@dataclass(frozen=True)
class LayerCache:
    """Of one layer: its planes, and in which order its values lie within a block."""

    planes: tuple[Plane, ...]
    order: str


def _storage_of(tensor: Any) -> tuple[int, int]:
    """Address and bytes."""
    storage = tensor.untyped_storage()
    return int(storage.data_ptr()), int(storage.nbytes())


def _layer(name: str, tensor: Any, blocks: int, layers: int | None = None) -> LayerCache:
    """`layers`: the dimension in which the layers are counted, if there is one."""
    base, size = _storage_of(tensor)
    if blocks < 3 or size % blocks != 0:
        raise WrongSetting(f"{name}: {size} bytes are not {blocks} pages (of at least 3 blocks)")
    page = size // blocks
    item = int(tensor.element_size())
    shape = [int(length) for length in tensor.shape]
    strides = [int(stride) * item for stride in tensor.stride()]
    outer = [axis for axis, stride in enumerate(strides) if stride > page and shape[axis] > 1]
    segments = 1
    for axis in outer:
        segments *= shape[axis]
    if page % segments != 0:
        raise WrongSetting(f"{name}: {segments} segments do not share a page of {page} bytes")
    piece = page // segments
    planes = []
    for index in product(*(range(shape[axis]) for axis in outer)):
        start = sum(number * strides[axis] for number, axis in zip(index, outer, strict=True))
        if start + piece * blocks > size:
            raise WrongSetting(
                f"{name}: shape {tuple(shape)} with strides {tuple(strides)} (bytes) does not lie"
                f" in its storage of {size} bytes as blocks of {page}"
            )
        planes.append(Plane(base + start, piece, piece))
    lengths: list[int | str] = [*shape]
    if layers is not None:
        lengths[layers] = "L"  # stages of a pipeline have different numbers
    return LayerCache(tuple(planes), _order(shape, lengths, strides, outer, piece, item))


def _order(
    shape: Sequence[int],
    lengths: Sequence[int | str],
    strides: Sequence[int],
    outer: Sequence[int],
    piece: int,
    item: int,
) -> str:
    """The same for layouts whose blocks are the same bytes: the dimensions without that of the
    blocks, and how they are nested. The blocks' own is the one that steps over pieces."""
    inner = [axis for axis in range(len(shape)) if axis not in outer]
    of_blocks = max(inner, key=lambda axis: (strides[axis], shape[axis]))
    rest = [axis for axis in range(len(shape)) if axis != of_blocks and shape[axis] > 1]
    nested = sorted(rest, key=lambda axis: -strides[axis])
    words = "x".join(str(lengths[axis]) for axis in rest)
    kernel = strides[of_blocks]  # several of the attention kernel's blocks may make one of ours
    parts = f"*{piece // kernel}" if 0 < kernel < piece and piece % kernel == 0 else ""
    return f"{words}@{''.join(str(rest.index(axis)) for axis in nested)}:{item}{parts}"


@dataclass(frozen=True)
class GroupCache:
    """Of one KV group: the planes of all its layers, and a fingerprint of what a block's bytes
    mean."""

    planes: tuple[Plane, ...]
    fingerprint: str

    @property
    def block_bytes(self) -> int:
        return sum(plane.piece for plane in self.planes)


def tensors_of(cache: Any) -> list[Any]:
    """A layer's tensors: a Mamba layer has several, of one storage."""
    return list(cache) if isinstance(cache, list | tuple) else [cache]


def group_cache(group: Group, caches: Mapping[str, Any], blocks: int) -> GroupCache:
    """Of the tensors that vLLM registers by layer. Layers that share a storage are one plane."""
    planes: dict[Plane, None] = {}
    orders = []
    for name in group.layers:
        if name not in caches:
            continue  # it shares the cache of another layer
        for tensor in tensors_of(caches[name]):
            layer = _layer(name, tensor, blocks)
            page = sum(plane.piece for plane in layer.planes)
            if group.page_bytes not in (0, page):
                raise WrongSetting(
                    f"{name}: a block has {page} bytes, but vLLM says {group.page_bytes}"
                )
            orders.append(layer.order)
            planes.update(dict.fromkeys(layer.planes))
    if not planes:
        raise WrongSetting(f"KV cache group {group.index}: none of its layers was registered")
    return _group_cache(planes, orders)


def cross_layer_cache(tensor: Any, blocks: int, backend: Any = None) -> GroupCache:
    """Of one tensor for all layers, in which a block is one page. `backend`: vLLM's, which knows
    in what order its dimensions are."""
    order = getattr(backend, "get_kv_cache_stride_order", None)
    layers = None if order is None else list(order(include_num_layers_dimension=True)).index(0)
    layer = _layer("the cross-layer cache", tensor, blocks, layers)
    return _group_cache(dict.fromkeys(layer.planes), ["all layers", layer.order])


def _group_cache(planes: Mapping[Plane, None], orders: Sequence[str]) -> GroupCache:
    """Stages of a pipeline have different numbers of layers, and yet one namespace."""
    digest = hashlib.sha256("\n".join(dict.fromkeys(orders)).encode()).hexdigest()
    return GroupCache(tuple(planes), digest[:32])
