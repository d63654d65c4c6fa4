"""vLLM's own classes where vLLM is installed, else ours of the same shape."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    HAVE_VLLM = False
    from membrain.vllm.standalone import (
        BlockStored,
        KVConnectorBase_V1,
        KVConnectorHandshakeMetadata,
        KVConnectorMetadata,
        KVConnectorPromMetrics,
        KVConnectorRole,
        KVConnectorStats,
        KVConnectorWorkerMetadata,
        SupportsHMA,
    )
else:
    try:
        from vllm.distributed.kv_events import BlockStored
        from vllm.distributed.kv_transfer.kv_connector.v1.base import (
            KVConnectorBase_V1,
            KVConnectorHandshakeMetadata,
            KVConnectorMetadata,
            KVConnectorRole,
            KVConnectorWorkerMetadata,
            SupportsHMA,
        )
        from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
            KVConnectorPromMetrics,
            KVConnectorStats,
        )

        HAVE_VLLM = True
    except ImportError as error:
        if find_spec("vllm") is not None:
            raise ImportError(
                f"this vLLM does not have what Membrain's connector needs ({error}): use one of"
                " May 2026 or later"
            ) from error
        from membrain.vllm.standalone import (
            BlockStored,
            KVConnectorBase_V1,
            KVConnectorHandshakeMetadata,
            KVConnectorMetadata,
            KVConnectorPromMetrics,
            KVConnectorRole,
            KVConnectorStats,
            KVConnectorWorkerMetadata,
            SupportsHMA,
        )

        HAVE_VLLM = False

KV_TRANSFER = "vllm.distributed.kv_transfer"
SCHEDULER = "vllm.v1.core.sched.scheduler"
ONE_GROUP = "(req_block_ids,)"  # how older schedulers take the blocks of a load that failed


def survives_failed_loads(groups: int) -> bool:
    """Whether a load that fails leaves this vLLM's scheduler alive: up to 0.26 it unpacks one
    group's blocks where a model has several, and the engine ends."""
    if not HAVE_VLLM or groups == 1:
        return True
    scheduler = import_module(SCHEDULER).Scheduler
    try:
        source = inspect.getsource(scheduler._update_requests_with_invalid_blocks)
    except (AttributeError, OSError, TypeError):
        return False  # nobody knows
    return ONE_GROUP not in source


def passes_plans_at_preemptions() -> bool:
    """vLLM up to 0.18 hands names of requests to `handle_preemptions`, and not the step's plan."""
    theirs = getattr(KVConnectorBase_V1, "handle_preemptions", None)
    return theirs is None or "preempted_req_ids" not in inspect.signature(theirs).parameters


def is_engines_own(connector: Any) -> bool:
    """Whether vLLM speaks with this connector itself, and not through one that holds several."""
    if not HAVE_VLLM:
        return True
    module = import_module(KV_TRANSFER)
    return not module.has_kv_transfer_group() or module.get_kv_transfer_group() is connector


def make_known(connector: type[Any]) -> None:
    """By its name: MultiConnector finds the classes of its connectors' statistics in vLLM's
    register, also of those that were loaded by their module's path."""
    if not HAVE_VLLM:
        return
    factory = import_module(f"{KV_TRANSFER}.kv_connector.factory").KVConnectorFactory
    try:
        factory.get_connector_class_by_name(connector.__name__)
    except ValueError:
        factory.register_connector(connector.__name__, connector.__module__, connector.__name__)


__all__ = [
    "HAVE_VLLM",
    "BlockStored",
    "KVConnectorBase_V1",
    "KVConnectorHandshakeMetadata",
    "KVConnectorMetadata",
    "KVConnectorPromMetrics",
    "KVConnectorRole",
    "KVConnectorStats",
    "KVConnectorWorkerMetadata",
    "SupportsHMA",
    "is_engines_own",
    "make_known",
    "passes_plans_at_preemptions",
    "survives_failed_loads",
]
