"""What the workers tell the scheduler's side each step."""

from __future__ import annotations

from dataclasses import dataclass, field

from membrain.vllm.interface import KVConnectorWorkerMetadata


@dataclass
class StoredBlocks(KVConnectorWorkerMetadata):
    """Parts that were stored since the last step, by group and block hash."""

    parts: dict[tuple[int, bytes], int] = field(default_factory=dict)

    def aggregate(self, other: KVConnectorWorkerMetadata) -> KVConnectorWorkerMetadata:
        if isinstance(other, StoredBlocks):
            for block, count in other.parts.items():
                self.parts[block] = self.parts.get(block, 0) + count
        return self
