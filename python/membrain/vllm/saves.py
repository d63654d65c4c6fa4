"""Which blocks are to be stored, and until when they must have been read. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from membrain.vllm.lookups import group_hashes
from membrain.vllm.plan import Save
from membrain.vllm.settings import Group, Settings

NULL_ID = 0  # vLLM's block that stands for none


READERS = 64  # of one block, at most


@dataclass
class Tracked:
    """A request that waits for its blocks, or runs."""

    request: Any
    ids: list[list[int]]  # of its blocks, by group; none until it runs
    saved: list[int]  # blocks that are stored, or planned to be, by group
    reads: bool = False  # saves of the blocks that it has were planned
    old: bool = False  # it has blocks of before a reset: what follows is computed on them


class SavePlanner:
    """Follows the blocks of every request from step to step.

    A save reads its blocks for some time after its step, and they must not be overwritten
    meanwhile. Blocks of a request that runs are full, and those of one that finishes are kept
    (`finished`). Others vLLM takes back as it likes: of preempted requests, of which it does not
    always tell, and those that windows have moved past. So whoever gets a block gets it with a
    fence. That is long after, as a rule: vLLM hands out first what has been free for longest, and
    the fence is of saves that have ended.

    After a reset nothing that the engine has may be stored: it was computed with other weights, or
    on blocks that were. A block is new again when somebody gets it to compute it, on new ones."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tracked: dict[str, Tracked] = {}
        self._numbers = itertools.count(1)
        self._readers: dict[int, list[int]] = {}  # by block, saves that may still read it
        self._old: set[int] = set()  # blocks of before a reset

    def __len__(self) -> int:
        return len(self._tracked)

    def admit(self, request: Any, stored_tokens: int) -> None:
        """It waited, and has got blocks; the cluster has those of its first `stored_tokens`."""
        tracked = self._tracked.get(request.request_id)
        if tracked is None:
            groups = len(self._settings.groups)
            tracked = Tracked(request, [[] for _ in range(groups)], [0] * groups)
            self._tracked[request.request_id] = tracked
        elif any(tracked.ids):  # it ran, and was preempted without a word
            self._forget(tracked)
        for group in self._settings.groups:
            known = stored_tokens // group.block_tokens
            tracked.saved[group.index] = max(tracked.saved[group.index], known)

    def restart(self, request_id: str) -> None:
        """The cluster does not have what it was thought to have."""
        tracked = self._tracked.get(request_id)
        if tracked is not None:
            tracked.saved = [0] * len(tracked.saved)

    def reset(self) -> None:
        """What is in the engine's blocks now is never stored."""
        self._old = set(range(1, self._settings.blocks))
        for tracked in self._tracked.values():
            tracked.old = True

    def plan(
        self, output: Any, loaded: Iterable[int] = ()
    ) -> tuple[list[Save], list[int]]:
        """Saves of the blocks that this step fills, and numbers of those that end before it.
        `loaded`: ids of blocks into which it loads."""
        self._preempted(output.preempted_req_ids or ())
        into = list(loaded)
        self._old.difference_update(into)
        fence = self._given(output, into)
        saves: list[Save] = []
        cached = output.scheduled_cached_reqs  # first: new ones may find what these compute
        for index, request_id in enumerate(cached.req_ids):
            tracked = self._tracked.get(request_id)
            if tracked is not None:
                ids, computed = cached.new_block_ids[index], cached.num_computed_tokens[index]
                if request_id in cached.resumed_req_ids:
                    self._start(tracked, ids or (), computed)
                else:
                    self._grow(tracked, ids or ())
                saves += self._full(tracked, computed, output)
        for new in output.scheduled_new_reqs:
            tracked = self._tracked.get(new.req_id)
            if tracked is not None:
                self._start(tracked, new.block_ids, new.num_computed_tokens)
                saves += self._full(tracked, new.num_computed_tokens, output)
        return saves, sorted(fence | self._read(saves))

    def finished(self, request: Any) -> bool:
        """Whether its blocks must be kept until its saves are done. Those before its windows are
        not: vLLM gives them back first."""
        tracked = self._tracked.pop(request.request_id, None)
        return tracked is not None and tracked.reads

    # ---- blocks that saves read

    def _read(self, saves: Iterable[Save]) -> set[int]:
        """Keeps in mind who reads which block. Saves that end at once: the oldest of a block that
        many read."""
        fence: set[int] = set()
        for save in saves:
            for block in save.ids:
                readers = self._readers.setdefault(block, [])
                if len(readers) == READERS:
                    fence.add(readers.pop(0))
                readers.append(save.number)
        return fence

    def _given(self, output: Any, loaded: Sequence[int]) -> set[int]:
        """Saves whose blocks somebody has got who will write to them."""
        fence: set[int] = set()
        if not self._readers:
            return fence
        tables: list[tuple[Sequence[Sequence[int]], int]] = [([loaded], 0)]
        tables += [(new.block_ids, new.num_computed_tokens) for new in output.scheduled_new_reqs]
        cached = output.scheduled_cached_reqs
        for index, name in enumerate(cached.req_ids):
            computed = cached.num_computed_tokens[index] if name in cached.resumed_req_ids else 0
            tables.append((cached.new_block_ids[index] or (), computed))
        for table, computed in tables:
            for group, ids in zip(self._settings.groups, table, strict=False):
                for block in ids[computed // group.block_tokens :]:
                    fence.update(self._readers.pop(block, ()))
        return fence

    # ---- one request

    def _preempted(self, requests: Iterable[str]) -> None:
        """vLLM has taken their blocks."""
        for request_id in requests:
            tracked = self._tracked.get(request_id)
            if tracked is not None and any(tracked.ids):
                self._forget(tracked)

    def _forget(self, tracked: Tracked) -> None:
        """Its blocks. What was not stored yet may be lost: it is planned again."""
        tracked.reads = False
        tracked.ids = [[] for _ in tracked.ids]
        tracked.saved = [0] * len(tracked.saved)

    def _start(self, tracked: Tracked, table: Sequence[Sequence[int]], computed: int) -> None:
        """It has all of these blocks, the first of which are computed."""
        tracked.ids = [[] for _ in tracked.ids]
        first = [computed // group.block_tokens for group in self._settings.groups]
        found = [ids[:count] for ids, count in zip(table, first, strict=False)]
        tracked.old = not self._old.isdisjoint(itertools.chain.from_iterable(found))
        for group, ids in enumerate(found):
            tracked.ids[group] += ids
        self._grow(tracked, [ids[count:] for ids, count in zip(table, first, strict=False)])

    def _grow(self, tracked: Tracked, new: Sequence[Sequence[int]]) -> None:
        for group, ids in enumerate(new):
            tracked.ids[group] += ids
            if tracked.old:
                self._old.update(ids)
                self._old.discard(NULL_ID)
            else:
                self._old.difference_update(ids)

    def _full(self, tracked: Tracked, computed: int, output: Any) -> list[Save]:
        if tracked.old:
            return []
        request = tracked.request
        tokens = computed + output.num_scheduled_tokens[request.request_id]
        hashes = request.block_hashes
        count = min(len(hashes), getattr(request, "num_publishable_block_hashes", len(hashes)))
        count = min(count, tokens // self._settings.hash_tokens)
        saves = []
        for group in self._settings.groups:
            each = group.block_tokens // self._settings.hash_tokens
            ids = tracked.ids[group.index]
            first, end = tracked.saved[group.index], min(count // each, len(ids))
            while first < end and ids[first] == NULL_ID:
                first += 1
            if first >= end:
                continue
            known = max(first - 1, 0)  # the parent's, too
            part = hashes[known * each : end * each]
            names = group_hashes(group, self._settings.hash_tokens, part)
            tracked.saved[group.index] = end
            for start, stop in _real(ids, _runs(group, first, end, tokens)):
                save = Save(
                    number=next(self._numbers),
                    request=request.request_id,
                    group=group.index,
                    ids=tuple(ids[start:stop]),
                    hashes=tuple(names[start - known : stop - known]),
                    parent=names[start - 1 - known] if start else b"",
                    first_depth=start,
                )
                saves.append(save)
        tracked.reads = tracked.reads or bool(saves)
        return saves


def _live_from(group: Group, computed: int) -> int:
    """The first token whose block vLLM surely keeps for a request that has computed so many."""
    if not group.window_tokens:  # a state: the last one's
        return computed - (group.window_blocks - 1) * group.block_tokens
    first = computed - group.window_tokens + 1
    return first - first % group.block_tokens


def _runs(group: Group, first: int, end: int, computed: int) -> list[tuple[int, int]]:
    """Blocks that are given back together: for a window those that it is about to leave, and then
    each alone."""
    if not group.window_blocks:
        return [(first, end)]
    live = max(first, min(end, -(-_live_from(group, computed) // group.block_tokens)))
    dying = [(first, live)] if first < live else []
    return dying + [(block, block + 1) for block in range(live, end)]


def _real(ids: Sequence[int], runs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same without blocks that are none. Windows leave such in front, states between."""
    real: list[tuple[int, int]] = []
    for start, stop in runs:
        if NULL_ID not in ids[start:stop]:
            real.append((start, stop))
            continue
        for is_real, places in itertools.groupby(range(start, stop), lambda i: ids[i] != NULL_ID):
            if is_real:
                run = list(places)
                real.append((run[0], run[-1] + 1))
    return real
