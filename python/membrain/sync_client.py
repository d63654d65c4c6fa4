"""The client's blocking calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from membrain.core import Core, namespace_of, open_core, value_of
from membrain.values import Block, Match, Namespace, Report, report_of


class SyncClient:
    """The blocking forms of `Client`'s methods. Any thread; the GIL is not held while they wait."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @classmethod
    def open(cls, server: str = "127.0.0.1:9201", **options: Any) -> SyncClient:
        return cls(open_core(server, options))

    def close(self) -> None:
        self._core.close()

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open_namespace(self, **fields: Any) -> Namespace:
        return Namespace(value_of(self._core.native.open_namespace(namespace_of(fields))))

    def clear(self, space: Namespace) -> Namespace:
        return Namespace(value_of(self._core.native.clear(space.native)))

    def contains(self, space: Namespace, hashes: Sequence[bytes], parts: int = 1) -> list[bool]:
        return list(value_of(self._core.native.contains(space.native, list(hashes), parts)))

    def server_stats(self) -> dict[str, int]:
        return dict(value_of(self._core.native.server_stats()))

    def lookup(self, space: Namespace, hashes: Sequence[bytes], **options: Any) -> Match:
        number = self._core.number()
        self._core.lookup(number, False, space, hashes, **options)
        return Match(value_of(self._core.native.wait(number)))

    def fetch(self, match: Match, into: Sequence[object], **options: Any) -> Report:
        number = self._core.number()
        self._core.fetch(number, False, match, into, **options)
        return report_of(value_of(self._core.native.wait(number)))

    def store(self, space: Namespace, blocks: Sequence[Block], **options: Any) -> Report:
        number = self._core.number()
        self._core.store(number, False, space, blocks, **options)
        return report_of(value_of(self._core.native.wait(number)))
