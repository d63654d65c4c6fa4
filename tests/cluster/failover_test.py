"""What happens to a cluster of real processes when its leader or its etcd dies, stops or comes
back. Processes have hosts of their own (network.py), but where only an answer is asked for."""

from __future__ import annotations

import shutil
import signal
import time

from cluster_engine import FarEngine, FarError
from cluster_house import LEASE, ClusterHouse, ClusterTest, NetworkTest, main, tell, wait_for
from membrain_process import Process, run

COUNT = 40  # blocks
TAKEN_OVER = 0.5  # seconds, of whoever leads next, beside the lease
NOTICED = 2.0  # the same, when the leader is stopped: nobody sees its connections break
# An engine misses the answer to a heartbeat, of which it sends three in a session's 10 s, for two
# thirds of these, if lookups do not make it doubt before; then it tries the servers in turn.
HEARD_AGAIN = 12.5  # seconds from the stop on
SLACK = 2.0  # of two busy processors


def filled(house: ClusterHouse) -> FarEngine:
    """An engine that has stored `COUNT` blocks, and finds them."""
    house.node()
    engine = house.far_engine()
    wait_for("a node that stores", lambda: engine.store(0, COUNT) == COUNT)
    assert engine.good_lookup(0, COUNT)
    return engine


def fetched(engine: FarEngine, kept: int) -> int:
    return int(engine.call("fetch_kept", kept, 0)["ok"])


class LeaderDies(NetworkTest):
    def test_killed_the_next_takes_over_and_nothing_is_lost(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house)
        for _ in range(3):
            kept = engine.call("keep", 0, 10)
            epoch = engine.call("epoch")
            leader = house.leader()
            assert leader is not None
            leader.kill()
            began = time.monotonic()
            self.assertEqual(fetched(engine, kept), 10, "nodes serve without a server")
            wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))
            took = time.monotonic() - began
            tell(kill_to_good_lookup_ms=round(1000 * took))
            self.assertLess(took, LEASE + TAKEN_OVER)
            self.assertGreater(engine.call("epoch"), epoch)
            self.assertEqual(fetched(engine, kept), 10, "the pin was asserted again")
            engine.call("release", kept)
            self.assertGreater(engine.store(1000, 5), 0)
            leader.start()
            self.assertFalse(leader.leads(), "the former leader follows")

    def test_stopped_gracefully_its_lease_is_given_back(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house)
        leader = house.leader()
        assert leader is not None
        leader.process.end()
        began = time.monotonic()
        wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))
        took = time.monotonic() - began
        tell(stop_to_good_lookup_ms=round(1000 * took))
        self.assertLess(took, LEASE)

    def test_a_cleared_namespace_stays_cleared(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house)
        engine.call("clear")
        leader = house.leader()
        assert leader is not None
        leader.kill()

        def none_left() -> bool:
            try:
                return int(engine.call("found", 0, COUNT)) == 0
            except FarError:  # it is away
                return False

        wait_for("the next leader", none_left)
        self.assertFalse(engine.good_lookup(0, 1))
        wait_for("stores of the new era", lambda: engine.store(0, COUNT) == COUNT)
        self.assertTrue(engine.good_lookup(0, COUNT))


class LeaderIsStopped(NetworkTest):
    def test_it_is_deposed_and_what_it_says_later_counts_for_nothing(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house)
        leader = house.leader()
        assert leader is not None
        follower = house.follower()
        epoch = engine.call("epoch")
        leader.stop()
        began = time.monotonic()
        wait_for("the follower leads", follower.leads)
        led = time.monotonic() - began
        wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))
        took = time.monotonic() - began
        kept = engine.call("keep", 0, COUNT)
        leader.go_on()
        leader.process.wait_for_line("leads no more", where="err")
        told = len(leader.process.err)
        time.sleep(LEASE)
        house.listen()
        # It sends nodes nothing, or they refuse it: whatever the next leader knows is there.
        refused = house.nodes[0].said().count(f"of epoch {epoch} refused")
        tell(stop_to_next_leader_s=led, stop_to_good_lookup_s=took, refused=refused)
        self.assertLess(led, LEASE + NOTICED)
        self.assertLess(took, HEARD_AGAIN + SLACK)
        self.assertGreater(engine.call("epoch"), epoch)
        self.assertTrue(follower.leads())
        self.assertFalse(any("leads in epoch" in line for line in leader.process.err[told:]))
        self.assertEqual(fetched(engine, kept), COUNT, "nothing of it was freed")
        self.assertTrue(engine.good_lookup(0, COUNT))

    def test_a_stopped_follower_harms_nobody(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house)
        epoch = engine.call("epoch")
        house.follower().stop()
        time.sleep(1.5 * LEASE)
        self.assertTrue(engine.good_lookup(0, COUNT))
        self.assertEqual(engine.call("epoch"), epoch)


class EtcdFails(NetworkTest):
    def test_one_member_of_three_is_not_missed(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house)
        epoch = engine.call("epoch")
        for member in range(3):  # each in turn, whichever leads etcd
            house.members.kill(member)
            time.sleep(1.2 * LEASE)
            self.assertTrue(engine.good_lookup(0, COUNT))
            house.members.start(member)
            time.sleep(0.5)
        tell(terms=engine.call("epoch") != epoch)

    def test_a_stopped_member_is_not_missed(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house)
        for member in range(3):  # each in turn, whichever leads etcd
            house.members.send(member, signal.SIGSTOP)
            time.sleep(1.2 * LEASE)
            wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT), 3 * LEASE)
            house.members.send(member, signal.SIGCONT)

    def test_without_a_quorum_fetches_go_on_and_lookups_come_back_with_it(self) -> None:
        house = self.house(servers=2, members=3)
        engine = filled(house)
        kept = engine.call("keep", 0, 10)
        house.members.kill(0)
        house.members.kill(1)
        wait_for("nobody leads", lambda: not any(one.leads() for one in house.servers))
        self.assertEqual(fetched(engine, kept), 10)
        began = time.monotonic()
        self.assertFalse(engine.good_lookup(0, 1), "a miss, at once")
        missed = time.monotonic() - began
        house.members.start(0)
        began = time.monotonic()
        wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))
        tell(miss_s=missed, quorum_to_good_lookup_s=time.monotonic() - began)
        self.assertLess(missed, 0.5)
        self.assertEqual(fetched(engine, kept), 10)


class EtcdIsWrong(ClusterTest):
    def test_a_wiped_etcd_is_another_cluster(self) -> None:
        house = self.house(servers=1, members=1)
        server = house.servers[0]
        server.process.end()
        house.members.wipe()
        house.members.start(0)
        words = ["server", "--listen", server.address, "--no-admin", "--etcd", house.members.urls]
        state = f"{house.folder}/server0"
        status, _, err = run(*words, "--state-dir", state)
        self.assertEqual(status, 1)
        self.assertIn("was it wiped?", err)
        self.assertIn(f"{state}/cluster", err)
        shutil.rmtree(state)
        with Process(*words, "--state-dir", state) as again:
            again.wait_for_line("membrain server ready")

    def test_no_etcd_at_all_is_said(self) -> None:
        words = ["--listen", "127.0.0.1:0", "--no-admin", "--temporary"]
        status, _, err = run("server", *words, "--etcd", "http://127.0.0.1:1")
        self.assertEqual(status, 1)
        self.assertIn("etcd cannot be reached", err)

    def test_options_that_make_no_sense_are_named(self) -> None:
        for words, said in (
            (["--etcd", "nonsense"], "http://HOST:PORT"),
            (["--etcd", "http://127.0.0.1:1", "--lease", "1s"], "--lease"),
            (["--etcd", "http://127.0.0.1:1", "--cluster", "a/b"], "--cluster"),
            (["--etcd", "https://127.0.0.1:1", "--etcd-ca", "/nowhere"], "/nowhere"),
        ):
            status, _, err = run("server", "--listen", "127.0.0.1:0", "--no-admin", *words)
            self.assertNotEqual(status, 0)
            self.assertIn(said, err)


if __name__ == "__main__":
    main()
