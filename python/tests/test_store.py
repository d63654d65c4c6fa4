"""MembrainStore, MembrainManager and MembrainKVCacheManager against a real server and node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Server, hash_of

import membrain
from membrain import (
    BlockShape,
    Client,
    Layout,
    MembrainKVCacheManager,
    MembrainManager,
    MembrainStore,
    Tier,
)

BLOCK = BlockShape((2, 16, 64), "float16")
Tensor = np.ndarray[Any, np.dtype[np.float16]]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def hashes(count: int, first: int = 0) -> list[bytes]:
    return [hash_of(n) for n in range(first, first + count)]


def tensors(count: int, first: int = 0) -> list[Tensor]:
    return [np.full(BLOCK.shape, n + 1, np.float16) for n in range(first, first + count)]


def empty(count: int) -> list[Tensor]:
    return [np.zeros(BLOCK.shape, np.float16) for _ in range(count)]


async def store_on(server: Server) -> MembrainStore:
    return await MembrainStore.open(server.address, BLOCK, model="a model")


def test_tensors_go_there_and_back_and_are_counted(server: Server) -> None:
    async def work() -> None:
        async with await store_on(server) as store:
            assert await store.store(hashes(4), tensors(4)) == [True] * 4
            into = empty(6)
            assert await store.load(hashes(6), into) == [True] * 4 + [False] * 2
            assert all(np.array_equal(a, b) for a, b in zip(into, tensors(4), strict=False))
            await store.store(hashes(4), tensors(4))
            metrics = store.metrics
            assert (metrics.looked_up, metrics.hits, metrics.loaded) == (6, 4, 4)
            assert (metrics.stored, metrics.duplicates, metrics.errors) == (4, 4, 0)
            assert metrics.bytes_loaded == 4 * into[0].nbytes
            record = store.describe(hash_of(0))
            assert record is not None and record.loads == 1 and record.bytes == into[0].nbytes
            assert record.loaded_at >= record.stored_at - 1 and record.lanes
            assert store.describe(hash_of(5)) is None
            assert "stored 4" in metrics.summary()

    run(work())


def test_wrong_tensors_are_refused_before_anything_moves(server: Server) -> None:
    whole = np.zeros((4, 16, 64), np.float16)
    cases: list[tuple[object, str]] = [
        (np.zeros((2, 16, 32), np.float16), r"its shape is \(2, 16, 32\), blocks have"),
        (np.zeros(BLOCK.shape, np.float32), "its dtype is float32, blocks have float16"),
        (np.zeros((0, 16, 64), np.float16), "empty"),
        (whole[::2], "contiguous"),
        (b"bytes", "is no tensor"),
    ]

    async def work() -> None:
        async with await store_on(server) as store:
            for wrong, words in cases:
                with pytest.raises(membrain.InvalidArgument, match=words):
                    await store.store(hashes(1), [wrong])
            with pytest.raises(membrain.InvalidArgument, match="2 hashes, but 1 tensors"):
                await store.load(hashes(2), empty(1))
            assert store.metrics.stored == 0

    run(work())


def test_what_is_held_is_counted(server: Server) -> None:
    async def work() -> None:
        async with await store_on(server) as store:
            await store.store(hashes(3), tensors(3))
            one = await store.hold(hashes(3))
            two = await store.hold(hashes(2))
            assert [store.refcounts[name] for name in hashes(4)] == [2, 2, 1, 0]
            one.release()
            one.release()
            assert [store.refcounts[name] for name in hashes(4)] == [1, 1, 0, 0]
            into = empty(2)
            assert await two.load(into) == [True, True]
            two.release()
            assert not store.refcounts

    run(work())


def test_copies_are_served_first_and_without_the_cluster(server: Server) -> None:
    async def work() -> None:
        async with await store_on(server) as one, await store_on(server) as other:
            writer, reader = MembrainManager(one), MembrainManager(other)
            await writer.save(hashes(4), tensors(4))
            for tier in (Tier.REMOTE, Tier.LOCAL):
                with await reader.retain(hashes(5)) as retained:
                    assert retained.tiers == [tier] * 4
                    into = empty(5)
                    assert await reader.load(retained, into) == [True] * 4 + [False]
                    assert reader.refcount(hash_of(0)) == 1
                assert np.array_equal(into[3], tensors(4)[3])
            assert reader.refcount(hash_of(0)) == 0
            assert reader.metrics.remote_hits == 4 and reader.metrics.local_hits == 4
            server.kill()
            with await reader.retain(hashes(4), timeout=1.0) as retained:
                assert await reader.load(retained, empty(4)) == [True] * 4

    run(work())


def test_a_run_that_is_wrong_leaves_no_copy(server: Server) -> None:
    async def work() -> None:
        async with await store_on(server) as one:
            manager = MembrainManager(one)
            with pytest.raises(membrain.InvalidArgument, match="3 hashes, but 2 tensors"):
                await manager.save(hashes(3), tensors(2))
            with pytest.raises(membrain.InvalidArgument, match="tensor 1: "):
                await manager.save(hashes(2), [tensors(1)[0], np.zeros(3, np.float16)])
            assert manager.used_bytes == 0

    run(work())


def test_copies_give_way_by_priority_and_age_but_not_while_they_are_retained(
    server: Server,
) -> None:
    size = tensors(1)[0].nbytes

    async def work() -> None:
        async with await store_on(server) as store:
            manager = MembrainManager(store, local_bytes=4 * size)
            await manager.save(hashes(1), tensors(1), priority=9)
            await manager.save(hashes(3, 1), tensors(3, 1))
            retained = await manager.retain([hash_of(1)])
            await manager.save(hashes(2, 10), tensors(2, 10))
            there = {n for n in range(12) if manager.local_tier_of(hash_of(n)) is Tier.LOCAL}
            assert there == {0, 1, 10, 11} and manager.used_bytes == 4 * size
            assert manager.evict(100 * size) == 3 * size
            retained.release()
            assert manager.evict(1) == size and manager.used_bytes == 0

    run(work())


def test_what_is_not_there_is_not_asked_for_again_at_once(server: Server) -> None:
    now = [100.0]

    async def work() -> None:
        async with await store_on(server) as store, await store_on(server) as other:
            manager = MembrainManager(store, clock=lambda: now[0])
            for _ in range(3):
                (await manager.retain(hashes(2))).release()
            assert (store.metrics.looked_up, manager.metrics.spared_questions) == (2, 2)
            await other.store(hashes(2), tensors(2))
            now[0] += 2
            with await manager.retain(hashes(2)) as retained:
                assert retained.tiers == [Tier.REMOTE] * 2

    run(work())


def test_what_is_not_there_is_kept_in_mind_within_a_bound(server: Server) -> None:
    async def work() -> None:
        async with await store_on(server) as store:
            manager = MembrainManager(store, max_negatives=4)
            for first in range(6):
                (await manager.retain(hashes(1, 100 + first))).release()
            asked = store.metrics.looked_up
            (await manager.retain(hashes(1, 105))).release()
            assert store.metrics.looked_up == asked, "one of the last four"
            (await manager.retain(hashes(1, 100))).release()
            assert store.metrics.looked_up == asked + 1, "forgotten for those that came later"

    run(work())


def test_what_nobody_has_answered_for_is_asked_for_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with await store_on(server) as store:
            manager = MembrainManager(store)
            # As if the shard of these blocks were away, while others answer.
            monkeypatch.setattr(membrain.Match, "answered", lambda match, block: False)
            for _ in range(3):
                (await manager.retain(hashes(2))).release()
            assert (store.metrics.looked_up, manager.metrics.spared_questions) == (6, 0)

    run(work())


def test_what_others_have_cleared_is_opened_again(server: Server) -> None:
    async def work() -> None:
        async with await store_on(server) as one, await store_on(server) as two:
            manager = MembrainManager(two)
            assert await one.store(hashes(2), tensors(2)) == [True, True]
            await one.clear()
            assert await two.load(hashes(2), empty(2)) == [False, False], "there is nothing"
            await one.clear()
            assert await two.store(hashes(2, 4), tensors(2)) == [True, True]
            assert await one.load(hashes(2, 4), empty(2)) == [True, True]
            await one.clear()
            assert await manager.save(hashes(1, 9), tensors(1)) == [True]
            assert (await one.hold(hashes(1, 9))).hashes == hashes(1, 9)
            lone = MembrainStore(two.client, two.space, BLOCK)
            await one.clear()
            with pytest.raises(membrain.Stale):
                await lone.hold(hashes(1))

    run(work())


# ---- an engine's blocks


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


def test_a_store_knows_when_blocks_were_stored(server: Server) -> None:
    async def work() -> None:
        async with await store_on(server) as store:
            before = time.time()
            await store.store(hashes(1), tensors(1))
            record = store.describe(hash_of(0))
            assert record is not None and before - 1 <= record.stored_at <= time.time() + 1
            await store.clear()
            assert await store.load(hashes(1), empty(1)) == [False]

    run(work())


# ---- an engine's blocks that are given back while they are used


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
