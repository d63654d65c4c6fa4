"""What an engine's configuration means for the cache, and what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any

from membrain.vllm.hashing import OWN, seed_fingerprint, tokens_of_hash
from membrain.vllm.interface import passes_plans_at_preemptions, survives_failed_loads
from membrain.vllm.options import Options, WrongSetting
from membrain.vllm.plan import Fields
from membrain.vllm.weights import fingerprint

log = logging.getLogger("membrain.vllm")


@dataclass(frozen=True)
class Group:
    """A KV cache group: layers that share block ids."""

    index: int
    block_tokens: int
    layers: tuple[str, ...]
    window_blocks: int = 0  # 0: attention to all tokens; else only the last so many are needed
    window_tokens: int = 0  # of a sliding window
    page_bytes: int = 0  # of one block in one layer, as vLLM says; 0: it does not


@dataclass(frozen=True)
class Ranks:
    """How a block is cut into parts: head shards times pipeline stages. Ranks that hold the same
    heads (more ranks than KV heads, or MLA) share a part, and store its blocks in turns; only where
    all layers are cut alike. Else every rank has a part of its own."""

    tensor: int = 1
    pipeline: int = 1
    shards: int = 1

    @classmethod
    def of(
        cls, tensor: int, pipeline: int, kv_heads: int, mla: bool, alike: bool = True
    ) -> Ranks:
        shards = tensor if not alike else 1 if mla else min(tensor, kv_heads)
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
    fields: Mapping[str, Any]  # of every group's namespace, as this process sees them
    rank: int = 0
    adapters: bool = False  # LoRA's

    @property
    def windows(self) -> bool:
        """Whether some layers attend only to the last tokens."""
        return any(group.window_blocks for group in self.groups)

    def space_of(self, group: Group, layout: str) -> Fields:
        own = {"block_tokens": group.block_tokens, "kv_group": group.index, "layout": layout}
        return tuple(sorted({**self.fields, **own}.items()))

    @property
    def align_tokens(self) -> int:
        """What a hit is a multiple of."""
        return lcm(*(group.block_tokens for group in self.groups))


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
    # Not MambaSpec: its states are cut over all ranks, also where heads are not, and vLLM copies
    # and zeroes them before it tells a connector of the step.
    raise WrongSetting(
        f"KV cache groups of {kind} are not supported; full, MLA and sliding-window are. Run this"
        " model without the connector"
    )


def _window_tokens(spec: Any) -> int:
    """0 where it is not known, or not one."""
    if type(spec).__name__ == "UniformTypeKVCacheSpecs":
        return max(_window_tokens(one) for one in spec.kv_cache_specs.values())
    return int(getattr(spec, "sliding_window", None) or 0)


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
                window_tokens=_window_tokens(spec),
                page_bytes=0 if uniform else int(getattr(spec, "page_size_bytes", 0)),
            )
        )
    if not groups:
        raise WrongSetting("this model has no KV cache: run it without the connector")
    return tuple(groups)


_MLA = ("MLAAttentionSpec", "SlidingWindowMLASpec")


def _kinds(spec: Any) -> set[tuple[Any, ...]]:
    """How layers may be cut over ranks, as far as one rank's spec shows: two kinds of attention
    may have different heads in all, and yet as many on each rank."""
    if type(spec).__name__ == "UniformTypeKVCacheSpecs":
        return set[tuple[Any, ...]]().union(*map(_kinds, spec.kv_cache_specs.values()))
    kind = type(spec).__name__
    if kind in _MLA:
        return {("MLA",)}  # every rank has all of it
    return {(kind, getattr(spec, "num_kv_heads", None), getattr(spec, "head_size", None))}


def _are_alike(config: Any, kv_cache_config: Any) -> bool:
    """Whether what is known of the model's heads holds for all layers, those of a draft too."""
    specs = (group.kv_cache_spec for group in kv_cache_config.kv_cache_groups)
    draft = getattr(getattr(config, "speculative_config", None), "draft_model_config", None)
    heads = {model.get_total_num_kv_heads() for model in (config.model_config, draft) if model}
    return len(set[tuple[Any, ...]]().union(*map(_kinds, specs))) == 1 and len(heads) == 1


def _check(config: Any, options: Options) -> None:
    if os.environ.get("VLLM_USE_V1", "1") == "0":
        raise WrongSetting("VLLM_USE_V1=0: Membrain works with vLLM's V1 engine. Unset it")
    if not passes_plans_at_preemptions():
        raise WrongSetting(
            "this vLLM does not say which blocks a preemption overwrites: use one of May 2026 or"
            " later"
        )
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
    if getattr(config.cache_config, "calculate_kv_scales", False):
        raise WrongSetting(
            "the cache's scales are calculated from the first tokens that an engine sees, so that"
            " no other one can read its blocks: remove --calculate-kv-scales"
        )
    parallel = config.parallel_config
    for name in ("decode_context_parallel_size", "prefill_context_parallel_size"):
        if getattr(parallel, name, 1) != 1:
            raise WrongSetting(f"{name} is not 1: context parallelism is not supported")


def _hash_tokens(config: Any, kv_cache_config: Any, groups: tuple[Group, ...]) -> int:
    sizes = [group.block_tokens for group in groups]
    found = tokens_of_hash(config, kv_cache_config, sizes)
    for size in sizes:
        if size % found != 0:
            raise WrongSetting(
                f"a group's blocks of {size} tokens are no multiple of the {found} tokens that are"
                " hashed together: this model's caches cannot be shared. Run it without the"
                " connector"
            )
    return found


def _variant(model: Any, options: Options) -> str:
    """What else makes the same model's cache another: weights that were updated, or lie where
    another's do, or were quantized when they were loaded, or a configuration that was changed (the
    scaling of its positions)."""
    words = [options.weights_version]
    if files := fingerprint(str(model.model)):
        words.append(f"files {files}")
    if elsewhere := getattr(model, "model_weights", None):  # than its configuration
        words.append(f"weights {elsewhere}")
    if quantization := getattr(model, "quantization", None):
        words.append(f"quantization {quantization}")
    if overrides := getattr(model, "hf_overrides", None):
        text = json.dumps(overrides, sort_keys=True, default=_name_of) if isinstance(
            overrides, Mapping
        ) else _name_of(overrides)
        words.append(f"overrides {hashlib.sha256(text.encode()).hexdigest()[:16]}")
    return ", ".join(filter(None, words))


def _name_of(thing: Any) -> str:
    """Without an address, which differs from process to process."""
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))


def warn(settings: Settings) -> None:
    """Of what works, and less well than its user may think."""
    if not survives_failed_loads(len(settings.groups)):
        log.warning(
            "Membrain: this vLLM's scheduler ends when a load fails and the model has several KV"
            " cache groups (%d here): nothing is loaded, and what is computed is stored. Use a"
            " vLLM after 0.26",
            len(settings.groups),
        )
    if settings.adapters:
        log.warning(
            "Membrain: LoRA adapters are told apart by their names alone, as in vLLM's own cache:"
            " give an adapter that was changed another name, and the same name to no two"
        )
    if settings.fields["hash_seed_fingerprint"].startswith(OWN):
        log.warning(
            "Membrain: PYTHONHASHSEED is not set, and this vLLM begins its block hashes with a"
            " random value: other engines will find nothing of what this one stores, nor will it"
            " after a restart. Start all of them with the same value: PYTHONHASHSEED=0 vllm serve"
        )


def settings_of(config: Any, kv_cache_config: Any, schedules: bool = True) -> Settings:
    """Raises WrongSetting, a ValueError with the way out, for what cannot work. `schedules`: for
    the scheduler, whose view of the hashes counts; a worker does not need one."""
    transfer = config.kv_transfer_config
    options = Options.of(getattr(transfer, "kv_connector_extra_config", None) or {})
    _check(config, options)
    model, cache, parallel = config.model_config, config.cache_config, config.parallel_config
    groups = _groups(kv_cache_config)
    hash_tokens = _hash_tokens(config, kv_cache_config, groups) if schedules else 0
    ranks = Ranks.of(
        parallel.tensor_parallel_size,
        parallel.pipeline_parallel_size,
        model.get_total_num_kv_heads(),
        bool(getattr(model, "use_mla", False)),
        _are_alike(config, kv_cache_config),
    )
    dtype = cache.cache_dtype if cache.cache_dtype != "auto" else model.dtype
    # A load that fails is computed from the first block of a group that keeps all of them.
    loads = survives_failed_loads(len(groups)) and not all(g.window_blocks for g in groups)
    role = transfer.kv_role
    algorithm = str(getattr(cache, "prefix_caching_hash_algo", "sha256"))
    engine = str(getattr(transfer, "engine_id", None) or "vllm")
    return Settings(
        options=options,
        groups=groups,
        ranks=ranks,
        hash_tokens=hash_tokens,
        blocks=int(kv_cache_config.num_blocks),
        loads=loads and role in ("kv_both", "kv_consumer"),
        saves=role in ("kv_both", "kv_producer"),
        fields={
            "model": str(model.model),
            "revision": str(getattr(model, "revision", None) or ""),
            "weights_version": _variant(model, options),
            "kv_dtype": str(dtype).removeprefix("torch."),
            "part_count": ranks.parts,
            "hash_algorithm": algorithm,
            "hash_seed_fingerprint": seed_fingerprint(algorithm, engine),
        },
        rank=int(getattr(parallel, "rank", 0)) % (ranks.tensor * ranks.pipeline),
        adapters=getattr(config, "lora_config", None) is not None,
    )
