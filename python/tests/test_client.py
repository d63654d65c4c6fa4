"""The client against a real server and node: bytes, errors, waiting, forks."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from conftest import Server, hash_of

import membrain
from membrain import Block, Client, PolledClient, SyncClient

SIZE = 64 * 1024
FIELDS = {"model": "a model", "kv_dtype": "bfloat16", "block_tokens": 16, "layout": "tests"}


def content(number: int, size: int = SIZE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)


def blocks(count: int, first: int = 0) -> list[Block]:
    return [Block(hash_of(n), content(n)) for n in range(first, first + count)]


def hashes(count: int, first: int = 0) -> list[bytes]:
    return [hash_of(n) for n in range(first, first + count)]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def test_blocks_go_there_and_back(server: Server) -> None:
    with SyncClient.open(server.address) as client:
        space = client.open_namespace(**FIELDS)
        stored = client.store(space, blocks(8))
        assert stored.ok == 8
        assert client.contains(space, hashes(10)) == [True] * 8 + [False] * 2
        with client.lookup(space, hashes(10)) as match:
            assert (len(match), match.prefix) == (10, 8)
            assert match.has(7) and not match.has(8)
            assert match.size(0) == SIZE
            into = [np.zeros(SIZE, np.uint8) for _ in range(8)]
            report = client.fetch(match, into)
        assert report.ok == 8 and report.bytes == 8 * SIZE
        assert sum(report.lanes.values()) == 8 * SIZE
        for number, got in enumerate(into):
            assert np.array_equal(got, content(number))
        again = client.store(space, blocks(1))
        assert again.items[0].duplicate


def test_every_kind_of_memory_is_taken(server: Server) -> None:
    whole = content(1).tobytes()
    array = np.frombuffer(whole, np.float32).reshape(64, -1)
    with SyncClient.open(server.address) as client:
        space = client.open_namespace(**FIELDS)
        kinds: list[object] = [
            whole,
            bytearray(whole),
            memoryview(whole),
            array,
            [whole[:1000], whole[1000:]],
            (array.ctypes.data, array.nbytes),
            Tensor(array),
        ]
        for number, data in enumerate(kinds):
            assert client.store(space, [Block(hash_of(number), data)]).ok == 1
        match = client.lookup(space, hashes(len(kinds)))
        into: list[object] = [bytearray(SIZE) for _ in kinds]
        parts = [bytearray(4096), bytearray(SIZE - 4096)]
        into[1] = parts
        target = np.zeros_like(array)
        into[2] = (target.ctypes.data, target.nbytes)
        assert client.fetch(match, into).ok == len(kinds)
        assert parts[0] + parts[1] == whole and target.tobytes() == whole
        assert all(got == whole for got in into if isinstance(got, bytearray))


class Tensor:
    """As much of a torch.Tensor as the client asks for."""

    class Device:
        type = "cpu"

    device = Device()

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def data_ptr(self) -> int:
        return int(self._array.ctypes.data)

    def numel(self) -> int:
        return self._array.size

    def element_size(self) -> int:
        return self._array.itemsize

    def is_contiguous(self) -> bool:
        return bool(self._array.flags.c_contiguous)


def test_memory_that_cannot_be_used_is_refused_with_the_reason(server: Server) -> None:
    array = content(1).reshape(256, -1)
    with SyncClient.open(server.address) as client:
        space = client.open_namespace(**FIELDS)
        cases: list[tuple[object, str]] = [
            (array[:, ::2], "contiguous"),
            (Tensor(array[:, ::2]), "not contiguous"),
            (b"", "empty"),
            ("text", "str"),
            (17, "int"),
            ((0, 16), "positive"),
        ]
        for data, words in cases:
            with pytest.raises(membrain.InvalidArgument, match=words):
                client.store(space, [Block(hash_of(1), data)])
        client.store(space, blocks(1))
        match = client.lookup(space, hashes(1))
        with pytest.raises(membrain.InvalidArgument, match="read-only|not writable"):
            client.fetch(match, [bytes(SIZE)])
        for wrong in (b"", b"x" * 33):
            with pytest.raises(membrain.InvalidArgument, match="1 to 32 bytes"):
                client.lookup(space, [wrong])
        with pytest.raises(membrain.InvalidArgument, match="3 blocks, but 1 buffers"):
            client.fetch(match, [bytearray(SIZE)], blocks=[0, 1, 2])
        with pytest.raises(membrain.InvalidArgument, match="no such rule"):
            client.lookup(space, hashes(1), rule="any")
        with pytest.raises(membrain.InvalidArgument, match="no such field"):
            client.open_namespace(modell="a model")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 4_294_968])
def test_a_time_out_that_cannot_travel_is_refused(server: Server, seconds: float) -> None:
    with SyncClient.open(server.address) as client:
        space = client.open_namespace(**FIELDS)
        with pytest.raises(membrain.InvalidArgument, match="at most 4294967 seconds"):
            client.lookup(space, hashes(1), timeout=seconds)


def test_errors_are_a_family() -> None:
    with pytest.raises(membrain.Unavailable) as caught:
        SyncClient.open("127.0.0.1:1")
    assert isinstance(caught.value, membrain.MembrainError)
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.code == "unavailable"


def test_everything_can_be_awaited(server: Server) -> None:
    async def work() -> None:
        async with await Client.open(server.address) as client:
            space = await client.open_namespace(**FIELDS)
            assert (await client.store(space, blocks(4))).ok == 4
            assert await client.contains(space, hashes(5)) == [True] * 4 + [False]
            match = await client.lookup(space, hashes(4))
            into = [bytearray(SIZE) for _ in range(4)]
            assert (await client.fetch(match, into)).ok == 4
            assert into[3] == content(3).tobytes()
            new_era = await client.clear(space)
            assert (await client.lookup(new_era, hashes(4))).prefix == 0

    run(work())


def test_many_pins_are_given_back_at_once(server: Server) -> None:
    with SyncClient.open(server.address) as client:
        space = client.open_namespace(**FIELDS)
        client.store(space, blocks(8))
        pins = client.server_stats()["pins"]
        matches = [client.lookup(space, hashes(8)) for _ in range(20)]
        assert client.server_stats()["pins"] == pins + 160
        client.unpin(matches)
        end = time.monotonic() + 10
        while client.server_stats()["pins"] != pins and time.monotonic() < end:
            time.sleep(0.01)
        assert client.server_stats()["pins"] == pins
        client.unpin(matches)  # harms nobody


def test_a_thousand_at_once_start_no_thread(server: Server) -> None:
    async def work() -> None:
        async with await Client.open(server.address) as client:
            space = await client.open_namespace(**FIELDS)
            await client.store(space, blocks(16))
            await client.lookup(space, hashes(1))
            before = threading.active_count()

            async def one(number: int) -> None:
                match = await client.lookup(space, hashes(1, number % 16))
                into = bytearray(SIZE)
                assert (await client.fetch(match, [into])).ok == 1
                assert into == content(number % 16).tobytes()
                await client.unpin([match])

            await asyncio.gather(*(one(number) for number in range(1000)))
            await asyncio.gather(*(client.open_namespace(**FIELDS) for _ in range(100)))
            await client.clear(space)
            assert threading.active_count() == before

    run(work())


def test_what_is_cancelled_is_quiet_when_it_raises(server: Server) -> None:
    async def work() -> None:
        async with await Client.open(server.address, mapped=False) as client:
            space = await client.open_namespace(**FIELDS)
            await client.store(space, blocks(32))
            match = await client.lookup(space, hashes(32))
            for _ in range(20):
                into = [bytearray(SIZE) for _ in range(32)]
                task = asyncio.create_task(client.fetch(match, into))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                for part in into:
                    part.clear()  # raises while anything may still write there
            into = [bytearray(SIZE) for _ in range(32)]
            assert (await client.fetch(match, into)).ok == 32

    run(work())


def test_two_event_loops_share_a_client(server: Server) -> None:
    client = asyncio.run(Client.open(server.address))
    space = client.sync.open_namespace(**FIELDS)
    client.sync.store(space, blocks(8))
    failures: list[BaseException] = []

    async def work() -> None:
        for _ in range(100):
            match = await client.lookup(space, hashes(8))
            assert match.prefix == 8

    def loop() -> None:
        try:
            run(work())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.sync.close()
    assert not failures


def test_a_dead_server_means_misses_at_once(server: Server) -> None:
    with SyncClient.open(server.address) as client:
        space = client.open_namespace(**FIELDS)
        client.store(space, blocks(1))
        server.kill()
        with pytest.raises(membrain.MembrainError):
            for _ in range(1000):
                client.lookup(space, hashes(1), timeout=1.0)


def test_a_client_is_refused_after_a_fork(server: Server) -> None:
    with SyncClient.open(server.address) as client:
        space = client.open_namespace(**FIELDS)
        child = os.fork()
        if child == 0:
            try:
                client.lookup(space, hashes(1))
            except membrain.WrongProcess:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert client.lookup(space, hashes(1)).prefix == 0, "the parent's works on"


def test_closing_ends_what_waits(server: Server) -> None:
    async def work() -> None:
        client = await Client.open(server.address)
        space = await client.open_namespace(**FIELDS)
        await client.store(space, blocks(8))
        tasks = [asyncio.create_task(client.lookup(space, hashes(8))) for _ in range(50)]
        await asyncio.sleep(0)
        await client.close()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert len(ends) == 50
        with pytest.raises(membrain.Closed):
            await client.lookup(space, hashes(8))
        await client.close()

    run(work())


def test_whoever_closes_ends_what_waits(server: Server) -> None:
    async def work() -> None:
        for how in ("blocking", "cancelled"):
            client = await Client.open(server.address)
            space = await client.open_namespace(**FIELDS)
            waiting = [asyncio.create_task(client.lookup(space, hashes(8))) for _ in range(50)]
            await asyncio.sleep(0)
            if how == "blocking":
                client.sync.close()
            else:
                closing = asyncio.create_task(client.close())
                await asyncio.sleep(0)
                closing.cancel()
            assert len(await asyncio.gather(*waiting, return_exceptions=True)) == 50

    run(work())


def test_waiting_takes_descriptors_of_any_number(server: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("no process may have so many files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with ExitStack() as files:
        for _ in range(1100):
            files.enter_context(open(os.devnull))
        client = PolledClient.open(server.address)
        assert client.descriptor >= 1024
        assert not client.wait(0.01)
        client.lookup(client.sync.open_namespace(**FIELDS), hashes(1))
        assert client.wait(30)
        client.close()


def test_closing_under_calls_of_other_threads_harms_nobody(server: Server) -> None:
    for _ in range(5):
        client = SyncClient.open(server.address)
        space = client.open_namespace(**FIELDS)
        client.store(space, blocks(4))
        started = threading.Barrier(5)
        ends: list[str] = []

        def call(number: int, client: SyncClient = client, started: Any = started) -> None:
            started.wait()
            try:
                while True:
                    client.contains(space, hashes(4)) if number % 2 else client.server_stats()
                    client.lookup(space, hashes(4)).release()
            except (membrain.MembrainError, RuntimeError) as error:
                ends.append(type(error).__name__)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        client.close()
        for thread in threads:
            thread.join(30)
        assert len(ends) == 4


def test_closing_under_a_call_of_another_thread_ends_what_is_awaited(server: Server) -> None:
    async def work() -> None:
        client = await Client.open(server.address)
        space = await client.open_namespace(**FIELDS)
        server.stop()
        asked = threading.Event()

        def ask() -> None:
            asked.set()
            with pytest.raises(membrain.MembrainError):
                client.sync.server_stats()

        monitor = asyncio.create_task(asyncio.to_thread(ask))
        await asyncio.to_thread(asked.wait)
        waits = asyncio.create_task(client.lookup(space, hashes(1)))
        await asyncio.sleep(0)
        await client.close()
        ended, _ = await asyncio.wait([waits], timeout=30)
        for future in client._futures.values():
            future.cancel()  # else a loop that has failed here would wait for it
        assert ended and isinstance(waits.exception(), membrain.MembrainError)
        await monitor

    try:
        asyncio.run(asyncio.wait_for(work(), 120))
    finally:
        server.go_on()


def test_a_match_may_outlive_its_client(server: Server) -> None:
    with SyncClient.open(server.address) as client:
        space = client.open_namespace(**FIELDS)
        client.store(space, blocks(1))
        match = client.lookup(space, hashes(1))
    assert match.has(0)
    match.release()
