"""Membrain for LMCache: the object that its "native_plugin" L2 adapter drives.

Keys are strings, values memoryviews. Every call returns at once with a number; `event_fd` is
readable when `drain_completions` has something. LMCache's configuration names a factory:
`membrain.lmcache.open_client`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from membrain.errors import MembrainError, NotFound, Stale
from membrain.polled_client import Completion, PolledClient
from membrain.values import Block, Match, Namespace

# (number, whether the call succeeded, why not, for each key whether it did)
Done = tuple[int, bool, str, list[bool] | None]


@dataclass
class _Call:
    number: int
    keys: int
    into: Sequence[Any] | None = None  # of a get that looks its keys up
    found: list[int] | None = None  # of a get that fetches: which keys
    exists: bool = False


class MembrainNativeClient:
    """One namespace. The views of a get or set are lent until its number is drained.

    Threads: any; LMCache submits from its controllers' and drains in another. None waits for the
    cluster with the lock."""

    def __init__(
        self, client: PolledClient, space: Namespace, fields: Mapping[str, Any] | None = None
    ) -> None:
        """`fields`: with which `space` was opened, and is again when somebody has cleared it."""
        self._client = client
        self._space = space
        self._fields = fields
        self._reopening = False
        self._calls: dict[int, _Call] = {}  # by the client's number
        self._last = 0
        self._lock = threading.Lock()  # what has begun may have ended before its number is kept

    def event_fd(self) -> int:
        return self._client.descriptor

    def submit_batch_get(self, keys: Sequence[str], views: Sequence[memoryview]) -> int:
        return self._look_up(keys, _Call(0, len(keys), into=views), pin=True)

    def submit_batch_exists(self, keys: Sequence[str]) -> int:
        return self._look_up(keys, _Call(0, len(keys), exists=True), pin=False)

    def submit_batch_set(self, keys: Sequence[str], views: Sequence[memoryview]) -> int:
        blocks = [Block(hash_of(key), view) for key, view in zip(keys, views, strict=True)]
        with self._lock:
            return self._begun(self._client.store(self._space, blocks), _Call(0, len(keys)))

    def drain_completions(self) -> list[Done]:
        """What has ended. Never blocks."""
        with self._lock:
            return self._taken(self._client.drain_completions())

    def close(self) -> list[Done]:
        """Ends what is under way, and says how. Idempotent."""
        with self._lock:
            done = self._taken(self._client.close())
            left = list(self._calls.values())
            self._calls.clear()
        return done + [(call.number, False, "closed", None) for call in left]

    # ----

    def _begun(self, operation: int, call: _Call) -> int:
        self._last += 1
        call.number = self._last
        self._calls[operation] = call
        return call.number

    def _look_up(self, keys: Sequence[str], call: _Call, pin: bool) -> int:
        names = [hash_of(key) for key in keys]
        with self._lock:
            number = self._client.lookup(self._space, names, rule="all", pin=pin)
            return self._begun(number, call)

    def _taken(self, ended: Sequence[Completion]) -> list[Done]:
        done: list[Done] = []
        for one in ended:
            call = self._calls.pop(one.number)
            answer = self._answer(call, one)
            if answer is not None:
                done.append(answer)
        return done

    def _answer(self, call: _Call, one: Completion) -> Done | None:
        if one.error is not None:
            if isinstance(one.error, Stale | NotFound):
                self._reopen()
            return call.number, False, str(one.error), None
        if call.exists:
            return call.number, True, "", [one.value.has(index) for index in range(call.keys)]
        if call.into is not None:
            return self._fetch(call, one.value)
        items = [item.ok for item in one.value.items]
        if any(item.why == "stale" for item in one.value.items):
            self._reopen()
        if call.found is not None:
            placed = [False] * call.keys
            for index, ok in zip(call.found, items, strict=True):
                placed[index] = ok
            items = placed
        return call.number, True, "", items

    def _reopen(self) -> None:
        """In a thread of its own, as it waits for the server. The lock is held."""
        if self._fields is not None and not self._reopening:
            self._reopening = True
            threading.Thread(target=self._open_again, daemon=True).start()

    def _open_again(self) -> None:
        assert self._fields is not None
        try:
            space = self._client.sync.open_namespace(**self._fields)
        except MembrainError:
            space = None
        with self._lock:
            self._space = space or self._space
            self._reopening = False

    def _fetch(self, call: _Call, match: Match) -> Done | None:
        """Of what was found; a value of another size than its view is none."""
        views = call.into or ()
        found = [
            index
            for index in range(call.keys)
            if match.has(index) and match.size(index) == memoryview(views[index]).nbytes
        ]
        if not found:
            match.release()
            return call.number, True, "", [False] * call.keys
        try:
            number = self._client.fetch(match, [views[index] for index in found], blocks=found)
        except MembrainError as error:
            return call.number, False, str(error), None
        self._calls[number] = _Call(call.number, call.keys, found=found)
        return None


def hash_of(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def open_client(
    server: str = "127.0.0.1:9201", namespace: str = "lmcache", **options: Any
) -> MembrainNativeClient:
    """`options` are those of membrain's client."""
    client = PolledClient.open(server, **options)
    try:
        fields = {"model": namespace, "layout": "lmcache", "block_tokens": 1}
        space = client.sync.open_namespace(**fields)
    except BaseException:
        client.close()
        raise
    return MembrainNativeClient(client, space, fields)
