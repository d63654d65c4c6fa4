"""Layouts by ids, grants, and memory as array libraries hand it over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import Server, hash_of

import membrain
from membrain import Block, Layout, Plane, PolledClient, SyncClient
from membrain.buffers import pieces_of

FIELDS = {"model": "a model", "kv_dtype": "float32", "block_tokens": 16, "layout": "tests"}
LAYERS, BLOCKS, PIECE = 4, 32, 4096


def hashes(count: int) -> list[bytes]:
    return [hash_of(n) for n in range(count)]


def cache(seed: int | None = None) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """An array a layer."""
    if seed is None:
        return [np.zeros((BLOCKS, PIECE), np.uint8) for _ in range(LAYERS)]
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (BLOCKS, PIECE), np.uint8) for _ in range(LAYERS)]


def test_blocks_go_by_their_ids(server: Server) -> None:
    source, target = cache(1), cache()
    with SyncClient.open(server.address) as client:
        space = client.open_namespace(**FIELDS)
        layout = Layout.of_arrays(source)
        assert (layout.blocks, len(layout.planes)) == (32, LAYERS)
        assert layout.block_bytes == LAYERS * PIECE
        assert client.store_blocks(space, layout, [7, 3, 9], hashes(3)).ok == 3
        match = client.lookup(space, hashes(3))
        report = client.fetch_blocks(match, Layout.of_arrays(target), [0, 30], blocks=[2, 0])
        assert report.ok == 2
        for layer in range(LAYERS):
            assert np.array_equal(target[layer][0], source[layer][9])
            assert np.array_equal(target[layer][30], source[layer][7])
            assert not target[layer][1:30].any()
        whole = bytearray(LAYERS * PIECE)
        client.fetch(match, [whole], blocks=[1])
        assert whole == b"".join(source[layer][3].tobytes() for layer in range(LAYERS))
        one_layer = cache()
        client.fetch_blocks(match, Layout.of_arrays(one_layer), [5], first_plane=2, planes=1)
        assert np.array_equal(one_layer[2][5], source[2][7]) and not one_layer[1].any()


def test_planes_may_lie_in_one_array() -> None:
    array = np.zeros((BLOCKS, 2, PIECE), np.uint8)
    base = array.ctypes.data
    layout = Layout([Plane(base, 2 * PIECE, PIECE), Plane(base + PIECE, 2 * PIECE, PIECE)], BLOCKS)
    assert layout.block_bytes == 2 * PIECE


def test_wrong_layouts_and_ids_are_refused(server: Server) -> None:
    with pytest.raises(membrain.InvalidArgument):
        Layout([Plane(4096, 16, 32)], 4)  # pieces that overlap
    with pytest.raises(membrain.InvalidArgument):
        Layout([Plane(-1, 16, 16)], 4)
    with pytest.raises(membrain.InvalidArgument, match="no arrays"):
        Layout.of_arrays([])
    with pytest.raises(membrain.InvalidArgument, match="different numbers"):
        Layout.of_arrays([np.zeros((2, 8)), np.zeros((3, 8))])
    with SyncClient.open(server.address) as client:
        space = client.open_namespace(**FIELDS)
        layout = Layout.of_arrays(cache(1))
        with pytest.raises(membrain.InvalidArgument, match="not in the layout"):
            client.store_blocks(space, layout, [BLOCKS], hashes(1))
        with pytest.raises(membrain.InvalidArgument):
            client.store_blocks(space, layout, [-1], hashes(1))
        client.store_blocks(space, layout, [1, 2], hashes(2))
        match = client.lookup(space, hashes(2))
        with pytest.raises(membrain.InvalidArgument, match="twice"):
            client.fetch_blocks(match, layout, [4, 4])


def test_a_grant_carries_a_match_to_another_process(server: Server) -> None:
    with SyncClient.open(server.address) as one, SyncClient.open(server.address) as other:
        space = one.open_namespace(**FIELDS)
        one.store(space, [Block(hash_of(1), b"x" * 4096)])
        match = one.lookup(space, [hash_of(1)])
        adopted = other.adopt(one.grant(match, valid=5.0))
        into = bytearray(4096)
        assert other.fetch(adopted, [into]).ok == 1 and into == b"x" * 4096
        with pytest.raises(membrain.InvalidArgument, match="this client"):
            other.grant(match, valid=5.0)
        with pytest.raises(membrain.Corrupt):
            other.adopt(b"junk")


def wait_for(client: PolledClient, number: int) -> membrain.Completion:
    while True:
        assert client.wait(30), "it ended"
        for done in client.drain_completions():
            assert done.number == number
            return done


def test_operations_end_by_number(server: Server) -> None:
    client = PolledClient.open(server.address)
    space = client.sync.open_namespace(**FIELDS)
    source = Layout.of_arrays(cache(1))
    stored = wait_for(client, client.store_blocks(space, source, [1, 2], hashes(2)))
    assert stored.value.ok == 2
    match = wait_for(client, client.lookup(space, hashes(2))).value
    grant = wait_for(client, client.grant(match, 5.0)).value
    adopted = wait_for(client, client.adopt(grant)).value
    target = cache()
    layout = Layout.of_arrays(target)
    assert wait_for(client, client.fetch_blocks(adopted, layout, [0, 1])).value.ok == 2
    assert target[0][0].any()
    failed = wait_for(client, client.adopt(b"junk"))
    assert failed.value is None and isinstance(failed.error, membrain.Corrupt)
    assert client.drain_completions() == []
    numbers = {client.lookup(space, hashes(2)) for _ in range(10)}
    ended = {done.number for done in client.drain_completions() + client.close()}
    assert ended == numbers and client.close() == []


def test_offers_are_stored_behind_or_shed_at_once(server: Server) -> None:
    client = PolledClient.open(server.address, background_store_bytes=4 * LAYERS * PIECE)
    space = client.sync.open_namespace(**FIELDS)
    layout = Layout.of_arrays(cache(1))
    done = wait_for(client, client.offer_blocks(space, layout, [4, 5], hashes(2)))
    assert done.value.ok == 2
    assert client.sync.contains(space, hashes(3)) == [True, True, False]
    with pytest.raises(membrain.OutOfCapacity):
        client.offer_blocks(space, layout, range(5), hashes(5))
    number = client.offer_blocks(space, layout, [6], [hash_of(9)])
    client.cancel(number)
    ended = wait_for(client, number).value.items[0]
    assert ended.ok or ended.why == "cancelled"
    number = client.offer_blocks(space, layout, [6], [hash_of(10)])
    assert [done.number for done in client.close()] == [number]


class OnlyDlpack:
    """An array that has no buffer protocol."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def __dlpack__(self) -> Any:
        return self._array.__dlpack__()


class CudaArray:
    """What an array on a GPU says of itself."""

    def __init__(self, strides: tuple[int, ...] | None, device: object = 1) -> None:
        self.device = device
        self.__cuda_array_interface__ = {
            "data": (0x7F0000000000, False),
            "shape": (4, 1, 8),
            "strides": strides,
            "typestr": "<f4",
            "version": 3,
        }


def test_dlpack_is_memory() -> None:
    array = np.arange(64, dtype=np.float64).reshape(4, 16)
    pieces = pieces_of(OnlyDlpack(array[1:3]), writable=True)
    assert pieces.runs == [(array[1:3].ctypes.data, 2 * 16 * 8)] and pieces.device == -1
    with pytest.raises(membrain.InvalidArgument, match="contiguous"):
        pieces_of(OnlyDlpack(array[:, ::2]), writable=True)


def test_memory_of_a_gpu_is_named_with_its_gpu() -> None:
    for strides in (None, (32, 999, 4)):
        pieces = pieces_of(CudaArray(strides), writable=True)
        assert pieces.runs == [(0x7F0000000000, 128)] and pieces.device == 1
    with pytest.raises(membrain.InvalidArgument, match="contiguous"):
        pieces_of(CudaArray((64, 64, 4)), writable=True)
    with pytest.raises(membrain.InvalidArgument, match="on which GPU"):
        pieces_of(CudaArray(None, device=None), writable=True)
    with pytest.raises(membrain.InvalidArgument, match="several devices"):
        pieces_of([CudaArray(None), bytearray(8)], writable=True)


def test_memory_of_a_gpu_that_the_client_was_not_given_is_refused(server: Server) -> None:
    with SyncClient.open(server.address) as client:
        space = client.open_namespace(**FIELDS)
        with pytest.raises(membrain.InvalidArgument):
            client.store(space, [Block(hash_of(1), CudaArray(None))])
