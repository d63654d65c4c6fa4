"""Hosts on one switch, as far as processes can see: network namespaces, with faults on the wires.

A host is a process that waits for the end of its input and holds a network, a set of IPC names and
a view of /sys, of /dev/shm and of the machine's id. All of it goes when its last process does:
nothing has to be removed, however a test ends. Addresses are of 192.0.2.0/24 (kept for
documentation), and exist in the namespaces alone, which have no way out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

NEEDED = ("ip", "nft", "tc", "unshare", "nsenter", "mount")
HOLD = (
    "mount -t sysfs sysfs /sys && mount -t tmpfs -o size={shm} tmpfs /dev/shm && "
    "mount --bind {id} /proc/sys/kernel/random/boot_id && "
    "ip link set lo up && echo held && exec cat"
)


def lacking() -> str:
    """Why there can be no network here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [word for word in NEEDED if shutil.which(word) is None]
    if missing:
        return f"network namespaces need {', '.join(missing)}: apt-get install iproute2 nftables"
    probe = subprocess.run(
        ["unshare", "--net", "--ipc", "--mount", "--", "nft", "add table ip probe"],
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode != 0:
        return f"no network namespace with nftables here: {probe.stderr.strip()}"
    return ""


class Here:
    """This host, and its loopback."""

    address = "127.0.0.1"
    at: Sequence[str] = ()
    root = Path("/")


def slow(rate: str) -> list[str]:
    return ["root", "tbf", "rate", rate, "burst", "64kb", "latency", "500ms"]


class Host:
    """`at` are the words before a command that run it there, `root` is how its files are seen from
    outside."""

    def __init__(self, name: str, folder: str, address: str, shared_memory: str = "1g") -> None:
        self.name = name
        self.address = address
        machine = Path(folder) / f"id-{name}"
        machine.write_text(f"{uuid.uuid4()}\n")
        self._holder = subprocess.Popen(
            [
                *("unshare", "--net", "--ipc", "--mount", "--"),
                *("sh", "-c", HOLD.format(id=machine, shm=shared_memory)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "held\n", f"no namespaces for {name}"
        holder = str(self._holder.pid)
        self.at = ["nsenter", "--target", holder, "--net", "--ipc", "--mount", "--"]
        self.root = Path(f"/proc/{holder}/root")

    @property
    def pid(self) -> int:
        return self._holder.pid

    def run(self, *words: str, given: str = "") -> str:
        done = subprocess.run(
            [*self.at, *words], input=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{self.name}: {' '.join(words)}: {done.stderr}"
        return done.stdout

    # ---- what the wire does to what comes in

    def spoil(self, *rules: str) -> None:
        """Replaces the rules for packets that come in."""
        chain = "type filter hook input priority 0; policy accept;"
        inside = "\n".join(rules)
        self.sound()
        self.run(
            "nft", "-f", "-", given=f"table ip faults {{\nchain in {{\n{chain}\n{inside}\n}}\n}}\n"
        )

    def deaf_to(self, *others: Host) -> None:
        """Nothing comes in from them."""
        self.spoil(*(f"ip saddr {other.address} drop" for other in others))

    def lose(self, percent: int, of: str = "") -> None:
        """So many of every hundred packets from others are lost, at random: all, or some `of`."""
        lost = f"numgen random mod 100 < {percent} counter drop"
        self.spoil(f"ip saddr != 127.0.0.0/8 {of} {lost}")

    def sound(self) -> None:
        """Ends what `spoil` and its like began."""
        self.run("nft", "-f", "-", given="flush ruleset\n")

    def spoiled(self) -> int:
        """Packets that the rules have met which count (`counter`)."""
        listed = json.loads(self.run("nft", "-j", "list", "ruleset"))
        rules = [entry["rule"]["expr"] for entry in listed["nftables"] if "rule" in entry]
        parts = [part for rule in rules for part in rule if "counter" in part]
        return sum(part["counter"]["packets"] for part in parts)

    # ---- how fast it goes

    def send_at(self, rate: str) -> None:
        """What it sends goes at this rate, "10mbit", behind at most half a second of the same."""
        self.run("tc", "qdisc", "replace", "dev", "eth0", *slow(rate))

    def sent_bytes(self) -> int:
        return int(self.run("cat", "/sys/class/net/eth0/statistics/tx_bytes"))

    def end(self) -> None:
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()


class SlowWire:
    """Between a host and its switch, until `end`: relay.py."""

    def __init__(
        self, switch: Host, host: Host, port: str, delay_ms: float, jitter_ms: float
    ) -> None:
        self._switch, self._port = switch, port
        middle, inner = f"{port}m", f"{port}i"
        switch.run("ip", "link", "add", middle, "type", "veth", "peer", "name", inner)
        switch.run("ip", "link", "set", inner, "master", "switch", "up")
        switch.run("ip", "link", "set", middle, "up")
        host.run("ip", "link", "set", "eth0", "gso_max_segs", "1")  # packets, and no heaps of them
        switch.run("ip", "link", "set", port, "nomaster")
        words = [port, middle, str(delay_ms), str(jitter_ms)]
        self._relay = subprocess.Popen(
            [*switch.at, sys.executable, str(Path(__file__).parent / "relay.py"), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._relay.stdout is not None
        assert self._relay.stdout.readline() == "relays\n", "no relay"

    def end(self) -> dict[str, int]:
        """What the relay has seen; the host is on the switch itself again."""
        told, _ = self._relay.communicate()
        self._switch.run("ip", "link", "set", self._port, "master", "switch")
        self._switch.run("ip", "link", "del", f"{self._port}m")
        return dict(json.loads(told))


class Network:
    """A switch, and the hosts on it."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="membrain-network-")
        self._switch = Host("switch", self.folder, "")
        self._switch.run("ip", "link", "add", "switch", "type", "bridge")
        self._switch.run("ip", "link", "set", "switch", "up")
        self.hosts: list[Host] = []

    def host(self, name: str) -> Host:
        number = len(self.hosts) + 1
        host = Host(name, self.folder, f"192.0.2.{number}")
        self.hosts.append(host)
        port = f"port{number}"
        self._switch.run(
            *("ip", "link", "add", port, "type", "veth"),
            *("peer", "name", "eth0", "netns", str(host.pid)),
        )
        self._switch.run("ip", "link", "set", port, "master", "switch", "up")
        host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        return host

    def receive_at(self, host: Host, rate: str) -> None:
        """What goes to it goes at this rate, whoever sends."""
        port = f"port{self.hosts.index(host) + 1}"
        self._switch.run("tc", "qdisc", "replace", "dev", port, *slow(rate))

    def delay(self, host: Host, delay_ms: float, jitter_ms: float) -> SlowWire:
        """Each packet to and from it takes so long, and up to `jitter_ms` more."""
        port = f"port{self.hosts.index(host) + 1}"
        return SlowWire(self._switch, host, port, delay_ms, jitter_ms)

    @staticmethod
    def part(some: Iterable[Host], others: Iterable[Host]) -> None:
        """Both ways, until both are `sound`."""
        some, others = list(some), list(others)
        for host in some:
            host.deaf_to(*others)
        for host in others:
            host.deaf_to(*some)

    def heal(self) -> None:
        for host in self.hosts:
            host.sound()

    def end(self) -> None:
        for host in [*self.hosts, self._switch]:
            host.end()
        shutil.rmtree(self.folder, ignore_errors=True)
