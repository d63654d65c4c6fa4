"""MembrainManager: blocks in this process and in the cluster, as one cache."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from membrain.errors import InvalidArgument, MembrainError
from membrain.store import Held, MembrainStore
from membrain.tensors import bytes_of, fill


class Tier(Enum):
    LOCAL = "local"  # a copy in this process
    REMOTE = "remote"  # in the cluster
    NONE = "none"


@dataclass
class _Copy:
    content: bytes
    priority: int
    holders: int = 0


@dataclass
class ManagerMetrics:
    local_hits: int = 0
    remote_hits: int = 0
    misses: int = 0
    spared_questions: int = 0  # that cached answers made unnecessary
    evicted: int = 0  # copies


@dataclass
class Retained:
    """Blocks of a prompt that neither tier gives up until `release`."""

    manager: MembrainManager
    tiers: list[Tier]
    local: list[_Copy] = field(repr=False)
    held: Held | None = field(default=None, repr=False)
    generation: int = 0  # of the store's namespace

    def release(self) -> None:
        """Idempotent."""
        self.manager.release_local(self.local)
        self.local = []
        if self.held is not None:
            self.held.release()
            self.held = None

    def __enter__(self) -> Retained:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class MembrainManager:
    """Copies of blocks are kept in this process while there is room; those that nobody retains go,
    the lowest priority first and then the least recently used. What the cluster does not have is
    remembered for a moment, so that nobody asks again at once. While the cluster is away, copies
    are still served. When the store learns that others have cleared it, copies go too; it learns
    it as soon as it asks or stores.

    Threads: one event loop."""

    def __init__(
        self,
        store: MembrainStore,
        local_bytes: int = 256 << 20,
        negative_seconds: float = 1.0,
        max_negatives: int = 65536,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.local_bytes = local_bytes
        self.metrics = ManagerMetrics()
        self._copies: OrderedDict[bytes, _Copy] = OrderedDict()  # the last used is the last
        self._used = 0
        self._generation = store.generation  # of which the copies are
        self._negatives: OrderedDict[bytes, float] = OrderedDict()  # until when
        self._negative_seconds = negative_seconds
        self._max_negatives = max_negatives
        self._clock = clock

    @property
    def used_bytes(self) -> int:
        return self._used

    def local_tier_of(self, block_hash: bytes) -> Tier:
        self._drop_old()
        return Tier.LOCAL if block_hash in self._copies else Tier.NONE

    # ---- prompts

    async def retain(self, hashes: Sequence[bytes], timeout: float | None = None) -> Retained:
        """The longest prefix of which every block is in a tier. The cluster is asked for what
        follows the copies, unless it is known not to have the first of it."""
        self._drop_old()
        generation = self._generation
        local: list[_Copy] = []
        for name in hashes:
            if name not in self._copies:
                break
            local.append(self._retained(name))
        rest = list(hashes[len(local) :])
        held = None
        if rest and self._is_negative(rest[0]):
            self.metrics.spared_questions += 1
        elif rest:
            held = await self._hold(rest, timeout, local)
        if local and self.store.generation != generation:  # the copies are of before a clear
            self.release_local(local)
            if held is not None:
                held.release()
            rest, local, held = list(hashes), [], None
        count = len(held) if held else 0
        self.metrics.local_hits += len(local)
        self.metrics.remote_hits += count
        self.metrics.misses += len(rest) - count
        tiers = [Tier.LOCAL] * len(local) + [Tier.REMOTE] * count
        return Retained(self, tiers, local, held, self.store.generation)

    async def _hold(
        self, rest: list[bytes], timeout: float | None, local: list[_Copy]
    ) -> Held | None:
        try:
            held = await self.store.hold(rest, timeout)
        except InvalidArgument:
            self.release_local(local)
            raise
        except MembrainError:
            return None  # misses
        except BaseException:
            self.release_local(local)
            raise
        if len(held) < len(rest) and held.match.answered(len(held)):
            self._remember_negative(rest[len(held)])
        return held

    async def load(
        self, retained: Retained, into: Sequence[Any], timeout: float | None = None
    ) -> list[bool]:
        """The first retained blocks into as many tensors; what comes from the cluster is kept as a
        copy. False: that one must be computed."""
        count = min(len(into), len(retained.local))
        for copy, tensor in zip(retained.local[:count], into[:count], strict=True):
            self.store.block.check(tensor, "tensor")
            fill(tensor, copy.content)
        loaded = [True] * count
        names = retained.held.hashes if retained.held is not None else []
        rest = list(into[count : count + len(names)])
        if rest and retained.held is not None:
            try:
                loaded += await retained.held.load(rest, timeout)
            except InvalidArgument:
                raise
            except MembrainError:
                loaded += [False] * len(rest)
            self._drop_old()
            fresh = retained.generation == self._generation
            for name, tensor, ok in zip(names, rest, loaded[count:], strict=False):
                if ok and fresh:
                    self._keep(name, bytes_of(tensor), 0)
        return loaded + [False] * (len(into) - len(loaded))

    async def save(
        self,
        hashes: Sequence[bytes],
        tensors: Sequence[Any],
        *,
        parent: bytes = b"",
        first_depth: int = 0,
        priority: int = 0,
    ) -> list[bool]:
        """Keeps a run of one prompt's blocks in both tiers. True: the cluster has it. `priority`:
        higher stays longer, in both."""
        if len(hashes) != len(tensors):
            raise InvalidArgument(f"{len(hashes)} hashes, but {len(tensors)} tensors")
        for index, tensor in enumerate(tensors):
            self.store.block.check(tensor, f"tensor {index}")
        self._drop_old()
        for name, tensor in zip(hashes, tensors, strict=True):
            self._keep(name, bytes_of(tensor), priority)
            self._negatives.pop(name, None)
        try:
            return await self.store.store(
                hashes, tensors, parent=parent, first_depth=first_depth, priority=priority
            )
        except InvalidArgument:
            raise
        except MembrainError:
            return [False] * len(hashes)

    def refcount(self, block_hash: bytes) -> int:
        """In both tiers."""
        copy = self._copies.get(block_hash)
        return self.store.refcounts[block_hash] + (copy.holders if copy else 0)

    # ---- the local tier

    def evict(self, wanted_bytes: int) -> int:
        """Gives up copies that nobody retains, until so many bytes are free of them. Returns how
        many bytes were given up."""
        free = sorted(
            (copy.priority, index, name)
            for index, (name, copy) in enumerate(self._copies.items())
            if copy.holders == 0
        )
        given = 0
        for _, _, name in free:
            if given >= wanted_bytes:
                break
            given += len(self._copies.pop(name).content)
            self.metrics.evicted += 1
        self._used -= given
        return given

    def _keep(self, name: bytes, content: bytes, priority: int) -> None:
        if name in self._copies:
            copy = self._copies[name]
            copy.priority = max(copy.priority, priority)
            self._copies.move_to_end(name)
            return
        over = self._used + len(content) - self.local_bytes
        if over > 0 and self.evict(over) < over:
            return  # what is left is retained
        self._copies[name] = _Copy(content, priority)
        self._used += len(content)

    def _drop_old(self) -> None:
        """Copies of before a clear. Those that are retained go on for who retains them."""
        if self._generation == self.store.generation:
            return
        self._generation = self.store.generation
        self._copies.clear()
        self._used = 0
        self._negatives.clear()

    def _retained(self, name: bytes) -> _Copy:
        copy = self._copies[name]
        copy.holders += 1
        self._copies.move_to_end(name)
        return copy

    def release_local(self, copies: Sequence[_Copy]) -> None:
        for copy in copies:
            copy.holders -= 1

    # ---- what is not there

    def _is_negative(self, name: bytes) -> bool:
        return self._negatives.get(name, 0.0) > self._clock()

    def _remember_negative(self, name: bytes) -> None:
        self._negatives.pop(name, None)
        self._negatives[name] = self._clock() + self._negative_seconds
        if len(self._negatives) > self._max_negatives:
            self._negatives.popitem(last=False)

    async def clear(self) -> None:
        """Forgets every block, here and in the cluster. Copies that are retained go with their
        release."""
        await self.store.clear()
        self._drop_old()
