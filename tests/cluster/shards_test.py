"""Shards over several servers: divided, moved, split and drained while an engine reads."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

from cluster_engine import Engine, hash_of
from cluster_house import ClusterHouse, ClusterTest, Server, main, wait_for
from membrain_process import PATIENCE
from network import Here

SHARDS = 4
BLOCKS = 200


class Reader(threading.Thread):
    """Fetches what it holds, again and again; counts what did not come."""

    def __init__(self, engine: Engine, match: Any) -> None:
        super().__init__()
        self._engine = engine
        self._match = match
        self._over = threading.Event()
        self.reads = 0
        self.failed = 0

    def run(self) -> None:
        while not self._over.is_set():
            came = self._engine.fetch(self._match, 0)
            self.reads += self._match.prefix
            self.failed += self._match.prefix - came

    def end(self) -> None:
        self._over.set()
        self.join(PATIENCE)


def stopped(pid: int) -> bool:
    """Every thread of the process: a signal's way to them takes a moment."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    states = [(one / "stat").read_text().rsplit(")", 1)[1].split()[0] for one in threads]
    return set(states) == {"T"}


class Shards(ClusterTest):
    def shard_house(self, servers: int) -> ClusterHouse:
        house = ClusterHouse()
        self.addCleanup(house.end)
        for number in range(servers):
            name = f"server{number}"
            words = ("--name", name, "--shards", str(SHARDS))
            house.servers.append(Server(house, name, Here(), *words))
        return house

    def ctl(self, house: ClusterHouse, *words: str) -> dict[str, Any]:
        command = [os.environ["MEMBRAIN_TEST_BINARY"], "ctl", "--json"]
        command += ["--etcd", house.members.urls]
        done = subprocess.run(
            [*command, *words], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return dict(json.loads(done.stdout))

    def leaders(self, house: ClusterHouse) -> dict[int, str]:
        return {one["shard"]: one["leader"] for one in self.ctl(house)["shards"]}

    def filled(self, house: ClusterHouse) -> Engine:
        house.node()
        engine = house.engine()
        wait_for("blocks are stored", lambda: engine.store(0, BLOCKS) == BLOCKS)
        self.assertTrue(engine.good_lookup(0, BLOCKS))
        return engine

    def test_no_read_fails_while_shards_are_moved_split_and_drained(self) -> None:
        house = self.shard_house(2)
        engine = self.filled(house)
        other = house.engine()
        reader = Reader(other, other.hold(0, BLOCKS))
        reader.start()
        self.addCleanup(reader.end)
        found = lambda: engine.good_lookup(0, BLOCKS)  # noqa: E731

        balanced = self.ctl(house, "rebalance")
        counts = [one["leader"] for one in balanced["shards"]]
        self.assertEqual(sorted(map(counts.count, ("server0", "server1"))), [2, 2])
        wait_for("all is found after the moves", found)

        split = self.ctl(house, "split", "1")
        self.assertEqual(len(split["shards"]), SHARDS + 1)
        self.assertEqual(split["map_version"], 2)
        wait_for("all is found after the split", found)

        drained = self.ctl(house, "drain", "server0")
        self.assertEqual({one["leader"] for one in drained["shards"]}, {"server1"})
        wait_for("all is found after the drain", found)

        moved = self.ctl(house, "move", "0", "server0")
        self.assertEqual(moved["shards"][0]["leader"], "server0")
        wait_for("all is found after the move", found)

        reader.end()
        self.assertGreater(reader.reads, 0)
        self.assertEqual(reader.failed, 0)
        # A session that has just begun may store in every shard at once.
        self.assertEqual(house.engine().store(BLOCKS, BLOCKS), BLOCKS)

    def test_a_dead_server_takes_no_shard_with_it(self) -> None:
        house = self.shard_house(3)
        engine = self.filled(house)
        self.ctl(house, "rebalance")
        wait_for("all is found", lambda: engine.good_lookup(0, BLOCKS))
        held = engine.hold(0, BLOCKS)
        house.servers[0].kill()
        self.assertEqual(engine.fetch(held, 0), BLOCKS, "what is pinned needs no server")
        wait_for("every shard is led", lambda: "server0" not in self.leaders(house).values())
        wait_for("all is found again", lambda: engine.good_lookup(0, BLOCKS))
        self.assertEqual(engine.fetch(held, 0), BLOCKS, "and is still there after it")

    def test_while_a_leader_is_stopped_the_blocks_of_other_shards_are_found(self) -> None:
        house = self.shard_house(2)
        engine = self.filled(house)
        self.ctl(house, "rebalance")
        wait_for("all is found", lambda: engine.good_lookup(0, BLOCKS))
        house.servers[0].stop()
        wait_for("it has stopped", lambda: stopped(house.servers[0].process.pid))
        hashes = [hash_of(number) for number in range(BLOCKS)]
        with engine.client.lookup(engine.space, hashes, rule="all", timeout=0.5) as match:
            there = sum(match.has(number) for number in range(BLOCKS))
        self.assertTrue(BLOCKS // 4 < there < 3 * BLOCKS // 4, f"{there} of {BLOCKS}")
        wait_for("the other server leads all", lambda: engine.good_lookup(0, BLOCKS))
        house.servers[0].go_on()
        wait_for("all is found", lambda: engine.good_lookup(0, BLOCKS))

    def test_a_lone_server_keeps_its_shards_across_restarts(self) -> None:
        house = self.shard_house(1)
        engine = self.filled(house)
        before = self.leaders(house)
        house.servers[0].kill()
        wait_for("the server is missed", lambda: not engine.good_lookup(0, BLOCKS))
        house.servers[0].start()
        wait_for("all is found again", lambda: engine.good_lookup(0, BLOCKS))
        self.assertEqual(self.leaders(house), before)

    def test_ctl_says_what_is_wrong(self) -> None:
        house = self.shard_house(1)
        binary = os.environ["MEMBRAIN_TEST_BINARY"]
        etcd = ["--etcd", house.members.urls]
        wrong: list[tuple[list[str], str]] = [
            (["move", "0"], "it is: membrain ctl move SHARD NAME"),
            ([], "--etcd is missing"),
            ([*etcd, "move", "9", "server0"], "there is no shard 9"),
            ([*etcd, "move", "0", "nobody"], "those are: server0"),
            ([*etcd, "split", "9"], "there is no such shard"),
            ([*etcd, "drain", "server0"], "nobody is left to lead"),
            ([*etcd, "split", "0", "rebalance"], "it is: membrain ctl split SHARD"),
            ([*etcd, "--cluster", "other"], "cannot be seen"),
        ]
        for words, said in wrong:
            done = subprocess.run(
                [binary, "ctl", *words], capture_output=True, text=True, check=False, timeout=60
            )
            self.assertNotEqual(done.returncode, 0, words)
            self.assertIn(said, done.stderr)


if __name__ == "__main__":
    main()
