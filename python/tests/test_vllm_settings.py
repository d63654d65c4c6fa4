"""What is wrong with a configuration is said at the start, with the way out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from contract.config import kv_cache_config, vllm_config
from contract.model import GroupSpec

from membrain.vllm import MembrainConnector
from membrain.vllm.interface import KVConnectorRole
from membrain.vllm.lookups import group_hashes
from membrain.vllm.plan import Handshake
from membrain.vllm.settings import Ranks, Settings, WrongSetting, settings_of
from membrain.vllm.stats import MembrainStats

CACHES = kv_cache_config([GroupSpec()], 2, 16)


def settings(**changes: Any) -> Settings:
    return settings_of(vllm_config(**changes), CACHES)


def test_a_load_failure_must_not_end_the_request() -> None:
    with pytest.raises(ValueError, match='"kv_load_failure_policy": "recompute"'):
        settings(policy="fail")
    assert settings(policy="fail", allow_fail_policy=True).loads


def test_the_old_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_USE_V1", "0")
    with pytest.raises(WrongSetting, match="Unset it"):
        settings()


def test_options_that_do_not_exist_are_named_with_those_that_do() -> None:
    with pytest.raises(WrongSetting, match="has sever, .*there are: .*server"):
        settings(sever="here")
    with pytest.raises(WrongSetting, match="load_timeout must be positive"):
        settings(load_timeout=0)


def test_what_it_cannot_do_is_refused() -> None:
    config = vllm_config()
    config.cache_config.enable_prefix_caching = False
    with pytest.raises(WrongSetting, match="prefix caching is off"):
        settings_of(config, CACHES)
    config = vllm_config()
    config.parallel_config.decode_context_parallel_size = 2
    with pytest.raises(WrongSetting, match="context parallelism"):
        settings_of(config, CACHES)
    with pytest.raises(WrongSetting, match="spread evenly over 3 ranks"):
        settings(ranks=3, kv_heads=2)
    strange = kv_cache_config([GroupSpec()], 2, 16)
    strange.kv_cache_groups[0].kv_cache_spec = SimpleNamespace(block_size=4)
    with pytest.raises(WrongSetting, match="of SimpleNamespace are not supported"):
        settings_of(vllm_config(), strange)


def test_blocks_are_cut_by_heads_and_stages() -> None:
    eight = Ranks.of(8, 1, kv_heads=8, mla=False)
    assert [eight.part_of(rank) for rank in range(8)] == list(range(8))
    shared = Ranks.of(8, 2, kv_heads=4, mla=False)
    assert (shared.parts, shared.replicas) == (8, 2)
    assert [shared.part_of(rank) for rank in (0, 1, 2, 7, 8, 15)] == [0, 0, 1, 3, 4, 7]
    assert [shared.replica_of(rank) for rank in (0, 1, 2, 9)] == [0, 1, 0, 1]
    mla = Ranks.of(4, 1, kv_heads=1, mla=True)
    assert (mla.parts, [mla.replica_of(rank) for rank in range(4)]) == (1, [0, 1, 2, 3])


def test_blocks_of_several_sizes_are_named_by_the_last_hash_that_they_cover() -> None:
    caches = kv_cache_config([GroupSpec(), GroupSpec()], 1, 16)
    caches.kv_cache_groups[1].kv_cache_spec.block_size = 12
    found = settings_of(vllm_config(), caches)
    assert (found.hash_tokens, found.align_tokens) == (4, 12)
    hashes = [bytes([n]) for n in range(7)]
    small, large = found.groups
    assert group_hashes(small, 4, hashes) == hashes
    assert group_hashes(large, 4, hashes) == [b"\x02", b"\x05"]


def test_workers_of_different_layouts_are_refused() -> None:
    connector = MembrainConnector(vllm_config(ranks=2), KVConnectorRole.SCHEDULER, CACHES)
    with pytest.raises(WrongSetting, match="different layouts"):
        connector.set_xfer_handshake_metadata({0: Handshake(("a",)), 1: Handshake(("b",))})
    with pytest.raises(WrongSetting, match="did not say"):
        connector.set_xfer_handshake_metadata({})
    connector.shutdown()


def test_the_secret_comes_from_a_file_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("MEMBRAIN_SECRET", "of the environment")
    assert settings().secret() == "of the environment"
    file = tmp_path / "secret"
    file.write_text("of the file\n")
    found = settings(secret_file=str(file))
    assert found.secret() == "of the file" and "of the file" not in repr(found)


class Metric:
    """As much of prometheus_client.Counter as is used."""

    made: dict[str, Metric] = {}

    def __init__(self, name: str, documentation: str, labelnames: list[str]) -> None:
        self.value = 0
        Metric.made[name] = self

    def labels(self, *_: object) -> Metric:
        return self

    def inc(self, count: int) -> None:
        self.value += count


class Counter:
    """prometheus_client's name for it."""


def test_stats_add_up_and_reach_prometheus() -> None:
    one = MembrainConnector.build_kv_connector_stats({"lookups": 2, "hit_tokens": 32})
    other = MembrainStats(data={"lookups": 1})
    assert one is not None
    total = one.aggregate(other)
    assert total.reduce() == {"lookups": 3, "hit_tokens": 32} and not total.is_empty()
    prom = MembrainConnector.build_prom_metrics(
        vllm_config(), {Counter: Metric}, ["engine"], {0: ["0"]}
    )
    prom.observe(total.data)
    prom.observe(total.data)
    assert Metric.made["vllm:membrain_lookups"].value == 6
    total.reset()
    assert total.is_empty()
