"""The connector's half in a worker: it moves blocks between the cache and the cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from membrain.buffers import HOST
from membrain.errors import Closed, MembrainError, OutOfCapacity, Stale
from membrain.layout import Layout
from membrain.values import Report
from membrain.vllm.geometry import GroupCache, cross_layer_cache, group_cache, tensors_of
from membrain.vllm.link import Link
from membrain.vllm.plan import GroupLoad, Handshake, Load, Save, Step
from membrain.vllm.report import WorkerReport
from membrain.vllm.options import WrongSetting
from membrain.vllm.settings import Settings
from membrain.vllm.stats import Counters

log = logging.getLogger("membrain.vllm")

ADOPT_WAIT = 0.0005  # seconds that a step waits for grants, so that its fetches start with it
FENCE_LIMIT = 60.0  # seconds after which a save that does not end is a fault of ours


@dataclass
class Loading:
    load: Load
    began: float
    after: Any = None  # the event before which nothing is written: what the blocks held is used
    waiting: int = 0  # operations under way
    bad: int | None = None  # where the first block that failed begins, in tokens


@dataclass
class Operation:
    """Under way at the client."""

    loading: Loading | None = None
    group: GroupLoad | None = None
    adopts: bool = False  # the grant, before the fetch
    save: Save | None = None
    hashes: tuple[bytes, ...] = ()
    keep: object = field(default=None, repr=False)


def _raw(event: Any) -> int:
    return 0 if event is None else int(event.cuda_event)


class WorkerSide:
    """Threads: the model runner's."""

    def __init__(
        self, settings: Settings, link: Link, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.counters = Counters()
        self.link = link
        self._clock = clock
        self._part = settings.ranks.part_of(settings.rank)
        self._replica = settings.ranks.replica_of(settings.rank)
        self._caches: list[GroupCache] = []
        self._layouts: list[Layout] = []
        self._operations: dict[int, Operation] = {}
        self._adopting = 0
        self._saves: dict[int, set[int]] = {}  # operations of a save that has not ended, by number
        self._saving: dict[str, set[int]] = {}  # such saves of a request
        self._shed: set[str] = set()  # requests of which a save was shed: later ones are no use
        self._finished: set[str] = set()  # whose end is reported when nothing reads their blocks
        self._received: set[str] = set()
        self._errors: set[int] = set()
        self._report = WorkerReport()

    # ---- the cache

    def register(self, caches: Mapping[str, Any]) -> None:
        blocks = self.settings.blocks
        found = [group_cache(group, caches, blocks) for group in self.settings.groups]
        self._use(found, [tensor for one in caches.values() for tensor in tensors_of(one)])

    def register_cross_layers(self, tensor: Any, backend: Any) -> None:
        self._use([cross_layer_cache(tensor, self.settings.blocks, backend)], [tensor])

    def _use(self, caches: list[GroupCache], tensors: list[Any]) -> None:
        device = tensors[0].device
        if device.type not in ("cpu", "cuda"):
            raise WrongSetting(
                f"the KV cache is on {device}, and only memory of CUDA and of the host can be used:"
                " run this engine without the connector"
            )
        ordinal = HOST if device.type == "cpu" else int(device.index or 0)
        self._caches = caches
        self._layouts = [
            Layout(cache.planes, self.settings.blocks, ordinal, tensors) for cache in caches
        ]
        shake = self.handshake()
        assert shake is not None
        self._report = WorkerReport(shakes=frozenset({shake}))
        self.link.start(shake.spaces, [] if ordinal == HOST else [ordinal])

    def handshake(self) -> Handshake | None:
        if not self._caches:
            return None
        one_stage = self.settings.ranks.pipeline == 1  # else they differ in how many layers
        return Handshake(
            tuple(
                self.settings.space_of(
                    group, cache.fingerprint + (f" {cache.block_bytes}" if one_stage else "")
                )
                for group, cache in zip(self.settings.groups, self._caches, strict=True)
            )
        )

    # ---- a step

    def fence(self, step: Step) -> None:
        """Returns when nothing reads the blocks that this step may overwrite."""
        numbers = {
            number for save in step.fence for number in self._saves.get(save, ())
        }
        if not numbers:
            return
        client = self.link.client
        for number in numbers:
            client.cancel(number)
        limit = self._clock() + FENCE_LIMIT
        while not numbers.isdisjoint(self._operations):
            if self._clock() > limit:
                raise RuntimeError(
                    f"Membrain: a save was taken back and did not end within {FENCE_LIMIT:.0f} s;"
                    " going on would store another request's bytes"
                )
            client.wait(0.05)
            self.poll()

    def begin(self, step: Step) -> None:
        self.fence(step)
        if step.cleared:
            for operation in self._operations.values():
                if operation.loading is not None:
                    operation.loading.bad = 0
        event = self._event() if step.loads else None
        for load in step.loads:
            self._load(load, event)
        limit = self._clock() + ADOPT_WAIT
        while self._adopting and self._clock() < limit:
            self.link.client.wait(ADOPT_WAIT)
            self.poll()

    def save(self, step: Step) -> None:
        """After the forward pass."""
        self.poll()
        if not step.saves:
            return
        event = self._event()
        for save in step.saves:
            self._save(save, event)

    def finished(self, step: Step, over: AbstractSet[str]) -> tuple[set[str], set[str]]:
        """Requests whose saves, and those whose loads, have ended. `over`: requests that have."""
        self.poll()
        self._shed -= over
        self._finished.update(step.finished)
        sent = {name for name in self._finished if not self._saving.get(name)}
        self._finished -= sent
        received, self._received = self._received, set()
        return sent, received

    def errors(self) -> set[int]:
        errors, self._errors = self._errors, set()
        return errors

    def report(self) -> WorkerReport | None:
        if not self._report.parts and not self._report.shakes:
            return None
        report, self._report = self._report, WorkerReport()
        return report

    @property
    def held(self) -> int:
        """What is under way, or waits to be reported: 0 when there are no requests."""
        requests = len(self._finished) + len(self._received) + len(self._shed)
        return len(self._operations) + len(self._saves) + requests

    def close(self) -> None:
        """Ends what is under way."""
        client = self.link.close()
        for done in client.close() if client is not None else ():
            self._ended(done)

    def poll(self) -> None:
        client = self.link.client
        for done in client.drain_completions() if client is not None else ():
            self._ended(done)

    def _ended(self, done: Any) -> None:
        operation = self._operations.pop(done.number)
        if operation.save is not None:
            self._saved(done.number, operation, done.value, done.error)
        elif operation.adopts:
            self._adopting -= 1
            self._adopted(operation, done.value, done.error)
        else:
            self._fetched(operation, done.value, done.error)

    # ---- loads

    def _load(self, load: Load, after: Any) -> None:
        loading = Loading(load, self._clock(), after)
        loading.waiting = 1  # ourselves
        opened = self.link.opened
        for group in load.groups:
            try:
                if opened is None:
                    raise Stale("there is no server")
                number = opened.client.adopt(group.grant)
            except MembrainError:
                self._lost(loading, group, 0)
                continue
            self._operations[number] = Operation(loading=loading, group=group, adopts=True)
            self._adopting += 1
            loading.waiting += 1
        self._less(loading)

    def _adopted(self, operation: Operation, match: Any, error: MembrainError | None) -> None:
        loading, group = operation.loading, operation.group
        assert loading is not None and group is not None
        client = self.link.client
        try:
            if error is not None:
                raise error
            if client is None:
                raise Closed("the engine is closing")
            number = client.fetch_blocks(
                match,
                self._layouts[group.group],
                group.ids,
                blocks=group.blocks,
                part=self._part,
                timeout=loading.load.timeout,
                after=_raw(loading.after),
            )
        except MembrainError:
            self._lost(loading, group, 0)
            self._less(loading)
            return
        self._operations[number] = Operation(loading=loading, group=group)

    def _fetched(self, operation: Operation, report: Report, error: MembrainError | None) -> None:
        loading, group = operation.loading, operation.group
        assert loading is not None and group is not None
        if error is not None:
            self._lost(loading, group, 0)
        else:
            failed = [index for index, item in enumerate(report.items) if not item.ok]
            self.counters.add(
                loaded_blocks=len(report.items) - len(failed), loaded_bytes=report.bytes
            )
            if failed:
                self._lost(loading, group, failed[0])
        self._less(loading)

    def _lost(self, loading: Loading, group: GroupLoad, first: int) -> None:
        """The blocks of a group from the `first` on. With windows, of which only the last blocks
        are loaded, nothing before it is of use."""
        size = self.settings.groups[group.group].block_tokens
        begins = 0 if self.settings.windows else group.blocks[first] * size
        loading.bad = begins if loading.bad is None else min(loading.bad, begins)
        self.counters.add(load_failures=len(group.ids) - first)

    def _less(self, loading: Loading) -> None:
        loading.waiting -= 1
        if loading.waiting > 0:
            return
        self._received.add(loading.load.request)
        elapsed = self._clock() - loading.began
        self.counters.add(load_microseconds=round(elapsed * 1e6))
        bad = loading.bad
        if bad is not None:
            for group in loading.load.groups:
                size = self.settings.groups[group.group].block_tokens
                places = zip(group.ids, group.blocks, strict=True)
                self._errors.update(id for id, block in places if (block + 1) * size > bad)

    # ---- saves

    def _event(self) -> Any:
        """Comes when the engine has done what it was given until now; None in the host's memory."""
        if self._layouts[0].device == HOST:
            return None
        event = import_module("torch").cuda.Event()
        event.record()
        return event

    def _save(self, save: Save, event: Any) -> None:
        opened = self.link.opened
        count = len(save.ids)
        replicas = self.settings.ranks.replicas
        if opened is None:
            self.counters.add(save_failures=count)
            return
        if save.request in self._shed:
            self.counters.add(shed_blocks=count)
            return
        runs = (
            [(0, count)]
            if replicas == 1
            else [
                (index, index + 1)
                for index in range(count)
                if (save.first_depth + index) % replicas == self._replica
            ]
        )
        for first, end in runs:
            try:
                number = opened.client.offer_blocks(
                    opened.spaces[save.group],
                    self._layouts[save.group],
                    save.ids[first:end],
                    save.hashes[first:end],
                    parent=save.hashes[first - 1] if first else save.parent,
                    first_depth=save.first_depth + first,
                    part=self._part,
                    after=_raw(event),
                )
            except OutOfCapacity:
                self._shed.add(save.request)
                self.counters.add(shed_blocks=end - first)
                continue
            except MembrainError:
                self.counters.add(save_failures=end - first)
                continue
            self._operations[number] = Operation(
                save=save, hashes=save.hashes[first:end], keep=event
            )
            self._saves.setdefault(save.number, set()).add(number)
            self._saving.setdefault(save.request, set()).add(save.number)

    def _saved(
        self, number: int, operation: Operation, report: Report, error: MembrainError | None
    ) -> None:
        save = operation.save
        assert save is not None
        if error is not None:
            self.counters.add(save_failures=len(operation.hashes))
        else:
            self._count(save, operation.hashes, report)
        left = self._saves[save.number]
        left.discard(number)
        if left:
            return
        del self._saves[save.number]
        saving = self._saving[save.request]
        saving.discard(save.number)
        if not saving:
            del self._saving[save.request]

    def _count(self, save: Save, hashes: tuple[bytes, ...], report: Report) -> None:
        stored = [item.ok and not item.duplicate for item in report.items]
        ok = sum(item.ok for item in report.items)
        self.counters.add(
            saved_blocks=sum(stored),
            duplicate_blocks=ok - sum(stored),
            save_failures=len(hashes) - ok,
        )
        if any(item.why == "stale" for item in report.items):
            self.link.reopen()
        if self.settings.options.events:
            for name, new in zip(hashes, stored, strict=True):
                if new:
                    key = (save.group, name)
                    self._report.parts[key] = self._report.parts.get(key, 0) + 1
