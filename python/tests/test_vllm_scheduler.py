# mypy: disable-error-code="import"
"""Where vLLM is installed: the connector under vLLM's own scheduler, with torch tensors as its KV
cache, a real server and node, and a forward pass of ours that checks every byte it attends to.

The model is a configuration file without weights: nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Server
from contract.model import prefix_values

pytest.importorskip("vllm.v1.core.sched.scheduler", reason="vLLM is not installed")
torch: Any = pytest.importorskip("torch", reason="torch is not installed")

pytestmark = pytest.mark.vllm

BLOCKS, BLOCK_TOKENS, HEADS, DIM, LAYERS = 64, 16, 2, 8, 2
BUDGET = 32  # tokens of a step: prompts come in chunks
PROMPT = list(range(100, 300))

OPT = {
    "architectures": ["OPTForCausalLM"],
    "model_type": "opt",
    "vocab_size": 50272,
    "hidden_size": 2 * DIM,
    "word_embed_proj_dim": 2 * DIM,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "ffn_dim": 32,
    "max_position_embeddings": 2048,
    "torch_dtype": "float16",
}


def vllm_config(folder: Path, server: str) -> Any:
    from vllm.config import (
        CacheConfig,
        DeviceConfig,
        KVTransferConfig,
        ModelConfig,
        SchedulerConfig,
        VllmConfig,
    )

    (folder / "config.json").write_text(json.dumps(OPT), encoding="utf-8")
    model = ModelConfig(model=str(folder), skip_tokenizer_init=True, dtype="float16", seed=1)
    cache = CacheConfig(block_size=BLOCK_TOKENS, enable_prefix_caching=True)
    cache.num_gpu_blocks = BLOCKS
    return VllmConfig(
        model_config=model,
        cache_config=cache,
        scheduler_config=SchedulerConfig(
            max_num_seqs=8,
            max_num_batched_tokens=BUDGET,
            max_model_len=2048,
            enable_chunked_prefill=True,
            is_encoder_decoder=False,
        ),
        kv_transfer_config=KVTransferConfig(
            kv_connector="MembrainConnector",
            kv_connector_module_path="membrain.vllm",
            kv_role="kv_both",
            kv_load_failure_policy="recompute",
            kv_connector_extra_config={"server": server},
        ),
        device_config=DeviceConfig("cpu"),
    )


def cache_config() -> Any:
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec

    spec = FullAttentionSpec(
        block_size=BLOCK_TOKENS, num_kv_heads=HEADS, head_size=DIM, dtype=torch.float16
    )
    names = [f"layer {number}" for number in range(LAYERS)]
    return KVCacheConfig(BLOCKS, [], [KVCacheGroupSpec(names, spec)])


class Engine:
    """vLLM's scheduler, and one worker whose forward pass writes values of the prefix."""

    def __init__(self, folder: Path, server: str) -> None:
        from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
        from vllm.v1.core.sched.scheduler import Scheduler
        from vllm.v1.structured_output import StructuredOutputManager

        from membrain.vllm import MembrainConnector

        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(BLOCK_TOKENS, sha256)
        config = vllm_config(folder, server)
        self.scheduler = Scheduler(
            vllm_config=config,
            kv_cache_config=cache_config(),
            structured_output_manager=StructuredOutputManager(config),
            block_size=BLOCK_TOKENS,
            log_stats=True,
        )
        self.connector = self.scheduler.connector
        assert isinstance(self.connector, MembrainConnector)
        self.worker = MembrainConnector(config, KVConnectorRole.WORKER, cache_config())
        shape = (BLOCKS, 2, BLOCK_TOKENS, HEADS, DIM)
        self.pages = [torch.zeros(shape, dtype=torch.float16) for _ in range(LAYERS)]
        self.worker.register_kv_caches({f"layer {n}": page for n, page in enumerate(self.pages)})
        self.connector.set_xfer_handshake_metadata({0: self.worker.get_handshake_metadata()})
        self.loaded = 0
        self._tokens: dict[str, int] = {}  # computed here, of each request

    def wait_until_open(self) -> None:
        for link in (self.connector.scheduler.link, self.worker.worker.link):
            for _ in range(3000):
                if link.opened:
                    break
                link.client.wait(0.01)
            assert link.opened, "the connector did not reach its server"

    def add(self, name: str, prompt: list[int], output: int = 4) -> None:
        from vllm import SamplingParams
        from vllm.v1.request import Request

        params = SamplingParams(max_tokens=output, ignore_eos=True)
        params.update_from_generation_config({}, 2)
        self._tokens[name] = 0
        self.scheduler.add_request(
            Request(
                request_id=name,
                prompt_token_ids=prompt,
                sampling_params=params,
                pooling_params=None,
                block_hasher=self._hasher,
            )
        )

    def step(self) -> bool:
        """Whether anything was computed."""
        from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput

        output = self.scheduler.schedule()
        meta = output.kv_connector_metadata
        if output.preempted_req_ids:
            self.worker.handle_preemptions(meta)
        self.worker.bind_connector_metadata(meta)
        self.worker.start_load_kv(None)
        counts = output.num_scheduled_tokens
        if counts:
            self._forward(counts)
            self.worker.wait_for_save()
        sent, received = self.worker.get_finished(output.finished_req_ids)
        told = KVConnectorOutput(
            finished_sending=sent,
            finished_recving=received,
            invalid_block_ids=self.worker.get_block_ids_with_load_errors(),
            kv_connector_worker_meta=self.worker.build_connector_worker_meta(),
        )
        self.worker.clear_connector_metadata()
        names = list(counts)
        requests = [self.scheduler.requests[name] for name in names]
        sampled = [[7] if one.num_computed_tokens >= one.num_tokens else [] for one in requests]
        self.scheduler.update_from_output(
            output,
            ModelRunnerOutput(
                req_ids=names,
                req_id_to_index={name: index for index, name in enumerate(names)},
                sampled_token_ids=sampled,
                logprobs=None,
                prompt_logprobs_dict={},
                pooler_output=[],
                kv_connector_output=told,
            ),
        )
        return bool(counts)

    def _forward(self, counts: dict[str, int]) -> None:
        for name, count in counts.items():
            request = self.scheduler.requests[name]
            end = request.num_computed_tokens  # the scheduler has moved it past this step
            values = prefix_values(list(request.all_token_ids)[:end])
            (ids,) = self.scheduler.kv_cache_manager.get_block_ids(name)
            for position in range(end - count, end):
                for layer in range(LAYERS):
                    self._slot(layer, ids, position)[:] = self._values(layer, values[position])
            self._tokens[name] += count
            for position in range(end):
                for layer in range(LAYERS):
                    have = self._slot(layer, ids, position)
                    right = self._values(layer, values[position])
                    assert torch.equal(have, right), (name, position, layer)

    def _slot(self, layer: int, ids: list[int], position: int) -> Any:
        """Keys and values of a token."""
        block, offset = ids[position // BLOCK_TOKENS], position % BLOCK_TOKENS
        return self.pages[layer][block, :, offset]

    def _values(self, layer: int, prefix: bytes) -> Any:
        digest = torch.tensor([layer + byte for byte in prefix[:DIM]], dtype=torch.float16)
        return digest.repeat(2 * HEADS).reshape(2, HEADS, DIM)

    def run(self) -> None:
        for _ in range(20_000):
            if not self.scheduler.has_unfinished_requests():
                break
            if not self.step():
                self.connector.scheduler.link.client.wait(0.001)
                self.worker.worker.link.client.wait(0.001)
        assert not self.scheduler.has_unfinished_requests(), "requests that do not end"
        for _ in range(20_000):  # saves under way
            if not self.scheduler.requests:
                break
            self.step()
            self.worker.worker.link.client.wait(0.001)

    def close(self) -> None:
        assert not self.scheduler.requests
        pool = self.scheduler.kv_cache_manager.block_pool
        assert pool.get_num_free_blocks() == BLOCKS - 1  # one is the null block
        self.connector.shutdown()
        self.worker.shutdown()


@pytest.fixture
def engines(server: Server, tmp_path: Path) -> Iterator[list[Engine]]:
    made = [Engine(tmp_path, server.address) for _ in range(2)]
    for engine in made:
        engine.wait_until_open()
    yield made
    for engine in made:
        engine.close()


def test_one_engine_loads_what_another_has_stored(engines: list[Engine]) -> None:
    for number in range(4):
        engines[0].add(f"a{number}", [number, *PROMPT])
        engines[0].run()
    engines[1].add("b", [2, *PROMPT])
    engines[1].run()
    whole = len(PROMPT) // BLOCK_TOKENS * BLOCK_TOKENS
    assert engines[1]._tokens["b"] <= 1 + len(PROMPT) + 4 - whole


def test_many_requests_of_more_blocks_than_there_are(engines: list[Engine]) -> None:
    for engine in engines:
        for number in range(12):
            engine.add(f"r{number}", [number % 4, *PROMPT[: 60 + 10 * number]], output=40)
        engine.run()
    computed = [sum(engine._tokens.values()) for engine in engines]
    assert computed[1] < computed[0]


def test_a_request_that_is_aborted_leaves_nothing(engines: list[Engine]) -> None:
    from vllm.v1.request import RequestStatus

    for engine in engines:
        for number in range(6):
            engine.add(f"r{number}", [number, *PROMPT])
            for _ in range(number):
                engine.step()
            engine.scheduler.finish_requests(f"r{number}", RequestStatus.FINISHED_ABORTED)
        engine.run()
