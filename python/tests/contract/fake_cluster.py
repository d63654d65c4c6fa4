"""A cluster in this process, whose every choice comes from a seed: when an operation ends, what
fails, what is evicted. It reads and writes the engines' memory at the worst times it may."""

from __future__ import annotations

import ctypes
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from membrain.errors import Corrupt, MembrainError, OutOfCapacity, Stale, TimedOut, Unavailable
from membrain.layout import Layout
from membrain.polled_client import Completion
from membrain.values import Outcome, Report

Key = tuple[Any, bytes, int]  # namespace, block hash, part


@dataclass(frozen=True)
class Space:
    fields: tuple[tuple[str, Any], ...]
    era: int
    other_seed: bool = False
    id: int = 1


@dataclass
class Faults:
    """Chances, from 0 to 1."""

    lookup: float = 0.0
    grant: float = 0.0
    fetch: float = 0.0  # the whole
    fetch_item: float = 0.0
    store_item: float = 0.0
    shed: float = 0.0
    evict: float = 0.0  # a block, at each tick
    slow: float = 0.0  # an operation takes ten times as long


class FakeCluster:
    def __init__(self, seed: int = 0, faults: Faults | None = None) -> None:
        self.random = random.Random(seed)
        self.faults = faults or Faults()
        self.blocks: dict[Key, bytes] = {}
        self.retired: dict[Key, bytes] = {}  # cleared, but still there for those who pinned them
        self.pins: Counter[Key] = Counter()
        self.grants: dict[bytes, FakeMatch] = {}
        self.eras: Counter[tuple[tuple[str, Any], ...]] = Counter()
        self.down = False
        self.events: Collection[int] | None = None  # of a GPU, those that exist; None: no GPU
        self.ticks = 0
        self.clients: list[FakeClient] = []

    def now(self) -> float:
        return self.ticks * 0.001

    def chance(self, of: float) -> bool:
        return of > 0 and self.random.random() < of

    def tick(self) -> None:
        self.ticks += 1
        if self.blocks and self.chance(self.faults.evict):
            self.evict(1)

    def touch(self, after: int) -> None:
        """Memory of the engine's, once that event has come."""
        if self.events is None:
            assert after == 0
        else:
            assert after in self.events, "an event that was not recorded, or is gone"

    def evict(self, count: int) -> int:
        """Of those that are not pinned."""
        free = [key for key in self.blocks if not self.pins[key]]
        chosen = self.random.sample(free, min(count, len(free)))
        for key in chosen:
            del self.blocks[key]
        return len(chosen)

    def assert_nothing_held(self) -> None:
        held = {key for key, count in self.pins.items() if count}
        assert not held, f"{len(held)} blocks are still pinned"
        for client in self.clients:
            assert not client.operations, "operations that nobody took"


class FakeMatch:
    def __init__(self, cluster: FakeCluster, space: Space, parts: int, hashes: list[bytes]) -> None:
        self.cluster = cluster
        self.space = space
        self.parts = parts
        self.hashes = hashes
        self.there = [
            all((space, name, part) in cluster.blocks for part in range(parts)) for name in hashes
        ]
        self.pinned: list[Key] = []

    def pin(self, only_prefix: bool) -> None:
        if only_prefix:
            self.there[self.prefix :] = [False] * (len(self) - self.prefix)
        for name, found in zip(self.hashes, self.there, strict=True):
            if found:
                self.pinned += [(self.space, name, part) for part in range(self.parts)]
        self.cluster.pins.update(self.pinned)

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def prefix(self) -> int:
        return next((i for i, found in enumerate(self.there) if not found), len(self))

    def has(self, block: int) -> bool:
        return self.there[block]

    def release(self) -> None:
        self.cluster.pins.subtract(self.pinned)
        self.pinned = []


@dataclass
class Pending:
    """An operation: done bit by bit (`steps`), then ended."""

    due: int
    end: Callable[[], Any]
    steps: list[Callable[[], None]] = field(default_factory=list)
    cancelled: bool = False


class FakeSync:
    def __init__(self, client: FakeClient) -> None:
        self._client = client

    def open_namespace(self, **fields: Any) -> Space:
        self._client.reach()
        key = tuple(sorted(fields.items()))
        return Space(key, self._client.cluster.eras[key])

    def clear(self, space: Space) -> Space:
        self._client.reach()
        cluster = self._client.cluster
        cluster.eras[space.fields] += 1
        for key in [key for key in cluster.blocks if key[0] == space]:
            cluster.retired[key] = cluster.blocks.pop(key)
        return Space(space.fields, cluster.eras[space.fields])


class FakeClient:
    """What a PolledClient does, without threads: each look at it is a tick."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.operations: dict[int, Pending] = {}
        self.sync = FakeSync(self)
        self._number = 0
        self.reach()
        cluster.clients.append(self)

    def reach(self) -> None:
        if self.cluster.down:
            raise Unavailable("the server is away")

    def _check(self, space: Space) -> None:
        self.reach()
        if space.era != self.cluster.eras[space.fields]:
            raise Stale("cleared")

    def _begin(self, end: Callable[[], Any], steps: Sequence[Callable[[], None]] = ()) -> int:
        self._number += 1
        cluster = self.cluster
        wait = cluster.random.randint(0, 4) * (10 if cluster.chance(cluster.faults.slow) else 1)
        order = list(steps)
        cluster.random.shuffle(order)
        self.operations[self._number] = Pending(cluster.ticks + wait, end, order)
        return self._number

    # ---- questions

    def lookup(
        self, space: Space, hashes: list[bytes], *, rule: str, parts: int, timeout: float
    ) -> int:
        self.reach()

        def end() -> FakeMatch:
            self._check(space)
            if self.cluster.chance(self.cluster.faults.lookup):
                raise TimedOut("lookup")
            match = FakeMatch(self.cluster, space, parts, hashes)
            match.pin(rule == "prefix")
            return match

        return self._begin(end)

    def grant(self, match: FakeMatch, valid: float) -> int:
        self.reach()

        def end() -> bytes:
            self.reach()
            if self.cluster.chance(self.cluster.faults.grant):
                raise Unavailable("grant")
            token = f"grant {len(self.cluster.grants)}".encode()
            self.cluster.grants[token] = match
            return token

        return self._begin(end)

    def adopt(self, grant: bytes) -> int:
        def end() -> FakeMatch:
            if grant not in self.cluster.grants:
                raise Corrupt("no grant")
            return self.cluster.grants[grant]

        return self._begin(end)

    # ---- transfers

    def fetch_blocks(
        self,
        match: FakeMatch,
        layout: Layout,
        ids: Sequence[int],
        *,
        blocks: Sequence[int],
        part: int,
        timeout: float,
        after: int,
    ) -> int:
        self.reach()
        assert len(set(ids)) == len(ids) == len(blocks)
        outcomes = [Outcome(False, False, "not_found")] * len(ids)
        fails = self.cluster.chance(self.cluster.faults.fetch)

        def copy(index: int) -> None:
            self.cluster.touch(after)
            key = (match.space, match.hashes[blocks[index]], part)
            content = self.cluster.blocks.get(key)
            if key in match.pinned:
                content = content or self.cluster.retired.get(key)
            bad = content is None or self.cluster.chance(self.cluster.faults.fetch_item)
            if bad or self.cluster.down:
                content = self.cluster.random.randbytes(layout.block_bytes)
            else:
                outcomes[index] = Outcome(True, False, "ok")
            assert content is not None
            scatter(layout, ids[index], content)

        def end() -> Report:
            if fails:
                raise TimedOut("fetch")
            moved = sum(outcome.ok for outcome in outcomes) * layout.block_bytes
            return Report(outcomes, moved, {"mapped": moved})

        return self._begin(end, [partial(copy, index) for index in range(len(ids))])

    def offer_blocks(
        self,
        space: Space,
        layout: Layout,
        ids: Sequence[int],
        hashes: Sequence[bytes],
        *,
        parent: bytes,
        first_depth: int,
        part: int,
        after: int,
    ) -> int:
        assert (first_depth == 0) == (parent == b"") and len(ids) == len(hashes)
        self.reach()
        if self.cluster.chance(self.cluster.faults.shed):
            raise OutOfCapacity("too much waits")
        outcomes = [Outcome(False, False, "cancelled")] * len(ids)

        def keep(index: int) -> None:
            self.cluster.touch(after)
            content = gather(layout, ids[index])  # whatever comes of it
            key = (space, hashes[index], part)
            if self.cluster.down or self.cluster.chance(self.cluster.faults.store_item):
                outcomes[index] = Outcome(False, False, "unavailable")
            elif space.era != self.cluster.eras[space.fields]:
                outcomes[index] = Outcome(False, False, "stale")
            else:
                outcomes[index] = Outcome(True, key in self.cluster.blocks, "ok")
                self.cluster.blocks.setdefault(key, content)

        def end() -> Report:
            return Report(outcomes, sum(o.ok for o in outcomes) * layout.block_bytes, {})

        return self._begin(end, [partial(keep, index) for index in range(len(ids))])

    def cancel(self, number: int) -> None:
        if number in self.operations:
            self.operations[number].cancelled = True

    def forget(self, number: int) -> None:
        del self.operations[number]

    # ---- ends

    def drain_completions(self) -> list[Completion]:
        self.cluster.tick()
        done = []
        for number, pending in list(self.operations.items()):
            self._work(pending)
            if pending.due <= self.cluster.ticks or pending.cancelled:
                done.append(self._end(number))
        return done

    def _work(self, pending: Pending) -> None:
        last = pending.due <= self.cluster.ticks
        count = len(pending.steps) if last else self.cluster.random.randint(0, len(pending.steps))
        if pending.cancelled:
            count = min(count, 1)  # the one under way
        for _ in range(count):
            pending.steps.pop()()

    def _end(self, number: int) -> Completion:
        pending = self.operations.pop(number)
        try:
            return Completion(number, pending.end())
        except MembrainError as error:
            return Completion(number, None, error)

    def wait(self, seconds: float) -> bool:
        self.cluster.tick()
        return True

    def close(self) -> list[Completion]:
        return [self._end(number) for number in list(self.operations)]


def scatter(layout: Layout, block: int, content: bytes) -> None:
    at = 0
    for plane in layout.planes:
        piece = content[at : at + plane.piece]
        ctypes.memmove(plane.base + block * plane.stride, piece, plane.piece)
        at += plane.piece


def gather(layout: Layout, block: int) -> bytes:
    return b"".join(
        ctypes.string_at(plane.base + block * plane.stride, plane.piece)
        for plane in layout.planes
    )
