"""A cluster of real processes: members of etcd, servers, a node, and an engine that checks every
byte."""

from __future__ import annotations

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cluster_engine import BUILT, PATIENCE, Engine, FarEngine
from membrain_process import SKIPPED, Process, clean_environment
from network import Here, Host, Network, lacking

LEASE = 3.0  # seconds, what `membrain server` asks for by itself
SECRET = "known to all of the cluster"


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


def states_of(pid: int) -> set[str]:
    """Of a process's threads, as proc(5) has them."""
    stats = [task / "stat" for task in Path(f"/proc/{pid}/task").iterdir()]
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in stats}


class Etcd:
    """Members of one etcd; each can be killed, stopped and started again on its data."""

    def __init__(self, folder: str, places: Sequence[Host | Here]) -> None:
        self.folder = folder
        self._places = places
        self._clients = [f"http://{place.address}:{own_port()}" for place in places]
        self._peers = [f"http://{place.address}:{own_port()}" for place in places]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * len(places)
        for index in range(len(places)):
            self.start(index)

    @property
    def urls(self) -> str:
        return ",".join(self._clients)

    def start(self, index: int) -> None:
        client, peer = self._clients[index], self._peers[index]
        everyone = [f"m{i}={url}" for i, url in enumerate(self._peers)]
        words = [*self._places[index].at, "etcd", "--name", f"m{index}"]
        words += ["--data-dir", f"{self.folder}/m{index}"]
        words += ["--listen-client-urls", client, "--advertise-client-urls", client]
        words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        words += ["--initial-cluster", ",".join(everyone), "--log-level", "error"]
        words += ["--unsafe-no-fsync"]
        self._processes[index] = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def send(self, index: int, number: signal.Signals) -> None:
        process = self._processes[index]
        if process is not None:
            process.send_signal(number)

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
    """With etcd one of several, without it alone."""

    def __init__(self, house: ClusterHouse, name: str, place: Host | Here, *words: str) -> None:
        self._house = house
        self._words = words
        self.name = name
        self.place = place
        self.address = f"{place.address}:{own_port()}"
        self.state = f"{house.folder}/{name}"
        self.process: Process
        self.start()

    def start(self) -> None:
        words = ["server", "--listen", self.address, "--no-admin", "--state-dir", self.state]
        if self._house.etcd is not None:
            words += ["--etcd", self._house.etcd.urls]
        words += self._words
        at = [*self.place.at, *self._house.before]
        self.process = Process(*words, at=at, env=self._house.environment)
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
        """Ends when none of its threads runs any more: until then they serve."""
        self.process.send(signal.SIGSTOP)
        wait_for("a stopped server", lambda: states_of(self.process.pid) == {"T"})

    def go_on(self) -> None:
        self.process.send(signal.SIGCONT)


class Node:
    """Its arena outlives it, if it has a host of its own or is `lasting`."""

    def __init__(
        self, house: ClusterHouse, place: Host | Here, words: list[str], lasting: bool
    ) -> None:
        self._house = house
        self._words = words
        if isinstance(place, Here) and not lasting:
            self._words.append("--temporary")
        self.place = place
        self.name = f"cluster-{os.getpid()}-{len(house.nodes)}"
        self.arena = place.root / f"dev/shm/membrain-{self.name}"
        self.process: Process
        self.start()

    def start(self) -> None:
        self.begin()
        self.process.wait_for_line("membrain node ready")

    def begin(self) -> None:
        words = ["node", "--server", self._house.addresses, "--name", self.name]
        words += ["--listen", f"{self.place.address}:0", *self._words]
        at = [*self.place.at, *self._house.before]
        self.process = Process(*words, at=at, env=self._house.environment)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def said(self) -> str:
        return "\n".join(self.process.err)

    def end(self) -> None:
        self.process.send(signal.SIGCONT)
        self.process.end()
        self.arena.unlink(missing_ok=True)


class ClusterHouse:
    """Everything of one cluster, ended in order. With a network each process that is named here has
    a host of its own: `members` of etcd (none: one server alone) on those of the servers."""

    def __init__(self, members: int = 3, network: Network | None = None) -> None:
        self.folder = tempfile.mkdtemp(prefix="membrain-cluster-")
        self.network = network
        secret = {"MEMBRAIN_SECRET": SECRET} if network else {}
        self.environment = clean_environment(**secret)
        self.before: list[str] = []  # words that run servers and nodes, on their hosts
        self._server_places = [self.place(f"server{i}") for i in range(max(members, 1))]
        self.etcd = Etcd(self.folder, self._server_places[:members]) if members else None
        self.servers: list[Server] = []
        self.nodes: list[Node] = []
        self.engines: list[Engine] = []
        self.far_engines: list[FarEngine] = []

    def place(self, name: str) -> Host | Here:
        return self.network.host(name) if self.network else Here()

    def start(self, servers: int, words: Sequence[str] = ()) -> None:
        for number in range(servers):
            place = self._server_places[number % len(self._server_places)]
            self.servers.append(Server(self, f"server{number}", place, *words))
        if self.etcd is not None and self.servers:
            wait_for("a leader", self.leader)

    def server_hosts(self) -> list[Host]:
        return [place for place in self._server_places if isinstance(place, Host)]

    @property
    def members(self) -> Etcd:
        assert self.etcd is not None
        return self.etcd

    @property
    def addresses(self) -> str:
        return ",".join(server.address for server in self.servers)

    def leader(self) -> Server | None:
        found = [one for one in self.servers if one.process.running() and one.leads()]
        return found[0] if len(found) == 1 else None

    def follower(self) -> Server:
        leader = self.leader()
        return next(one for one in self.servers if one is not leader)

    def node(self, capacity: str = "64MiB", *more: str, lasting: bool = False) -> Node:
        words = ["--capacity", capacity, *more]
        node = Node(self, self.place(f"node{len(self.nodes)}"), words, lasting)
        self.nodes.append(node)
        return node

    def engine(self) -> Engine:
        engine = Engine(self.addresses)
        self.engines.append(engine)
        return engine

    def far_engine(self, host: Host | Here | None = None) -> FarEngine:
        """On a host of its own, unless one is named."""
        place = host or self.place(f"engine{len(self.far_engines)}")
        secret = SECRET if self.network else ""
        engine = FarEngine(place, dict(os.environ), self.addresses, secret)
        self.far_engines.append(engine)
        return engine

    def listen(self) -> None:
        """Takes what all have said: one that nobody listens to waits, once its pipe is full."""
        everyone: list[Node | Server] = [*self.nodes, *self.servers]
        for one in everyone:
            one.process.read(0)

    def end(self) -> None:
        """A failure if a process has ended that nobody told to."""
        for engine in self.engines:
            engine.close()
        for far in self.far_engines:
            far.close()
        mortals: list[Node | Server] = [*self.nodes, *self.servers]
        died = [told for one in mortals if (told := one.process.died())]
        for node in self.nodes:
            node.end()
        for server in self.servers:
            server.go_on()
            server.process.end()
        if self.etcd is not None:
            self.etcd.end()
        shutil.rmtree(self.folder, ignore_errors=True)
        if died:
            raise AssertionError("\n".join(died))


class ClusterTest(unittest.TestCase):
    def house(self, servers: int = 2, members: int = 3) -> ClusterHouse:
        made = ClusterHouse(members)
        self.addCleanup(made.end)
        made.start(servers)
        return made


class NetworkTest(unittest.TestCase):
    """Skipped, with the reason, where there can be no network of hosts."""

    def setUp(self) -> None:
        if why := lacking():
            self.skipTest(why)

    def house(
        self, servers: int = 1, members: int = 0, words: Sequence[str] = ()
    ) -> ClusterHouse:
        """`words` are the servers'."""
        network = Network()
        self.addCleanup(network.end)
        made = ClusterHouse(members, network)
        self.addCleanup(made.end)
        made.start(servers, words)
        return made


def main() -> None:
    """One test, as ctest asks for it."""
    if shutil.which("etcd") is None:
        print("skipped: no etcd: apt-get install etcd-server")
        sys.exit(SKIPPED)
    if not BUILT:
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
    result = unittest.main(verbosity=2, exit=False).result
    if not result.wasSuccessful():
        sys.exit(1)
    if result.testsRun == len(result.skipped):
        sys.exit(SKIPPED)


def tell(**figures: object) -> None:
    """For whoever reads the log."""
    print(json.dumps(figures))
