"""The connector on a simulated cluster: no thread, no clock."""

from __future__ import annotations

from typing import Any

from contract.fake_cluster import FakeClient, FakeCluster
from membrain.vllm import MembrainConnector
from membrain.vllm.link import Link, Opened
from membrain.vllm.settings import Settings


class SimulatedLink(Link):
    """Opens when it is looked at."""

    def reopen(self) -> None:
        self._opened = None

    @property
    def opened(self) -> Opened | None:
        if self._opened is None and self._spaces:
            self.attempt()
        return self._opened


def connector_on(cluster: FakeCluster) -> type[MembrainConnector]:
    class SimulatedConnector(MembrainConnector):
        clock = staticmethod(cluster.now)

        def _link(self, settings: Settings, who: str) -> Link:
            def connect(*_: Any) -> Any:
                return FakeClient(cluster)

            return SimulatedLink(settings, who, connect)

    return SimulatedConnector
