"""The client: look up, fetch and store blocks of a cluster.

    async with await Client.open("127.0.0.1:9201") as client:
        space = await client.open_namespace(model="my-model", kv_dtype="bfloat16")
        match = await client.lookup(space, hashes)
        await client.fetch(match, buffers)   # the blocks of the prefix, in order
        await client.store(space, [Block(hash, data), ...])

Every method is awaitable; `client.sync` has the same ones, blocking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from membrain.core import Core, open_core, value_of
from membrain.layout import Layout
from membrain.sync_client import SyncClient
from membrain.values import Block, Match, Namespace, Report, report_of


class Client:
    """A client of one cluster, for asyncio. Operations start no thread of Python's: what ends wakes
    the event loop by one descriptor. Only to open and close it takes one of asyncio's."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.sync = SyncClient(core)
        self._futures: dict[int, asyncio.Future[Any]] = {}
        self._loops: set[asyncio.AbstractEventLoop] = set()
        core.on_close = self._closed

    @classmethod
    async def open(cls, server: str = "127.0.0.1:9201", **options: Any) -> Client:
        """Options are the fields of C++'s ClientConfig, e.g. secret="...", tenant="..."."""
        return cls(await asyncio.to_thread(open_core, server, options))

    async def close(self) -> None:
        """Ends what is under way, and closes. Idempotent."""
        await asyncio.to_thread(self._core.close)

    def _closed(self, native: Any) -> None:
        """By whoever has closed: this, though it was cancelled meanwhile, or `sync`."""
        for loop in list(self._loops):
            if not loop.is_closed():
                loop.call_soon_threadsafe(_stop_watching, loop, native)
        self._loops.clear()
        self._settle(native)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open_namespace(self, **fields: Any) -> Namespace:
        """Fields are those of C++'s Namespace: model, kv_dtype, block_tokens, layout, ..."""
        return Namespace(await self._run(self._core.open_namespace, **fields))

    async def clear(self, space: Namespace) -> Namespace:
        """Forgets every block of a namespace, for everyone. Returns it in its new era."""
        return Namespace(await self._run(self._core.clear, space))

    async def contains(
        self, space: Namespace, hashes: Sequence[bytes], parts: int = 1
    ) -> list[bool]:
        """Which blocks are there now. Pins nothing."""
        with await self.lookup(space, hashes, rule="all", parts=parts, pin=False) as match:
            return [match.has(block) for block in range(len(match))]

    async def lookup(self, space: Namespace, hashes: Sequence[bytes], **options: Any) -> Match:
        """Options: rule ("prefix", "window", "all"), window_blocks, parts, pin, timeout."""
        return Match(await self._run(self._core.lookup, space, hashes, **options))

    async def unpin(self, matches: Iterable[Match]) -> None:
        """Releases them all. It does not wait: the server is told in the background."""
        self.sync.unpin(matches)

    async def fetch(self, match: Match, into: Sequence[object], **options: Any) -> Report:
        """Blocks 0, 1, ... of the match (or `blocks`) into the buffers. Options: blocks, part,
        timeout. When it has returned or raised, also by a cancel, no byte lands any more."""
        return report_of(await self._run(self._core.fetch, match, into, **options))

    async def store(self, space: Namespace, blocks: Sequence[Block], **options: Any) -> Report:
        """Keeps blocks that are not there yet. Option: timeout."""
        return report_of(await self._run(self._core.store, space, blocks, **options))

    async def fetch_blocks(
        self, match: Match, layout: Layout, ids: Sequence[int], **options: Any
    ) -> Report:
        """Blocks 0, 1, ... of the match (or `blocks`) into the blocks `ids` of a layout. Options:
        blocks, part, first_plane, planes (fewer than all: no checksum is compared), timeout."""
        return report_of(await self._run(self._core.fetch_blocks, match, layout, ids, **options))

    async def store_blocks(
        self,
        space: Namespace,
        layout: Layout,
        ids: Sequence[int],
        hashes: Sequence[bytes],
        **options: Any,
    ) -> Report:
        """Keeps a run of one prompt's blocks. Options: parent and first_depth of the first one,
        part, priority, timeout, after (a recorded CUDA event's address)."""
        return report_of(
            await self._run(self._core.store_blocks, space, layout, ids, hashes, **options)
        )

    async def grant(self, match: Match, valid: float) -> bytes:
        """Bytes with which another process may fetch what `match` pins, for `valid` seconds."""
        return bytes(await self._run(self._core.grant, match, valid))

    async def adopt(self, grant: bytes) -> Match:
        """A match from another process's grant. Releasing it does nothing."""
        return Match(await self._run(self._core.adopt, grant))

    # ---- ends

    def _expect(self, number: int) -> asyncio.Future[Any]:
        """Before the operation begins: whichever loop hears of its end knows whose it is."""
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            loop.add_reader(self._core.native.descriptor, self._drain)
            self._loops.add(loop)
        future = self._futures[number] = loop.create_future()
        return future

    async def _run(self, begin: Any, *words: Any, **options: Any) -> Any:
        number = self._core.number()
        future = self._expect(number)
        try:
            begin(number, True, *words, **options)
        except BaseException:
            del self._futures[number]
            raise
        try:
            return value_of(await asyncio.shield(future))
        except asyncio.CancelledError:
            if self._core.is_open:
                self._core.native.cancel(number)
            await _quiet(future)
            raise

    def _drain(self) -> None:
        if self._core.is_open:
            self._settle(self._core.native)

    def _settle(self, native: Any) -> None:
        here = asyncio._get_running_loop()
        for number, answer in native.drain():
            future = self._futures.pop(number, None)
            if future is None:
                continue
            loop = future.get_loop()
            if loop is here:
                _resolve(future, answer)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, future, answer)


def _stop_watching(loop: asyncio.AbstractEventLoop, native: Any) -> None:
    loop.remove_reader(native.descriptor)  # which is open while `native` lives


def _resolve(future: asyncio.Future[Any], answer: Any) -> None:
    if not future.done():
        future.set_result(answer)


async def _quiet(future: asyncio.Future[Any]) -> None:
    """Until it is over, whoever cancels: at the latest a second after the deadline."""
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            continue
