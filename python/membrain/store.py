"""MembrainStore: blocks of tensors in the cluster, by hash."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from membrain.client import Client
from membrain.errors import InvalidArgument, MembrainError, NotFound, Stale
from membrain.tensors import BlockShape
from membrain.values import Block, Match, Namespace, Report


@dataclass
class StoreMetrics:
    """Blocks, since the store was made."""

    looked_up: int = 0
    hits: int = 0
    loaded: int = 0
    load_failures: int = 0
    stored: int = 0
    duplicates: int = 0  # were there already
    store_failures: int = 0
    errors: int = 0  # calls that failed whole
    bytes_loaded: int = 0
    bytes_stored: int = 0

    def summary(self) -> str:
        return ", ".join(f"{field.name} {getattr(self, field.name)}" for field in fields(self))


@dataclass
class BlockRecord:
    """What this store knows of a block, for when something is wrong with it."""

    stored_at: float = 0.0  # seconds since 1970; 0: not by this store
    loaded_at: float = 0.0
    loads: int = 0
    bytes: int = 0
    lanes: tuple[str, ...] = ()  # that its last load's bytes came by
    last_error: str = ""


class Held:
    """Blocks that stay where they are until `release`: each counts in its refcount."""

    def __init__(self, store: MembrainStore, match: Match, hashes: Sequence[bytes]) -> None:
        self._store = store
        self.match = match
        self.hashes = list(hashes[: match.prefix])
        store.refcounts.update(self.hashes)

    def __len__(self) -> int:
        return len(self.hashes)

    async def load(self, into: Sequence[Any], timeout: float | None = None) -> list[bool]:
        """The first blocks into as many tensors. False: that one must be computed."""
        return await self._store.load_held(self, into, timeout)

    def release(self) -> None:
        """Idempotent."""
        self.match.release()
        self._store.refcounts.subtract(self.hashes)
        self._store.refcounts += Counter()  # drops those that nobody holds
        self.hashes = []

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class MembrainStore:
    """For one namespace, whose blocks are tensors of one shape and dtype.

    Threads: one event loop."""

    MAX_RECORDS = 65536

    def __init__(
        self,
        client: Client,
        space: Namespace,
        block: BlockShape,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """`fields`: with which `space` was opened. It is opened again then when somebody else has
        cleared it, or the server does not know it; without them every call is a miss from there."""
        self.client = client
        self.space = space
        self.generation = 0  # of `space`: changes whenever it was cleared, or opened again
        self._fields = fields
        self.block = block
        self.metrics = StoreMetrics()
        self.refcounts: Counter[bytes] = Counter()  # of what this store holds
        self._records: OrderedDict[bytes, BlockRecord] = OrderedDict()

    @classmethod
    async def open(
        cls, server: str, block: BlockShape, *, options: dict[str, Any] | None = None, **fields: Any
    ) -> MembrainStore:
        """`fields` are the namespace's: model, block_tokens, ...; the shape and dtype of blocks are
        part of it. `options` are the client's."""
        client = await Client.open(server, **(options or {}))
        shape = "x".join(map(str, block.shape))
        named = {"kv_dtype": block.dtype, "layout": shape, **fields}
        try:
            return cls(client, await client.open_namespace(**named), block, named)
        except BaseException:
            await client.close()
            raise

    async def close(self) -> None:
        await self.client.close()

    async def __aenter__(self) -> MembrainStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def describe(self, block_hash: bytes) -> BlockRecord | None:
        return self._records.get(block_hash)

    # ---- calls

    async def hold(self, hashes: Sequence[bytes], timeout: float | None = None) -> Held:
        """The longest prefix of `hashes` that is there, held."""
        with _Counted(self.metrics):
            try:
                match = await self.client.lookup(self.space, hashes, timeout=timeout)
            except (Stale, NotFound):
                if not await self._reopen():
                    raise
                match = await self.client.lookup(self.space, hashes, timeout=timeout)
        self.metrics.looked_up += len(hashes)
        self.metrics.hits += match.prefix
        return Held(self, match, hashes)

    async def load(
        self, hashes: Sequence[bytes], into: Sequence[Any], timeout: float | None = None
    ) -> list[bool]:
        """Blocks into tensors, as many. False: it is not there, or could not be loaded."""
        if len(hashes) != len(into):
            raise InvalidArgument(f"{len(hashes)} hashes, but {len(into)} tensors")
        with await self.hold(hashes, timeout) as held:
            loaded = await held.load(into[: len(held)], timeout)
        return loaded + [False] * (len(hashes) - len(loaded))

    async def load_held(
        self, held: Held, into: Sequence[Any], timeout: float | None
    ) -> list[bool]:
        if not into:
            return []
        if len(into) > len(held):
            raise InvalidArgument(f"{len(into)} tensors, but {len(held)} blocks are held")
        for index, tensor in enumerate(into):
            self.block.check(tensor, f"tensor {index}")
        with _Counted(self.metrics):
            report = await self.client.fetch(held.match, into, timeout=timeout)
        self._loaded(held.hashes, report)
        return [item.ok for item in report.items]

    async def store(
        self,
        hashes: Sequence[bytes],
        tensors: Sequence[Any],
        *,
        parent: bytes = b"",
        first_depth: int = 0,
        priority: int = 0,
        timeout: float | None = None,
    ) -> list[bool]:
        """Keeps a run of one prompt's blocks. True: it is there now."""
        if len(hashes) != len(tensors):
            raise InvalidArgument(f"{len(hashes)} hashes, but {len(tensors)} tensors")
        for index, tensor in enumerate(tensors):
            self.block.check(tensor, f"tensor {index}")
        if not hashes:
            return []
        parents = [parent, *hashes[:-1]]
        blocks = [
            Block(name, tensor, before, first_depth + index, 0, priority)
            for index, (name, tensor, before) in enumerate(
                zip(hashes, tensors, parents, strict=True)
            )
        ]
        with _Counted(self.metrics):
            report = await self.client.store(self.space, blocks, timeout=timeout)
            if any(item.why == "stale" for item in report.items):
                await self._reopen()  # for the next: these were computed before the clear, perhaps
        self._stored(hashes, report)
        return [item.ok for item in report.items]

    async def _reopen(self) -> bool:
        if self._fields is None:
            return False
        self.space = await self.client.open_namespace(**self._fields)
        self.generation += 1
        return True

    async def clear(self) -> None:
        """Forgets every block, for everyone."""
        self.space = await self.client.clear(self.space)
        self.generation += 1
        self._records.clear()

    # ---- counting

    def _record(self, block_hash: bytes) -> BlockRecord:
        record = self._records.setdefault(block_hash, BlockRecord())
        self._records.move_to_end(block_hash)
        if len(self._records) > self.MAX_RECORDS:
            self._records.popitem(last=False)
        return record

    def _loaded(self, hashes: Sequence[bytes], report: Report) -> None:
        self.metrics.bytes_loaded += report.bytes
        each = report.bytes // max(report.ok, 1)
        for name, item in zip(hashes, report.items, strict=False):
            record = self._record(name)
            record.last_error = "" if item.ok else item.why
            if item.ok:
                self.metrics.loaded += 1
                record.loads += 1
                record.loaded_at = time.time()
                record.bytes = each
                record.lanes = tuple(report.lanes)
            else:
                self.metrics.load_failures += 1

    def _stored(self, hashes: Sequence[bytes], report: Report) -> None:
        self.metrics.bytes_stored += report.bytes
        for name, item in zip(hashes, report.items, strict=True):
            record = self._record(name)
            record.last_error = "" if item.ok else item.why
            self.metrics.duplicates += item.duplicate
            self.metrics.stored += item.ok and not item.duplicate
            self.metrics.store_failures += not item.ok
            if item.ok:
                record.stored_at = time.time()


class _Counted:
    """Counts calls that fail whole."""

    def __init__(self, metrics: StoreMetrics) -> None:
        self._metrics = metrics

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, MembrainError):
            self._metrics.errors += 1
