"""Membrain for SGLang: a storage backend of HiCache.

python -m sglang.launch_server ... --enable-hierarchical-cache \\
  --hicache-storage-backend dynamic --hicache-storage-backend-extra-config '{
    "backend_name": "membrain", "module_path": "membrain.sglang",
    "class_name": "MembrainHiCache", "interface_v1": 1, "server": "10.0.0.7:9201"}'
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from membrain.errors import InvalidArgument, MembrainError, NotFound, Stale
from membrain.sync_client import SyncClient
from membrain.values import Block


class StandaloneHiCacheStorage(ABC):
    """What SGLang's HiCacheStorage asks for, where SGLang is not installed."""

    @abstractmethod
    def get(self, key: str, target_location: Any = None, target_sizes: Any = None) -> Any: ...

    @abstractmethod
    def batch_get(
        self, keys: list[str], target_locations: Any = None, target_sizes: Any = None
    ) -> Any: ...

    @abstractmethod
    def set(
        self, key: str, value: Any = None, target_location: Any = None, target_sizes: Any = None
    ) -> bool: ...

    @abstractmethod
    def batch_set(
        self,
        keys: list[str],
        values: Any = None,
        target_locations: Any = None,
        target_sizes: Any = None,
    ) -> bool: ...

    @abstractmethod
    def exists(self, key: str) -> bool: ...


if TYPE_CHECKING:
    HiCacheStorage = StandaloneHiCacheStorage
else:
    try:
        from sglang.srt.mem_cache.hicache_storage import HiCacheStorage
    except ImportError:
        HiCacheStorage = StandaloneHiCacheStorage


class MembrainHiCache(HiCacheStorage):
    """A page is a block: all its pieces in the host pool (keys and values, all layers), in their
    order. Each rank has a namespace of its own, but for MLA, whose pages are the same on all ranks
    (of one slice, where attention runs with context parallelism).

    Threads: any; SGLang calls it from its prefetch and backup threads."""

    def __init__(self, storage_config: Any, kwargs: dict[str, Any] | None = None) -> None:
        extra = {**(getattr(storage_config, "extra_config", None) or {}), **(kwargs or {})}
        self._mla = bool(storage_config.is_mla_model)
        self._writes = not self._mla or storage_config.tp_rank == 0
        self._pool: Any = None
        self._space: Any = None
        self._fields: dict[str, Any] = {}
        self._config = storage_config
        self._dtype = str(extra.get("kv_dtype", ""))
        secret = os.environ.get("MEMBRAIN_SECRET", "")
        if extra.get("secret_file"):
            secret = Path(extra["secret_file"]).read_text(encoding="utf-8").strip()
        self._client = SyncClient.open(
            str(extra.get("server", "127.0.0.1:9201")),
            secret=secret,
            tenant=str(extra.get("tenant", "default")),
            **dict(extra.get("client", {})),
        )
        self._counters = dict.fromkeys(("hits", "misses", "loaded", "stored", "failed"), 0)

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        """Pages lie there from now on. Its dtype and layout are part of the namespace."""
        self._pool = mem_pool_host
        config = self._config
        buffer = getattr(mem_pool_host, "kv_buffer", None)
        dtype = str(getattr(mem_pool_host, "dtype", None) or getattr(buffer, "dtype", ""))
        if not (dtype or self._dtype):
            raise InvalidArgument('the pool has no dtype: add "kv_dtype" to the extra config')
        rank = "all ranks" if self._mla else f"rank {config.tp_rank} of {config.tp_size}"
        stage = f"stage {getattr(config, 'pp_rank', 0)} of {getattr(config, 'pp_size', 1)}"
        slices = int(getattr(config, "attn_cp_size", 1))  # of each page's tokens
        if slices > 1:
            stage += f", slice {config.attn_cp_rank} of {slices}"
        layout = getattr(mem_pool_host, "layout", "layer_first")
        self._fields = {
            "model": str(config.model_name or ""),
            "kv_dtype": dtype or self._dtype,
            "block_tokens": int(getattr(mem_pool_host, "page_size", 1)),
            "layout": f"sglang {layout}, {rank}, {stage}",
            "hash_algorithm": "sglang",
        }
        self._space = self._client.open_namespace(**self._fields)

    # ---- pages by their indices in the pool

    def batch_exists(self, keys: list[str], extra_info: Any = None) -> int:
        """How many of the first keys are there."""
        if not keys:
            return 0
        space, names = self._namespace(), [hash_of(key) for key in keys]
        try:
            with self._client.lookup(space, names, pin=False) as match:
                found = match.prefix
        except MembrainError as error:
            self._failed(error)
            found = 0
        self._counters["hits"] += found
        self._counters["misses"] += len(keys) - found
        return found

    def batch_get_v1(
        self, keys: list[str], host_indices: Any, extra_info: Any = None
    ) -> list[bool]:
        pages = self._pages(keys, host_indices)
        space, names = self._namespace(), [hash_of(key) for key in keys]
        try:
            with self._client.lookup(space, names) as match:
                there = match.prefix
                if there == 0:
                    return [False] * len(keys)
                report = self._client.fetch(match, pages[:there])
        except MembrainError as error:
            self._failed(error)
            return [False] * len(keys)
        loaded = [item.ok for item in report.items]
        self._counters["loaded"] += sum(loaded)
        return loaded + [False] * (len(keys) - there)

    def batch_set_v1(
        self, keys: list[str], host_indices: Any, extra_info: Any = None
    ) -> list[bool]:
        if not self._writes:
            return [True] * len(keys)
        return self._store(keys, self._pages(keys, host_indices))

    def _pages(self, keys: Sequence[str], host_indices: Any) -> list[list[tuple[int, int]]]:
        """The pieces of each page."""
        if self._pool is None:
            raise InvalidArgument("no pool was registered (register_mem_pool_host)")
        addresses, sizes = self._pool.get_page_buffer_meta(host_indices)
        if not keys or len(addresses) % len(keys) != 0 or len(addresses) != len(sizes):
            raise InvalidArgument(f"{len(keys)} pages, but {len(addresses)} pieces")
        each = len(addresses) // len(keys)
        pieces = [(int(a), int(s)) for a, s in zip(addresses, sizes, strict=True)]
        return [pieces[start : start + each] for start in range(0, len(pieces), each)]

    def _store(self, keys: Sequence[str], values: Sequence[Any]) -> list[bool]:
        space, names = self._namespace(), [hash_of(key) for key in keys]
        blocks = [Block(name, value) for name, value in zip(names, values, strict=True)]
        try:
            report = self._client.store(space, blocks)
        except InvalidArgument:
            raise
        except MembrainError as error:
            self._failed(error)
            return [False] * len(keys)
        self._counters["stored"] += report.ok
        if any(item.why == "stale" for item in report.items):
            self._reopen()
        return [item.ok for item in report.items]

    def _failed(self, error: MembrainError) -> None:
        """A call that is a miss. After a clear by others, or a new server, the next is not."""
        self._counters["failed"] += 1
        if isinstance(error, Stale | NotFound):
            self._reopen()

    def _reopen(self) -> None:
        with contextlib.suppress(MembrainError):
            self._space = self._client.open_namespace(**self._fields)

    def _namespace(self) -> Any:
        if self._space is None:
            raise InvalidArgument("no pool was registered (register_mem_pool_host)")
        return self._space

    # ---- values in tensors of the caller's

    def get(self, key: str, target_location: Any = None, target_sizes: Any = None) -> Any:
        """`target_location`, filled; None if it is not there."""
        return self.batch_get([key], [target_location])[0]

    def batch_get(
        self, keys: list[str], target_locations: Any = None, target_sizes: Any = None
    ) -> list[Any]:
        space, names = self._namespace(), [hash_of(key) for key in keys]
        try:
            with self._client.lookup(space, names, rule="all") as match:
                there = [index for index in range(len(keys)) if match.has(index)]
                if not there:
                    return [None] * len(keys)
                into = [target_locations[index] for index in there]
                report = self._client.fetch(match, into, blocks=there)
        except InvalidArgument:
            raise
        except MembrainError as error:
            self._failed(error)
            return [None] * len(keys)
        good = {index for index, item in zip(there, report.items, strict=True) if item.ok}
        return [target_locations[i] if i in good else None for i in range(len(keys))]

    def set(
        self, key: str, value: Any = None, target_location: Any = None, target_sizes: Any = None
    ) -> bool:
        return self.batch_set([key], [value])

    def batch_set(
        self,
        keys: list[str],
        values: Any = None,
        target_locations: Any = None,
        target_sizes: Any = None,
    ) -> bool:
        return all(self._store(keys, values)) if self._writes else True

    def exists(self, key: str) -> bool:
        return self.batch_exists([key]) == 1

    def clear(self) -> None:
        """Forgets every page of this model and rank, for everyone."""
        self._space = self._client.clear(self._namespace())

    def get_stats(self) -> Any:
        """Nothing of what SGLang's StorageMetrics has: its scheduler takes these or None."""
        return None

    def counters(self) -> dict[str, int]:
        """Pages, since the beginning: hits, misses, loaded, stored; and calls that failed."""
        return dict(self._counters)

    def close(self) -> None:
        self._client.close()


def hash_of(key: str) -> bytes:
    """SGLang's keys are digests in hexadecimal, some with a suffix."""
    try:
        raw = bytes.fromhex(key)
    except ValueError:
        raw = b""
    return raw if 0 < len(raw) <= 32 else hashlib.sha256(key.encode()).digest()
