"""Which blocks are to be stored, and until when they must have been read. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from membrain.vllm.lookups import group_hashes
from membrain.vllm.plan import Save
from membrain.vllm.settings import Group, Settings

NULL_ID = 0  # vLLM's block that stands for none


@dataclass
class Tracked:
    """A request that runs."""

    request: Any
    ids: list[list[int]]  # of its blocks, by group
    saved: list[int]  # blocks that are stored, or planned to be, by group
    planned: list[int] = field(default_factory=list)  # numbers
    leaving: list[Leaving] = field(default_factory=list)  # of these, what windows move past

    def numbers(self) -> list[int]:
        return self.planned + [one.number for one in self.leaving]


@dataclass(frozen=True)
class Leaving:
    """A save of blocks that a window moves past."""

    number: int
    group: Group
    first: int  # block
    ids: tuple[int, ...]  # the engine's, of it and those behind it


class SavePlanner:
    """Follows the blocks of every request from step to step.

    A save reads its blocks for some time after its step. They are not overwritten meanwhile: blocks
    of a request that runs are full, those of one that finishes are kept (`finished`), and those
    that vLLM takes back otherwise come with a fence: at once in a preemption and when a window
    moves on; those before the windows of a request that finishes when they are given to somebody,
    which is long after."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tracked: dict[str, Tracked] = {}
        self._numbers = itertools.count(1)
        self._loose: dict[str, list[Leaving]] = {}  # of finished requests, perhaps still read

    def __len__(self) -> int:
        return len(self._tracked) + len(self._loose)

    def admit(self, request: Any, stored_tokens: int) -> None:
        """It has got blocks; the cluster has those of its first `stored_tokens`."""
        tracked = self._tracked.get(request.request_id)
        if tracked is None:
            groups = len(self._settings.groups)
            tracked = Tracked(request, [[] for _ in range(groups)], [0] * groups)
            self._tracked[request.request_id] = tracked
        for group in self._settings.groups:
            known = stored_tokens // group.block_tokens
            tracked.saved[group.index] = max(tracked.saved[group.index], known)

    def restart(self, request_id: str) -> None:
        """The cluster does not have what it was thought to have."""
        tracked = self._tracked.get(request_id)
        if tracked is not None:
            tracked.saved = [0] * len(tracked.saved)

    def plan(
        self, output: Any, loaded: Iterable[int] = ()
    ) -> tuple[list[Save], list[int]]:
        """Saves of the blocks that this step fills, and numbers of those that end before it.
        `loaded`: ids of blocks into which it loads."""
        fence = self._preempted(output.preempted_req_ids or ())
        fence += self._given(output, loaded)
        saves: list[Save] = []
        for new in output.scheduled_new_reqs:
            tracked = self._tracked.get(new.req_id)
            if tracked is not None:
                tracked.ids = [list(ids) for ids in new.block_ids]
                saves += self._full(tracked, new.num_computed_tokens, output)
        cached = output.scheduled_cached_reqs
        for index, request_id in enumerate(cached.req_ids):
            tracked = self._tracked.get(request_id)
            if tracked is None:
                continue
            computed = cached.num_computed_tokens[index]
            self._grow(tracked, cached.new_block_ids[index], request_id in cached.resumed_req_ids)
            fence += self._left_behind(tracked, computed)
            saves += self._full(tracked, computed, output)
        return saves, fence

    def finished(self, request: Any) -> bool:
        """Whether its blocks must be kept until its saves are done (`sent`). Those before its
        windows are not: vLLM gives them back first."""
        name = request.request_id
        tracked = self._tracked.pop(name, None)
        if tracked is None or not tracked.numbers():
            return False
        loose = [one for one in tracked.leaving if _is_past(one, request.num_tokens)]
        if loose:
            self._loose[name] = loose
        return True

    def sent(self, request_ids: Iterable[str]) -> None:
        """All saves of these, which have finished, have ended."""
        for name in request_ids:
            self._loose.pop(name, None)

    def _given(self, output: Any, loaded: Iterable[int]) -> list[int]:
        """Saves whose blocks somebody else has got, who will write to them."""
        if not self._loose:
            return []
        given = set(loaded)
        cached = output.scheduled_cached_reqs
        tables = [(new.block_ids, new.num_computed_tokens) for new in output.scheduled_new_reqs]
        for index, name in enumerate(cached.req_ids):
            ids = cached.new_block_ids[index] or ()
            computed = cached.num_computed_tokens[index] if name in cached.resumed_req_ids else 0
            tables.append((ids, computed))
        for table, computed in tables:
            for group, ids in zip(self._settings.groups, table, strict=False):
                given.update(ids[computed // group.block_tokens :])
        fence = []
        for name, loose in list(self._loose.items()):
            kept = [one for one in loose if given.isdisjoint(one.ids)]
            fence += [one.number for one in loose if one not in kept]
            self._loose[name] = kept
            if not kept:
                del self._loose[name]
        return fence

    # ---- one request

    def _preempted(self, requests: Iterable[str]) -> list[int]:
        """vLLM has taken their blocks. What was not stored yet may be lost: it is planned again."""
        fence: list[int] = []
        for request_id in requests:
            tracked = self._tracked.get(request_id)
            if tracked is not None:
                fence += tracked.numbers()
                tracked.planned, tracked.leaving = [], []
                tracked.ids = [[] for _ in tracked.ids]
                tracked.saved = [0] * len(tracked.saved)
        return fence

    def _grow(
        self, tracked: Tracked, new: Sequence[Sequence[int]] | None, resumed: bool
    ) -> None:
        for group, ids in enumerate(new or ()):
            if resumed:
                tracked.ids[group] = list(ids)
            else:
                tracked.ids[group] += ids

    def _left_behind(self, tracked: Tracked, computed: int) -> list[int]:
        """Saves of blocks that a window has moved past, and vLLM may give to others."""
        fence: list[int] = []
        kept: list[Leaving] = []
        for one in tracked.leaving:
            if _is_past(one, computed):
                fence.append(one.number)
            else:
                kept.append(one)
        tracked.leaving = kept
        return fence

    def _full(self, tracked: Tracked, computed: int, output: Any) -> list[Save]:
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
                if group.window_blocks:
                    tracked.leaving.append(Leaving(save.number, group, start, save.ids))
                else:
                    tracked.planned.append(save.number)
                saves.append(save)
        return saves


def _is_past(save: Leaving, computed: int) -> bool:
    return save.first * save.group.block_tokens < _live_from(save.group, computed)


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
