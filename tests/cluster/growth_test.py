"""Servers and nodes that join and leave while engines look up and fetch afresh all the time. Every
process has a host of its own (network.py)."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from cluster_engine import FarEngine
from cluster_house import ClusterHouse, NetworkTest, Server, main, tell, wait_for
from membrain_process import PATIENCE, run

SHARDS = 4
BLOCKS = 100
FOUND_AGAIN = 1.0  # seconds after a change of who leads what
SLACK = 2.0  # of two busy processors


class Reader(threading.Thread):
    """Looks all blocks up and fetches what is found, again and again, by an engine of its own.
    Blocks may be missed; what is found must come, and be right."""

    def __init__(self, engine: FarEngine) -> None:
        super().__init__()
        self._engine = engine
        self._over = threading.Event()
        self._last = time.monotonic()
        self._gap = 0.0
        self.lookups = self.short = self.blocks = self.failed = 0
        self.why: Counter[str] = Counter()
        self.wrong = ""

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._read()
        except Exception as error:  # noqa: BLE001: whoever ends this asks for it
            self.wrong = repr(error)

    def _read(self) -> None:
        told = self._engine.call("read_afresh", 0, BLOCKS)
        self.lookups += 1
        self.blocks += told["ok"]
        if told["found"] > told["ok"]:
            self.failed += told["found"] - told["ok"]
            self.why.update(told["why"])
        if told["found"] < BLOCKS:
            self.short += 1
        else:
            now = time.monotonic()
            self._gap = max(self._gap, now - self._last)
            self._last = now

    def longest_gap(self) -> float:
        """Seconds between two lookups that found all, since this was asked last."""
        gap, self._gap = max(self._gap, time.monotonic() - self._last), 0.0
        return gap

    def end(self) -> None:
        self._over.set()
        self.join(PATIENCE)


class Growth(NetworkTest):
    def begun(self, servers: int, *words: str) -> tuple[ClusterHouse, Reader]:
        """So many servers that lead as many shards each, two nodes, the first with these words,
        and one who reads."""
        house = self.house(members=3, servers=0)
        for _ in range(servers):
            self.add_server(house)
        self.ctl(house, "rebalance")
        house.node("32MiB", *words)
        house.node("32MiB")
        engine = house.far_engine()
        wait_for("blocks are stored", lambda: engine.store(0, BLOCKS) == BLOCKS)
        wait_for("all are found", lambda: engine.good_lookup(0, BLOCKS))
        reader = Reader(house.far_engine())
        reader.start()
        self.addCleanup(reader.end)
        wait_for("it reads", lambda: reader.lookups > 2)
        reader.longest_gap()
        return house, reader

    @staticmethod
    def add_server(house: ClusterHouse) -> Server:
        name = f"server{len(house.servers)}"
        place = house.server_hosts()[len(house.servers)]
        server = Server(house, name, place, "--name", name, "--shards", str(SHARDS))
        house.servers.append(server)
        return server

    def ctl(self, house: ClusterHouse, *words: str) -> dict[str, Any]:
        etcd = ["--etcd", house.members.urls]
        at = house.servers[0].place.at
        status, out, err = run("ctl", "--json", *etcd, *words, at=at)
        self.assertEqual(status, 0, err)
        return dict(json.loads(out))

    def leaders(self, house: ClusterHouse) -> list[str]:
        return sorted(one["leader"] for one in self.ctl(house)["shards"])

    def change(self, what: str, reader: Reader, act: Callable[[], Any]) -> float:
        """Seconds for which somebody who asks all the time did not find all, while that was
        done and until all was found again."""
        before, short = reader.lookups, reader.short
        act()
        done = reader.lookups
        wait_for("reads after it", lambda: reader.wrong or reader.lookups > done + 3)
        wait_for("all is found", lambda: reader.wrong or self.found_all(reader))
        self.assertEqual(reader.wrong, "")
        gap = reader.longest_gap()
        lookups = reader.lookups - before
        tell(change=what, gap_s=round(gap, 3), lookups=lookups, not_all=reader.short - short)
        return gap

    @staticmethod
    def found_all(reader: Reader) -> bool:
        lookups, short = reader.lookups, reader.short
        wait_for("two more", lambda: reader.wrong or reader.lookups > lookups + 2)
        return reader.short == short

    def no_read_failed(self, reader: Reader) -> None:
        reader.end()
        self.assertEqual(reader.wrong, "")
        self.assertEqual((reader.failed, reader.why), (0, {}), "what is found comes")
        tell(lookups=reader.lookups, not_all=reader.short, blocks_read=reader.blocks)

    def test_a_server_that_joins_takes_shards_and_no_read_fails(self) -> None:
        house, reader = self.begun(servers=1)
        self.change("a server joins", reader, lambda: self.add_server(house))
        self.assertEqual(self.leaders(house), ["server0"] * SHARDS, "until it is told to")
        gap = self.change("shards are rebalanced", reader, lambda: self.ctl(house, "rebalance"))
        self.assertEqual(self.leaders(house), ["server0"] * 2 + ["server1"] * 2)
        self.assertLess(gap, FOUND_AGAIN + SLACK)
        self.no_read_failed(reader)

    def test_a_server_that_is_drained_and_goes_fails_no_read(self) -> None:
        house, reader = self.begun(servers=2)
        server = house.servers[0]
        gap = self.change("it is drained", reader, lambda: self.ctl(house, "drain", server.name))
        self.assertLess(gap, FOUND_AGAIN + SLACK)
        gap = self.change("it goes", reader, server.process.end)
        self.assertEqual(self.leaders(house), ["server1"] * SHARDS)
        self.assertLess(gap, FOUND_AGAIN + SLACK)
        self.no_read_failed(reader)

    def test_nodes_that_join_and_leave_fail_no_read_and_hide_no_block(self) -> None:
        house, reader = self.begun(1, "--drain", "30s")
        leaver = house.nodes[0]
        gap = self.change("a node joins", reader, lambda: house.node("32MiB"))
        self.assertLess(gap, FOUND_AGAIN + SLACK)

        def leave() -> None:
            leaver.process.send(signal.SIGTERM)
            self.assertEqual(leaver.process.wait(), 0)

        gap = self.change("a node is drained and goes", reader, leave)
        self.assertIn("drained", leaver.said())
        self.assertLess(gap, FOUND_AGAIN + SLACK)
        self.assertEqual(reader.short, 0, "nobody leads anew")
        self.no_read_failed(reader)


if __name__ == "__main__":
    main()
