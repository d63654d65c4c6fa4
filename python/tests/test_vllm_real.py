"""Where vLLM is installed: the connector is what vLLM takes it for."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

base: Any = pytest.importorskip(
    "vllm.distributed.kv_transfer.kv_connector.v1.base", reason="vLLM is not installed"
)

from membrain.vllm import MembrainConnector  # noqa: E402
from membrain.vllm.interface import HAVE_VLLM  # noqa: E402
from membrain.vllm.standalone import KVConnectorBase_V1 as Standalone  # noqa: E402


def test_it_is_a_connector_of_vllms() -> None:
    assert HAVE_VLLM
    assert issubclass(MembrainConnector, base.KVConnectorBase_V1)
    assert issubclass(MembrainConnector, base.SupportsHMA)
    assert not inspect.isabstract(MembrainConnector)
    assert "kv_cache_config" in inspect.signature(MembrainConnector.__init__).parameters


def test_its_methods_take_what_vllm_gives() -> None:
    for name, ours in inspect.getmembers(MembrainConnector, inspect.isfunction):
        theirs = getattr(base.KVConnectorBase_V1, name, None)
        if name.startswith("_") or theirs is None or not inspect.isfunction(theirs):
            continue
        wanted = list(inspect.signature(theirs).parameters)
        assert list(inspect.signature(ours).parameters) == wanted, name


def test_our_own_shape_asks_for_as_much_as_vllms() -> None:
    missing = base.KVConnectorBase_V1.__abstractmethods__ - Standalone.__abstractmethods__
    assert not missing, f"abstract in vLLM, unknown here: {missing}"
