"""MembrainStore and MembrainManager against a real server and node."""

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
            assert await two.store(hashes(2, 4), tensors(2)) == [False, False], "old, perhaps"
            assert await two.store(hashes(2, 4), tensors(2)) == [True, True]
            assert await one.load(hashes(2, 4), empty(2)) == [True, True]
            await one.clear()
            assert await manager.save(hashes(1, 9), tensors(1)) == [False]
            assert manager.local_tier_of(hash_of(9)) is Tier.NONE
            assert await manager.save(hashes(1, 9), tensors(1)) == [True]
            assert (await one.hold(hashes(1, 9))).hashes == hashes(1, 9)
            lone = MembrainStore(two.client, two.space, BLOCK)
            await one.clear()
            with pytest.raises(membrain.Stale):
                await lone.hold(hashes(1))

    run(work())


def test_copies_of_before_a_clear_are_not_served_after_it(server: Server) -> None:
    async def work() -> None:
        async with await store_on(server) as one, await store_on(server) as two:
            manager = MembrainManager(two)
            assert await manager.save(hashes(2), tensors(2)) == [True, True]
            retained = await manager.retain(hashes(2))
            await manager.clear()
            assert manager.local_tier_of(hash_of(0)) is Tier.NONE and manager.used_bytes == 0
            into = empty(2)
            assert await manager.load(retained, into) == [True, True], "who retains has it still"
            new = [tensor + 7 for tensor in tensors(2)]
            assert await manager.save(hashes(2), new) == [True, True]
            retained.release()
            assert manager.refcount(hash_of(0)) == 0
            with await manager.retain(hashes(2)) as again:
                await manager.load(again, into)
            assert np.array_equal(into[0], new[0])
            await one.hold(hashes(1))  # learns of it
            await one.clear()
            with await manager.retain(hashes(3)) as mixed:  # asks for the third
                assert mixed.tiers == []
            assert manager.local_tier_of(hash_of(0)) is Tier.NONE

    run(work())


def test_what_is_loaded_while_it_is_cleared_is_not_kept(server: Server) -> None:
    async def work() -> None:
        async with await store_on(server) as one, await store_on(server) as two:
            assert await one.store(hashes(2), tensors(2)) == [True, True]
            manager = MembrainManager(two)
            with await manager.retain(hashes(2)) as retained:
                await manager.clear()
                await manager.load(retained, empty(2))
            assert manager.local_tier_of(hash_of(0)) is Tier.NONE

    run(work())


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
