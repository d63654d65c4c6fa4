"""What the workers tell the scheduler's side each step."""

from __future__ import annotations

from dataclasses import dataclass, field

from membrain.vllm.interface import KVConnectorWorkerMetadata
from membrain.vllm.plan import Handshake


@dataclass
class WorkerReport(KVConnectorWorkerMetadata):
    """`parts`: how many were stored since the last step, by group and block hash. `shakes`: in a
    worker's first step, for where handshakes do not come through (MultiConnector)."""

    parts: dict[tuple[int, bytes], int] = field(default_factory=dict)
    shakes: frozenset[Handshake] = frozenset()

    def aggregate(self, other: KVConnectorWorkerMetadata) -> KVConnectorWorkerMetadata:
        if isinstance(other, WorkerReport):
            self.shakes |= other.shakes
            for block, count in other.parts.items():
                self.parts[block] = self.parts.get(block, 0) + count
        return self
