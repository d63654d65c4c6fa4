"""The client for those that never wait, as an engine's scheduler: operations by number.

    number = client.lookup(space, hashes)
    ...
    for done in client.drain_completions():   # when it suits; or when `descriptor` is readable
        if done.number == number and done.error is None:
            match = done.value
"""

from __future__ import annotations

import math
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from membrain.core import Core, open_core, value_of
from membrain.errors import InvalidArgument, MembrainError
from membrain.layout import Layout
from membrain.sync_client import SyncClient
from membrain.values import Block, Match, Namespace, report_of


@dataclass(frozen=True, slots=True)
class Completion:
    """An operation that has ended: with a value, or an error."""

    number: int
    value: Any  # of a lookup or adoption a Match, of a grant bytes, of a transfer a Report
    error: MembrainError | None = None


class PolledClient:
    """What begins an operation returns its number at once. Each ends once in `drain_completions`,
    at the latest a second after its deadline, also when it was cancelled; until then its memory is
    held. One thread at a time; `sync` has the blocking forms."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._wraps: dict[int, Callable[[Any], Any]] = {}
        self.sync = SyncClient(core)

    @classmethod
    def open(cls, server: str = "127.0.0.1:9201", **options: Any) -> PolledClient:
        """Blocks until it is connected, or raises."""
        return cls(open_core(server, options))

    @property
    def descriptor(self) -> int:
        """Readable while `drain_completions` has something."""
        return int(self._core.native.descriptor)

    def drain_completions(self) -> list[Completion]:
        """What has ended since it was called last. Never blocks."""
        return self._completions(self._core.native)

    def close(self) -> list[Completion]:
        """Ends what is under way, and closes. Returns the last completions. Idempotent."""
        native = self._core.close()
        return [] if native is None else self._completions(native)

    def cancel(self, number: int) -> None:
        """Takes an operation back; it ends soon."""
        self._core.native.cancel(number)

    def forget(self, number: int) -> None:
        """Nobody wants the answer of a lookup, a grant or an adoption: what it pins is given back
        when it comes, and it does not end in `drain_completions`."""
        if self._wraps[number] is report_of:
            raise InvalidArgument("a transfer cannot be forgotten: it uses memory. Cancel it")
        del self._wraps[number]
        self._core.native.forget(number)

    def lookup(self, space: Namespace, hashes: Sequence[bytes], **options: Any) -> int:
        return self._begin(self._core.lookup, Match, space, hashes, **options)

    def grant(self, match: Match, valid: float) -> int:
        return self._begin(self._core.grant, bytes, match, valid)

    def adopt(self, grant: bytes) -> int:
        return self._begin(self._core.adopt, Match, grant)

    def fetch(self, match: Match, into: Sequence[object], **options: Any) -> int:
        return self._begin(self._core.fetch, report_of, match, into, **options)

    def store(self, space: Namespace, blocks: Sequence[Block], **options: Any) -> int:
        return self._begin(self._core.store, report_of, space, blocks, **options)

    def fetch_blocks(
        self, match: Match, layout: Layout, ids: Sequence[int], **options: Any
    ) -> int:
        return self._begin(self._core.fetch_blocks, report_of, match, layout, ids, **options)

    def store_blocks(
        self,
        space: Namespace,
        layout: Layout,
        ids: Sequence[int],
        hashes: Sequence[bytes],
        **options: Any,
    ) -> int:
        return self._begin(
            self._core.store_blocks, report_of, space, layout, ids, hashes, **options
        )

    def offer_blocks(
        self,
        space: Namespace,
        layout: Layout,
        ids: Sequence[int],
        hashes: Sequence[bytes],
        **options: Any,
    ) -> int:
        """A store in the background: a little at a time, behind fetches. Raises OutOfCapacity when
        as much waits as may (`background_store_bytes`). Options: parent, first_depth, part,
        priority, after."""
        number = self._core.number()
        self._core.offer_blocks(number, space, layout, ids, hashes, **options)
        self._wraps[number] = report_of
        return number

    def wait(self, seconds: float) -> bool:
        """Blocks until something has ended, or `seconds` have passed. True: something has."""
        ready = select.poll()  # `select` takes no descriptor from 1024 on
        ready.register(self.descriptor, select.POLLIN)
        return bool(ready.poll(math.ceil(max(seconds, 0) * 1000)))

    def _begin(self, begin: Any, wrap: Callable[[Any], Any], *words: Any, **options: Any) -> int:
        number = self._core.number()
        begin(number, True, *words, **options)
        self._wraps[number] = wrap
        return number

    def _completions(self, native: Any) -> list[Completion]:
        done = []
        for number, answer in native.drain():
            wrap = self._wraps.pop(number)
            try:
                done.append(Completion(number, wrap(value_of(answer))))
            except MembrainError as error:
                done.append(Completion(number, None, error))
        return done
