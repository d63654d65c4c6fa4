"""What a network does to a cluster: it parts, loses, slows down, falls silent and flips bits. Every
host is a network namespace; what is between them is nftables and a token bucket."""

from __future__ import annotations

import time
from functools import partial

from cluster_engine import FarEngine
from cluster_house import LEASE, ClusterHouse, NetworkTest, Node, main, tell, wait_for
from network import Host

COUNT = 40  # blocks
NODE_TTL, SESSION_TTL = 5.0, 10.0  # seconds, the server's
SLACK = 2.0  # of two busy processors


def filled(house: ClusterHouse, nodes: int = 1) -> FarEngine:
    """An engine that has stored `COUNT` blocks, and finds them."""
    for _ in range(nodes):
        house.node()
    engine = house.far_engine()
    wait_for("all nodes", lambda: engine.stats()["nodes"] == nodes)
    wait_for("a node that stores", lambda: engine.store(0, COUNT) == COUNT)
    assert engine.good_lookup(0, COUNT)
    return engine


def host_of(one: FarEngine | Node) -> Host:
    assert isinstance(one.place, Host)
    return one.place


class NodeCutOff(NetworkTest):
    def fetch_without(self, one_way: bool) -> None:
        house = self.house()
        engine = filled(house, nodes=2)
        lost, reader = host_of(house.nodes[0]), host_of(engine)
        kept = engine.call("keep", 0, COUNT)
        reader.deaf_to(lost)
        if not one_way:
            lost.deaf_to(reader)
        told = engine.call("fetch_kept", kept, 0, 2.0)
        tell(fetched=told["ok"], why=told["why"], seconds=told["seconds"])
        self.assertLess(0, told["ok"], "the other node's blocks came")
        self.assertLess(told["ok"], COUNT)
        again = engine.call("fetch_kept", kept, 0, 2.0)
        self.assertEqual(again["ok"], told["ok"])
        assert house.network is not None
        house.network.heal()
        began = time.monotonic()
        wait_for("all blocks", lambda: engine.call("fetch_kept", kept, 0, 2.0)["ok"] == COUNT)
        tell(heal_to_all_blocks_ms=round(1000 * (time.monotonic() - began)))

    def test_costs_its_own_blocks_alone(self) -> None:
        self.fetch_without(one_way=False)

    def test_one_way_costs_its_own_blocks_alone(self) -> None:
        self.fetch_without(one_way=True)


class LeaderCutOff(NetworkTest):
    def another_leads(self, one_way: bool) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house)
        kept = engine.call("keep", 0, 10)
        leader, follower = house.leader(), house.follower()
        assert leader is not None and isinstance(leader.place, Host)
        epoch = engine.call("epoch")
        others = [server for server in house.server_hosts() if server is not leader.place]
        leader.place.deaf_to(*others)
        if not one_way:
            for other in others:
                other.deaf_to(leader.place)
        began = time.monotonic()
        leader.process.wait_for_line("leads no more", where="err")
        deposed = time.monotonic() - began
        self.assertLess(deposed, LEASE + SLACK)
        wait_for("the follower leads", follower.leads)
        wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))
        tell(deposed_s=deposed, cut_to_good_lookup_s=time.monotonic() - began)
        self.assertGreater(engine.call("epoch"), epoch)
        self.assertEqual(engine.call("fetch_kept", kept, 0)["ok"], 10)
        epoch = engine.call("epoch")
        assert house.network is not None
        house.network.heal()
        wait_for("stores", lambda: engine.store(1000, 5) == 5)
        self.assertTrue(engine.good_lookup(0, COUNT))
        self.assertEqual(engine.call("epoch"), epoch, "whoever leads goes on")

    def test_from_etcd_it_is_deposed_at_its_lease_and_another_leads(self) -> None:
        self.another_leads(one_way=False)

    def test_from_etcds_answers_it_is_deposed_at_its_lease_and_another_leads(self) -> None:
        self.another_leads(one_way=True)

    def test_from_engines_they_miss_at_once_and_nobody_else_can_lead(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house)
        kept = engine.call("keep", 0, 10)
        leader = house.leader()
        assert leader is not None and isinstance(leader.place, Host) and house.network
        epoch = engine.call("epoch")
        house.network.part([leader.place], [host_of(engine)])
        self.assertFalse(engine.good_lookup(0, COUNT))
        self.assertEqual(engine.call("fetch_kept", kept, 0)["ok"], 10, "nodes ask nobody")
        self.assertIs(house.leader(), leader)
        house.network.heal()
        began = time.monotonic()
        wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))
        tell(heal_to_good_lookup_ms=round(1000 * (time.monotonic() - began)))
        self.assertEqual(engine.call("epoch"), epoch)
        self.assertEqual(engine.call("fetch_kept", kept, 0)["ok"], 10)


def stored(engine: FarEngine, first: int) -> bool:
    return engine.store(first, COUNT) == COUNT


class Loss(NetworkTest):
    def bear(self, percent: int, rounds: int = 4, of: str = "") -> None:
        house = self.house()
        engine = filled(house, nodes=2)
        assert house.network is not None
        for host in house.network.hosts:
            host.lose(percent, of)
        began = time.monotonic()
        for at in range(1000, 1000 + rounds * 1000, 1000):
            wait_for("stores", partial(stored, engine, at))
            wait_for("good lookups", partial(engine.good_lookup, at, COUNT))
        lost = sum(host.spoiled() for host in house.network.hosts)
        tell(percent=percent, lost=lost, seconds=round(time.monotonic() - began, 2))
        self.assertGreater(lost, 0)
        house.network.heal()
        wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))

    def test_of_one_packet_in_a_hundred_costs_time_and_no_byte(self) -> None:
        self.bear(1)

    def test_of_one_packet_in_ten_costs_time_and_no_byte(self) -> None:
        self.bear(10)

    def test_of_three_bulk_packets_in_ten_costs_time_and_no_byte(self) -> None:
        self.bear(30, rounds=1, of="ip length > 1400")


class Delay(NetworkTest):
    """Of each packet by another time, so that many overtake others."""

    def bear(self, slow: str, delay_ms: float, jitter_ms: float, rounds: int) -> None:
        house = self.house()
        engine = filled(house, nodes=2)
        epoch = engine.call("epoch")
        assert house.network is not None
        hosts = [host for host in house.network.hosts if host.name.startswith(slow)]
        wires = [house.network.delay(host, delay_ms, jitter_ms) for host in hosts]
        began = time.monotonic()
        for at in range(1000, 1000 + rounds * 1000, 1000):
            wait_for("stores", partial(stored, engine, at))
            wait_for("good lookups", partial(engine.good_lookup, at, COUNT))
        took = time.monotonic() - began
        seen = [wire.end() for wire in wires]
        stats = engine.stats()
        tell(slow=slow, seconds=round(took, 2), seen=seen)
        for one in seen:
            self.assertGreater(one["overtaken"], 0)
        self.assertEqual(stats["epoch"], epoch)
        self.assertEqual((stats["nodes_lost"], stats["sessions_expired"]), (0, 0))
        wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))

    def test_and_reordering_to_and_from_nodes_costs_time_and_no_byte(self) -> None:
        self.bear("node", 5, 10, rounds=3)

    def test_and_reordering_to_and_from_the_server_has_nobody_taken_for_dead(self) -> None:
        self.bear("server", 50, 50, rounds=6)


class PowerCut(NetworkTest):
    """Hosts that fall silent: nobody is told, and connections stay half open."""

    def test_a_silent_node_leaves_all_answers_and_a_silent_engine_loses_its_pins(self) -> None:
        house = self.house()
        engine = filled(house, nodes=2)
        silent = house.far_engine()
        silent.call("keep", 0, COUNT)
        self.assertEqual(engine.stats()["pins"], COUNT)
        assert house.network is not None
        off = [host_of(house.nodes[0]), host_of(silent)]
        house.network.part(off, [host for host in house.network.hosts if host not in off])
        began = time.monotonic()
        house.nodes[0].kill()
        silent.kill()
        wait_for("the dead node's end", lambda: engine.stats()["nodes"] == 1)
        node_gone = time.monotonic() - began
        left = engine.call("found", 0, COUNT)
        self.assertLess(0, left)
        self.assertLess(left, COUNT)
        wait_for("no pins", lambda: engine.stats()["pins"] == 0)
        pins_gone = time.monotonic() - began
        tell(node_gone_s=node_gone, pins_gone_s=pins_gone, blocks_left=left)
        self.assertLess(node_gone, NODE_TTL + SLACK)
        self.assertLess(pins_gone, SESSION_TTL + SLACK)
        self.assertEqual(engine.store(0, COUNT), COUNT, "the other node takes them")
        self.assertTrue(engine.good_lookup(0, COUNT))


class Firewall(NetworkTest):
    def test_before_a_client_that_cannot_be_called_back_holds_nobody_else_up(self) -> None:
        house = self.house()
        engine = filled(house)
        walled = house.far_engine()
        walled.stats()  # opens a client of its own: the crowd alone is behind the wall
        host_of(walled).spoil("tcp flags & (syn | ack) == syn counter drop")
        walled.begin("crowd", 12)
        slowest, lookups, over = 0.0, 0, False
        while not over:
            over = walled.has_answered()
            began = time.monotonic()
            self.assertTrue(engine.good_lookup(0, COUNT))
            slowest, lookups = max(slowest, time.monotonic() - began), lookups + 1
        dropped = host_of(walled).spoiled()
        tell(opened=walled.answer(), dropped=dropped, lookups=lookups, slowest_s=slowest)
        self.assertLess(slowest, 0.5 + SLACK)


class SlowPeer(NetworkTest):
    def test_behind_ten_megabits_delays_its_own_blocks_alone(self) -> None:
        house = self.house()
        engine = filled(house, nodes=2)
        kept = engine.call("keep", 0, COUNT)
        slow = host_of(house.nodes[0])
        slow.send_at("10mbit")
        told = engine.call("fetch_kept", kept, 0, 0.4)
        tell(fetched=told["ok"], why=told["why"], seconds=told["seconds"])
        self.assertLess(0, told["ok"], "the other node's blocks came")
        self.assertLess(told["ok"], COUNT, "a third of a second is too short for a megabyte")
        self.assertEqual(engine.call("found", 0, COUNT), COUNT, "a slow node is not a dead one")
        told = engine.call("fetch_kept", kept, 0, 20.0)
        tell(seconds=told["seconds"])
        self.assertEqual(told["ok"], COUNT)


class WireFlips(NetworkTest):
    def test_bits_flipped_beneath_tcp_are_never_delivered_nor_kept(self) -> None:
        house = self.house()
        house.node()
        engine = house.far_engine()
        node, reader = host_of(house.nodes[0]), host_of(engine)
        engine.call("be_plain")
        wait_for("a node that stores", lambda: engine.store(0, COUNT) == COUNT)
        kept = engine.call("keep", 0, COUNT)
        # In every eighth packet, amid sixteen equal bytes: a block's, never a header.
        plain = "5a" * 8
        amid = f"@th,1472,64 0x{plain} @th,1536,64 0x{plain}"
        flip = f"{amid} numgen inc mod 8 == 0 @th,1528,8 set 0xa5 counter"
        reader.spoil(f"ip saddr {node.address} {flip}")
        told = engine.call("fetch_kept", kept, 0, 5.0)
        tell(flipped=reader.spoiled(), fetched=told["ok"], why=told["why"])
        self.assertGreater(reader.spoiled(), 0)
        self.assertEqual(told["why"], {"corrupt": COUNT - told["ok"]})
        reader.sound()
        self.assertEqual(engine.call("fetch_kept", kept, 0)["ok"], COUNT)
        self.assertEqual(engine.stats()["corrupt"], 0, "the node found its own copies right")
        node.spoil(f"ip saddr {reader.address} {flip}")
        stored = engine.call("store_each", 1000, COUNT)
        tell(flipped=node.spoiled(), stored=stored["ok"], why=stored["why"])
        self.assertGreater(node.spoiled(), 0)
        self.assertEqual(stored["why"], {"corrupt": COUNT - stored["ok"]})
        self.assertEqual(engine.call("found", 1000, COUNT), stored["ok"])
        node.sound()
        self.assertEqual(engine.store(1000, COUNT), COUNT)
        self.assertTrue(engine.good_lookup(1000, COUNT))


if __name__ == "__main__":
    main()
