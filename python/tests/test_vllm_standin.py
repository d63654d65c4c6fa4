"""What the connector asks of vLLM's own modules, with stand-ins that do what those of 2026 do."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from contract.config import kv_cache_config, vllm_config
from contract.model import GroupSpec

from membrain.vllm import MembrainConnector, events, hashing, interface
from membrain.vllm.interface import KVConnectorRole
from membrain.vllm.options import WrongSetting
from membrain.vllm.settings import Settings, settings_of

CACHES = kv_cache_config([GroupSpec()], 2, 16)


@dataclass
class BlockStored:
    """With fields that are asked for and were not before."""

    block_hashes: list[Any]
    parent_block_hash: Any
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    group_idx: int | None = None


class Factory:
    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def get_connector_class_by_name(self, name: str) -> str:
        if name not in self.known:
            raise ValueError(f"{name} is not registered")
        return self.known[name]

    def register_connector(self, name: str, module: str, of: str) -> None:
        assert name not in self.known
        self.known[name] = f"{module}.{of}"


class OneGroup:
    """A scheduler, up to 0.26."""

    def _update_requests_with_invalid_blocks(self, blocks: Any) -> Any:
        (req_block_ids,) = blocks
        return req_block_ids


class AllGroups:
    """A scheduler since."""

    def _update_requests_with_invalid_blocks(self, blocks: Any) -> Any:
        return [one for group in blocks for one in group]


class Vllm:
    """The modules, and what they were asked."""

    def __init__(self) -> None:
        self.hash_tokens = 4
        self.utils: Any = ModuleType("kv_cache_utils")
        self.utils.init_none_hash = self._init_none_hash
        self.utils.maybe_convert_block_hash = lambda name: int.from_bytes(name, "big")
        self.utils.resolve_kv_cache_block_sizes = lambda caches, config: (0, self.hash_tokens)
        self.group: Any = None
        self.factory = Factory()
        self.scheduler = SimpleNamespace(Scheduler=AllGroups)

    def _init_none_hash(self, hash_of: Any) -> None:
        seed = os.environ.get("PYTHONHASHSEED")
        self.utils.NONE_HASH = os.urandom(32) if seed is None else hash_of(seed)

    def modules(self) -> dict[str, Any]:
        transfer = {
            "has_kv_transfer_group": lambda: self.group is not None,
            "get_kv_transfer_group": lambda: self.group,
        }
        by_name = {
            "sha256": lambda value: hashlib.sha256(str(value).encode()).digest(),
            "sha256_cbor": lambda value: hashlib.sha256(repr(value).encode()).digest(),
        }
        return {
            "vllm": ModuleType("vllm"),
            hashing.UTILS: self.utils,
            "vllm.utils.hashing": SimpleNamespace(get_hash_fn_by_name=by_name.__getitem__),
            interface.SCHEDULER: self.scheduler,
            interface.KV_TRANSFER: SimpleNamespace(**transfer),
            f"{interface.KV_TRANSFER}.kv_connector.factory": SimpleNamespace(
                KVConnectorFactory=self.factory
            ),
        }


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Vllm:
    made = Vllm()
    for name, module in made.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    for one in (hashing, interface, events):
        monkeypatch.setattr(one, "HAVE_VLLM", True)
    monkeypatch.setattr(events, "BlockStored", BlockStored)
    events._newer_fields.cache_clear()
    return made


@pytest.fixture(autouse=True)
def no_trace() -> Any:
    yield
    events._newer_fields.cache_clear()


def seed_of(found: Settings) -> str:
    return str(found.fields["hash_seed_fingerprint"])


def test_processes_of_one_seed_agree_before_vllm_has_used_it(
    vllm: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    found = settings_of(vllm_config(), CACHES)
    assert not hasattr(vllm.utils, "NONE_HASH"), "it is put back"
    vllm.utils.NONE_HASH = b"of a running engine"
    assert settings_of(vllm_config(), CACHES, schedules=False).fields == found.fields
    assert vllm.utils.NONE_HASH == b"of a running engine"
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    assert seed_of(settings_of(vllm_config(), CACHES)) != seed_of(found)


def test_without_a_seed_an_engine_is_told_that_it_shares_nothing(
    vllm: Vllm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    connector = MembrainConnector(vllm_config(), KVConnectorRole.SCHEDULER, CACHES)
    assert caplog.text.count("PYTHONHASHSEED=0 vllm serve") == 1
    worker = MembrainConnector(vllm_config(), KVConnectorRole.WORKER, CACHES)
    assert worker.worker.settings.fields == connector.scheduler.settings.fields
    config = vllm_config()
    config.kv_transfer_config.engine_id = "another"
    assert seed_of(settings_of(config, CACHES)) != seed_of(connector.scheduler.settings)


def test_a_vllm_with_a_fixed_first_value_needs_no_seed(
    vllm: Vllm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)

    def fixed(hash_of: Any) -> None:
        vllm.utils.NONE_HASH = hash_of("vllm")

    vllm.utils.init_none_hash = fixed
    MembrainConnector(vllm_config(), KVConnectorRole.SCHEDULER, CACHES)
    assert "PYTHONHASHSEED" not in caplog.text


def test_vllm_says_how_many_tokens_a_hash_covers(vllm: Vllm) -> None:
    vllm.hash_tokens = 2
    assert settings_of(vllm_config(), CACHES).hash_tokens == 2
    vllm.hash_tokens = 8  # more than a block
    with pytest.raises(WrongSetting, match="no multiple of the 8 tokens"):
        settings_of(vllm_config(), CACHES)
    assert settings_of(vllm_config(), CACHES, schedules=False).groups


def test_nothing_is_loaded_where_a_failed_load_ends_the_engine(
    vllm: Vllm, caplog: pytest.LogCaptureFixture
) -> None:
    several = kv_cache_config([GroupSpec(), GroupSpec(window_tokens=9)], 2, 16)
    assert settings_of(vllm_config(), several).loads
    vllm.scheduler.Scheduler = OneGroup
    assert settings_of(vllm_config(), CACHES).loads, "it has but one group"
    found = MembrainConnector(vllm_config(), KVConnectorRole.SCHEDULER, several).scheduler.settings
    assert found.saves and not found.loads
    assert "vLLM after 0.26" in caplog.text
    vllm.scheduler.Scheduler = SimpleNamespace()  # it has another name there
    assert not settings_of(vllm_config(), several).loads


class OlderBase:
    def handle_preemptions(self, preempted_req_ids: set[str]) -> None: ...


def test_a_vllm_that_does_not_say_what_a_preemption_overwrites_is_refused(
    vllm: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "KVConnectorBase_V1", OlderBase)
    with pytest.raises(WrongSetting, match="May 2026 or later"):
        settings_of(vllm_config(), CACHES)


def test_events_have_what_this_vllm_asks_for(vllm: Vllm) -> None:
    event = events.stored_event(b"\x01\x02", 3, 16)
    assert event == BlockStored([0x102], None, [], 16, None, "MEMBRAIN", None, 3)


def test_a_handshake_is_only_given_where_it_comes_back(vllm: Vllm) -> None:
    worker = MembrainConnector(vllm_config(), KVConnectorRole.WORKER, CACHES)
    assert interface.is_engines_own(worker), "there is no group yet"
    vllm.group = "a MultiConnector"
    assert worker.get_handshake_metadata() is None
    vllm.group = worker
    assert interface.is_engines_own(worker)


def test_it_is_known_by_name_once(vllm: Vllm) -> None:
    for _ in range(2):
        interface.make_known(MembrainConnector)
    assert vllm.factory.known == {
        "MembrainConnector": "membrain.vllm.connector.MembrainConnector"
    }
