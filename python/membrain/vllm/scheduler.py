"""The connector's half in the scheduler: it plans, and never waits."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from membrain.errors import MembrainError
from membrain.vllm.events import stored_event
from membrain.vllm.link import Link
from membrain.vllm.lookups import Ask, Lookups
from membrain.vllm.plan import GroupLoad, Handshake, Load, Save, Step
from membrain.vllm.report import WorkerReport
from membrain.vllm.rooms import Rooms
from membrain.vllm.saves import NULL_ID, SavePlanner
from membrain.vllm.options import WrongSetting
from membrain.vllm.settings import Settings
from membrain.vllm.stats import Counters

log = logging.getLogger("membrain.vllm")

SEED = "hash_seed_fingerprint"
MAX_EVENTS = 65536  # blocks of which not all parts were reported yet; as many events


def _allocated(
    ids: list[int], first: int, end: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which of these blocks have room, and the engine's ids of it. Thousands of blocks: without a
    step of Python for each, where none is missing."""
    found = tuple(ids[first:end])
    if NULL_ID not in found:
        return tuple(range(first, first + len(found))), found
    places = [(block, i) for block, i in enumerate(found, first) if i != NULL_ID]
    return tuple(block for block, _ in places), tuple(i for _, i in places)


class SchedulerSide:
    """Threads: the engine core's."""

    def __init__(
        self, settings: Settings, link: Link, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.counters = Counters()
        self.link = link
        self._lookups = Lookups(settings, link, self.counters, clock)
        self._saves = SavePlanner(settings)
        self._loads: list[Load] = []  # since the last step
        self._loading: dict[str, frozenset[int]] = {}  # the blocks that a request waits for
        self._rooms = Rooms(settings)
        self._finished: list[str] = []  # since the last step
        self._failed: set[str] = set()  # requests whose load failed: computed once
        self._space: Handshake | None = None  # as soon as it is known
        self._cleared = False  # since the last step
        self._parts: OrderedDict[tuple[int, bytes], int] = OrderedDict()
        self._events: list[Any] = []

    @property
    def held(self) -> int:
        """What is held for requests: 0 when there are none."""
        requests = len(self._loading) + len(self._failed) + len(self._rooms)
        return len(self._lookups) + len(self._saves) + requests

    def handshake(self, of_ranks: Mapping[Any, Any]) -> None:
        """What the workers say, by rank; others' handshakes are not ours to read. Without any of
        theirs they say it in their first step."""
        shakes = {shake for shake in of_ranks.values() if isinstance(shake, Handshake)}
        if shakes:
            self._open(shakes)

    def _open(self, shakes: AbstractSet[Handshake]) -> None:
        """All ranks must keep their blocks in the same way, or nothing works."""
        if len(shakes) != 1:
            raise WrongSetting(
                "the workers keep their KV caches in different layouts or namespaces: run them"
                " with the same attention backend, version and PYTHONHASHSEED"
            )
        (shake,) = shakes
        theirs = dict(shake.spaces[0])[SEED]
        if theirs != self.settings.fields[SEED]:
            raise WrongSetting(
                "the workers have another PYTHONHASHSEED than the engine: set the same for all"
                " processes, on every host"
            )
        self._space = shake
        self.link.start(shake.spaces)

    # ---- requests

    def on_new_request(self, request: Any) -> None:
        if self._may_load(request):
            self._lookups.begin(request.request_id, request.num_tokens, request.block_hashes)

    def _may_load(self, request: Any) -> bool:
        """Some need what the model says of every token of the prompt: its logits, or its pooled
        states. vLLM passes over its own cache for them, and leaves this to each connector."""
        skips = getattr(request, "skip_reading_prefix_cache", False)
        return self.settings.loads and not skips and request.request_id not in self._failed

    def matched(self, request: Any, computed: int) -> tuple[int | None, bool]:
        """Tokens beyond the first `computed` that can be loaded; None: not known yet.

        With windows only whole prompts are: vLLM keeps no room for blocks before the window, so
        that a load which fails must be computed from the first token on."""
        if not self._may_load(request):
            return 0, False
        if self.settings.windows and computed > 0:
            return 0, False
        try:
            hit = self._lookups.hit(request.request_id)
        except KeyError:
            self._lookups.begin(request.request_id, request.num_tokens, request.block_hashes)
            try:
                hit = self._lookups.hit(request.request_id)
            except KeyError:  # nobody to ask, or nothing to ask for
                return 0, False
        external = 0 if hit is None else hit - computed
        if hit is None or (external > 0 and not self._rooms.fits(request)):
            self._rooms.wait(request)
            return None, False
        return (external, True) if external > 0 else (0, False)

    def allocated(self, request: Any, blocks: Any, tokens: int) -> None:
        """It has got its blocks; `tokens` of them are to be loaded."""
        name = request.request_id
        if tokens > 0:
            ask = self._lookups.take(name)
            load = self._load(ask, blocks.get_block_ids(), ask.hit_tokens - tokens)
            self._loads.append(load)
            self._loading[name] = frozenset[int]().union(*(group.ids for group in load.groups))
            self._rooms.load(request)
            self._saves_admit(request, ask.hit_tokens)
            self.counters.add(hit_tokens=tokens)
            return
        self._rooms.leave(name)
        known = 0
        if name not in self._loading:
            try:
                known = self._lookups.hit(name) or 0
            except KeyError:
                known = 0
            self._lookups.drop(name)
        if name in self._failed:
            self._failed.discard(name)
            self._saves.restart(name)
            known = 0
        self._saves_admit(request, known)

    def _saves_admit(self, request: Any, known: int) -> None:
        if self.settings.saves:
            self._saves.admit(request, known)

    def _load(self, ask: Ask, ids: tuple[list[int], ...], start: int) -> Load:
        groups = []
        for group in self.settings.groups:
            size = group.block_tokens
            first, end = start // size, ask.hit_tokens // size
            if group.window_blocks:
                first = max(first, end - group.window_blocks)
            blocks, found = _allocated(ids[group.index], first, end)
            if not blocks:
                continue
            groups.append(
                GroupLoad(
                    group=group.index,
                    grant=ask.grants[group.index],
                    blocks=blocks,
                    ids=found,
                )
            )
        return Load(ask.request, self.settings.options.load_timeout, tuple(groups))

    def finished(self, request: Any) -> bool:
        """True: its blocks are still read."""
        name = request.request_id
        self._lookups.drop(name)
        self._failed.discard(name)
        self._rooms.leave(name)
        if name in self._loading:
            self._loading[name] = frozenset()  # its load ends, but nobody asks how
        if not self._saves.finished(request):
            return False
        self._finished.append(name)
        return True

    # ---- steps

    def step(self, output: Any) -> Step:
        self._lookups.poll()
        loads, self._loads = self._loads, []
        saves: list[Save] = []
        fence: list[int] = []
        if self.settings.saves:
            loaded = (id for load in loads for group in load.groups for id in group.ids)
            saves, fence = self._saves.plan(output, loaded)
        finished, self._finished = self._finished, []
        cleared, self._cleared = self._cleared, False
        return Step(tuple(loads), tuple(saves), tuple(fence), tuple(finished), cleared)

    def output(self, output: Any) -> None:
        """What the workers say after a step."""
        invalid = output.invalid_block_ids or ()
        for name, ids in self._loading.items():
            if not ids.isdisjoint(invalid):
                self._failed.add(name)
        for name in output.finished_recving or ():
            self._loading.pop(name, None)
            self._lookups.loaded(name)
        report = getattr(output, "kv_connector_worker_meta", None)
        if isinstance(report, WorkerReport):
            if report.shakes and self._space is None:
                self._told(report.shakes)
            self._stored(report)

    def _told(self, shakes: AbstractSet[Handshake]) -> None:
        try:
            self._open(shakes)
        except WrongSetting as error:
            log.error("Membrain: %s. The engine runs on without the cache", error)

    # ---- what others want to know

    def _stored(self, report: WorkerReport) -> None:
        for (group, name), count in report.parts.items():
            parts = self._parts.pop((group, name), 0) + count
            if parts < self.settings.ranks.parts:
                self._parts[group, name] = parts
                if len(self._parts) > MAX_EVENTS:
                    self._parts.popitem(last=False)
            elif len(self._events) < MAX_EVENTS:
                tokens = self.settings.groups[group].block_tokens
                self._events.append(stored_event(name, group, tokens))

    def take_events(self) -> list[Any]:
        events, self._events = self._events, []
        return events

    def reset(self) -> bool:
        """Forgets every block of this model, for everyone. Waits for the server. What was found
        before, or is being loaded, is not used either, and what the engine has is not stored."""
        self._lookups.drop_all()
        self._saves.reset()
        self._cleared = True
        opened = self.link.opened
        if opened is None:
            log.warning("Membrain: the cache was not reset: there is no server")
            return False
        try:
            for space in opened.spaces:
                opened.client.sync.clear(space)
        except MembrainError as error:
            log.warning("Membrain: the cache was not reset: %s", error)
            return False
        finally:
            self.link.reopen()
        return True

    def close(self) -> None:
        self._lookups.close(self.link.close())
