"""Where torch is installed: its tensors as memory, as blocks and as an engine's KV cache."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import Server, hash_of
from contract.engine import Engine
from contract.model import RankCache
from test_contract import PROMPT, SHAPES
from test_geometry import HND, INNER, OUTERMOST, PACKED, cache_of, tensor
from test_vllm_end import serve, wait_until_open

from membrain import Block, BlockShape, InvalidArgument, MembrainStore, SyncClient


torch: Any = pytest.importorskip("torch", reason="torch is not installed")

if not hasattr(torch.Tensor, "untyped_storage"):  # before torch 2, which vLLM needs
    torch.Tensor.untyped_storage = lambda self: self.storage().untyped()

TYPES = ["float16", "bfloat16", "float32", "uint8"]
FIELDS = {"model": "a model", "kv_dtype": "uint8", "block_tokens": 16, "layout": "tests"}


def block(dtype: str, number: int) -> Any:
    return (torch.arange(4096).reshape(16, 256) % (7 + number)).to(getattr(torch, dtype))


@pytest.mark.parametrize("dtype", TYPES)
def test_tensors_go_there_and_back(server: Server, dtype: str) -> None:
    async def work() -> None:
        shape = BlockShape((16, 256), f"torch.{dtype}")
        async with await MembrainStore.open(server.address, shape, model=dtype) as store:
            names = [hash_of(n) for n in range(8)]
            right = [block(dtype, n) for n in range(8)]
            assert await store.store(names, right) == [True] * 8
            into = [torch.zeros_like(one) for one in right]
            assert await store.load(names, into) == [True] * 8
            assert all(torch.equal(a, b) for a, b in zip(into, right, strict=True))
            with pytest.raises(InvalidArgument, match="dtype is torch.int64"):
                await store.load(names[:1], [torch.zeros((16, 256), dtype=torch.int64)])

    asyncio.run(asyncio.wait_for(work(), 60))


def test_rows_of_a_tensor_are_pieces_and_its_columns_are_refused(server: Server) -> None:
    pages = torch.arange(8 * 4096).reshape(8, 4096).to(torch.uint8)
    pages.mul_(torch.arange(1, 9, dtype=torch.uint8).reshape(8, 1))
    with SyncClient.open(server.address) as client:
        space = client.open_namespace(**FIELDS)
        with pytest.raises(InvalidArgument, match="not contiguous"):
            client.store(space, [Block(hash_of(1), pages[:, ::2])])
        client.store(space, [Block(hash_of(n), pages[n]) for n in range(8)])
        into = torch.zeros_like(pages)
        halves = [[into[n, :1024], into[n, 1024:]] for n in reversed(range(8))]
        with client.lookup(space, [hash_of(n) for n in reversed(range(8))]) as match:
            assert client.fetch(match, halves).ok == 8
        assert torch.equal(into, pages)


@pytest.mark.parametrize("order", [None, HND], ids=["NHD", "HND"])
@pytest.mark.parametrize("shape", [OUTERMOST, INNER, PACKED], ids=["outer", "inner", "packed"])
def test_layouts_are_found_in_torch_tensors_too(shape: tuple[int, ...], order: Any) -> None:
    if order is not None and len(shape) != len(order):
        order = (0, 2, 1, 3)
    nested = order if order is not None else tuple(range(len(shape)))

    def real() -> Any:
        memory = torch.zeros([shape[axis] for axis in nested], dtype=torch.float16)
        return memory.permute([nested.index(axis) for axis in range(len(shape))])

    ours = cache_of({"one": tensor(shape, order), "two": tensor(shape, order)})
    one, two = real(), real()
    theirs = cache_of({"one": one, "two": two})
    assert theirs.fingerprint == ours.fingerprint
    sizes = [[(plane.piece, plane.stride) for plane in cache.planes] for cache in (theirs, ours)]
    assert sizes[0] == sizes[1]
    assert theirs.planes[0].base == one.untyped_storage().data_ptr()


def torch_tensors(cache: RankCache) -> dict[str, Any]:
    """The same memory."""
    pages = [torch.from_numpy(layer) for layer in cache.pages]
    return {name: pages[at % cache.layers] for at, name in enumerate(cache.tensors())}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_an_engine_whose_cache_is_torchs(server: Server, shape: Any) -> None:
    engines = []
    for _ in range(2):
        engine = Engine("torch", shape, tensors=torch_tensors, server=server.address)
        wait_until_open(engine)
        engines.append(engine)
        loaded = [serve(engine, f"{len(engines)} {n}", [n, *PROMPT]) for n in range(4)]
    assert any(loaded) and engines[1].scheduler.failed_loads == 0
    for engine in engines:
        engine.close()
