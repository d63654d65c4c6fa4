"""A cluster of real processes: members of etcd, servers, a node, and an engine that checks every
byte."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

from membrain_process import SKIPPED, Process

BLOCK_BYTES = 64 * 1024
PATIENCE = 60.0  # a bound against hangs, not against slowness
LEASE = 3.0  # seconds, what `membrain server` asks for by itself

try:
    import membrain  # of the build tree
except ImportError:
    membrain = None  # type: ignore[assignment]


def own_port() -> int:
    """Below the ports that the kernel hands out, so that a process that restarts finds it free."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, lowest)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def wait_for(what: str, done: Callable[[], Any], patience: float = PATIENCE) -> Any:
    limit = time.monotonic() + patience
    while not (found := done()):
        if time.monotonic() > limit:
            raise AssertionError(f"not within {patience} s: {what}")
        time.sleep(0.01)
    return found


class Etcd:
    """Members of one etcd; each can be killed, stopped and started again on its data."""

    def __init__(self, folder: str, members: int = 3) -> None:
        self.folder = folder
        self._clients = [own_port() for _ in range(members)]
        self._peers = [own_port() for _ in range(members)]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * members
        for index in range(members):
            self.start(index)

    @property
    def urls(self) -> str:
        return ",".join(f"http://127.0.0.1:{port}" for port in self._clients)

    def start(self, index: int) -> None:
        client = f"http://127.0.0.1:{self._clients[index]}"
        peer = f"http://127.0.0.1:{self._peers[index]}"
        everyone = [f"m{i}=http://127.0.0.1:{port}" for i, port in enumerate(self._peers)]
        words = ["etcd", "--name", f"m{index}", "--data-dir", f"{self.folder}/m{index}"]
        words += ["--listen-client-urls", client, "--advertise-client-urls", client]
        words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        words += ["--initial-cluster", ",".join(everyone), "--log-level", "error"]
        words += ["--unsafe-no-fsync"]
        self._processes[index] = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self, index: int) -> None:
        process = self._processes[index]
        if process is not None:
            process.kill()
            process.wait()
        self._processes[index] = None

    def wipe(self) -> None:
        """Ends all, and forgets everything."""
        for index in range(len(self._processes)):
            self.kill(index)
            shutil.rmtree(f"{self.folder}/m{index}", ignore_errors=True)

    def end(self) -> None:
        for index in range(len(self._processes)):
            self.kill(index)


class Server:
    def __init__(self, house: ClusterHouse, name: str) -> None:
        self._house = house
        self.name = name
        self.address = f"127.0.0.1:{own_port()}"
        self.process: Process
        self.start()

    def start(self) -> None:
        words = ["server", "--listen", self.address, "--no-admin", "--etcd", self._house.etcd.urls]
        self.process = Process(*words, "--state-dir", f"{self._house.folder}/{self.name}")
        self.process.wait_for_line("membrain server ready")

    def leads(self) -> bool:
        """As its log has it."""
        self.process.read(0)
        told = [line for line in self.process.err if " leads " in line]
        return bool(told) and "leads in epoch" in told[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send(signal.SIGCONT)


def hash_of(number: int) -> bytes:
    return hashlib.sha256(f"block {number}".encode()).digest()


def content_of(number: int) -> bytes:
    return hashlib.shake_128(hash_of(number)).digest(BLOCK_BYTES)


class Engine:
    """Stores and fetches blocks whose bytes follow from their number."""

    def __init__(self, servers: str) -> None:
        self.client = membrain.SyncClient.open(servers, connect_timeout=PATIENCE, label="engine")
        self.space = self.client.open_namespace(model="a model", block_tokens=16)

    def store(self, first: int, count: int) -> int:
        numbers = range(first, first + count)
        blocks = [membrain.Block(hash_of(n), content_of(n)) for n in numbers]
        return int(self.client.store(self.space, blocks, timeout=2.0).ok)

    def hold(self, first: int, count: int) -> Any:
        """A match of all of them, which pins."""
        match = self.client.lookup(self.space, [hash_of(n) for n in range(first, first + count)])
        assert match.prefix == count, match.prefix
        return match

    def fetch(self, match: Any, first: int) -> int:
        """How many came, right; none that came is wrong."""
        into = [bytearray(BLOCK_BYTES) for _ in range(match.prefix)]
        report = self.client.fetch(match, into)
        for number, (got, status) in enumerate(zip(into, report.items, strict=True), first):
            if status.ok:
                assert got == content_of(number), f"wrong bytes of block {number}"
        return int(report.ok)

    def good_lookup(self, first: int, count: int) -> bool:
        """Every block is found, and right."""
        try:
            hashes = [hash_of(n) for n in range(first, first + count)]
            with self.client.lookup(self.space, hashes, timeout=0.5) as match:
                if match.prefix < count:
                    return False
                return self.fetch(match, first) == count
        except membrain.MembrainError:
            return False

    def epoch(self) -> int:
        return int(self.client.server_stats()["epoch"])

    def close(self) -> None:
        self.client.close()


class ClusterHouse:
    """Everything of one cluster, ended in order."""

    def __init__(self, members: int = 3) -> None:
        self.folder = tempfile.mkdtemp(prefix="membrain-cluster-")
        self.etcd = Etcd(self.folder, members)
        self.servers: list[Server] = []
        self.nodes: list[Process] = []
        self.engines: list[Engine] = []

    def start(self, servers: int) -> None:
        for number in range(servers):
            self.servers.append(Server(self, f"server{number}"))
        wait_for("a leader", self.leader)

    @property
    def addresses(self) -> str:
        return ",".join(server.address for server in self.servers)

    def leader(self) -> Server | None:
        found = [one for one in self.servers if one.process.running() and one.leads()]
        return found[0] if len(found) == 1 else None

    def follower(self) -> Server:
        leader = self.leader()
        return next(one for one in self.servers if one is not leader)

    def node(self) -> Process:
        words = ["node", "--server", self.addresses, "--capacity", "64MiB", "--temporary"]
        node = Process(*words, "--name", f"cluster-{os.getpid()}-{len(self.nodes)}")
        node.wait_for_line("registered with", where="err")
        self.nodes.append(node)
        return node

    def engine(self) -> Engine:
        engine = Engine(self.addresses)
        self.engines.append(engine)
        return engine

    def end(self) -> None:
        for engine in self.engines:
            engine.close()
        for process in self.nodes:
            process.end()
        for server in self.servers:
            server.go_on()
            server.process.end()
        self.etcd.end()
        shutil.rmtree(self.folder, ignore_errors=True)


class ClusterTest(unittest.TestCase):
    def house(self, servers: int = 2, members: int = 3) -> ClusterHouse:
        made = ClusterHouse(members)
        self.addCleanup(made.end)
        made.start(servers)
        return made


def main() -> None:
    """One test, as ctest asks for it."""
    if shutil.which("etcd") is None:
        print("skipped: no etcd: apt-get install etcd-server")
        sys.exit(SKIPPED)
    if membrain is None:
        print("skipped: the Python package is not built")
        sys.exit(SKIPPED)
    probe = subprocess.run(
        [os.environ["MEMBRAIN_TEST_BINARY"], "server", "--etcd", "nonsense", "--no-admin"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    if "has no etcd" in probe.stderr:
        print("skipped: built without gRPC")
        sys.exit(SKIPPED)
    unittest.main()


def tell(**figures: object) -> None:
    """For whoever reads the log."""
    print(json.dumps(figures))
