"""The connector's half in the scheduler: it plans, and never waits."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from membrain.errors import MembrainError
from membrain.vllm.interface import BlockStored
from membrain.vllm.link import Link
from membrain.vllm.lookups import Ask, Lookups
from membrain.vllm.plan import GroupLoad, Handshake, Load, Step
from membrain.vllm.report import StoredBlocks
from membrain.vllm.rooms import Rooms
from membrain.vllm.saves import NULL_ID, SavePlanner
from membrain.vllm.settings import Settings, WrongSetting
from membrain.vllm.stats import Counters

log = logging.getLogger("membrain.vllm")

MEDIUM = "MEMBRAIN"
MAX_EVENTS = 65536  # blocks of which not all parts were reported yet; as many events


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
        self._parts: OrderedDict[tuple[int, bytes], int] = OrderedDict()
        self._events: list[Any] = []

    @property
    def held(self) -> int:
        """What is held for requests: 0 when there are none."""
        requests = len(self._loading) + len(self._failed) + len(self._rooms)
        return len(self._lookups) + len(self._saves) + requests

    def handshake(self, of_ranks: Mapping[Any, Any]) -> None:
        """How the workers' blocks lie in memory, by rank: all the same way, or nothing works."""
        shakes = [shake for shake in of_ranks.values() if isinstance(shake, Handshake)]
        kinds = {shake.fingerprints for shake in shakes}
        if len(kinds) != 1:
            raise WrongSetting(
                "the workers keep their KV caches in different layouts, or did not say in which:"
                " run them with the same attention backend and version"
            )
        self.link.start(kinds.pop())

    # ---- requests

    def on_new_request(self, request: Any) -> None:
        if self.settings.loads:
            self._lookups.begin(request.request_id, request.num_tokens, request.block_hashes)

    def matched(self, request: Any, computed: int) -> tuple[int | None, bool]:
        """Tokens beyond the first `computed` that can be loaded; None: not known yet.

        With windows only whole prompts are: vLLM keeps no room for blocks before the window, so
        that a load which fails must be computed from the first token on."""
        if not self.settings.loads or request.request_id in self._failed:
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
            self._loading[name] = frozenset(i for group in load.groups for i in group.ids)
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
            wanted = [block for block in range(first, end) if ids[group.index][block] != NULL_ID]
            if not wanted:
                continue
            groups.append(
                GroupLoad(
                    group=group.index,
                    grant=ask.grants[group.index],
                    blocks=tuple(wanted),
                    ids=tuple(ids[group.index][block] for block in wanted),
                    tokens=tuple((block + 1) * size for block in wanted),
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
        if not self._saves.finished(name):
            return False
        self._finished.append(name)
        return True

    # ---- steps

    def step(self, output: Any) -> Step:
        self._lookups.poll()
        saves, fence = self._saves.plan(output) if self.settings.saves else ([], [])
        loads, self._loads = self._loads, []
        finished, self._finished = self._finished, []
        return Step(tuple(loads), tuple(saves), tuple(fence), tuple(finished))

    def output(self, output: Any) -> None:
        """What the workers say after a step."""
        invalid = output.invalid_block_ids or ()
        for name, ids in self._loading.items():
            if not ids.isdisjoint(invalid):
                self._failed.add(name)
        for name in output.finished_recving or ():
            self._loading.pop(name, None)
            self._lookups.loaded(name)
        stored = getattr(output, "kv_connector_worker_meta", None)
        if isinstance(stored, StoredBlocks):
            self._stored(stored)

    # ---- what others want to know

    def _stored(self, stored: StoredBlocks) -> None:
        for (group, name), count in stored.parts.items():
            parts = self._parts.pop((group, name), 0) + count
            if parts < self.settings.ranks.parts:
                self._parts[group, name] = parts
                if len(self._parts) > MAX_EVENTS:
                    self._parts.popitem(last=False)
            elif len(self._events) < MAX_EVENTS:
                self._events.append(
                    BlockStored(
                        block_hashes=[name],
                        parent_block_hash=None,
                        token_ids=[],
                        block_size=self.settings.groups[group].block_tokens,
                        lora_id=None,
                        medium=MEDIUM,
                    )
                )

    def take_events(self) -> list[Any]:
        events, self._events = self._events, []
        return events

    def reset(self) -> bool:
        """Forgets every block of this model, for everyone. Waits for the server."""
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
