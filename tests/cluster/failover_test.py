"""What happens to a cluster of real processes when one of them dies, stops or comes back."""

from __future__ import annotations

import shutil
import signal
import time

from cluster_engine import Engine
from cluster_house import LEASE, ClusterHouse, ClusterTest, main, tell, wait_for
from membrain_process import Process, run

COUNT = 40  # blocks


def filled(house: ClusterHouse) -> Engine:
    """An engine that has stored `COUNT` blocks, and finds them."""
    house.node()
    engine = house.engine()
    wait_for("a node that stores", lambda: engine.store(0, COUNT) == COUNT)
    assert engine.good_lookup(0, COUNT)
    return engine


class LeaderDies(ClusterTest):
    def test_killed_the_next_takes_over_and_nothing_is_lost(self) -> None:
        house = self.house()
        engine = filled(house)
        for _ in range(3):
            held = engine.hold(0, 10)
            epoch = engine.epoch()
            leader = house.leader()
            assert leader is not None
            leader.kill()
            began = time.monotonic()
            self.assertEqual(engine.fetch(held, 0), 10, "nodes serve without a server")
            wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))
            tell(kill_to_good_lookup_ms=round(1000 * (time.monotonic() - began)))
            self.assertGreater(engine.epoch(), epoch)
            self.assertEqual(engine.fetch(held, 0), 10, "the pin was asserted again")
            held.release()
            self.assertGreater(engine.store(1000, 5), 0)
            leader.start()
            self.assertFalse(leader.leads(), "the former leader follows")

    def test_stopped_gracefully_its_lease_is_given_back(self) -> None:
        house = self.house()
        engine = filled(house)
        leader = house.leader()
        assert leader is not None
        leader.process.end()
        began = time.monotonic()
        wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))
        tell(stop_to_good_lookup_ms=round(1000 * (time.monotonic() - began)))

    def test_a_cleared_namespace_stays_cleared(self) -> None:
        house = self.house()
        engine = filled(house)
        engine.space = engine.client.clear(engine.space)
        leader = house.leader()
        assert leader is not None
        leader.kill()

        def none_left() -> bool:
            try:
                return engine.client.contains(engine.space, [b"x" * 32]) == [False]
            except Exception:  # noqa: BLE001: it is away
                return False

        wait_for("the next leader", none_left)
        self.assertFalse(engine.good_lookup(0, 1))
        wait_for("stores of the new era", lambda: engine.store(0, COUNT) == COUNT)
        self.assertTrue(engine.good_lookup(0, COUNT))


class LeaderIsStopped(ClusterTest):
    def test_it_is_deposed_and_what_it_says_later_counts_for_nothing(self) -> None:
        house = self.house()
        engine = filled(house)
        leader = house.leader()
        assert leader is not None
        follower = house.follower()
        epoch = engine.epoch()
        leader.stop()
        began = time.monotonic()
        wait_for("the follower leads", follower.leads)
        tell(stop_to_next_leader_ms=round(1000 * (time.monotonic() - began)))
        wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))
        leader.go_on()
        leader.process.wait_for_line("leads no more", where="err")
        time.sleep(LEASE)
        self.assertGreater(engine.epoch(), epoch)
        self.assertTrue(follower.leads())
        self.assertTrue(engine.good_lookup(0, COUNT))

    def test_a_stopped_follower_harms_nobody(self) -> None:
        house = self.house()
        engine = filled(house)
        epoch = engine.epoch()
        house.follower().stop()
        time.sleep(1.5 * LEASE)
        self.assertTrue(engine.good_lookup(0, COUNT))
        self.assertEqual(engine.epoch(), epoch)


class EtcdFails(ClusterTest):
    def test_one_member_of_three_is_not_missed(self) -> None:
        house = self.house()
        engine = filled(house)
        epoch = engine.epoch()
        for member in range(3):  # each in turn, whichever leads etcd
            house.members.kill(member)
            time.sleep(1.2 * LEASE)
            self.assertTrue(engine.good_lookup(0, COUNT))
            house.members.start(member)
            time.sleep(0.5)
        tell(terms=engine.epoch() != epoch)

    def test_a_stopped_member_is_not_missed(self) -> None:
        house = self.house()
        engine = filled(house)
        for member in range(3):  # each in turn, whichever leads etcd
            house.members.send(member, signal.SIGSTOP)
            time.sleep(1.2 * LEASE)
            wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT), 3 * LEASE)
            house.members.send(member, signal.SIGCONT)

    def test_without_a_quorum_fetches_go_on_and_lookups_come_back_with_it(self) -> None:
        house = self.house()
        engine = filled(house)
        held = engine.hold(0, 10)
        house.members.kill(0)
        house.members.kill(1)
        wait_for("nobody leads", lambda: not any(one.leads() for one in house.servers))
        self.assertEqual(engine.fetch(held, 0), 10)
        self.assertFalse(engine.good_lookup(0, 1), "a miss, at once")
        house.members.start(0)
        wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))
        self.assertEqual(engine.fetch(held, 0), 10)

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
