"""What vLLM's event bus is told of blocks that were stored."""

from __future__ import annotations

import inspect
from functools import cache
from importlib import import_module
from typing import Any

from membrain.vllm.hashing import UTILS
from membrain.vllm.interface import HAVE_VLLM, BlockStored

MEDIUM = "MEMBRAIN"


@cache
def _newer_fields() -> frozenset[str]:
    """vLLM's events have grown, and what is new may be asked for."""
    return frozenset({"lora_name", "group_idx"} & set(inspect.signature(BlockStored).parameters))


def _as_others_write(name: bytes) -> Any:
    """The hash as vLLM's own events have it."""
    if not HAVE_VLLM:
        return name
    convert = getattr(import_module(UTILS), "maybe_convert_block_hash", None)
    return name if convert is None else convert(name)


def stored_event(name: bytes, group: int, block_tokens: int) -> Any:
    newer = {"lora_name": None, "group_idx": group}
    return BlockStored(
        block_hashes=[_as_others_write(name)],
        parent_block_hash=None,
        token_ids=[],
        block_size=block_tokens,
        lora_id=None,
        medium=MEDIUM,
        **{field: newer[field] for field in _newer_fields()},
    )
