"""An engine that compares every byte; in this process, or in one of its own on any host.

    cluster_engine.py SERVERS SECRET

answers calls, a line of JSON each, until standard input ends: {"call": "store", "with": [0, 40]}
with {"is": {"ok": 40, ...}}, or {"error": "unavailable"}.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from network import Here, Host

try:
    import membrain  # of the build tree
except ImportError:
    membrain = None  # type: ignore[assignment]

BUILT = membrain is not None
BLOCK_BYTES = 64 * 1024
PATIENCE = 60.0  # a bound against hangs, not against slowness
CONNECT = 5.0  # seconds, what a client has for that by itself
LATEST = 1.0  # seconds after its deadline an operation has ended


def hash_of(number: int) -> bytes:
    return hashlib.sha256(f"block {number}".encode()).digest()


def content_of(number: int) -> bytes:
    return hashlib.shake_128(hash_of(number)).digest(BLOCK_BYTES)


def hashes_of(first: int, count: int) -> list[bytes]:
    return [hash_of(number) for number in range(first, first + count)]


class Engine:
    """Stores and fetches blocks whose bytes follow from their number. Every operation must end by
    its deadline and a second, and every block that is said to be here must be right."""

    def __init__(self, servers: str, secret: str = "", connect_timeout: float = PATIENCE) -> None:
        self.client = membrain.SyncClient.open(
            servers, connect_timeout=connect_timeout, label="engine", secret=secret
        )
        self.space = self.client.open_namespace(model="a model", block_tokens=16)
        self._servers, self._secret = servers, secret
        self._held: dict[int, Any] = {}
        self._holds = 0
        self._content = content_of

    def store(self, first: int, count: int, timeout: float = 2.0) -> int:
        return int(self.store_each(first, count, timeout)["ok"])

    def store_each(self, first: int, count: int, timeout: float = 2.0) -> dict[str, Any]:
        """How many are there now, and why others are not."""
        numbers = range(first, first + count)
        blocks = [membrain.Block(hash_of(n), self._content(n)) for n in numbers]
        return self._timed(timeout, lambda: self.client.store(self.space, blocks, timeout=timeout))

    def hold(self, first: int, count: int) -> Any:
        """A match of all of them, which pins."""
        match = self.client.lookup(self.space, hashes_of(first, count))
        assert match.prefix == count, match.prefix
        return match

    def fetch(self, match: Any, first: int) -> int:
        """How many came, right; none that came is wrong."""
        return int(self.fetch_each(match, first)["ok"])

    def fetch_each(self, match: Any, first: int, timeout: float = 10.0) -> dict[str, Any]:
        into = [bytearray(BLOCK_BYTES) for _ in range(match.prefix)]
        told = self._timed(timeout, lambda: self.client.fetch(match, into, timeout=timeout))
        for place, got in enumerate(into):
            if place not in told["missed"] and "error" not in told:
                assert got == self._content(first + place), f"wrong bytes of block {first + place}"
        return told

    def good_lookup(self, first: int, count: int, timeout: float = 0.5) -> bool:
        """Every block is found, and right."""
        try:
            with self.client.lookup(
                self.space, hashes_of(first, count), timeout=timeout
            ) as match:
                if match.prefix < count:
                    return False
                return self.fetch(match, first) == count
        except membrain.MembrainError:
            return False

    def read_afresh(self, first: int, count: int, timeout: float = 0.5) -> dict[str, Any]:
        """Looks all of them up anew, in any order, and fetches what is found: `found`, `ok`."""
        numbers = range(first, first + count)
        try:
            hashes = hashes_of(first, count)
            match = self.client.lookup(self.space, hashes, rule="all", timeout=timeout)
        except membrain.MembrainError as error:
            return {"found": 0, "ok": 0, "why": {error.code: count}}
        with match:
            here = [place for place in range(count) if match.has(place)]
            into = [bytearray(BLOCK_BYTES) for _ in here]
            told = self._timed(
                10.0, lambda: self.client.fetch(match, into, blocks=here, timeout=10.0)
            )
        for item, place in enumerate(here):
            if item not in told["missed"] and "error" not in told:
                assert into[item] == self._content(numbers[place]), f"block {numbers[place]}"
        return {"found": len(here), "ok": told["ok"], "why": told["why"]}

    def found(self, first: int, count: int) -> int:
        """How many of them are in the server's answer now."""
        return sum(self.client.contains(self.space, hashes_of(first, count)))

    def clear(self) -> None:
        self.space = self.client.clear(self.space)

    def stats(self) -> dict[str, int]:
        return self.client.server_stats()

    def epoch(self) -> int:
        return int(self.stats()["epoch"])

    def close(self) -> None:
        self.client.close()

    def be_plain(self) -> None:
        """Blocks are one byte all over from now on: for faults that must know a block's bytes."""
        self._content = lambda number: b"\x5a" * BLOCK_BYTES

    # ---- matches by number, for whoever is in another process

    def keep(self, first: int, count: int) -> int:
        self._holds += 1
        self._held[self._holds] = self.hold(first, count)
        return self._holds

    def fetch_kept(self, kept: int, first: int, timeout: float = 10.0) -> dict[str, Any]:
        return self.fetch_each(self._held[kept], first, timeout)

    def release(self, kept: int) -> None:
        self._held.pop(kept).release()

    # ---- what only tests do

    def right(self, first: int, count: int) -> int:
        """How many of these blocks can be fetched, one by one, each right."""
        here = 0
        for number in range(first, first + count):
            with self.client.lookup(self.space, [hash_of(number)]) as match:
                here += self.fetch(match, number) if match.prefix else 0
        return here

    def crowd(self, count: int) -> int:
        """Opens so many more clients, and closes them again; how many had a session."""
        opened = []
        options = {"connect_timeout": 1.0, "secret": self._secret}
        for _ in range(count):
            with contextlib.suppress(membrain.MembrainError):
                opened.append(membrain.SyncClient.open(self._servers, **options))
        for client in opened:
            client.close()
        return len(opened)

    def flip(self, arena: str, numbers: list[int]) -> int:
        """One bit in the middle of each of these blocks, where they lie; how many were found."""
        with open(arena, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            found = [memory.find(self._content(number)) for number in numbers]
            for place in found:
                if place >= 0:
                    memory[place + BLOCK_BYTES // 2] ^= 1
        return sum(place >= 0 for place in found)

    def lying_in(self, arena: str, numbers: list[int]) -> list[int]:
        """Those of these blocks whose bytes are there."""
        with open(arena, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            return [number for number in numbers if memory.find(self._content(number)) >= 0]

    def _timed(self, timeout: float, transfer: Any) -> dict[str, Any]:
        began = time.monotonic()
        told: dict[str, Any] = {"ok": 0, "missed": [], "why": {}}
        try:
            report = transfer()
            told["ok"] = report.ok
            told["missed"] = [place for place, item in enumerate(report.items) if not item.ok]
            told["why"] = dict(Counter(item.why for item in report.items if not item.ok))
            told["lanes"] = report.lanes
        except membrain.MembrainError as error:
            told["error"] = error.code
        told["seconds"] = time.monotonic() - began
        bound = timeout + LATEST
        assert told["seconds"] <= bound, f"an operation took {told['seconds']} s of {timeout} s"
        return told


class FarError(Exception):
    """What a call at a far engine failed with."""


class FarEngine:
    """An engine in a process of its own, which opens its client with the first call: `call` asks
    and waits, `begin` and `answer` do each."""

    def __init__(
        self, place: Host | Here, environment: dict[str, str], servers: str, secret: str
    ) -> None:
        self.place = place
        self._process = subprocess.Popen(
            [*place.at, sys.executable, __file__, servers, secret],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self, name: str, *words: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": name, "with": words}) + "\n")
        self._process.stdin.flush()

    def has_answered(self, patience: float = 0.0) -> bool:
        return bool(select.select([self._process.stdout], [], [], patience)[0])

    def answer(self) -> Any:
        assert self._process.stdout is not None
        assert self.has_answered(PATIENCE), "the engine hangs"
        line = self._process.stdout.readline()
        assert line, "the engine ended"
        told = json.loads(line)
        assert "wrong" not in told, told["wrong"]
        if "error" in told:
            raise FarError(told["error"])
        return told["is"]

    def call(self, name: str, *words: Any) -> Any:
        self.begin(name, *words)
        return self.answer()

    def store(self, first: int, count: int) -> int:
        return int(self.call("store", first, count))

    def good_lookup(self, first: int, count: int) -> bool:
        return bool(self.call("good_lookup", first, count))

    def stats(self) -> dict[str, int]:
        told: dict[str, int] = self.call("stats")
        return told

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def child_that_dies_with_pins(opened: list[str], first: int, count: int) -> None:
    """UCX does not outlive a fork: whoever calls this has no client."""
    child = os.fork()
    if child == 0:
        try:
            engine = Engine(opened[0], opened[1])
            engine.keep(first, count)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it did not get so far"


def main() -> None:
    opened = sys.argv[1:]
    engine: Engine | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        told: dict[str, Any]
        try:
            if asked["call"] == "child_that_dies_with_pins":
                child_that_dies_with_pins(opened, *asked["with"])
                told = {"is": None}
            else:
                engine = engine or Engine(opened[0], opened[1], CONNECT)
                told = {"is": getattr(engine, asked["call"])(*asked["with"])}
        except membrain.MembrainError as error:
            told = {"error": error.code}
        except AssertionError as error:
            told = {"wrong": str(error)}
        print(json.dumps(told), flush=True)
    if engine is not None:
        engine.close()


if __name__ == "__main__":
    main()
