"""MembrainKVCacheManager: an engine's block manager, with the cluster behind it.

Where vLLM can be imported and its arguments are given, calls go on to vLLM's own KVCacheManager,
unchanged (its signatures are not stable); the connector `membrain.vllm` is the way to run vLLM.
Else the engine's blocks are managed by Membrain's own pool (C++: membrain/kv_cache_manager.h).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from membrain import _native
from membrain.client import Client
from membrain.core import value_of
from membrain.errors import InvalidArgument, MembrainError, OutOfCapacity
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
        **kwargs: Any,
    ) -> None:
        """`blocks`: of the own pool; all else is vLLM's KVCacheManager's."""
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
        self.space = space  # one that was cleared, or of a server that is new, is opened again
        self._block_tokens = block_tokens
        self._matches: dict[str, Match] = {}
        self._saved: dict[str, int] = {}

    def get_computed_blocks(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.get_computed_blocks(*args, **kwargs)

    def allocate_slots(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.allocate_slots(*args, **kwargs)

    def free(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self._drop(request.request_id)
        return self.inner.free(request, *args, **kwargs)

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
        try:
            match = await self._client.lookup(self.space, names)
        except MembrainError:
            return 0
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
            try:
                report = await self._client.fetch_blocks(
                    match, self._layout, ids[first : first + len(blocks)], blocks=blocks
                )
            except MembrainError:
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
        (ids,) = self.inner.get_block_ids(request.request_id)
        try:
            report = await self._client.store_blocks(
                self.space,
                self._layout,
                ids[first:end],
                request.block_hashes[first:end],
                parent=request.block_hashes[first - 1] if first else b"",
                first_depth=first,
            )
        except MembrainError:
            return first
        self._saved[request.request_id] = end
        return first + report.ok

    def _drop(self, request_id: str) -> None:
        self._saved.pop(request_id, None)
        match = self._matches.pop(request_id, None)
        if match is not None:
            match.release()
