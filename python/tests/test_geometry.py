"""Where blocks lie in tensors of every layout that vLLM has had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from contract.tensors import Tensor

from membrain.layout import Plane
from membrain.vllm.geometry import GroupCache, cross_layer_cache, group_cache
from membrain.vllm.options import WrongSetting
from membrain.vllm.settings import Group

BLOCKS, TOKENS, HEADS, DIM, ITEM = 10, 16, 4, 8, 2
PAGE = 2 * TOKENS * HEADS * DIM * ITEM
GROUP = Group(0, TOKENS, ("one", "two"))


def storage(pages: int = BLOCKS, page: int = PAGE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.zeros(pages * page, np.uint8)


def tensor(shape: Sequence[int], order: Sequence[int] | None = None) -> Tensor:
    """`order`: the dimensions as they are nested in memory, outermost first."""
    nested = list(order if order is not None else range(len(shape)))
    stride = [0] * len(shape)
    step = 1
    for axis in reversed(nested):
        stride[axis] = step
        step *= shape[axis]
    return Tensor(storage(1, step * ITEM), shape, stride, ITEM)


def cache_of(tensors: Mapping[str, Any], group: Group = GROUP) -> GroupCache:
    return group_cache(group, tensors, BLOCKS)


OUTERMOST = (2, BLOCKS, TOKENS, HEADS, DIM)
INNER = (BLOCKS, 2, TOKENS, HEADS, DIM)
PACKED = (BLOCKS, HEADS, TOKENS, 2 * DIM)
HND = (0, 1, 3, 2, 4)


def test_keys_and_values_outermost_are_two_pieces() -> None:
    one, two = tensor(OUTERMOST), tensor(OUTERMOST)
    cache = cache_of({"one": one, "two": two})
    half = PAGE // 2
    assert cache.planes == tuple(
        Plane(at.data_ptr() + kind * BLOCKS * half, half, half)
        for at in (one, two)
        for kind in (0, 1)
    )
    assert cache.block_bytes == 2 * PAGE


@pytest.mark.parametrize("shape", [INNER, PACKED], ids=["within the block", "packed"])
def test_other_layouts_are_one_piece_a_layer(shape: tuple[int, ...]) -> None:
    one, two = tensor(shape), tensor(shape)
    cache = cache_of({"one": one, "two": two})
    assert cache.planes == tuple(Plane(at.data_ptr(), PAGE, PAGE) for at in (one, two))


def test_equal_bytes_have_equal_fingerprints_and_others_do_not() -> None:
    def print_of(shape: Sequence[int], order: Sequence[int] | None = None) -> str:
        return cache_of({"one": tensor(shape, order), "two": tensor(shape, order)}).fingerprint

    assert print_of(OUTERMOST) == print_of(INNER), "K, then V, in both"
    different = [
        print_of(INNER),
        print_of(INNER, HND),
        print_of(PACKED),
        print_of(PACKED, (0, 2, 1, 3)),
        print_of((BLOCKS, 2, HEADS, TOKENS, DIM)),
        print_of((BLOCKS, TOKENS, 2 * HEADS * DIM)),
    ]
    assert len(set(different)) == len(different)


def test_heads_and_tokens_of_one_number_are_told_apart() -> None:
    square = (BLOCKS, 2, TOKENS, TOKENS, DIM)
    group = Group(0, TOKENS, ("one",))
    prints = {cache_of({"one": tensor(square, order)}, group).fingerprint for order in (None, HND)}
    assert len(prints) == 2


def test_a_block_may_be_several_of_the_kernels() -> None:
    kernel = tensor((4 * BLOCKS, 2, TOKENS // 4, HEADS, DIM))
    group = Group(0, TOKENS, ("one",), page_bytes=PAGE)
    cache = cache_of({"one": kernel}, group)
    assert cache.planes == (Plane(kernel.data_ptr(), PAGE, PAGE),)
    whole = cache_of({"one": tensor(INNER)}, group)
    assert cache.fingerprint != whole.fingerprint


def test_mla_is_one_page_and_shared_storage_one_plane() -> None:
    mla = tensor((BLOCKS, 64, 576))
    group = Group(0, 64, ("one", "two"))
    cache = cache_of({"one": mla, "two": mla}, group)
    assert cache.planes == (Plane(mla.data_ptr(), 64 * 576 * ITEM, 64 * 576 * ITEM),)


def test_a_mamba_layer_has_several_tensors_of_one_storage() -> None:
    page = 4096
    memory = storage(BLOCKS, page)
    state = Tensor(memory, (BLOCKS, 3, 100), (page // ITEM, 100, 1), ITEM)
    other = Tensor(memory, (BLOCKS, 16, 32), (page // ITEM, 32, 1), ITEM)
    cache = cache_of({"one": [state, other]}, Group(0, TOKENS, ("one",)))
    assert cache.planes == (Plane(state.data_ptr(), page, page),)


def test_all_layers_in_one_tensor_are_one_piece() -> None:
    layers = 6
    whole = tensor((BLOCKS, layers, 2, TOKENS, HEADS, DIM))
    cache = cross_layer_cache(whole, BLOCKS)
    assert cache.planes == (Plane(whole.data_ptr(), layers * PAGE, layers * PAGE),)
    first = tensor((layers, BLOCKS, 2, TOKENS, HEADS, DIM), (1, 0, 2, 3, 4, 5))
    assert cross_layer_cache(first, BLOCKS).planes[0].piece == layers * PAGE


def test_stages_of_different_numbers_of_layers_share_a_fingerprint_of_one_tensor() -> None:
    class Backend:
        """Layers lie within a block, behind the heads."""

        @staticmethod
        def get_kv_cache_stride_order(include_num_layers_dimension: bool) -> tuple[int, ...]:
            assert include_num_layers_dimension
            return (1, 4, 0, 2, 3, 5)

    def print_of(layers: int, heads: int = HEADS) -> str:
        whole = tensor((BLOCKS, heads, layers, 2, TOKENS, DIM))
        return cross_layer_cache(whole, BLOCKS, Backend).fingerprint

    assert print_of(31) == print_of(30) == print_of(HEADS)
    assert print_of(31) != print_of(31, 2 * HEADS)


def test_what_cannot_be_is_said() -> None:
    cases: list[tuple[Mapping[str, Any], Group, str]] = [
        ({}, GROUP, "none of its layers"),
        ({"one": tensor((7, TOKENS, 3))}, GROUP, "are not 10 pages"),
        ({"one": tensor(INNER)}, Group(0, TOKENS, ("one",), page_bytes=99), "vLLM says 99"),
    ]
    for tensors, group, words in cases:
        with pytest.raises(WrongSetting, match=words):
            group_cache(group, tensors, BLOCKS)
