"""What an engine's configuration means for the cache, and what is wrong with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import gcd, lcm
from pathlib import Path
from typing import Any

from membrain.vllm.interface import HAVE_VLLM


class WrongSetting(ValueError):
    """The engine cannot run with this: what is wrong, and what to change."""


@dataclass(frozen=True)
class Options:
    """`kv_connector_extra_config`, by name."""

    server: str = "127.0.0.1:9201"
    secret_file: str = ""  # else the environment's MEMBRAIN_SECRET
    tenant: str = "default"
    weights_version: str = ""  # changes when weights are updated in place
    lookup_timeout: float = 0.5  # seconds, then it is a miss
    load_timeout: float = 10.0  # seconds, then its blocks have failed
    hold_timeout: float = 30.0  # seconds that blocks stay pinned for a request that waits
    min_hit_tokens: int = 0  # shorter hits are computed
    max_save_bytes: int = 256 << 20  # that wait to be stored, of each worker; beyond it none do
    allow_fail_policy: bool = False  # accept kv_load_failure_policy "fail"
    events: bool = False  # BlockStored events for what was stored
    client: Mapping[str, Any] = field(default_factory=dict)  # fields of membrain's ClientConfig

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Options:
        unknown = sorted(set(words) - set(cls.__dataclass_fields__))
        if unknown:
            known = ", ".join(sorted(cls.__dataclass_fields__))
            raise WrongSetting(
                f"kv_connector_extra_config has {', '.join(unknown)}, which Membrain does not"
                f" know; there are: {known}"
            )
        options = cls(**words)
        for name in ("lookup_timeout", "load_timeout", "hold_timeout", "max_save_bytes"):
            if not getattr(options, name) > 0:
                raise WrongSetting(f"kv_connector_extra_config: {name} must be positive")
        return options


@dataclass(frozen=True)
class Group:
    """A KV cache group: layers that share block ids."""

    index: int
    block_tokens: int
    layers: tuple[str, ...]
    window_blocks: int = 0  # 0: attention to all tokens; else only the last so many are needed
    page_bytes: int = 0  # of one block in one layer, as vLLM says; 0: it does not


@dataclass(frozen=True)
class Ranks:
    """How a block is cut into parts: head shards times pipeline stages. Ranks that hold the same
    heads (more ranks than KV heads, or MLA) share a part, and store its blocks in turns."""

    tensor: int = 1
    pipeline: int = 1
    shards: int = 1

    @classmethod
    def of(cls, tensor: int, pipeline: int, kv_heads: int, mla: bool) -> Ranks:
        shards = 1 if mla else min(tensor, kv_heads)
        if tensor % shards != 0:
            raise WrongSetting(
                f"{kv_heads} KV heads cannot be spread evenly over {tensor} ranks: choose a"
                " tensor_parallel_size that divides them, or is a multiple"
            )
        return cls(tensor, pipeline, shards)

    @property
    def parts(self) -> int:
        return self.shards * self.pipeline

    @property
    def replicas(self) -> int:
        return self.tensor // self.shards

    def part_of(self, rank: int) -> int:
        stage, tensor = divmod(rank, self.tensor)
        return stage * self.shards + tensor // self.replicas

    def replica_of(self, rank: int) -> int:
        return rank % self.tensor % self.replicas


@dataclass(frozen=True)
class Settings:
    options: Options
    groups: tuple[Group, ...]
    ranks: Ranks
    hash_tokens: int  # tokens of one of a request's block hashes
    blocks: int  # of the engine's cache
    loads: bool
    saves: bool
    fields: Mapping[str, Any]  # of every group's namespace
    rank: int = 0

    @property
    def windows(self) -> bool:
        """Whether some layers attend only to the last tokens."""
        return any(group.window_blocks for group in self.groups)

    @property
    def align_tokens(self) -> int:
        """What a hit is a multiple of."""
        return lcm(*(group.block_tokens for group in self.groups))

    def secret(self) -> str:
        if self.options.secret_file:
            return Path(self.options.secret_file).read_text(encoding="utf-8").strip()
        return os.environ.get("MEMBRAIN_SECRET", "")


_FULL = ("FullAttentionSpec", "MLAAttentionSpec", "TQFullAttentionSpec", "SinkFullAttentionSpec")


def _window_blocks(spec: Any) -> int:
    kind = type(spec).__name__
    if kind == "UniformTypeKVCacheSpecs":
        windows = {_window_blocks(one) for one in spec.kv_cache_specs.values()}
        if len(windows) == 1:
            return windows.pop()
    if kind in _FULL:
        return 0
    if kind in ("SlidingWindowSpec", "SlidingWindowMLASpec"):
        return -(-(int(spec.sliding_window) - 1) // int(spec.block_size))
    if kind == "MambaSpec":
        return 1  # the state after the last block
    raise WrongSetting(
        f"KV cache groups of {kind} are not supported; full, MLA, sliding-window and Mamba are."
        " Run this model without the connector"
    )


def _groups(kv_cache_config: Any) -> tuple[Group, ...]:
    groups = []
    for index, group in enumerate(kv_cache_config.kv_cache_groups):
        spec = group.kv_cache_spec
        uniform = type(spec).__name__ == "UniformTypeKVCacheSpecs"
        groups.append(
            Group(
                index=index,
                block_tokens=spec.block_size,
                layers=tuple(group.layer_names),
                window_blocks=_window_blocks(spec),
                page_bytes=0 if uniform else int(getattr(spec, "page_size_bytes", 0)),
            )
        )
    if not groups:
        raise WrongSetting("this model has no KV cache: run it without the connector")
    return tuple(groups)


def seed_fingerprint() -> str:
    """Of the first value of vLLM's hash chain, which engines must have in common."""
    if not HAVE_VLLM:
        return "none"
    first: bytes = getattr(import_module("vllm.v1.core.kv_cache_utils"), "NONE_HASH", b"")
    return hashlib.sha256(first).hexdigest()[:16]


def _check(config: Any, options: Options) -> None:
    if os.environ.get("VLLM_USE_V1", "1") == "0":
        raise WrongSetting("VLLM_USE_V1=0: Membrain works with vLLM's V1 engine. Unset it")
    policy = getattr(config.kv_transfer_config, "kv_load_failure_policy", "recompute")
    if policy != "recompute" and not options.allow_fail_policy:
        raise WrongSetting(
            f'kv_load_failure_policy is "{policy}": a block that cannot be fetched would end its'
            ' request with an error. Add "kv_load_failure_policy": "recompute" to'
            ' --kv-transfer-config (or "allow_fail_policy": true to kv_connector_extra_config)'
        )
    if getattr(config.cache_config, "enable_prefix_caching", True) is False:
        raise WrongSetting(
            "prefix caching is off, so blocks have no hashes: remove --no-enable-prefix-caching"
        )
    parallel = config.parallel_config
    for name in ("decode_context_parallel_size", "prefill_context_parallel_size"):
        if getattr(parallel, name, 1) != 1:
            raise WrongSetting(f"{name} is not 1: context parallelism is not supported")


def settings_of(config: Any, kv_cache_config: Any) -> Settings:
    """Raises WrongSetting, a ValueError with the way out, for what cannot work."""
    transfer = config.kv_transfer_config
    options = Options.of(getattr(transfer, "kv_connector_extra_config", None) or {})
    _check(config, options)
    model, cache, parallel = config.model_config, config.cache_config, config.parallel_config
    groups = _groups(kv_cache_config)
    # vLLM hashes at the greatest size that all groups' blocks are multiples of.
    common = gcd(*(group.block_tokens for group in groups))
    hash_tokens = int(getattr(cache, "hash_block_size", None) or common)
    for group in groups:
        if group.block_tokens % hash_tokens != 0:
            raise WrongSetting(
                f"a group's blocks of {group.block_tokens} tokens are no multiple of the"
                f" {hash_tokens} tokens that are hashed together"
            )
    ranks = Ranks.of(
        parallel.tensor_parallel_size,
        parallel.pipeline_parallel_size,
        model.get_total_num_kv_heads(),
        bool(getattr(model, "use_mla", False)),
    )
    dtype = cache.cache_dtype if cache.cache_dtype != "auto" else model.dtype
    role = transfer.kv_role
    return Settings(
        options=options,
        groups=groups,
        ranks=ranks,
        hash_tokens=hash_tokens,
        blocks=int(kv_cache_config.num_blocks),
        # A load that fails is computed from the first block of a group that keeps all of them.
        loads=role in ("kv_both", "kv_consumer") and not all(g.window_blocks for g in groups),
        saves=role in ("kv_both", "kv_producer"),
        fields={
            "model": str(model.model),
            "revision": str(getattr(model, "revision", None) or ""),
            "weights_version": options.weights_version,
            "kv_dtype": str(dtype).removeprefix("torch."),
            "part_count": ranks.parts,
            "hash_algorithm": str(getattr(cache, "prefix_caching_hash_algo", "sha256")),
            "hash_seed_fingerprint": seed_fingerprint(),
        },
        rank=int(getattr(parallel, "rank", 0)) % (ranks.tensor * ranks.pipeline),
    )
