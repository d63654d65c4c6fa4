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
    planned: list[Save] = field(default_factory=list)
    leaving: list[Save] = field(default_factory=list)  # of blocks that a window moves past


class SavePlanner:
    """Follows the blocks of every request from step to step.

    A save reads its blocks for some time after its step, and they must not be overwritten
    meanwhile. Blocks of a request that runs are full, and those of one that finishes are kept
    (`finished`). Others vLLM takes back as it likes: of preempted requests, and those that windows
    have moved past. Such a block is loose; who gets it next gets it with a fence. That is long
    after, as a rule: vLLM hands out first what has been free for longest."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tracked: dict[str, Tracked] = {}
        self._numbers = itertools.count(1)
        # By id, the saves that may still read a block that is loose. No more ids than blocks.
        self._loose: dict[int, set[int]] = {}

    def __len__(self) -> int:
        return len(self._tracked)

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
        self._preempted(output.preempted_req_ids or ())
        cached = output.scheduled_cached_reqs
        for index, request_id in enumerate(cached.req_ids):
            if request_id in self._tracked:
                self._move_on(self._tracked[request_id], cached.num_computed_tokens[index])
        fence = self._given(output, loaded)
        saves: list[Save] = []
        for new in output.scheduled_new_reqs:
            tracked = self._tracked.get(new.req_id)
            if tracked is not None:
                tracked.ids = [list(ids) for ids in new.block_ids]
                saves += self._full(tracked, new.num_computed_tokens, output)
        for index, request_id in enumerate(cached.req_ids):
            tracked = self._tracked.get(request_id)
            if tracked is not None:
                new_ids = cached.new_block_ids[index]
                self._grow(tracked, new_ids, request_id in cached.resumed_req_ids)
                saves += self._full(tracked, cached.num_computed_tokens[index], output)
        return saves, fence

    def finished(self, request: Any) -> bool:
        """Whether its blocks must be kept until its saves are done. Those before its windows are
        not: vLLM gives them back first."""
        tracked = self._tracked.pop(request.request_id, None)
        if tracked is None or not (tracked.planned or tracked.leaving):
            return False
        self._move_on(tracked, request.num_tokens)
        return True

    # ---- blocks that vLLM has taken back

    def _loosen(self, saves: Iterable[Save]) -> None:
        for save in saves:
            for block in save.ids:
                self._loose.setdefault(block, set()).add(save.number)

    def _given(self, output: Any, loaded: Iterable[int]) -> list[int]:
        """Saves whose blocks somebody has got who will write to them."""
        if not self._loose:
            return []
        tables: list[tuple[Sequence[Sequence[int]], int]] = [([list(loaded)], 0)]
        tables += [(new.block_ids, new.num_computed_tokens) for new in output.scheduled_new_reqs]
        cached = output.scheduled_cached_reqs
        for index, name in enumerate(cached.req_ids):
            computed = cached.num_computed_tokens[index] if name in cached.resumed_req_ids else 0
            tables.append((cached.new_block_ids[index] or (), computed))
        fence: set[int] = set()
        for table, computed in tables:
            for group, ids in zip(self._settings.groups, table, strict=False):
                for block in ids[computed // group.block_tokens :]:
                    fence |= self._loose.pop(block, set())
        return sorted(fence)

    # ---- one request

    def _preempted(self, requests: Iterable[str]) -> None:
        """vLLM has taken their blocks. What was not stored yet may be lost: it is planned again."""
        for request_id in requests:
            tracked = self._tracked.get(request_id)
            if tracked is not None:
                self._loosen(tracked.planned + tracked.leaving)
                tracked.planned, tracked.leaving = [], []
                tracked.ids = [[] for _ in tracked.ids]
                tracked.saved = [0] * len(tracked.saved)

    def _grow(
        self, tracked: Tracked, new: Sequence[Sequence[int]] | None, resumed: bool
    ) -> None:
        for group, ids in enumerate(new or ()):
            if resumed:
                tracked.ids[group] = list(ids)
            else:
                tracked.ids[group] += ids

    def _move_on(self, tracked: Tracked, computed: int) -> None:
        """Its windows are where so many tokens are computed."""
        past: list[Save] = []
        kept: list[Save] = []
        for save in tracked.leaving:
            group = self._settings.groups[save.group]
            is_past = save.first_depth * group.block_tokens < _live_from(group, computed)
            (past if is_past else kept).append(save)
        tracked.leaving = kept
        self._loosen(past)

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
                (tracked.leaving if group.window_blocks else tracked.planned).append(save)
                saves.append(save)
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
