"""MembrainKVCacheManager: against a real server and node, and amid calls that take their time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Server, hash_of

import membrain
from membrain import Client, Layout, MembrainKVCacheManager


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def hashes(count: int, first: int = 0) -> list[bytes]:
    return [hash_of(n) for n in range(first, first + count)]


class Engine:
    """Of numpy, with a block manager."""

    def __init__(self, blocks: int, client: Client, space: membrain.Namespace) -> None:
        self.cache = [np.zeros((blocks, 512), np.uint8) for _ in range(2)]
        self.manager = MembrainKVCacheManager(
            blocks=blocks,
            block_tokens=16,
            client=client,
            space=space,
            layout=Layout.of_arrays(self.cache),
        )

    async def serve(self, name: str, first: int, blocks: int) -> tuple[int, int]:
        """(tokens found here, and in the cluster)"""
        tokens = blocks * 16 + 5
        request = SimpleNamespace(
            request_id=name,
            block_hashes=hashes(blocks, first),
            num_tokens=tokens,
            num_computed_tokens=0,
        )
        _, local = self.manager.get_computed_blocks(request)
        remote = await self.manager.remote_tokens(request)
        assert self.manager.allocate_slots(request, tokens - local) is not None
        computed = await self.manager.fetch(request, local)
        request.num_computed_tokens = computed
        (ids,) = self.manager.get_block_ids(name)
        for index in range(blocks):
            for layer, plane in enumerate(self.cache):
                right = (first + index) * 2 + layer
                if index * 16 >= computed:
                    plane[ids[index]] = right
                assert (plane[ids[index]] == right).all()
        await self.manager.save(request, tokens)
        self.manager.free(request)
        return local, max(0, remote - local)


def test_an_engines_blocks_have_the_cluster_behind_them(server: Server) -> None:
    async def work() -> None:
        async with await Client.open(server.address) as client:
            space = await client.open_namespace(model="blocks")
            one, two = Engine(12, client, space), Engine(12, client, space)
            assert await one.serve("a", 0, 6) == (0, 0)
            assert await one.serve("b", 0, 6) == (96, 0)
            assert await two.serve("c", 0, 8) == (0, 96)
            assert await two.serve("d", 100, 11) == (0, 0), "it takes the blocks of the others"
            assert await two.serve("e", 0, 8) == (0, 128)
            assert two.manager.usage == 0.0

    run(work())


def test_too_few_blocks_are_none_and_a_dead_cluster_is_a_miss(server: Server) -> None:
    async def work() -> None:
        client = await Client.open(server.address, default_timeout=timedelta(milliseconds=500))
        space = await client.open_namespace(model="blocks")
        engine = Engine(4, client, space)
        request = SimpleNamespace(
            request_id="x", block_hashes=hashes(8), num_tokens=130, num_computed_tokens=0
        )
        assert engine.manager.allocate_slots(request, 130) is None
        engine.manager.free(request)
        server.kill()
        assert await engine.serve("y", 0, 3) == (0, 0)
        assert await engine.serve("z", 0, 3) == (48, 0)
        await client.close()

    run(work())


def test_vllms_own_manager_gets_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    class KVCacheManager:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.calls: list[Any] = [(args, kwargs)]

        def get_computed_blocks(self, *args: Any, **kwargs: Any) -> str:
            self.calls.append((args, kwargs))
            return "whatever vLLM returns"

        def free(self, request: Any) -> None:
            self.calls.append(request.request_id)

        def reset_prefix_cache(self) -> bool:
            return True

    module = SimpleNamespace(KVCacheManager=KVCacheManager)
    monkeypatch.setattr("membrain.kv_cache_manager.import_module", lambda _: module)
    manager = MembrainKVCacheManager("config", max_model_len=99)
    assert manager.get_computed_blocks("request", new=1) == "whatever vLLM returns"
    manager.free(SimpleNamespace(request_id="a"))
    assert manager.reset_prefix_cache()
    assert manager.inner.calls == [
        (("config",), {"max_model_len": 99}),
        (("request",), {"new": 1}),
        "a",
    ]
    with pytest.raises(membrain.InvalidArgument, match="how many blocks"):
        MembrainKVCacheManager()
    with pytest.raises(membrain.InvalidArgument, match="no max_model_len"):
        MembrainKVCacheManager(blocks=4, max_model_len=99)


# ---- blocks that are given back while they are used


class SlowClient:
    """Whose calls end when the test says so."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.called = asyncio.Event()
        self.match = SimpleNamespace(prefix=4, released=0)
        self.match.release = lambda: setattr(self.match, "released", self.match.released + 1)
        self.stored = 0

    async def _answer(self, answer: Any) -> Any:
        self.called.set()
        await self.go_on.wait()
        return answer

    async def lookup(self, *_: Any) -> Any:
        return await self._answer(SlowMatch(self.match))

    async def fetch_blocks(self, *_: Any, blocks: list[int]) -> Any:
        items = [SimpleNamespace(ok=True, why="ok") for _ in blocks]
        return await self._answer(SimpleNamespace(items=items, ok=len(items)))

    async def store_blocks(self, *_: Any, **__: Any) -> Any:
        self.stored += 1
        return await self._answer(SimpleNamespace(items=[], ok=4))


class SlowMatch:
    def __init__(self, of: SimpleNamespace) -> None:
        self.prefix = of.prefix
        self.release = of.release

    def __enter__(self) -> SlowMatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class SlowEngine:
    def __init__(self) -> None:
        self.client = SlowClient()
        slow: Any = self.client
        space: Any = "a namespace"
        layout: Any = "a layout"
        self.manager = MembrainKVCacheManager(blocks=8, client=slow, space=space, layout=layout)
        self.request = SimpleNamespace(
            request_id="a", block_hashes=hashes(4), num_tokens=69, num_computed_tokens=0
        )

    async def amid(self, call: Coroutine[Any, Any, int]) -> asyncio.Task[int]:
        self.client.called.clear()
        self.client.go_on.clear()
        task = asyncio.create_task(call)
        await self.client.called.wait()
        return task

    async def ended(self, task: asyncio.Task[int]) -> int:
        self.client.go_on.set()
        return await task


def test_a_request_that_goes_amid_its_lookup_holds_nothing() -> None:
    async def work() -> None:
        engine = SlowEngine()
        asking = await engine.amid(engine.manager.remote_tokens(engine.request))
        engine.manager.free(engine.request)
        assert await engine.ended(asking) == 0
        assert engine.client.match.released == 1

    run(work())


def test_blocks_that_are_used_are_given_back_when_that_ends() -> None:
    async def work() -> None:
        engine = SlowEngine()
        manager, request = engine.manager, engine.request
        asking = await engine.amid(manager.remote_tokens(request))
        assert await engine.ended(asking) == 64
        assert manager.allocate_slots(request, 69) is not None
        fetching = await engine.amid(manager.fetch(request, 0))
        manager.free(request)
        assert manager.usage > 0, "bytes may still land in them"
        assert await engine.ended(fetching) == 0, "it is over: nothing of it is published"
        assert manager.usage == 0

        assert manager.allocate_slots(request, 69) is not None
        saving = await engine.amid(manager.save(request, 64))
        manager.free(request)
        assert manager.usage > 0, "they are still read"
        await engine.ended(saving)
        assert manager.usage == 0
        assert manager.get_computed_blocks(request)[1] == 64, "what was published is kept"

    run(work())


def test_after_a_reset_nothing_old_is_stored_or_found() -> None:
    async def work() -> None:
        engine = SlowEngine()
        manager, request = engine.manager, engine.request
        asking = await engine.amid(manager.remote_tokens(request))
        await engine.ended(asking)
        assert manager.allocate_slots(request, 69) is not None
        manager.reset_prefix_cache()
        assert engine.client.match.released == 1
        assert await manager.fetch(request, 0) == 0
        assert await manager.save(request, 64) == 0
        assert engine.client.stored == 0
        manager.free(request)
        assert manager.allocate_slots(request, 69) is not None, "computed anew"
        saving = await engine.amid(manager.save(request, 64))
        assert await engine.ended(saving) == 4

    run(work())
