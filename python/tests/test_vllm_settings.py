"""What is wrong with a configuration is said at the start, with the way out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from contract.config import kv_cache_config, vllm_config
from contract.model import FullAttentionSpec, GroupSpec, SlidingWindowSpec

from membrain.vllm import MembrainConnector
from membrain.vllm.interface import KVConnectorRole
from membrain.vllm.lookups import group_hashes
from membrain.vllm.plan import Handshake
from membrain.vllm.report import WorkerReport
from membrain.vllm.options import WrongSetting
from membrain.vllm.settings import Ranks, Settings, settings_of
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
    with pytest.raises(WrongSetting, match="min_hit_tokens must not be negative"):
        settings(min_hit_tokens=-1)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lookup_timeout", "0.5", "is a number, not '0.5'"),
        ("max_save_bytes", 1.5, "is a whole number, not 1.5"),
        ("lookup_timeout", 86_401, "at most a day"),
        ("load_timeout", 4_294_968.0, "at most a day"),
        ("hold_timeout", float("inf"), "at most a day"),
        ("hold_timeout", float("nan"), "must be positive"),
        ("min_hit_tokens", True, "is a whole number, not True"),
        ("events", "false", "is true or false, not 'false'"),
        ("server", 9201, "is a string, not 9201"),
        ("client", [2], "is an object, not"),
        ("server", "10.0.0.7", "not HOST:PORT"),
        ("server", "10.0.0.7:https", "not HOST:PORT"),
        ("client", {"copy_treads": 2}, "no such option of a client: copy_treads"),
        ("client", {"copy_threads": "2"}, "copy_threads cannot be '2'"),
        ("secret_file", "/nowhere/secret", "cannot be read .*MEMBRAIN_SECRET"),
    ],
)
def test_options_of_a_wrong_kind_are_refused_at_the_start(
    name: str, value: Any, words: str
) -> None:
    with pytest.raises(WrongSetting, match=words):
        settings(**{name: value})


def test_whole_numbers_will_do_for_numbers() -> None:
    assert settings(load_timeout=5).options.load_timeout == 5


def test_what_makes_the_same_models_cache_another_is_part_of_its_name() -> None:
    def name(overrides: Any = None, quantization: str | None = None) -> str:
        config = vllm_config(weights_version="7")
        config.model_config.hf_overrides = overrides
        config.model_config.quantization = quantization
        return str(settings_of(config, CACHES).fields["weights_version"])

    longer = {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}
    names = [name(), name({}, "fp8"), name(longer), name({"rope_theta": 1e6}), name(name)]
    assert names[0] == name({}) == "7" and len(set(names)) == len(names)
    assert name(dict(reversed(longer.items()))) == name(longer)


def model_in(folder: Path, weights: bytes, config: str = "{}") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config)
    (folder / "model-00001-of-00002.safetensors").write_bytes(bytes(300_000))
    (folder / "model-00002-of-00002.safetensors").write_bytes(weights)
    (folder / "README.md").write_text(str(folder))
    return str(folder)


def test_models_at_one_path_are_told_apart_by_their_files(tmp_path: Path) -> None:
    def name(path: str) -> str:
        return str(settings(model=path, weights_version="7").fields["weights_version"])

    base = bytes(3_000_000)
    first = name(model_in(tmp_path / "a", base))
    assert first == name(model_in(tmp_path / "b", base)), "as on another host"
    at = tmp_path / "a"
    tuned = [base[:-1] + b"x", b"x" + base[1:], base + b"x"]
    tuned.append(base[:1_500_000] + b"x" * 200_000 + base[1_700_000:])
    names = [name(model_in(at, weights)) for weights in tuned]
    names.append(name(model_in(at, base, '{"rope_theta": 1}')))
    assert len({first, *names}) == 1 + len(names)
    assert name(model_in(at, base)) == first
    assert name(str(at / "model-00002-of-00002.safetensors")) not in (first, "7"), "a file alone"
    assert name("an/organisation") == "7"
    weights = at / "model-00002-of-00002.safetensors"
    weights.unlink()
    weights.mkdir()  # no file
    assert name(str(at)) not in (first, "7")


def test_adapters_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    config = vllm_config()
    for adapters, count in ((None, 0), (SimpleNamespace(max_loras=1), 1)):
        config.lora_config = adapters
        MembrainConnector(config, KVConnectorRole.SCHEDULER, CACHES)
        assert caplog.text.count("told apart by their names alone") == count


class MambaSpec(SimpleNamespace):
    pass


class MLAAttentionSpec(SimpleNamespace):
    pass


class SlidingWindowMLASpec(SimpleNamespace):
    pass


class UniformTypeKVCacheSpecs(SimpleNamespace):
    pass


def test_what_it_cannot_do_is_refused() -> None:
    config = vllm_config()
    config.cache_config.enable_prefix_caching = False
    with pytest.raises(WrongSetting, match="prefix caching is off"):
        settings_of(config, CACHES)
    config = vllm_config()
    config.cache_config.calculate_kv_scales = True
    with pytest.raises(WrongSetting, match="remove --calculate-kv-scales"):
        settings_of(config, CACHES)
    config = vllm_config()
    config.parallel_config.decode_context_parallel_size = 2
    with pytest.raises(WrongSetting, match="context parallelism"):
        settings_of(config, CACHES)
    with pytest.raises(WrongSetting, match="spread evenly over 3 ranks"):
        settings(ranks=3, kv_heads=2)
    strange = kv_cache_config([GroupSpec(), GroupSpec()], 2, 16)
    strange.kv_cache_groups[1].kv_cache_spec = SimpleNamespace(block_size=4)
    with pytest.raises(WrongSetting, match="of SimpleNamespace are not supported"):
        settings_of(vllm_config(), strange)
    strange.kv_cache_groups[1].kv_cache_spec = MambaSpec(block_size=4)
    with pytest.raises(WrongSetting, match="of MambaSpec are not supported"):
        settings_of(vllm_config(ranks=4, kv_heads=2), strange)


def test_blocks_are_cut_by_heads_and_stages() -> None:
    eight = Ranks.of(8, 1, kv_heads=8, mla=False)
    assert [eight.part_of(rank) for rank in range(8)] == list(range(8))
    shared = Ranks.of(8, 2, kv_heads=4, mla=False)
    assert (shared.parts, shared.replicas) == (8, 2)
    assert [shared.part_of(rank) for rank in (0, 1, 2, 7, 8, 15)] == [0, 0, 1, 3, 4, 7]
    assert [shared.replica_of(rank) for rank in (0, 1, 2, 9)] == [0, 1, 0, 1]
    mla = Ranks.of(4, 1, kv_heads=1, mla=True)
    assert (mla.parts, [mla.replica_of(rank) for rank in range(4)]) == (1, [0, 1, 2, 3])


def parts(caches: Any, mla: bool = False, **changes: Any) -> int:
    config = vllm_config(ranks=4, kv_heads=2, mla=mla)
    for name, value in changes.items():
        setattr(config, name, value)
    return settings_of(config, caches).ranks.parts


def test_ranks_share_parts_only_where_all_layers_are_cut_alike() -> None:
    def caches(*specs: Any) -> Any:
        made = kv_cache_config([GroupSpec()] * len(specs), 1, 16)
        for group, spec in zip(made.kv_cache_groups, specs, strict=True):
            group.kv_cache_spec = spec
        return made

    def full(heads: int) -> Any:
        return FullAttentionSpec(block_size=4, num_kv_heads=heads, head_size=64)

    assert parts(caches(full(1))) == parts(caches(full(1), full(1))) == 2
    window = SlidingWindowSpec(block_size=4, num_kv_heads=1, head_size=64, sliding_window=9)
    assert parts(caches(full(1), window)) == 4, "there may be more heads in the windows"
    mla = MLAAttentionSpec(block_size=4)
    mla_window = SlidingWindowMLASpec(block_size=4, sliding_window=9)
    assert parts(caches(mla, mla_window), mla=True) == 1
    assert parts(caches(mla, full(1)), mla=True) == 4, "a draft without MLA"
    for inner, count in (({"a": full(1), "b": full(1)}, 2), ({"a": full(1), "b": full(2)}, 4)):
        uniform = UniformTypeKVCacheSpecs(block_size=4, kv_cache_specs=inner)
        assert parts(caches(uniform)) == count
    draft = SimpleNamespace(get_total_num_kv_heads=lambda: 8)
    speculative = SimpleNamespace(draft_model_config=draft)
    assert parts(caches(full(1)), speculative_config=speculative) == 4
    draft.get_total_num_kv_heads = lambda: 2
    assert parts(caches(full(1)), speculative_config=speculative) == 2


def test_blocks_of_several_sizes_are_named_by_the_last_hash_that_they_cover() -> None:
    caches = kv_cache_config([GroupSpec(), GroupSpec()], 1, 16)
    caches.kv_cache_groups[1].kv_cache_spec.block_size = 12
    found = settings_of(vllm_config(), caches)
    assert (found.hash_tokens, found.align_tokens) == (4, 12)
    hashes = [bytes([n]) for n in range(7)]
    small, large = found.groups
    assert group_hashes(small, 4, hashes) == hashes
    assert group_hashes(large, 4, hashes) == [b"\x02", b"\x05"]


def shake(found: Settings, layout: str) -> Handshake:
    return Handshake(tuple(found.space_of(group, layout) for group in found.groups))


def test_workers_that_share_nothing_are_refused() -> None:
    connector = MembrainConnector(vllm_config(ranks=2), KVConnectorRole.SCHEDULER, CACHES)
    found = connector.scheduler.settings
    with pytest.raises(WrongSetting, match="different layouts"):
        connector.set_xfer_handshake_metadata({0: shake(found, "a"), 1: shake(found, "b")})
    elsewhere = replace(found, fields={**found.fields, "hash_seed_fingerprint": "another"})
    with pytest.raises(WrongSetting, match="another PYTHONHASHSEED than the engine"):
        connector.set_xfer_handshake_metadata({0: shake(elsewhere, "a")})
    connector.shutdown()


def test_workers_that_say_it_later_are_not_believed_more(caplog: pytest.LogCaptureFixture) -> None:
    connector = MembrainConnector(vllm_config(ranks=2), KVConnectorRole.SCHEDULER, CACHES)
    connector.set_xfer_handshake_metadata({0: "of another connector", 1: "likewise"})
    found = connector.scheduler.settings
    first, second = (WorkerReport(shakes=frozenset({shake(found, name)})) for name in "ab")
    told = first.aggregate(second)
    connector.update_connector_output(
        SimpleNamespace(
            invalid_block_ids=None, finished_recving=None, kv_connector_worker_meta=told
        )
    )
    assert "The engine runs on without the cache" in caplog.text
    assert connector.scheduler.link.opened is None
    connector.shutdown()


def test_the_secret_comes_from_a_file_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("MEMBRAIN_SECRET", "of the environment")
    assert settings().options.secret() == "of the environment"
    file = tmp_path / "secret"
    file.write_text("of the file\n")
    found = settings(secret_file=str(file))
    assert found.options.secret() == "of the file" and "of the file" not in repr(found)


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
