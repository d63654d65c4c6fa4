"""Replays: exact figures with enough memory, right bytes with too little, and bad days."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

from membrain_process import (
    PATIENCE,
    SANITIZED,
    Process,
    ProcessTest,
    Trace,
    children_of,
    listening_ports,
    main,
    resident_bytes,
    run,
)

BLOCK_BYTES = 16384


class Replay(ProcessTest):
    def words(self, trace: str, *more: str) -> list[str]:
        return ["replay", "--trace", trace, "--block-bytes", str(BLOCK_BYTES), "--json", *more]

    def test_in_order_with_enough_memory_finds_exactly_what_was_stored(self) -> None:
        trace = Trace(300)
        for instances in ("1", "3"):
            words = self.words(trace.write(self.folder), "--instances", instances, "--in-order")
            status, out, err = run(*words)
            # On a slow machine it tells how far it is.
            told = [line for line in err.splitlines() if " of 300 requests, " not in line]
            self.assertEqual((status, told), (0, []))
            figures = self.figures(out)
            self.assertEqual(figures["requests"], 300)
            self.assertEqual(figures["blocks_looked_up"], trace.looked_up)
            self.assertEqual(figures["blocks_hit"], trace.hit)
            self.assertEqual(figures["tokens_saved"], trace.tokens_saved)
            self.assertEqual(figures["bytes_fetched"], trace.hit * BLOCK_BYTES)
            self.assertEqual(figures["bytes_stored"], len(trace.distinct) * BLOCK_BYTES)
        self.assert_nothing_left()

    def test_of_some_requests_without_the_readers_hash_and_with_a_table(self) -> None:
        path = Trace(50).write(self.folder)
        first = Trace(50)
        first.lines = first.lines[:20]
        words = ["replay", "--trace", path, "--requests", "20", "--no-verify", "--in-order"]
        status, out, err = run(*words)
        self.assertEqual(status, 0, err)
        self.assertIn("tokens saved", out)
        self.assertIn("wrong bytes     0", out)

    def test_uses_a_running_cluster_and_finds_there_what_an_earlier_one_stored(self) -> None:
        trace = Trace(60)
        path = trace.write(self.folder)
        words = ["server", "--listen", "127.0.0.1:0", "--no-admin", "--temporary"]
        with Process(*words, "--with-node", "64MiB") as server:
            address = server.wait_for_line("ready").split()[3]
            replay = self.words(path, "--server", address, "--in-order")
            self.assertEqual(self.figures(run(*replay)[1])["blocks_hit"], trace.hit)
            self.assertEqual(self.figures(run(*replay)[1])["blocks_hit"], trace.looked_up)

    def test_of_four_engines_with_a_tenth_of_the_memory_stays_right_and_within_it(self) -> None:
        # Large enough for the program itself to be little beside it.
        block_bytes = 256 << 10 if SANITIZED else 2 << 20
        trace = Trace(800)
        capacity = len(trace.distinct) * block_bytes // 10
        words = ["replay", "--trace", trace.write(self.folder), "--json", "--speed", "max"]
        words += ["--instances", "4", "--block-bytes", str(block_bytes)]
        with Process(*words, "--capacity", str(capacity)) as replay:
            largest = 0
            while replay.running() and replay.read(0.02):
                for pid, command in children_of(replay.pid):
                    if command == "node":
                        largest = max(largest, resident_bytes(pid))
            self.assertEqual(replay.wait(), 0, replay.describe())
            self.assertNotIn("ended", "\n".join(replay.err))
            figures = self.figures("\n".join(replay.out))
        self.assertEqual(figures["requests"], 800)
        self.assertGreater(figures["blocks_hit"], 0)
        if SANITIZED:
            return  # a sanitizer's own memory is no measure of ours
        print(f"node: {largest >> 20} MiB with {capacity >> 20} MiB for blocks")
        self.assertLess(largest, capacity * 1.1)
        self.assertGreater(largest, capacity * 0.9)

    def test_that_needs_more_memory_than_there_is_says_so_before_it_begins(self) -> None:
        path = Trace(5).write(self.folder)
        status, out, err = run(*self.words(path, "--capacity", "900TiB"))
        self.assertEqual((status, out), (1, ""))
        self.assertIn("shared memory", err)

    def test_that_is_interrupted_ends_its_processes_and_leaves_nothing(self) -> None:
        path = Trace(2000).write(self.folder)
        for number in (signal.SIGINT, signal.SIGKILL):
            with Process(*self.words(path, "--speed", "0.5", "--instances", "2")) as replay:
                pids = self.wait_for_children(replay, 4)
                replay.send(number)
                replay.wait(30)
                for pid in pids:
                    self.wait_until_gone(pid)
        self.assert_nothing_left()

    def wait_for_children(self, process: Process, count: int) -> list[int]:
        while len(children_of(process.pid)) < count:
            self.assertTrue(process.read(0.05), process.describe())
        return [pid for pid, _ in children_of(process.pid)]

    def wait_until_gone(self, pid: int) -> None:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        with os.fdopen(fd) as handle:
            ready, _, _ = select.select([handle], [], [], 30)
            self.assertTrue(ready, f"process {pid} outlived its parent")


class BadDays(ProcessTest):
    """Things that break while requests are played at a pace that lasts about ten seconds."""

    def setUp(self) -> None:
        super().setUp()
        self.trace = Trace(1000)
        path = self.trace.write(self.folder)
        words = ["--instances", "2", "--speed", "0.8", "--timeout", "2s", "--block-bytes"]
        self.words = ["replay", "--trace", path, "--json", *words, str(BLOCK_BYTES)]

    def pid_of(self, replay: Process, command: str) -> int:
        while True:
            children = children_of(replay.pid)
            engines = [pid for pid, name in children if name == "engine"]
            if len(engines) == 2:
                return next(pid for pid, name in children if name == command)
            self.assertTrue(replay.read(0.05), replay.describe())

    def wait_for_requests(self, replay: Process) -> None:
        """Until the first events of the story: requests are under way."""
        replay.wait_for_line("MEMBRAIN HIT", "err")

    def kill_during_replay(self, command: str) -> dict[str, int]:
        with Process(*self.words, "-v") as replay:
            victim = self.pid_of(replay, command)
            self.wait_for_requests(replay)
            os.kill(victim, signal.SIGKILL)
            status = replay.wait(PATIENCE * 3)
            self.assertEqual(status, 0, replay.describe()[-4000:])
            figures = self.figures("\n".join(replay.out))
            self.assertEqual(figures["requests"], 1000)
            self.assertIn("ended unexpectedly", "\n".join(replay.err))
            self.assert_nothing_left()
            misses: dict[str, int] = figures["misses"]
            return misses

    def test_a_killed_server_costs_misses_not_the_replay(self) -> None:
        misses = self.kill_during_replay("server")
        self.assertGreater(misses["peer_lost"] + misses["timeout"], 0)

    def test_a_killed_node_costs_misses_not_the_replay(self) -> None:
        misses = self.kill_during_replay("node")
        self.assertGreater(sum(misses.values()), 0)

    def test_a_killed_engine_loses_its_requests_and_the_replay_says_so(self) -> None:
        with Process(*self.words, "-v") as replay:
            victim = self.pid_of(replay, "engine")
            self.wait_for_requests(replay)
            os.kill(victim, signal.SIGKILL)
            self.assertEqual(replay.wait(PATIENCE * 3), 1)
            figures = self.figures("\n".join(replay.out))
            self.assertEqual(figures["requests"] + figures["requests_lost"], 1000)
            self.assertEqual(figures["engines_lost"], 1)

    def test_garbage_and_half_open_connections_disturb_nobody(self) -> None:
        with Process(*self.words, "-v") as replay:
            pids = [self.pid_of(replay, "server"), self.pid_of(replay, "node")]
            self.wait_for_requests(replay)
            ports = {port for pid in pids for port in listening_ports(pid)}
            self.assertGreaterEqual(len(ports), 2)
            over = threading.Event()
            attacker = threading.Thread(target=self.attack, args=(sorted(ports), over))
            attacker.start()
            try:
                status = replay.wait(PATIENCE * 3)
            finally:
                over.set()
                attacker.join()
            self.assertEqual(status, 0, replay.describe()[-4000:])
            figures = self.figures("\n".join(replay.out))
            self.assertEqual(figures["requests"], 1000)
            self.assertGreater(figures["blocks_hit"], 0)
            self.assertNotIn("ended unexpectedly", "\n".join(replay.err))
            self.assertNotIn("ended badly", "\n".join(replay.err))

    @staticmethod
    def attack(ports: list[int], over: threading.Event) -> None:
        """Junk in several shapes, and connections that say nothing and stay."""
        dice = random.Random(3)
        shapes = [b"\0" * 64, b"\xff" * 64, b"GET / HTTP/1.0\r\n\r\n", b"MEMB", b"\x10\0\0\0" * 100]
        silent: list[socket.socket] = []
        while not over.is_set():
            for port in ports:
                try:
                    sock = socket.create_connection(("127.0.0.1", port), timeout=1)
                    if len(silent) < 32 and dice.random() < 0.3:
                        silent.append(sock)
                        continue
                    junk = dice.choice([*shapes, dice.randbytes(dice.randint(1, 5000))])
                    sock.sendall(junk)
                    sock.close()
                except OSError:
                    pass
            over.wait(0.01)
        for sock in silent:
            sock.close()


class LittleSharedMemory(ProcessTest):
    def setUp(self) -> None:
        super().setUp()
        self.tmpfs = Path(self.folder) / "tiny"
        self.tmpfs.mkdir()
        if os.geteuid() != 0 or shutil.which("mount") is None:
            self.skipTest("mounting a tiny tmpfs needs root and mount(8)")
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "membrain-test", str(self.tmpfs)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.skipTest(f"a tiny tmpfs cannot be mounted here: {done.stderr.strip()}")
        self.addCleanup(self.unmount)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.tmpfs)], check=True)

    def test_that_is_full_is_a_clear_error_and_no_crash(self) -> None:
        words = ["node", "--server", "127.0.0.1:1", "--capacity", "64MiB"]
        status, out, err = run(*words, "--directory", str(self.tmpfs))
        self.assertEqual((status, out), (1, ""))
        self.assertIn(str(self.tmpfs), err)
        self.assertIn("out_of_capacity", err)


class Demo(ProcessTest):
    def test_shows_stores_and_hits_across_engines_in_less_than_a_minute(self) -> None:
        status, out, err = run("demo", patience=PATIENCE * 2)
        self.assertEqual(status, 0, err)
        self.assertIn("MEMBRAIN STORE", out)
        self.assertIn("MEMBRAIN HIT", out)
        self.assertIn("every byte right", out)
        self.assert_nothing_left()

    def test_plays_a_given_trace(self) -> None:
        path = Trace(40, conversations=3).write(self.folder)
        status, out, err = run("demo", "--trace", path, "--requests", "30", "--speed", "max")
        self.assertEqual(status, 0, err)
        self.assertIn("30 requests", out)


if __name__ == "__main__":
    main()
