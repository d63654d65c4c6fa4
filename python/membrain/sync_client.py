"""The client's blocking calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from membrain.core import Core, open_core, value_of
from membrain.layout import Layout
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
        return Namespace(self._run(self._core.open_namespace, **fields))

    def clear(self, space: Namespace) -> Namespace:
        return Namespace(self._run(self._core.clear, space))

    def contains(self, space: Namespace, hashes: Sequence[bytes], parts: int = 1) -> list[bool]:
        return list(value_of(self._core.native.contains(space.native, list(hashes), parts)))

    def server_stats(self) -> dict[str, int]:
        return dict(value_of(self._core.native.server_stats()))

    def lookup(self, space: Namespace, hashes: Sequence[bytes], **options: Any) -> Match:
        return Match(self._run(self._core.lookup, space, hashes, **options))

    def unpin(self, matches: Iterable[Match]) -> None:
        """Releases them all. It does not wait: the server is told in the background."""
        for match in matches:
            match.release()

    def fetch(self, match: Match, into: Sequence[object], **options: Any) -> Report:
        return report_of(self._run(self._core.fetch, match, into, **options))

    def store(self, space: Namespace, blocks: Sequence[Block], **options: Any) -> Report:
        return report_of(self._run(self._core.store, space, blocks, **options))

    def fetch_blocks(
        self, match: Match, layout: Layout, ids: Sequence[int], **options: Any
    ) -> Report:
        return report_of(self._run(self._core.fetch_blocks, match, layout, ids, **options))

    def store_blocks(
        self,
        space: Namespace,
        layout: Layout,
        ids: Sequence[int],
        hashes: Sequence[bytes],
        **options: Any,
    ) -> Report:
        return report_of(self._run(self._core.store_blocks, space, layout, ids, hashes, **options))

    def grant(self, match: Match, valid: float) -> bytes:
        return bytes(self._run(self._core.grant, match, valid))

    def adopt(self, grant: bytes) -> Match:
        return Match(self._run(self._core.adopt, grant))

    def _run(self, begin: Any, *words: Any, **options: Any) -> Any:
        number = self._core.number()
        begin(number, False, *words, **options)
        return value_of(self._core.native.wait(number))
