"""An engine: a scheduler, workers of any number of ranks, and a connector in each."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from contract.config import kv_cache_config, vllm_config
from contract.model import GroupSpec, RankCache, hash_tokens_of
from contract.pool import NULL_ID
from contract.requests import Request
from contract.scheduler import Scheduler
from contract.step import ConnectorOutput, SchedulerOutput
from membrain.vllm import MembrainConnector
from membrain.vllm.interface import KVConnectorRole


@dataclass(frozen=True)
class Shape:
    """Of an engine."""

    groups: tuple[GroupSpec, ...] = (GroupSpec(),)
    ranks: int = 1  # of a stage
    stages: int = 1  # of a pipeline, each with a layer more than the one before
    kv_heads: int = 8
    mla: bool = False
    layers: int = 2
    blocks: int = 64
    budget: int = 16

    @property
    def workers(self) -> int:
        return self.ranks * self.stages

    def heads_of(self, rank: int) -> int:
        """A number, the same for ranks of a stage that hold the same heads."""
        stage, rank = divmod(rank, self.ranks)
        shards = 1 if self.mla else min(self.ranks, self.kv_heads)
        return stage * self.ranks + rank * shards // self.ranks

    def layers_of(self, rank: int) -> int:
        return self.layers + rank // self.ranks


class Engine:
    """`connector_class` is MembrainConnector, or one with a simulated link; `tensors` are what it
    is given as the KV cache. `among_others`: as in MultiConnector, whose handshakes may be those of
    another connector."""

    def __init__(
        self,
        name: str,
        shape: Shape,
        connector_class: type[MembrainConnector] = MembrainConnector,
        tensors: Callable[[RankCache], dict[str, Any]] = RankCache.tensors,
        among_others: bool = False,
        **extra: Any,
    ) -> None:
        self.name = name
        self.shape = shape

        def connector(role: KVConnectorRole, rank: int) -> MembrainConnector:
            caches = kv_cache_config(shape.groups, shape.layers_of(rank), shape.blocks)
            config = vllm_config(
                shape.ranks, shape.stages, shape.kv_heads, shape.mla, rank, **extra
            )
            return connector_class(config, role, caches)

        self.scheduler_connector = connector(KVConnectorRole.SCHEDULER, 0)
        self.workers: list[MembrainConnector] = []
        self.caches: list[RankCache] = []
        for rank in range(shape.workers):
            worker = connector(KVConnectorRole.WORKER, rank)
            layers = shape.layers_of(rank)
            cache = RankCache(rank, shape.heads_of(rank), shape.groups, layers, shape.blocks)
            worker.register_kv_caches(tensors(cache))
            self.workers.append(worker)
            self.caches.append(cache)
        shakes: dict[int, Any] = {
            rank: "another connector's" if among_others else worker.get_handshake_metadata()
            for rank, worker in enumerate(self.workers)
        }
        self.scheduler_connector.set_xfer_handshake_metadata(pickle.loads(pickle.dumps(shakes)))
        self.scheduler = Scheduler(
            self.scheduler_connector, list(shape.groups), shape.blocks, shape.budget
        )
        self.weights = b""  # what the model's values depend on besides
        self._sending: Counter[str] = Counter()
        self._recving: Counter[str] = Counter()
        self._next_token = 1000

    def add(self, name: str, tokens: Sequence[int], output: int = 1, **options: Any) -> Request:
        hashed = hash_tokens_of(self.shape.groups)
        request = Request(name, tokens, output, hash_tokens=hashed, **options)
        self.scheduler.add(request)
        return request

    # ---- a step

    def step(self) -> SchedulerOutput:
        output = self.scheduler.schedule()
        told = ConnectorOutput()
        metas = []
        sent: set[str] = set()
        received: set[str] = set()
        for rank in range(self.shape.workers):
            answers = self._work(rank, output)
            done_sending, done_recving, invalid, meta = answers
            sent |= self._counted(self._sending, done_sending)
            received |= self._counted(self._recving, done_recving)
            told.invalid_block_ids |= invalid
            if meta is not None:
                metas.append(meta)
        told.finished_sending = sent or None
        told.finished_recving = received or None
        for meta in metas[1:]:
            metas[0] = metas[0].aggregate(meta)
        told.kv_connector_worker_meta = metas[0] if metas else None
        self._next_token += 1
        self.scheduler.update(output, told, self._next_token)
        self.scheduler_connector.take_events()
        return output

    def _counted(self, counts: Counter[str], names: set[str] | None) -> set[str]:
        """Those that all ranks have reported."""
        whole = set()
        for name in names or ():
            counts[name] += 1
            if counts[name] == self.shape.workers:
                del counts[name]
                whole.add(name)
        return whole

    def _work(
        self, rank: int, output: SchedulerOutput
    ) -> tuple[set[str] | None, set[str] | None, set[int], Any]:
        worker = self.workers[rank]
        meta = pickle.loads(pickle.dumps(output.kv_connector_metadata))
        if output.preempted_req_ids:
            worker.handle_preemptions(meta)
        worker.bind_connector_metadata(meta)
        worker.start_load_kv(None)
        if output.num_scheduled_tokens:
            self._forward(rank, output)
            worker.wait_for_save()
        sent, received = worker.get_finished(set(output.finished_req_ids))
        invalid = worker.get_block_ids_with_load_errors()
        answer = worker.build_connector_worker_meta()
        worker.clear_connector_metadata()
        return sent, received, invalid, answer

    def _forward(self, rank: int, output: SchedulerOutput) -> None:
        cache = self.caches[rank]
        spans = []
        for name, count in output.num_scheduled_tokens.items():
            request = self.scheduler.requests[name]
            end = request.num_computed_tokens
            spans.append((request, end - count, end))
        for request, start, end in spans:
            self._compute(request, start, end)
            for group, ids in enumerate(request.ids):
                size = self.shape.groups[group].block_tokens
                for position in range(start, end):
                    block = ids[position // size]
                    assert block != NULL_ID
                    offset = position % size
                    cache.write(group, block, offset, self._value(request, position))
        for request, start, end in spans:
            self._attend(rank, request, start, end)

    def _compute(self, request: Request, start: int, end: int) -> None:
        """What is computed on values of other weights is neither today's."""
        if start == 0:
            request.weights.clear()
        for position in range(start, end):
            request.weights.pop(position, None)
            if (of_before := request.weights.get(position - 1)) is not None:
                request.weights[position] = of_before

    def update_weights(self, weights: bytes) -> None:
        """Amid everything. What requests have is of those before."""
        for request in self.scheduler.requests.values():
            for position in range(request.num_computed_tokens):
                request.weights.setdefault(position, self.weights)
        self.weights = weights

    def _value(self, request: Request, position: int) -> bytes:
        of = request.weights.get(position, self.weights)
        value = request.values[position]
        return hashlib.blake2b(value + of, digest_size=len(value)).digest() if of else value

    def _attend(self, rank: int, request: Request, start: int, end: int) -> None:
        """Reads all that the tokens from `start` on attend to."""
        what = f"{self.name} rank {rank}, request {request.request_id}"
        for group, spec in enumerate(self.shape.groups):
            first = max(0, start - spec.window_tokens + 1) if spec.window_tokens else 0
            for position in range(first, end):
                block = request.ids[group][position // spec.block_tokens]
                assert block != NULL_ID, f"{what}: token {position} is not there"
                offset = position % spec.block_tokens
                value = self._value(request, position)
                self.caches[rank].check(group, block, offset, value, f"{what} token {position}")

    # ---- the end

    def run(self, most_steps: int = 1000) -> None:
        """Until every request is finished and nothing of it is held."""
        for _ in range(most_steps):
            if not self.scheduler.unfinished:
                return
            if not self.step().num_scheduled_tokens:
                self._wait()
        stuck = {name: r.status.name for name, r in self.scheduler.requests.items()}
        raise AssertionError(f"{self.name}: requests that do not end: {stuck}")

    def _wait(self) -> None:
        """Nothing can be computed: until something has come, or not."""
        links = [self.scheduler_connector.scheduler.link]
        links += [worker.worker.link for worker in self.workers]
        for link in links:
            if link.client is not None:
                link.client.wait(0.001)

    def close(self) -> None:
        """What vLLM does at its end, and that nothing was left."""
        self.scheduler.pool.assert_all_free()
        assert not self._sending and not self._recving
        assert self.scheduler_connector.scheduler.held == 0, "the scheduler's side holds something"
        for worker in self.workers:
            for _ in range(100):  # saves of blocks that were taken back end by themselves
                worker.worker.poll()
            assert worker.worker.held == 0, "a worker holds something"
        self.shutdown()

    def shutdown(self) -> None:
        self.scheduler_connector.shutdown()
        for worker in self.workers:
            worker.shutdown()
