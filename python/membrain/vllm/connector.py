"""MembrainConnector: what vLLM loads.

vllm serve MODEL --kv-transfer-config '{"kv_connector": "MembrainConnector",
  "kv_connector_module_path": "membrain.vllm", "kv_role": "kv_both",
  "kv_load_failure_policy": "recompute",
  "kv_connector_extra_config": {"server": "10.0.0.7:9201"}}'
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from membrain.vllm.interface import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorStats,
    SupportsHMA,
    is_engines_own,
    make_known,
)
from membrain.vllm.link import Link
from membrain.vllm.plan import Handshake, Step
from membrain.vllm.report import WorkerReport
from membrain.vllm.scheduler import SchedulerSide
from membrain.vllm.settings import Settings, settings_of, warn
from membrain.vllm.stats import MembrainProm, MembrainStats
from membrain.vllm.worker import WorkerSide


class MembrainConnector(KVConnectorBase_V1, SupportsHMA):
    """vLLM makes one in the scheduler and one in each worker; `role` says which this is. Loads and
    saves whole requests beside the engine's steps, none of which waits for them."""

    clock = staticmethod(time.monotonic)  # seconds; a simulation has its own

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        schedules = role == KVConnectorRole.SCHEDULER
        settings = settings_of(vllm_config, kv_cache_config, schedules)
        self._scheduler: SchedulerSide | None = None
        self._worker: WorkerSide | None = None
        if schedules:
            warn(settings)
            self._scheduler = SchedulerSide(
                settings, self._link(settings, "scheduler"), self.clock
            )
        else:
            self._worker = WorkerSide(
                settings, self._link(settings, f"worker {settings.rank}"), self.clock
            )

    def _link(self, settings: Settings, who: str) -> Link:
        engine = getattr(self._kv_transfer_config, "engine_id", None) or "vllm"
        return Link(settings, f"{engine} {who}")

    @property
    def scheduler(self) -> SchedulerSide:
        assert self._scheduler is not None, "this is a worker's connector"
        return self._scheduler

    @property
    def worker(self) -> WorkerSide:
        assert self._worker is not None, "this is the scheduler's connector"
        return self._worker

    # ---- the scheduler's

    def on_new_request(self, request: Any) -> None:
        self.scheduler.on_new_request(request)

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        return self.scheduler.matched(request, num_computed_tokens)

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        self.scheduler.allocated(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        return self.scheduler.step(scheduler_output)

    def update_connector_output(self, connector_output: Any) -> None:
        self.scheduler.output(connector_output)

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self.scheduler.finished(request), None

    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self.scheduler.finished(request), None

    def take_events(self) -> Iterable[Any]:
        return self.scheduler.take_events()

    def reset_cache(self) -> bool | None:
        return self.scheduler.reset()

    def set_xfer_handshake_metadata(self, metadata: dict[Any, Any]) -> None:
        self.scheduler.handshake(metadata)

    def set_xfer_handshake_metadata_pp_aware(self, metadata: dict[Any, Any]) -> None:
        """By stage and rank. What counts here is that all say the same."""
        flat: dict[Any, Any] = {}
        for key, value in metadata.items():
            flat.update(value if isinstance(value, dict) else {key: value})
        self.scheduler.handshake(flat)

    @property
    def requires_kv_delivery(self) -> bool:
        """A save that is lost is a miss later, nothing worse."""
        return False

    # ---- the workers'

    @property
    def prefer_cross_layer_blocks(self) -> bool:
        """One piece a block, where vLLM can."""
        return True

    def register_kv_caches(self, kv_caches: dict[str, Any]) -> None:
        self.worker.register(kv_caches)

    def register_cross_layers_kv_cache(self, kv_cache: Any, attn_backend: Any) -> None:
        self.worker.register_cross_layers(kv_cache, attn_backend)

    def get_handshake_metadata(self) -> Handshake | None:
        """MultiConnector hands one connector's to all: it is the others' then."""
        return self.worker.handshake() if is_engines_own(self) else None

    def handle_preemptions(self, kv_connector_metadata: KVConnectorMetadata) -> None:
        assert isinstance(kv_connector_metadata, Step)
        self.worker.fence(kv_connector_metadata)

    def _step(self) -> Step:
        step = self._get_connector_metadata()
        assert isinstance(step, Step)
        return step

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        self.worker.begin(self._step())

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Whole requests are loaded before they are scheduled."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Whole steps are saved, after the last layer."""

    def wait_for_save(self) -> None:
        self.worker.save(self._step())

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        sent, received = self.worker.finished(self._step(), finished_req_ids)
        return sent or None, received or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        return self.worker.errors()

    def build_connector_worker_meta(self) -> WorkerReport | None:
        return self.worker.report()

    # ---- both

    def get_kv_connector_stats(self) -> KVConnectorStats | None:
        side = self._scheduler or self._worker
        assert side is not None
        return side.counters.take()

    @classmethod
    def build_kv_connector_stats(
        cls, data: dict[str, Any] | None = None
    ) -> KVConnectorStats | None:
        return MembrainStats(data=data if data is not None else {})

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: Any,
        metric_types: dict[type[Any], type[Any]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> MembrainProm:
        return MembrainProm(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    def shutdown(self) -> None:
        side = self._scheduler or self._worker
        assert side is not None
        side.close()


make_known(MembrainConnector)
