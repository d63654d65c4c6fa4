"""Blocks that are to be on two nodes: what is lost or spoiled is copied again from where else it
is. Every process has a host of its own (network.py)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from cluster_engine import BLOCK_BYTES, FarEngine
from cluster_house import SECRET, ClusterHouse, NetworkTest, main, tell, wait_for
from membrain_process import clean_environment, run

COUNT = 40  # blocks
COPIES = 2  # of each
BURST = 0.25  # seconds' worth of bytes that may be copied at once
REPAIRED = 3.0  # seconds after there is a node for it, beside what the bytes take
SLACK = 2.0  # of two busy processors
BANDWIDTH = 512 * 1024  # bytes a second


def status(house: ClusterHouse) -> dict[str, int]:
    """As `membrain status` shows it."""
    server = house.servers[0]
    secret = clean_environment(MEMBRAIN_SECRET=SECRET)
    words = ["status", "--json", "--server", server.address]
    code, out, err = run(*words, at=server.place.at, env=secret)
    assert code == 0, err
    told: dict[str, int] = json.loads(out)
    return told


class Replicas(NetworkTest):
    def begun(self, zones: Sequence[str], *words: str) -> tuple[ClusterHouse, FarEngine]:
        """A node in each of these zones, and an engine that has stored `COUNT` blocks."""
        # Copies are made for their own sake alone, and not because tests look at them.
        always = ["--replicas", str(COPIES), "--hot-lookups", "0"]
        house = self.house(words=[*always, *words])
        for zone in zones:
            house.node("16MiB", "--zone", zone)
        engine = house.far_engine()
        wait_for("all nodes", lambda: engine.stats()["nodes"] == len(zones))
        wait_for("a node that stores", lambda: engine.store(0, COUNT) == COUNT)
        return house, engine

    def filled(self, zones: Sequence[str], *words: str) -> tuple[ClusterHouse, FarEngine]:
        """The same, once every block is on two nodes."""
        house, engine = self.begun(zones, *words)
        self.wait_for_copies(engine)
        return house, engine

    def wait_for_copies(self, engine: FarEngine) -> None:
        wait_for("two replicas of each", lambda: engine.stats()["degraded_blocks"] == 0)
        self.assertEqual(engine.stats()["replicas"], COPIES * COUNT)

    def test_of_a_killed_node_are_read_elsewhere_at_once_and_made_anew(self) -> None:
        house, engine = self.filled(["here", "here"])
        kept = engine.call("keep", 0, COUNT)
        house.nodes[0].kill()
        began = time.monotonic()
        told = engine.call("fetch_kept", kept, 0)
        self.assertEqual(told["ok"], COUNT, "each is on the other node")
        self.assertTrue(engine.good_lookup(0, COUNT))
        read = time.monotonic() - began
        wait_for("its end", lambda: engine.stats()["degraded_blocks"] == COUNT)
        gone = time.monotonic() - began
        self.assertEqual(status(house)["degraded_blocks"], COUNT)
        self.assertTrue(engine.good_lookup(0, COUNT))
        house.node("16MiB", "--zone", "here")
        joined = time.monotonic()
        self.wait_for_copies(engine)
        copied = time.monotonic() - joined
        tell(kill_to_read_s=read, kill_to_gone_s=gone, join_to_copied_s=copied, first=told)
        self.assertLess(read, 1.0 + SLACK)
        self.assertLess(gone, 1.0)
        self.assertLess(copied, REPAIRED + SLACK)
        self.assertEqual(status(house)["degraded_blocks"], 0)
        house.nodes[1].kill()
        self.assertTrue(engine.good_lookup(0, COUNT), "the third node has them all")

    def test_that_are_corrupt_cost_no_read_and_are_replaced(self) -> None:
        house, engine = self.filled(["here", "here", "here"])
        victim = str(house.nodes[0].arena)
        spoiled = engine.call("lying_in", victim, list(range(COUNT)))
        self.assertLess(0, len(spoiled))
        self.assertLess(len(spoiled), COUNT)
        self.assertEqual(engine.call("flip", victim, spoiled), len(spoiled))
        began, reads = time.monotonic(), 0
        while engine.stats()["corrupt"] < len(spoiled):
            self.assertTrue(engine.good_lookup(0, COUNT), "the other replica is read instead")
            self.assertLess(time.monotonic() - began, 10.0 + SLACK)
            reads += 1
        found = time.monotonic() - began
        self.wait_for_copies(engine)
        replaced = time.monotonic() - began - found
        tell(spoiled=len(spoiled), reads=reads, found_s=found, found_to_replaced_s=replaced)
        self.assertLess(replaced, REPAIRED + SLACK)
        for sound in house.nodes[1:]:
            there = engine.call("lying_in", str(sound.arena), spoiled)
            self.assertEqual(there, spoiled, "where the memory is in no doubt")
        house.nodes[1].kill()
        self.assertTrue(engine.good_lookup(0, COUNT))

    def test_are_in_both_zones_and_one_may_go_dark(self) -> None:
        zones = ["east", "east", "west", "west"]
        house, engine = self.filled(zones, "--zone-rule", "spread")
        there: dict[str, set[int]] = {"east": set(), "west": set()}
        for zone, node in zip(zones, house.nodes, strict=True):
            there[zone] |= set(engine.call("lying_in", str(node.arena), list(range(COUNT))))
        tell(east=len(there["east"]), west=len(there["west"]))
        self.assertEqual(there, {zone: set(range(COUNT)) for zone in there})
        for node in house.nodes[:2]:
            node.kill()
        began = time.monotonic()
        self.assertTrue(engine.good_lookup(0, COUNT))
        read = time.monotonic() - began
        wait_for("their end", lambda: engine.stats()["nodes"] == 2)
        self.wait_for_copies(engine)
        copied = time.monotonic() - began
        tell(kill_to_read_s=read, kill_to_copied_s=copied)
        self.assertLess(read, 1.0 + SLACK)
        self.assertLess(copied, 1.0 + REPAIRED + SLACK, "in one zone, for want of another")

    def test_are_made_no_faster_than_the_bandwidth_for_it(self) -> None:
        house, engine = self.begun(["here"], "--repair-bandwidth", str(BANDWIDTH))
        self.assertEqual(engine.stats()["degraded_blocks"], COUNT)
        began, reads = time.monotonic(), 0
        house.node("16MiB", "--zone", "here")
        while engine.stats()["degraded_blocks"] > 0:
            self.assertTrue(engine.good_lookup(0, COUNT))
            reads += 1
        took = time.monotonic() - began
        # The last one begins as soon as all before it are paid for.
        least = (COUNT - 1) * BLOCK_BYTES / BANDWIDTH - BURST
        tell(seconds=took, least_s=least, reads=reads)
        self.assertEqual(engine.stats()["bytes_copied"], COUNT * BLOCK_BYTES)
        self.assertGreaterEqual(took, least)
        self.assertLess(took, least + BURST + REPAIRED + SLACK)


if __name__ == "__main__":
    main()
