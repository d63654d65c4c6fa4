"""What vLLM's block hashes mean: how many tokens each covers, and what their chain begins with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import import_module
from math import gcd
from typing import Any

from membrain.vllm.interface import HAVE_VLLM

UTILS = "vllm.v1.core.kv_cache_utils"
FIRST = "NONE_HASH"  # of UTILS
OWN = "only engine "  # and its id: a fingerprint that no other engine has


def chain_start(algorithm: str) -> bytes | None:
    """The first value of vLLM's hash chain, which engines that share blocks have in common; None:
    every process of this vLLM draws its own.

    vLLM sets it in one process, after the connectors are made, and never in the workers'. So it is
    set here as vLLM does it, twice, and put back."""
    utils = import_module(UTILS)
    hash_of = import_module("vllm.utils.hashing").get_hash_fn_by_name(algorithm)
    names = vars(utils)
    before = names.get(FIRST)
    values = set()
    try:
        for _ in range(2):
            utils.init_none_hash(hash_of)
            values.add(bytes(names[FIRST]))
    finally:
        if before is None:
            names.pop(FIRST, None)
        else:
            names[FIRST] = before
    return values.pop() if len(values) == 1 else None


def seed_fingerprint(algorithm: str, engine_id: str) -> str:
    """Equal where hashes are. With a value of its own an engine shares with nobody, which the
    server then says."""
    if not HAVE_VLLM:
        return "none"
    first = chain_start(algorithm)
    if first is None:
        return OWN + engine_id
    return hashlib.sha256(first).hexdigest()[:16]


def tokens_of_hash(config: Any, kv_cache_config: Any, block_tokens: Sequence[int]) -> int:
    """Tokens that one of a request's hashes covers: asked of vLLM where it can be, since to be
    wrong here is to name blocks after other tokens."""
    if HAVE_VLLM:
        resolve = getattr(import_module(UTILS), "resolve_kv_cache_block_sizes", None)
        if resolve is not None:
            return int(resolve(kv_cache_config, config)[1])
    if len(block_tokens) == 1:
        return block_tokens[0]
    cache = config.cache_config
    wanted = getattr(cache, "prefix_match_unit", None) or getattr(cache, "hash_block_size", None)
    return int(wanted or gcd(*block_tokens))
