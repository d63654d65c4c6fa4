"""vLLM's configuration objects, as far as a connector reads them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from contract.model import BLOCK_TOKENS, GroupSpec, spec_of


def vllm_config(
    ranks: int = 1,
    stages: int = 1,
    kv_heads: int = 8,
    mla: bool = False,
    rank: int = 0,
    policy: str = "recompute",
    role: str = "kv_both",
    model: str = "a model",
    **extra: Any,
) -> Any:
    return SimpleNamespace(
        model_config=SimpleNamespace(
            model=model,
            revision="1",
            dtype="torch.bfloat16",
            use_mla=mla,
            get_total_num_kv_heads=lambda: kv_heads,
        ),
        cache_config=SimpleNamespace(
            block_size=BLOCK_TOKENS,
            cache_dtype="auto",
            enable_prefix_caching=True,
            prefix_caching_hash_algo="sha256_cbor",
        ),
        parallel_config=SimpleNamespace(
            tensor_parallel_size=ranks,
            pipeline_parallel_size=stages,
            decode_context_parallel_size=1,
            rank=rank,
        ),
        kv_transfer_config=SimpleNamespace(
            kv_role=role,
            engine_id="engine",
            kv_load_failure_policy=policy,
            kv_connector_extra_config=extra,
        ),
    )


def kv_cache_config(groups: Sequence[GroupSpec], layers: int, blocks: int) -> Any:
    return SimpleNamespace(
        num_blocks=blocks,
        kv_cache_groups=[
            SimpleNamespace(
                layer_names=[f"group {index} layer {layer}" for layer in range(layers)],
                kv_cache_spec=spec_of(group),
            )
            for index, group in enumerate(groups)
        ],
    )
