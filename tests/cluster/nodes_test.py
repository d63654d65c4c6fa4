"""What happens to blocks when nodes and engines die, come back, starve, or find bits flipped. Every
process has a host of its own (network.py)."""

from __future__ import annotations

import os
import signal
import time

from cluster_engine import BLOCK_BYTES, FarEngine
from cluster_house import ClusterHouse, NetworkTest, Node, Server, main, tell, wait_for
from limits import CpuLimit
from network import Host

COUNT = 40  # blocks
SESSION_TTL = 10.0  # seconds, the server's
SLACK = 2.0  # of two busy processors
AT_ONCE = 4  # clients that die
DEATHS = int(os.environ.get("MEMBRAIN_CLUSTER_DEATHS", "20"))  # of clients; 10,000 once a release


def filled(house: ClusterHouse, nodes: int = 2) -> FarEngine:
    """An engine that has stored `COUNT` blocks on so many more nodes, and finds them."""
    for _ in range(nodes):
        house.node()
    engine = house.far_engine()
    wait_for("all nodes", lambda: engine.stats()["nodes"] == len(house.nodes))
    wait_for("a node that stores", lambda: engine.store(0, COUNT) == COUNT)
    assert engine.good_lookup(0, COUNT)
    return engine


def host_of(one: FarEngine | Node | Server) -> Host:
    assert isinstance(one.place, Host)
    return one.place


class NodeIsKilled(NetworkTest):
    def test_amid_a_read_it_costs_its_own_blocks_and_leaves_all_answers(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house)
        other = house.far_engine()
        self.assertTrue(other.good_lookup(0, COUNT))
        victim, reader = house.nodes[0], host_of(engine)
        assert house.network is not None
        kept = engine.call("keep", 0, COUNT)
        host, sent = host_of(victim), host_of(victim).sent_bytes()
        house.network.receive_at(reader, "10mbit")  # two seconds for all
        engine.begin("fetch_kept", kept, 0, 10.0)
        wait_for("bytes on the wire", lambda: host.sent_bytes() - sent > 3 * BLOCK_BYTES)
        victim.kill()
        began = time.monotonic()
        wait_for("its end", lambda: other.call("found", 0, COUNT) < COUNT)
        gone = time.monotonic() - began
        told = engine.answer()
        left = other.call("found", 0, COUNT)
        tell(fetched=told["ok"], why=told["why"], seconds=told["seconds"], left=left, gone_s=gone)
        self.assertLess(gone, 1.0)
        self.assertLess(told["seconds"], 3.0 + SLACK, "nobody waits for the deadline")
        self.assertLess(told["ok"], COUNT)
        self.assertGreaterEqual(told["ok"], left, "the other node's blocks came")
        self.assertEqual(other.store(0, COUNT), COUNT)
        self.assertTrue(other.good_lookup(0, COUNT))

    def test_amid_a_write_nothing_torn_is_kept(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house, nodes=1)
        node = house.nodes[0]
        writer = host_of(engine)
        writer.send_at("20mbit")
        sent = writer.sent_bytes()
        engine.begin("store_each", 1000, COUNT, 10.0)
        wait_for("bytes on the wire", lambda: writer.sent_bytes() - sent > 20 * BLOCK_BYTES)
        node.kill()
        told = engine.answer()
        writer.send_at("10gbit")
        self.assertLess(told["ok"], COUNT)
        node.start()
        wait_for("what was kept before", lambda: engine.good_lookup(0, COUNT))
        here = engine.call("found", 1000, COUNT)
        tell(stored=told["ok"], why=told["why"], here_after_restart=here)
        self.assertGreaterEqual(here, told["ok"], "what was acknowledged is here")
        self.assertEqual(engine.call("right", 1000, COUNT), here)
        self.assertEqual(engine.store(1000, COUNT), COUNT)
        self.assertTrue(engine.good_lookup(1000, COUNT))


class NodeRestarts(NetworkTest):
    def test_locations_of_its_former_life_bring_the_right_bytes_or_none(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house, nodes=1)
        node = house.nodes[0]
        for _ in range(3):
            kept = engine.call("keep", 0, COUNT)
            node.kill()
            began = time.monotonic()
            node.start()
            told = engine.call("fetch_kept", kept, 0, 2.0)
            wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))
            tell(stale=told["why"], start_to_good_lookup_s=time.monotonic() - began)
            engine.call("release", kept)

    def test_bits_that_flipped_meanwhile_cost_their_block_alone(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house, nodes=1)
        node = house.nodes[0]
        node.kill()
        flipped = engine.call("flip", str(node.arena), [3, 17])
        self.assertEqual(flipped, 2)
        node.start()
        wait_for("the others", lambda: engine.call("found", 0, COUNT) == COUNT - 2)
        self.assertEqual(engine.call("right", 0, COUNT), COUNT - 2)


class NodeLeaves(NetworkTest):
    """A node that is told to stop, with --drain."""

    def leaving(self, drain: str, others: int) -> tuple[ClusterHouse, FarEngine]:
        house = self.house()
        house.node("64MiB", "--drain", drain)
        return house, filled(house, others)

    def test_under_load_it_costs_no_read_and_no_block(self) -> None:
        house, engine = self.leaving("30s", others=2)
        leaver = house.nodes[0]
        self.assertGreater(engine.stats()["nodes"], 2)
        kept = engine.call("keep", 0, COUNT)
        leaver.process.send(signal.SIGTERM)
        began, lookups = time.monotonic(), 0
        while leaver.process.running():
            leaver.process.read(0)
            self.assertTrue(engine.good_lookup(0, COUNT))
            self.assertLess(time.monotonic() - began, 30 + SLACK)
            lookups += 1
            if lookups == 1:
                self.assertEqual(engine.call("fetch_kept", kept, 0)["ok"], COUNT)
        took = time.monotonic() - began
        self.assertEqual(leaver.process.wait(), 0)
        self.assertIn("drained", leaver.said())
        wait_for("its end", lambda: engine.stats()["nodes"] == 2)
        tell(lookups=lookups, seconds=took)
        self.assertEqual(engine.call("found", 0, COUNT), COUNT)
        self.assertTrue(engine.good_lookup(0, COUNT))

    def test_with_nowhere_to_put_its_blocks_it_says_so_and_goes_in_time(self) -> None:
        house, engine = self.leaving("1s", others=0)
        leaver = house.nodes[0]
        began = time.monotonic()
        leaver.process.send(signal.SIGTERM)
        self.assertEqual(leaver.process.wait(), 0)
        self.assertLess(time.monotonic() - began, 3 + SLACK)
        self.assertIn(f"{COUNT} block parts are nowhere else", leaver.said())
        wait_for("its end", lambda: engine.stats()["nodes"] == 0)

    def test_between_two_leaders_it_is_drained_by_the_next(self) -> None:
        house, engine = self.leaving("60s", others=2)
        leaver = house.nodes[0]
        house.servers[0].kill()
        leaver.process.wait_for_line("trying on", "err")
        leaver.process.send(signal.SIGTERM)
        leaver.process.wait_for_line("draining", "err")
        house.servers[0].start()
        self.assertEqual(leaver.process.wait(), 0)
        self.assertIn("drained", leaver.said())
        wait_for("all blocks", lambda: engine.call("found", 0, COUNT) == COUNT)
        self.assertTrue(engine.good_lookup(0, COUNT))

    def test_without_any_server_it_goes_in_time(self) -> None:
        house, _ = self.leaving("10m", others=0)
        leaver = house.nodes[0]
        house.servers[0].kill()
        leaver.process.wait_for_line("trying on", "err")
        began = time.monotonic()
        leaver.process.send(signal.SIGTERM)
        self.assertEqual(leaver.process.wait(), 0)
        self.assertLess(time.monotonic() - began, 20 + SLACK)
        self.assertIn("not every shard has a server", leaver.said())
        house.servers[0].start()

    def test_a_second_signal_ends_it_at_once(self) -> None:
        house, _ = self.leaving("60s", others=0)
        leaver = house.nodes[0]
        leaver.process.send(signal.SIGTERM)
        leaver.process.wait_for_line("draining", "err")
        leaver.process.send(signal.SIGTERM)
        self.assertEqual(leaver.process.wait(), 0)
        self.assertIn("it was told again", leaver.said())


class BitsFlip(NetworkTest):
    def test_in_a_slot_they_are_found_by_the_reader_and_the_block_leaves_all_answers(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house, nodes=1)
        kept = engine.call("keep", 0, COUNT)
        self.assertEqual(engine.call("flip", str(house.nodes[0].arena), [0, 5, 39]), 3)
        told = engine.call("fetch_kept", kept, 0)
        tell(fetched=told["ok"], why=told["why"])
        self.assertEqual(told["missed"], [0, 5, 39])
        wait_for("the verdict", lambda: engine.stats()["corrupt"] == 3)
        self.assertEqual(engine.call("found", 0, COUNT), COUNT - 3)
        engine.call("release", kept)
        wait_for("room for them", lambda: engine.store(0, COUNT) == COUNT)
        self.assertTrue(engine.good_lookup(0, COUNT))


class ClientsDie(NetworkTest):
    def test_their_pins_die_with_them_however_many(self) -> None:
        house = self.house()
        engine = filled(house)
        parents = [house.far_engine() for _ in range(AT_ONCE)]
        for _ in range(0, DEATHS, AT_ONCE):
            for parent in parents:
                parent.begin("child_that_dies_with_pins", 0, COUNT)
            for parent in parents:
                parent.answer()
            house.listen()
        began = time.monotonic()
        most = engine.stats()["pins"]
        wait_for("no pins", lambda: engine.stats()["pins"] == 0)
        took = time.monotonic() - began
        tell(deaths=DEATHS, most_pins=most, last_death_to_no_pins_s=took)
        self.assertGreater(most, 0)
        self.assertLess(took, SESSION_TTL + SLACK)
        wait_for("no sessions of theirs", lambda: engine.stats()["sessions"] == 1)
        self.assertEqual(engine.stats()["pinned_blocks"], 0)
        self.assertTrue(engine.good_lookup(0, COUNT))


class LeaseEnds(NetworkTest):
    def test_amid_a_transfer_whose_blocks_are_evicted_no_wrong_byte_comes(self) -> None:
        house = self.house()
        house.node("16MiB")
        engine, other = house.far_engine(), house.far_engine()
        wait_for("a node that stores", lambda: engine.store(0, COUNT) == COUNT)
        kept = engine.call("keep", 0, COUNT)
        server, node = host_of(house.servers[0]), host_of(house.nodes[0])
        server.deaf_to(host_of(engine))
        node.send_at("1500kbit")  # fourteen seconds for the forty blocks
        engine.begin("fetch_kept", kept, 0, 20.0)
        wait_for("the session's end", lambda: other.stats()["sessions_expired"] == 1)
        for first in range(1000, 1600, COUNT):  # more than the arena holds
            other.call("store_each", first, COUNT, 5.0)
        self.assertGreater(other.stats()["evicted"], 0)
        told = engine.answer()
        tell(fetched=told["ok"], why=told["why"], seconds=told["seconds"])
        node.send_at("10gbit")
        server.sound()
        wait_for("the session again", lambda: engine.store(0, COUNT) == COUNT)
        self.assertTrue(engine.good_lookup(0, COUNT))


class Starved(NetworkTest):
    def test_of_processor_time_a_node_delays_its_own_blocks_alone(self) -> None:
        house = self.house()
        engine = filled(house)
        kept = engine.call("keep", 0, COUNT)
        limit = CpuLimit.on(house.nodes[0].process.pid, percent=1)
        if limit is None:
            self.skipTest("no cgroup that limits processor time can be made here")
        self.addCleanup(limit.end)
        longest, fewest = 0.0, COUNT
        for _ in range(6):
            told = engine.call("fetch_kept", kept, 0, 0.5)
            longest, fewest = max(longest, told["seconds"]), min(fewest, told["ok"])
        tell(longest_s=longest, fewest=fewest, times_throttled=limit.times())
        self.assertGreater(limit.times(), 0)
        self.assertGreater(fewest, 0, "the other node's blocks came each time")
        limit.lift()
        wait_for("all blocks", lambda: engine.call("fetch_kept", kept, 0)["ok"] == COUNT)

    def test_a_stopped_node_is_as_a_dead_one_until_it_goes_on(self) -> None:
        house = self.house()
        engine = filled(house)
        kept = engine.call("keep", 0, COUNT)
        node = house.nodes[0]
        node.process.send(signal.SIGSTOP)
        began = time.monotonic()
        told = engine.call("fetch_kept", kept, 0, 1.0)
        self.assertLess(0, told["ok"])
        self.assertLess(told["ok"], COUNT)
        wait_for("its end", lambda: engine.stats()["nodes"] == 1)
        tell(fetched=told["ok"], stop_to_gone_s=time.monotonic() - began)
        node.process.send(signal.SIGCONT)
        wait_for("its blocks again", lambda: engine.good_lookup(0, COUNT))


if __name__ == "__main__":
    main()
