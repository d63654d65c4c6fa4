"""What the connector counts, and how vLLM and Prometheus see it."""

from __future__ import annotations

from typing import Any

from membrain.vllm.interface import KVConnectorPromMetrics, KVConnectorStats

COUNTS = {
    "lookups": "requests whose prompts were looked up",
    "lookup_errors": "of these, ended by an error or a time-out",
    "hit_tokens": "prompt tokens that were loaded instead of computed",
    "loaded_blocks": "block parts that were loaded",
    "loaded_bytes": "bytes of these",
    "load_failures": "block parts that could not be loaded, and were computed",
    "load_microseconds": "time that requests waited for their loads, in all",
    "saved_blocks": "block parts that were stored",
    "duplicate_blocks": "block parts that were there already",
    "shed_blocks": "block parts that were not stored because too much was waiting",
    "save_failures": "block parts that could not be stored",
}


class Counters:
    """Of one process. One thread's."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, **counts: int) -> None:
        for name, count in counts.items():
            self._counts[name] = self._counts.get(name, 0) + count

    def take(self) -> MembrainStats | None:
        """What was counted since the last call."""
        counts, self._counts = self._counts, {}
        return MembrainStats(data=dict(counts)) if counts else None


class MembrainStats(KVConnectorStats):
    """Sums, by the names in COUNTS."""

    def reset(self) -> None:
        self.data = {}

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        for name, count in other.data.items():
            self.data[name] = self.data.get(name, 0) + count
        return self

    def reduce(self) -> dict[str, int | float]:
        """For vLLM's log."""
        return dict(self.data)

    def is_empty(self) -> bool:
        return not any(self.data.values())


class MembrainProm(KVConnectorPromMetrics):
    """Counters vllm:membrain_NAME, one for each engine."""

    def __init__(
        self,
        vllm_config: Any,
        metric_types: dict[type[Any], type[Any]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._of_engine: dict[int, dict[str, Any]] = {
            engine: {} for engine in per_engine_labelvalues
        }
        for name, words in COUNTS.items():
            metric = self._counter_cls(
                name=f"vllm:membrain_{name}",
                documentation=f"Membrain: {words}.",
                labelnames=labelnames,
            )
            for engine, values in per_engine_labelvalues.items():
                self._of_engine[engine][name] = metric.labels(*values)

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        for name, count in transfer_stats_data.items():
            if name in COUNTS:
                self._of_engine[engine_idx][name].inc(count)
