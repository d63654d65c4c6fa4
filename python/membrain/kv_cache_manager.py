"""MembrainKVCacheManager: an engine's block manager, with the cluster behind it.

Where vLLM can be imported and its arguments are given, calls go on to vLLM's own KVCacheManager,
unchanged (its signatures are not stable); the connector `membrain.vllm` is the way to run vLLM.
Else the engine's blocks are managed by Membrain's own pool (C++: membrain/kv_cache_manager.h).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from membrain import _native
from membrain.client import Client
from membrain.core import value_of
from membrain.errors import InvalidArgument, MembrainError, NotFound, OutOfCapacity, Stale
from membrain.layout import Layout
from membrain.values import Match, Namespace


class Request(Protocol):
    """What of a request is looked at: vLLM's has it."""

    request_id: str
    block_hashes: Sequence[bytes]
    num_tokens: int
    num_computed_tokens: int


@dataclass(frozen=True)
class KVBlocks:
    """Ids of a request's blocks."""

    ids: list[int]

    def get_block_ids(self) -> tuple[list[int], ...]:
        return (self.ids,)


class OwnPool:
    """The calls of vLLM's KVCacheManager that engines need, over Membrain's pool."""

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self.native: Any = value_of(_native.kv_cache_manager(blocks))
        self.block_tokens = block_tokens
        self._numbers = itertools.count(1)
        self._of: dict[str, int] = {}

    def number(self, request_id: str) -> int:
        return self._of[request_id]

    def get_computed_blocks(self, request: Request) -> tuple[KVBlocks, int]:
        """At least one token is left to compute."""
        names = request.block_hashes[: (request.num_tokens - 1) // self.block_tokens]
        local, _ = self.native.computed_blocks(list(names))
        return KVBlocks([]), local * self.block_tokens

    def allocate_slots(self, request: Request, num_new_tokens: int) -> KVBlocks | None:
        """For so many tokens behind those that are computed; None if there are too few blocks."""
        number = self._of.get(request.request_id)
        names: list[bytes] = []
        computed = request.num_computed_tokens
        if number is None:
            number = next(self._numbers)
            _, local = self.get_computed_blocks(request)
            names = list(request.block_hashes[: local // self.block_tokens])
            computed = max(computed, local)
        count = -(-(computed + num_new_tokens) // self.block_tokens)
        have = len(self.native.blocks_of(number))
        try:
            value_of(self.native.allocate(number, names, max(count, have)))
        except OutOfCapacity:
            return None
        self._of[request.request_id] = number
        return KVBlocks(self.native.blocks_of(number))

    def cache_blocks(self, request: Request, num_computed_tokens: int) -> None:
        """Those blocks hold what their hashes say: others may share them."""
        names = request.block_hashes[: num_computed_tokens // self.block_tokens]
        value_of(self.native.publish(self.number(request.request_id), list(names)))

    def free(self, request: Request) -> None:
        number = self._of.pop(request.request_id, None)
        if number is not None:
            value_of(self.native.free(number))

    def get_block_ids(self, request_id: str) -> tuple[list[int], ...]:
        return (list(self.native.blocks_of(self.number(request_id))),)

    def reset_prefix_cache(self) -> bool:
        self.native.forget()
        return True

    @property
    def usage(self) -> float:
        use = self.native.use()
        return float(use["used_blocks"] / use["blocks"])


class MembrainKVCacheManager:
    """`get_computed_blocks`, `allocate_slots`, `free` and all else go to the block manager beneath;
    `fetch` and `save` are the remote tier's, for own pools.

    Threads: one event loop."""

    def __init__(
        self,
        *args: Any,
        blocks: int | None = None,
        block_tokens: int = 16,
        client: Client | None = None,
        space: Namespace | None = None,
        layout: Layout | None = None,
        fields: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """`blocks`: of the own pool; `fields`: with which `space` was opened, so that it is opened
        again when somebody has cleared it, or the server is new; all else is vLLM's
        KVCacheManager's."""
        if blocks is None:
            if not args and not kwargs:
                raise InvalidArgument("say how many blocks, or give vLLM's arguments")
            module = import_module("vllm.v1.core.kv_cache_manager")
            self.inner: Any = module.KVCacheManager(*args, **kwargs)
        elif args or kwargs:
            raise InvalidArgument(f"of the own pool there is no {', '.join(kwargs) or 'argument'}")
        else:
            self.inner = OwnPool(blocks, block_tokens)
        self._client, self._layout = client, layout
        self.space = space
        self._fields = fields
        self._block_tokens = block_tokens
        self._matches: dict[str, Match] = {}
        self._saved: dict[str, int] = {}
        self._busy: Counter[str] = Counter()  # calls under way, which use a request's blocks
        self._freed: dict[str, Callable[[], Any]] = {}  # meanwhile: how they are freed
        self._alive: set[str] = set()  # requests that have blocks
        self._old: set[str] = set()  # of these, with blocks of before a reset

    def get_computed_blocks(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.get_computed_blocks(*args, **kwargs)

    def allocate_slots(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        blocks = self.inner.allocate_slots(request, *args, **kwargs)
        if blocks is not None:
            self._alive.add(request.request_id)
        return blocks

    def free(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """While `fetch` or `save` of it is under way, its blocks are given back when that ends:
        nobody else gets them before."""
        name = request.request_id
        self._drop(name)
        self._alive.discard(name)
        self._old.discard(name)
        if self._busy[name] > 0:
            self._freed[name] = lambda: self.inner.free(request, *args, **kwargs)
            return None
        return self.inner.free(request, *args, **kwargs)

    def reset_prefix_cache(self, *args: Any, **kwargs: Any) -> Any:
        """What is in blocks now is of other weights, say: requests that have some go on with them,
        and nothing of theirs is stored any more."""
        self._old |= self._alive
        for name in list(self._matches):
            self._matches.pop(name).release()
        return self.inner.reset_prefix_cache(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    # ---- the remote tier, of an own pool

    async def remote_tokens(self, request: Request) -> int:
        """Tokens of the prompt's beginning that the cluster has. They are held for `fetch`, until
        that or `free`."""
        names = list(request.block_hashes[: (request.num_tokens - 1) // self._block_tokens])
        self._drop(request.request_id)
        if self._client is None or self.space is None or not names:
            return 0
        with self._using(request.request_id) as freed:
            try:
                match = await self._client.lookup(self.space, names)
            except MembrainError as error:
                await self._failed(error)
                return 0
            if freed():
                match.release()
                return 0
        self._drop(request.request_id)
        self._matches[request.request_id] = match
        return match.prefix * self._block_tokens

    async def fetch(self, request: Request, first_token: int) -> int:
        """What `remote_tokens` found, from `first_token` on, into the request's blocks. Returns how
        many tokens of the prompt need not be computed now."""
        match = self._matches.pop(request.request_id, None)
        first = first_token // self._block_tokens
        if match is None or self._layout is None or self._client is None:
            return first_token
        (ids,) = self.inner.get_block_ids(request.request_id)
        with match:
            blocks = list(range(first, min(match.prefix, len(ids))))
            if not blocks:
                return first_token
            with self._using(request.request_id) as freed:
                try:
                    report = await self._client.fetch_blocks(
                        match, self._layout, ids[first : first + len(blocks)], blocks=blocks
                    )
                except MembrainError:
                    return first_token
                if freed():
                    return first_token
        good = next((i for i, item in enumerate(report.items) if not item.ok), len(blocks))
        tokens = (first + good) * self._block_tokens
        self._saved[request.request_id] = first + good
        if good:
            self.inner.cache_blocks(request, tokens)
        return tokens

    async def save(self, request: Request, num_computed_tokens: int) -> int:
        """Publishes the full blocks here, and stores those that the cluster has not. Returns how
        many it has now."""
        self.inner.cache_blocks(request, num_computed_tokens)
        end = min(num_computed_tokens // self._block_tokens, len(request.block_hashes))
        first = self._saved.get(request.request_id, 0)
        if self._client is None or self.space is None or self._layout is None or first >= end:
            return first
        if request.request_id in self._old:
            return first
        (ids,) = self.inner.get_block_ids(request.request_id)
        with self._using(request.request_id) as freed:
            try:
                report = await self._client.store_blocks(
                    self.space,
                    self._layout,
                    ids[first:end],
                    request.block_hashes[first:end],
                    parent=request.block_hashes[first - 1] if first else b"",
                    first_depth=first,
                )
            except MembrainError as error:
                await self._failed(error)
                return first
            if any(item.why == "stale" for item in report.items):
                await self._reopen()
                return first
            if not freed():
                self._saved[request.request_id] = end
        return first + report.ok

    @contextmanager
    def _using(self, request_id: str) -> Iterator[Callable[[], bool]]:
        """Its blocks are not given back meanwhile. Yields what says that they would have been."""
        self._busy[request_id] += 1
        try:
            yield lambda: request_id in self._freed
        finally:
            self._busy[request_id] -= 1
            if self._busy[request_id] == 0:
                del self._busy[request_id]
                free = self._freed.pop(request_id, None)
                if free is not None:
                    free()

    async def _failed(self, error: MembrainError) -> None:
        """A miss. After a clear by others, or with a new server, the next call is not."""
        if isinstance(error, Stale | NotFound):
            await self._reopen()

    async def _reopen(self) -> None:
        if self._fields is not None and self._client is not None:
            with suppress(MembrainError):
                self.space = await self._client.open_namespace(**self._fields)

    def _drop(self, request_id: str) -> None:
        self._saved.pop(request_id, None)
        match = self._matches.pop(request_id, None)
        if match is not None:
            match.release()
