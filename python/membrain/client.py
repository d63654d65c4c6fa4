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
import itertools
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from membrain import _native
from membrain.buffers import all_pieces, pieces_of
from membrain.errors import (
    Closed,
    InvalidArgument,
    MembrainError,
    WrongProcess,
    error_of,
    name_of,
)

Rule = Literal["prefix", "window", "all"]
_RULES: dict[Rule, int] = {"prefix": 0, "window": 1, "all": 2}


@dataclass(frozen=True)
class Namespace:
    """An opened namespace: blocks of one model, one layout, one hash function."""

    native: Any = field(repr=False)

    @property
    def id(self) -> int:
        return int(self.native.id)

    @property
    def other_seed(self) -> bool:
        """The same model is cached here under another hash seed: most likely a mistake."""
        return bool(self.native.other_seed)


class Match:
    """What a lookup found. What it pins stays until `release`, or its end."""

    def __init__(self, native: Any) -> None:
        self.native = native

    def __len__(self) -> int:
        return int(self.native.block_count)

    @property
    def prefix(self) -> int:
        """Blocks of the prompt's beginning that are there."""
        return int(self.native.prefix_blocks)

    def has(self, block: int) -> bool:
        return 0 <= block < len(self) and bool(self.native.has(block))

    def size(self, block: int, part: int = 0) -> int:
        """Bytes of a block's part; 0 if it was not found."""
        return int(self.native.part_bytes(block, part))

    def release(self) -> None:
        self.native.release()

    def __enter__(self) -> Match:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True)
class Block:
    """A block to keep. `data` is memory as `membrain.buffers` takes it."""

    hash: bytes
    data: object
    parent: bytes = b""  # the hash of the block before it; empty for the first
    depth: int = 0  # blocks before it in the prompt
    part: int = 0
    priority: int = 0  # higher stays longer


@dataclass(frozen=True)
class Outcome:
    """What became of one item."""

    ok: bool
    duplicate: bool  # of a store: it was there already
    why: str  # "ok", or the error's name


@dataclass(frozen=True)
class Report:
    """What became of a transfer, item by item in the order of the call."""

    items: list[Outcome]
    bytes: int  # moved and accepted
    lanes: dict[str, int]  # of these, by lane: "mapped", "shm", "tcp", ...

    @property
    def ok(self) -> int:
        return sum(item.ok for item in self.items)


def _milliseconds(seconds: float | None) -> int:
    if seconds is None:
        return 0
    if seconds <= 0:
        raise InvalidArgument("a time-out is positive")
    return max(1, round(seconds * 1000))


def _report(value: Any) -> Report:
    items, moved, lanes = value
    return Report([Outcome(ok, twice, name_of(why)) for ok, twice, why in items], moved, lanes)


def _value(answer: Any) -> Any:
    value, code, words = answer
    if code != 0:
        raise error_of(code, words)
    return value


_clients: weakref.WeakSet[_Core] = weakref.WeakSet()


def _forget_clients() -> None:
    for core in list(_clients):
        core.abandon()


os.register_at_fork(after_in_child=_forget_clients)


class _Core:
    """What both kinds of calls share."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._numbers = itertools.count(1)
        self._forked = False
        _clients.add(self)

    @property
    def native(self) -> Any:
        if self._forked:
            raise WrongProcess("this client was opened before a fork: open one in this process")
        if self._native is None:
            raise Closed("this client was closed")
        return self._native

    @property
    def is_open(self) -> bool:
        return self._native is not None

    def abandon(self) -> None:
        native, self._native = self._native, None
        if native is not None:
            self._forked = True
            native.abandon()

    def close(self) -> Any:
        native, self._native = self._native, None
        if native is not None:
            native.close()
        return native

    def number(self) -> int:
        return next(self._numbers)

    def lookup(
        self,
        number: int,
        notify: bool,
        space: Namespace,
        hashes: Sequence[bytes],
        rule: Rule = "prefix",
        window_blocks: int = 0,
        parts: int = 1,
        pin: bool = True,
        timeout: float | None = None,
    ) -> None:
        if rule not in _RULES:
            raise InvalidArgument(f"no such rule: {rule!r}; there are: {', '.join(_RULES)}")
        options = _native.LookupOptions(
            pin, _RULES[rule], window_blocks, parts, _milliseconds(timeout)
        )
        _begin(self.native.lookup, number, notify, space.native, list(hashes), options)

    def fetch(
        self,
        number: int,
        notify: bool,
        match: Match,
        into: Sequence[object],
        blocks: Sequence[int] | None = None,
        part: int = 0,
        timeout: float | None = None,
    ) -> None:
        wanted = range(len(into)) if blocks is None else blocks
        if len(wanted) != len(into):
            raise InvalidArgument(f"{len(wanted)} blocks, but {len(into)} buffers")
        pieces = all_pieces(into, writable=True)
        items = [
            (block, part, 0, memory.size, memory.runs)
            for block, memory in zip(wanted, pieces, strict=True)
        ]
        _begin(
            self.native.fetch, number, notify, match.native, items, _milliseconds(timeout), pieces
        )

    def store(
        self,
        number: int,
        notify: bool,
        space: Namespace,
        blocks: Sequence[Block],
        timeout: float | None = None,
    ) -> None:
        pieces = [pieces_of(block.data, writable=False) for block in blocks]
        items = [
            (block.hash, block.parent, block.depth, block.part, block.priority, memory.runs)
            for block, memory in zip(blocks, pieces, strict=True)
        ]
        _begin(
            self.native.store, number, notify, space.native, items, _milliseconds(timeout), pieces
        )


def _begin(call: Any, *words: Any) -> None:
    try:
        call(*words)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error


def _open(server: str, options: dict[str, Any]) -> _Core:
    config = _native.ClientConfig()
    config.server = server
    for name, value in options.items():
        if not hasattr(config, name):
            raise InvalidArgument(f"no such option of a client: {name}")
        setattr(config, name, value)
    return _Core(_value(_native.open(config)))


def _namespace(options: dict[str, Any]) -> Any:
    space = _native.Namespace()
    for name, value in options.items():
        if not hasattr(space, name):
            raise InvalidArgument(f"no such field of a namespace: {name}")
        setattr(space, name, value)
    return space


class SyncClient:
    """The blocking forms of `Client`'s methods. Any thread; the GIL is not held while they wait."""

    def __init__(self, core: _Core) -> None:
        self._core = core

    @classmethod
    def open(cls, server: str = "127.0.0.1:9201", **options: Any) -> SyncClient:
        return cls(_open(server, options))

    def close(self) -> None:
        self._core.close()

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open_namespace(self, **fields: Any) -> Namespace:
        return Namespace(_value(self._core.native.open_namespace(_namespace(fields))))

    def clear(self, space: Namespace) -> Namespace:
        return Namespace(_value(self._core.native.clear(space.native)))

    def contains(self, space: Namespace, hashes: Sequence[bytes], parts: int = 1) -> list[bool]:
        return list(_value(self._core.native.contains(space.native, list(hashes), parts)))

    def server_stats(self) -> dict[str, int]:
        return dict(_value(self._core.native.server_stats()))

    def lookup(self, space: Namespace, hashes: Sequence[bytes], **options: Any) -> Match:
        number = self._core.number()
        self._core.lookup(number, False, space, hashes, **options)
        return Match(_value(self._core.native.wait(number)))

    def fetch(self, match: Match, into: Sequence[object], **options: Any) -> Report:
        number = self._core.number()
        self._core.fetch(number, False, match, into, **options)
        return _report(_value(self._core.native.wait(number)))

    def store(self, space: Namespace, blocks: Sequence[Block], **options: Any) -> Report:
        number = self._core.number()
        self._core.store(number, False, space, blocks, **options)
        return _report(_value(self._core.native.wait(number)))


class Client:
    """A client of one cluster, for asyncio. It starts no thread of Python's: what ends wakes the
    event loop by one descriptor."""

    def __init__(self, core: _Core) -> None:
        self._core = core
        self.sync = SyncClient(core)
        self._futures: dict[int, asyncio.Future[Any]] = {}
        self._loops: set[asyncio.AbstractEventLoop] = set()

    @classmethod
    async def open(cls, server: str = "127.0.0.1:9201", **options: Any) -> Client:
        """Options are the fields of C++'s ClientConfig, e.g. secret="...", tenant="..."."""
        return cls(await asyncio.to_thread(_open, server, options))

    async def close(self) -> None:
        """Ends what is under way, and closes. Idempotent."""
        native = await asyncio.to_thread(self._core.close)
        if native is None:
            return
        for loop in self._loops:
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
        return await asyncio.to_thread(lambda: self.sync.open_namespace(**fields))

    async def clear(self, space: Namespace) -> Namespace:
        """Forgets every block of a namespace, for everyone. Returns it in its new era."""
        return await asyncio.to_thread(self.sync.clear, space)

    async def contains(
        self, space: Namespace, hashes: Sequence[bytes], parts: int = 1
    ) -> list[bool]:
        """Which blocks are there now. Pins nothing."""
        with await self.lookup(space, hashes, rule="all", parts=parts, pin=False) as match:
            return [match.has(block) for block in range(len(match))]

    async def lookup(self, space: Namespace, hashes: Sequence[bytes], **options: Any) -> Match:
        """Options: rule ("prefix", "window", "all"), window_blocks, parts, pin, timeout."""
        return Match(await self._run(self._core.lookup, space, hashes, **options))

    async def fetch(self, match: Match, into: Sequence[object], **options: Any) -> Report:
        """Blocks 0, 1, ... of the match (or `blocks`) into the buffers. Options: blocks, part,
        timeout. When it has returned or raised, also by a cancel, no byte lands any more."""
        return _report(await self._run(self._core.fetch, match, into, **options))

    async def store(self, space: Namespace, blocks: Sequence[Block], **options: Any) -> Report:
        """Keeps blocks that are not there yet. Option: timeout."""
        return _report(await self._run(self._core.store, space, blocks, **options))

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
            return _value(await asyncio.shield(future))
        except asyncio.CancelledError:
            if self._core.is_open:
                self._core.native.cancel(number)
            await _quiet(future)
            raise

    def _drain(self) -> None:
        if self._core.is_open:
            self._settle(self._core.native)

    def _settle(self, native: Any) -> None:
        for number, answer in native.drain():
            future = self._futures.pop(number, None)
            if future is None:
                continue
            loop = future.get_loop()
            if loop.is_closed():
                continue
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


__all__ = [
    "Block",
    "Client",
    "Match",
    "MembrainError",
    "Namespace",
    "Outcome",
    "Report",
    "SyncClient",
]
