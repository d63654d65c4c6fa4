"""The connector's way to the cluster: opened when it can be, and again when it must be."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from contract.config import kv_cache_config, vllm_config
from contract.model import GroupSpec

from membrain.errors import InvalidArgument, Unavailable
from membrain.vllm import link
from membrain.vllm.link import Link
from membrain.vllm.settings import settings_of

SETTINGS = settings_of(vllm_config(), kv_cache_config([GroupSpec()], 1, 16))
SPACES = [SETTINGS.space_of(SETTINGS.groups[0], "layout")]


class Cluster:
    """Opens namespaces, after some refusals."""

    def __init__(self, refusals: int = 0, other_seed: bool = False) -> None:
        self.refusals = refusals
        self.opens = 0
        self.other_seed = other_seed
        self.sync = self

    def connect(self, *_: Any) -> Cluster:
        if self.refusals > 0:
            self.refusals -= 1
            raise Unavailable("nobody listens there")
        return self

    def open_namespace(self, **_: Any) -> Any:
        self.opens += 1
        return SimpleNamespace(id=self.opens, other_seed=self.other_seed)


def wait_for(made: Link) -> None:
    while (thread := made._thread) is not None:  # it ends when there is nothing to open
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FIRST_PAUSE", 0.001)


def test_it_is_tried_until_there_is_somebody(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(refusals=3)
    made = Link(SETTINGS, "engine", cluster.connect)
    assert made.opened is None
    made.start(SPACES)
    wait_for(made)
    assert made.opened is not None and made.opened.spaces[0].id == 1
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "membrain server --with-node" in warnings[0].getMessage()
    assert made.close() is cluster and made.opened is None


def test_what_is_wanted_again_while_it_is_opened_is_opened_again() -> None:
    class Meanwhile(Link):
        def attempt(self) -> bool:
            done = super().attempt()
            if cluster.opens == 1:
                self.reopen()  # by another thread, just before this one ends
            return done

    cluster = Cluster()
    made = Meanwhile(SETTINGS, "engine", cluster.connect)
    made.start(SPACES)
    wait_for(made)
    assert cluster.opens == 2 and made.opened is not None and made.opened.spaces[0].id == 2
    made.close()


def test_many_may_want_it_again_and_one_thread_opens() -> None:
    cluster = Cluster()
    made = Link(SETTINGS, "engine", cluster.connect)
    made.start(SPACES)
    threads = [threading.Thread(target=made.reopen) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(made)
    assert made.opened is not None and made.opened.spaces[0].id == cluster.opens
    made.close()
    made.reopen()
    assert made.opened is None, "closed is closed"


def test_another_hash_seed_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    made = Link(SETTINGS, "engine", Cluster(other_seed=True).connect)
    made.start(SPACES)
    wait_for(made)
    assert "PYTHONHASHSEED" in caplog.text
    made.close()


def test_what_the_client_refuses_is_not_blamed_on_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = []

    def connect(*_: Any) -> Cluster:
        calls.append(1)
        if len(calls) == 1:
            raise InvalidArgument("copy_threads is above 64")
        return Cluster()

    made = Link(SETTINGS, "engine", connect)
    made.start(SPACES)
    wait_for(made)
    assert "correct kv_connector_extra_config" in caplog.text
    assert "membrain server" not in caplog.text
    made.close()
