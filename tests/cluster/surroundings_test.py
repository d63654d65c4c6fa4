"""What a machine does to a cluster: its disk fills, its memory and descriptors end, its wall clock
jumps, its files are torn."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from broken_disk import BrokenDisk
from cluster_engine import BLOCK_BYTES, FarEngine, FarError
from cluster_house import ClusterHouse, NetworkTest, Server, main, tell, wait_for
from limits import MemoryLimit
from membrain_process import Process
from network import Host, Network

COUNT = 40  # blocks
SPARE = 64  # descriptors that a server keeps for what it does not open itself
FAKE_TIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def filled(house: ClusterHouse) -> FarEngine:
    house.node()
    engine = house.far_engine()
    wait_for("all nodes", lambda: engine.stats()["nodes"] == len(house.nodes))
    wait_for("a node that stores", lambda: engine.store(0, COUNT) == COUNT)
    assert engine.good_lookup(0, COUNT)
    return engine


class Disk(NetworkTest):
    """The state directory of a server without etcd, on a small tmpfs of its host."""

    def start(self) -> tuple[ClusterHouse, Server]:
        house = self.house()
        server = house.servers[0]
        server.process.end()
        assert isinstance(server.place, Host)
        server.state = "/mnt/state"
        server.place.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt")
        return house, server

    @staticmethod
    def fill(server: Server) -> Path:
        rest = server.place.root / "mnt/rest"
        rest.touch()
        with contextlib.suppress(OSError), rest.open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        return rest

    def refused(self, server: Server, why: str, before: Sequence[str] = ()) -> None:
        words = ["server", "--listen", server.address, "--no-admin", "--state-dir", server.state]
        with Process(*words, at=[*server.place.at, *before]) as process:
            self.assertEqual(process.wait(), 1)
            said = "\n".join(process.err)
        self.assertIn(server.state, said)
        self.assertIn(why, said)

    def test_that_is_full_is_said_at_the_start(self) -> None:
        _, server = self.start()
        rest = self.fill(server)
        self.refused(server, "out_of_capacity")
        rest.unlink()
        server.start()

    def test_that_fills_refuses_a_clear_and_forgets_none(self) -> None:
        house, server = self.start()
        server.start()
        engine = filled(house)
        engine.call("clear")
        wait_for("stores of the new era", lambda: engine.store(0, COUNT) == COUNT)
        rest = self.fill(server)
        with self.assertRaises(FarError) as caught:
            engine.call("clear")
        tell(refused_as=str(caught.exception))
        self.assertTrue(engine.good_lookup(0, COUNT), "nothing was cleared")
        server.kill()
        rest.unlink()
        server.start()
        wait_for("what was there", lambda: engine.good_lookup(0, COUNT))
        engine.call("clear")
        self.assertEqual(engine.call("found", 0, COUNT), 0)

    def test_that_fails_refuses_a_clear_and_is_said_at_the_start(self) -> None:
        if why := BrokenDisk.lacking():
            self.skipTest(why)
        house, server = self.start()
        disk = BrokenDisk(house.folder, server.state)
        house.before = disk.before
        server.start()
        engine = filled(house)
        engine.call("clear")
        wait_for("stores of the new era", lambda: engine.store(0, COUNT) == COUNT)
        disk.breaks()
        with self.assertRaises(FarError) as caught:
            engine.call("clear")
        tell(refused_as=str(caught.exception))
        self.assertTrue(engine.good_lookup(0, COUNT), "nothing was cleared")
        self.assertEqual(engine.store(1000, 5), 5)
        server.kill()
        self.refused(server, "reading the server's state", disk.before)
        disk.mends()
        server.start()
        wait_for("what was there", lambda: engine.good_lookup(0, COUNT))
        engine.call("clear")
        self.assertEqual(engine.call("found", 0, COUNT), 0)

    def test_a_torn_state_file_is_refused_with_its_name(self) -> None:
        _, server = self.start()
        server.start()
        server.process.end()
        path = server.place.root / "mnt/state/state"
        whole = path.read_bytes()
        for torn in (whole[:1], whole[: len(whole) // 2], whole[:-1], whole[:-1] + b"?"):
            path.write_bytes(torn)
            self.refused(server, "corrupt")
            self.assertEqual(path.read_bytes(), torn, "it is left for who can mend it")
        path.write_bytes(whole)
        server.start()


class Descriptors(NetworkTest):
    def test_that_run_out_cost_newcomers_alone(self) -> None:
        house = self.house()
        engine = filled(house)
        server = house.servers[0]
        crowd = house.far_engine()
        self.assertTrue(crowd.good_lookup(0, COUNT))
        folder = Path(f"/proc/{server.process.pid}/fd")
        limit = len(list(folder.iterdir())) + SPARE + 12
        words = ["prlimit", "--pid", str(server.process.pid), f"--nofile={limit}:{limit}"]
        subprocess.run(words, check=True)
        opened = crowd.call("crowd", 16)
        tell(limit=limit, opened=opened)
        self.assertLess(0, opened)
        self.assertLess(opened, 16)
        self.assertTrue(server.process.running())
        self.assertTrue(engine.good_lookup(0, COUNT))
        self.assertEqual(engine.store(1000, 5), 5)
        wait_for("room for one more", lambda: crowd.call("crowd", 1) == 1)


class Memory(NetworkTest):
    def test_that_is_all_pinned_refuses_stores_at_once(self) -> None:
        house = self.house()
        house.node("4MiB")
        engine = house.far_engine()
        wait_for("a node that stores", lambda: engine.store(0, COUNT) == COUNT)
        kept = engine.call("keep", 0, COUNT)
        told = engine.call("store_each", 1000, COUNT)
        tell(stored=told["ok"], why=told["why"], seconds=told["seconds"])
        # One that was stored may go for the next one: nobody pins it.
        room = (4 << 20) // BLOCK_BYTES - COUNT
        self.assertLessEqual(engine.call("found", 1000, COUNT), room)
        self.assertEqual(set(told["why"]), {"out_of_capacity"})
        self.assertEqual(engine.call("fetch_kept", kept, 0)["ok"], COUNT)
        engine.call("release", kept)
        wait_for("stores again", lambda: engine.store(2000, COUNT) == COUNT)
        self.assertTrue(engine.good_lookup(2000, COUNT))

    def test_too_little_for_an_arena_is_said_at_the_start(self) -> None:
        house = self.house()
        host = Host("small", house.folder, "127.0.0.1", shared_memory="16m")
        self.addCleanup(host.end)
        words = ["node", "--server", house.addresses, "--capacity", "64MiB"]
        with Process(*words, at=host.at) as process:
            self.assertEqual(process.wait(), 1)
            self.assertIn("out_of_capacity", "\n".join(process.err))
        self.assertEqual(list((host.root / "dev/shm").iterdir()), [])


    def limit(self, limit_bytes: int) -> MemoryLimit:
        made = MemoryLimit.of(limit_bytes)
        if made is None:
            self.skipTest("no cgroup that limits memory can be made here")
        self.addCleanup(made.end)
        return made

    def test_too_little_for_an_arena_by_a_cgroup_ends_that_node_alone(self) -> None:
        limit = self.limit(48 << 20)
        house = self.house()
        engine = filled(house)
        host = house.place("small")
        words = ["node", "--server", house.addresses, "--capacity", "64MiB"]
        at = [*limit.at, *host.at]
        with Process(*words, at=at, env=house.environment) as process:
            status = process.wait()
            said = "\n".join(process.err)
        tell(status=status)
        if status != -signal.SIGKILL:  # by the kernel, which asks nobody
            self.assertEqual(status, 1)
            self.assertIn("out_of_capacity", said)
        self.assertIn("taking 67 MiB of /dev/shm", said, "the last that it did")
        self.assertTrue(engine.good_lookup(0, COUNT))
        limit.set(256 << 20)
        with Process(*words, at=at, env=house.environment) as process:
            process.wait_for_line("membrain node ready")

    def test_that_ends_in_a_cgroup_kills_a_node_whose_blocks_leave_all_answers(self) -> None:
        limit = self.limit(32 << 20)
        house = self.house()
        house.node()
        engine = filled(house)
        victim = house.nodes[0]
        kept = engine.call("keep", 0, COUNT)
        left = COUNT - len(engine.call("lying_in", str(victim.arena), list(range(COUNT))))
        limit.take(victim.process.pid)
        Path(f"/proc/{victim.process.pid}/oom_score_adj").write_text("1000")
        more = "memory = bytearray(64 << 20)"
        neighbour = subprocess.Popen([*limit.at, sys.executable, "-c", more])
        wait_for("the kernel kills it", lambda: not victim.process.running())
        began = time.monotonic()
        wait_for("its end", lambda: engine.call("found", 0, COUNT) == left)
        gone = time.monotonic() - began
        neighbour.wait()
        told = engine.call("fetch_kept", kept, 0)
        tell(left=left, gone_s=gone, fetched=told["ok"], why=told["why"], seconds=told["seconds"])
        self.assertEqual(victim.process.wait(), -signal.SIGKILL)
        self.assertLess(gone, 1.0)
        self.assertEqual(told["ok"], left, "the other node's")
        victim.start()
        wait_for("all blocks", lambda: engine.good_lookup(0, COUNT))


class WallClock(NetworkTest):
    def test_that_jumps_means_nothing(self) -> None:
        if not FAKE_TIME.exists():
            self.skipTest("jumping clocks need libfaketime: apt-get install libfaketime")
        network = Network()
        self.addCleanup(network.end)
        house = ClusterHouse(3, network)
        self.addCleanup(house.end)
        ahead = Path(house.folder) / "ahead"
        ahead.write_text("+0\n")
        house.environment |= {
            "FAKETIME_TIMESTAMP_FILE": str(ahead),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        house.before = ["env", f"LD_PRELOAD={FAKE_TIME}"]  # it leaves files, on the host that ends
        house.start(servers=2)
        engine = filled(house)
        kept = engine.call("keep", 0, COUNT)
        epoch = engine.call("epoch")
        for jump in ("+1h", "-2h", "+10d"):
            ahead.write_text(f"{jump}\n")
            until = time.monotonic() + 1.5  # a heartbeat of the lease, and one of the node's
            while time.monotonic() < until:
                self.assertTrue(engine.good_lookup(0, COUNT))
            self.assertEqual(engine.call("fetch_kept", kept, 0)["ok"], COUNT)
        stats = engine.stats()
        self.assertEqual(stats["epoch"], epoch, "nobody was deposed")
        self.assertEqual(stats["sessions_expired"], 0)
        self.assertEqual(stats["nodes_lost"], 0)
        house.node()  # which the leader says, with the date
        leader = house.leader()
        assert leader is not None
        leader.process.read(1.0)
        dates = {line[:10] for line in leader.process.err if "registered" in line}
        self.assertEqual(len(dates), 2, "the clock jumped")


if __name__ == "__main__":
    main()
