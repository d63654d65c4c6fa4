"""What the vLLM connector costs an engine: processor time per block, on scheduler and worker.

usage: connector_bench.py [--build build/release] [--requests N] [--tokens N] [--json]

Plays requests of 8,192 tokens with the geometry of Llama-3-8B (32 layers, 8 KV heads of 128, bf16:
blocks of 16 tokens, 2 MiB in 32 pieces) through the connector's calls, as vLLM would make them,
with numpy buffers and a real server and node on this host. The first prompts are computed and
saved; the others are loaded. Needs about 9 GiB of memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

LAYERS, KV_HEADS, HEAD_DIM, TOKENS = 32, 8, 128, 16
PAGE = 2 * TOKENS * KV_HEADS * HEAD_DIM * 2
STEP_TOKENS = 2048


class FullAttentionSpec(SimpleNamespace):
    """The connector knows specs by the names of their classes."""


def configuration(server: str, blocks: int) -> tuple[Any, Any]:
    config = SimpleNamespace(
        model_config=SimpleNamespace(
            model="llama-3-8b", dtype="bfloat16", get_total_num_kv_heads=lambda: KV_HEADS
        ),
        cache_config=SimpleNamespace(block_size=TOKENS, cache_dtype="auto"),
        parallel_config=SimpleNamespace(tensor_parallel_size=1, pipeline_parallel_size=1),
        kv_transfer_config=SimpleNamespace(
            kv_role="kv_both",
            kv_connector_extra_config={
                "server": server,
                "max_save_bytes": 4 << 30,
                "client": {"copy_threads": 1},
            },
        ),
    )
    spec = FullAttentionSpec(block_size=TOKENS, page_size_bytes=PAGE)
    names = [f"layer {layer}" for layer in range(LAYERS)]
    group = SimpleNamespace(layer_names=names, kv_cache_spec=spec)
    return config, SimpleNamespace(num_blocks=blocks, kv_cache_groups=[group])


class Clock:
    """Processor time of this thread in the connector's calls."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.walls: list[float] = []

    def __call__(self, call: Callable[..., Any], *words: Any) -> Any:
        begun, wall = time.thread_time(), time.perf_counter()
        answer = call(*words)
        self.seconds += time.thread_time() - begun
        self.walls.append(time.perf_counter() - wall)
        return answer

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.walls, n=100)[98] if len(self.walls) > 1 else 0.0


class Engine:
    """The calls that vLLM makes for one request at a time."""

    def __init__(self, server: str, tokens: int) -> None:
        from contract.tensors import Tensor

        import numpy as np
        from membrain.vllm import MembrainConnector
        from membrain.vllm.interface import KVConnectorRole

        self.count = tokens // TOKENS
        blocks = self.count + 3
        self.memory = [np.ones(blocks * PAGE, np.uint8) for _ in range(LAYERS)]
        shape = (blocks, 2, TOKENS, KV_HEADS, HEAD_DIM)
        config, caches = configuration(server, blocks)
        self.scheduler = MembrainConnector(config, KVConnectorRole.SCHEDULER, caches)
        self.worker = MembrainConnector(config, KVConnectorRole.WORKER, caches)
        tensors = [Tensor(memory, shape, None, 2) for memory in self.memory]
        self.worker.register_kv_caches({f"layer {n}": t for n, t in enumerate(tensors)})
        self.scheduler.set_xfer_handshake_metadata({0: self.worker.get_handshake_metadata()})
        while not (self.scheduler.scheduler.link.opened and self.worker.worker.link.opened):
            time.sleep(0.01)
        self.ids = list(range(1, self.count + 1))
        self.clocks = {name: Clock() for name in ("scheduler save", "scheduler load")}
        self.clocks.update({name: Clock() for name in ("worker save", "worker load")})
        self.block_ids = SimpleNamespace(get_block_ids=lambda: (self.ids,))

    def request(self, name: str, prompt: int) -> Any:
        seed = str(prompt).encode()
        hashes = [hashlib.sha256(seed + b"%d" % n).digest() for n in range(self.count)]
        tokens = self.count * TOKENS
        return SimpleNamespace(request_id=name, num_tokens=tokens, block_hashes=hashes)

    def serve(self, request: Any) -> bool:
        """True: it was loaded."""
        clock = self.clocks["scheduler load"]
        clock(self.scheduler.on_new_request, request)
        while True:
            found, _ = clock(self.scheduler.get_num_new_matched_tokens, request, 0)
            if found is not None:
                break
            self.scheduler.scheduler.link.client.wait(0.01)
        if found:
            self._load(request, found)
        else:
            self._compute(request)
        delay, _ = self.scheduler.request_finished_all_groups(request, (self.ids,))
        sent: set[str] = set()
        side = "load" if found else "save"
        while delay and request.request_id not in sent:
            answer = self._step(side, finished={request.request_id})
            sent |= answer.finished_sending or set()
            self.worker.worker.link.client.wait(0.01)
        return bool(found)

    def _load(self, request: Any, tokens: int) -> None:
        clock = self.clocks["scheduler load"]
        clock(self.scheduler.update_state_after_alloc, request, self.block_ids, tokens)
        while True:
            answer = self._step("load")
            if request.request_id in (answer.finished_recving or ()):
                break
            self.worker.worker.link.client.wait(0.01)
        assert not answer.invalid_block_ids, "a load failed"
        clock(self.scheduler.update_state_after_alloc, request, self.block_ids, 0)

    def _compute(self, request: Any) -> None:
        clock = self.clocks["scheduler save"]
        clock(self.scheduler.update_state_after_alloc, request, self.block_ids, 0)
        name = request.request_id
        for start in range(0, request.num_tokens, STEP_TOKENS):
            if start == 0:
                new = SimpleNamespace(req_id=name, block_ids=(self.ids,), num_computed_tokens=0)
                self._step("save", {name: STEP_TOKENS}, new=[new])
            else:
                self._step("save", {name: STEP_TOKENS}, cached=([name], set(), [None], [start]))

    def _step(
        self,
        side: str,
        scheduled: dict[str, int] | None = None,
        new: list[Any] | None = None,
        cached: tuple[list[str], set[str], list[Any], list[int]] = ([], set(), [], []),
        finished: set[str] | None = None,
    ) -> Any:
        output = SimpleNamespace(
            scheduled_new_reqs=new or [],
            scheduled_cached_reqs=SimpleNamespace(
                req_ids=cached[0],
                resumed_req_ids=cached[1],
                new_block_ids=cached[2],
                num_computed_tokens=cached[3],
            ),
            num_scheduled_tokens=scheduled or {},
            preempted_req_ids=set(),
        )
        plan, move = self.clocks[f"scheduler {side}"], self.clocks[f"worker {side}"]
        meta = plan(self.scheduler.build_connector_meta, output)
        self.worker.bind_connector_metadata(meta)
        move(self.worker.start_load_kv, None)
        move(self.worker.wait_for_save)
        sent, received = move(self.worker.get_finished, finished or set())
        answer = SimpleNamespace(
            finished_sending=sent,
            finished_recving=received,
            invalid_block_ids=move(self.worker.get_block_ids_with_load_errors),
        )
        self.worker.clear_connector_metadata()
        plan(self.scheduler.update_connector_output, answer)
        return answer

    def close(self) -> None:
        self.scheduler.shutdown()
        self.worker.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--build", type=Path, default=Path("build/release"))
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--prompts", type=int, default=4, help="different ones")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(options.build.resolve() / "python"), str(here.parent / "python" / "tests")]
    from python_bench import Server

    size = options.prompts * (options.tokens // TOKENS) * PAGE * LAYERS
    server = Server(options.build, f"{(size >> 20) + 512}MiB")
    engine = Engine(server.address, options.tokens)
    wall, process = time.perf_counter(), time.process_time()
    loaded = 0
    for number in range(options.requests):
        loaded += engine.serve(engine.request(f"request {number}", number % options.prompts))
        if sys.stderr.isatty() or number % 20 == 19:
            print(f"{number + 1} of {options.requests} requests", file=sys.stderr)
    wall, process = time.perf_counter() - wall, time.process_time() - process
    engine.close()
    server.end()
    saves = (options.requests - loaded) * engine.count
    loads = loaded * engine.count
    figures: dict[str, float] = {"loaded_blocks": loads, "saved_blocks": saves}
    for name, clock in engine.clocks.items():
        blocks = loads if name.endswith("load") else saves
        figures[f"{name}_us_per_block"] = round(clock.seconds / max(blocks, 1) * 1e6, 3)
        figures[f"{name}_call_p99_us"] = round(clock.p99 * 1e6)
    figures["gib_per_s"] = round((loads + saves) * PAGE * LAYERS / wall / 2**30, 2)
    figures["process_us_per_block"] = round(process / (loads + saves) * 1e6, 1)
    lines = (f"{name:40}{value}" for name, value in figures.items())
    print(json.dumps(figures) if options.json else "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
