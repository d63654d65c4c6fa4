"""vLLM's own classes where vLLM is installed, else ours of the same shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    except ImportError:
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
]
