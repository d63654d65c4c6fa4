"""The membrain binary as a process, for tests: started, listened to, and always ended."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

BINARY = os.environ.get("MEMBRAIN_TEST_BINARY", "")
BLOCK_TOKENS = 512
SANITIZED = bool(os.environ.get("MEMBRAIN_TEST_SANITIZED"))
# Bounds are against hangs, not against slowness.
PATIENCE = 180.0 if SANITIZED else 60.0
SKIPPED = 77  # what ctest takes for "skipped"


def clean_environment(**extra: str) -> dict[str, str]:
    """Ours without MEMBRAIN_*: each of those is an option."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MEMBRAIN_")}
    return kept | extra


class Process:
    """One process; its output is kept line by line while it runs. `at` are words before the
    binary's, of a command that becomes it."""

    def __init__(
        self, *words: str, env: dict[str, str] | None = None, at: Sequence[str] = ()
    ) -> None:
        self.words = words
        self.out: list[str] = []
        self.err: list[str] = []
        self._rest = {"out": b"", "err": b""}
        self._told_to_end = False
        self._process = subprocess.Popen(
            [*at, BINARY, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env or clean_environment(),
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def read(self, longest: float) -> bool:
        """Takes what is there, waiting for it at most `longest`; false once both outputs ended."""
        streams: list[tuple[str, IO[bytes]]] = []
        if self._process.stdout is not None and not self._process.stdout.closed:
            streams.append(("out", self._process.stdout))
        if self._process.stderr is not None and not self._process.stderr.closed:
            streams.append(("err", self._process.stderr))
        if not streams:
            return False
        ready, _, _ = select.select([stream for _, stream in streams], [], [], max(0, longest))
        for name, stream in streams:
            if stream not in ready:
                continue
            portion = os.read(stream.fileno(), 65536)
            if not portion:
                stream.close()
                continue
            *lines, self._rest[name] = (self._rest[name] + portion).split(b"\n")
            getattr(self, name).extend(line.decode(errors="replace") for line in lines)
        return True

    def wait_for_line(self, words: str, where: str = "out", patience: float = PATIENCE) -> str:
        """The first line that holds `words`, or a failure that shows all there was."""
        deadline = time.monotonic() + patience
        seen = 0
        while True:
            lines: list[str] = getattr(self, where)
            for line in lines[seen:]:
                if words in line:
                    return line
            seen = len(lines)
            if time.monotonic() > deadline or not self.read(deadline - time.monotonic()):
                raise AssertionError(f'no line with "{words}" from {self.describe()}')

    def wait(self, patience: float = PATIENCE) -> int:
        """Its exit status; a failure, and its end, if it takes longer than `patience`."""
        deadline = time.monotonic() + patience
        while self.read(deadline - time.monotonic()):
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"still running after {patience} s: {self.describe()}")
        return self._process.wait(timeout=max(1.0, deadline - time.monotonic()))

    def send(self, number: signal.Signals) -> None:
        if self.running():
            self._told_to_end |= number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
            self._process.send_signal(number)

    def died(self) -> str:
        """What it said, if it has ended by itself."""
        if self.running() or self._told_to_end:
            return ""
        while self.read(0):
            pass
        return f"ended by itself, with {self._process.returncode}: {self.describe()}"

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    def end(self) -> None:
        """Asks, then forces; always reaps."""
        self.send(signal.SIGTERM)
        try:
            self.wait(20)
        except (AssertionError, subprocess.TimeoutExpired):
            self.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def describe(self) -> str:
        out, err = "\n".join(self.out), "\n".join(self.err)
        return f"membrain {' '.join(self.words)}\nstdout:\n{out}\nstderr:\n{err}"


def run(
    *words: str,
    patience: float = PATIENCE,
    env: dict[str, str] | None = None,
    at: Sequence[str] = (),
) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command that ends by itself."""
    with Process(*words, env=env, at=at) as process:
        status = process.wait(patience)
        return status, "\n".join(process.out), "\n".join(process.err)


def children_of(pid: int) -> list[tuple[int, str]]:
    """Direct children that run: process id and the word after `membrain`."""
    found: list[tuple[int, str]] = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError, ValueError):
            continue
        if parent == pid and len(words) > 1:
            found.append((int(folder.name), words[1].decode()))
    return sorted(found)


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in use, with its share of what others use too; 0 once it has
    ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def listening_ports(pid: int) -> list[int]:
    """TCP ports on which a process listens."""
    inodes: set[str] = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    ports: set[int] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return sorted(ports)


def taken_port() -> socket.socket:
    """A listening socket: its port is in use until it is closed."""
    sock = socket.create_server(("127.0.0.1", 0))
    return sock


class Trace:
    """Requests made up from a seed, written as a trace, with what a perfect cache would answer."""

    def __init__(self, requests: int, seed: int = 1, conversations: int = 20) -> None:
        dice = random.Random(seed)
        self.lines: list[str] = []
        self.looked_up = self.hit = self.tokens_saved = 0
        self.distinct: set[int] = set()
        histories: list[list[int]] = [[] for _ in range(conversations)]
        for index in range(requests):
            history = histories[dice.randrange(conversations)]
            if len(history) > 40:
                history.clear()
            history.extend(dice.getrandbits(64) for _ in range(dice.randint(1, 6)))
            tokens = len(history) * BLOCK_TOKENS - dice.randrange(BLOCK_TOKENS)
            self.add(index * 5, tokens, list(history))

    def add(self, timestamp: int, tokens: int, ids: list[int]) -> None:
        hit = next((i for i, block in enumerate(ids) if block not in self.distinct), len(ids))
        self.looked_up += len(ids)
        self.hit += hit
        self.tokens_saved += min(hit * BLOCK_TOKENS, tokens)
        self.distinct.update(ids)
        request = {"timestamp": timestamp, "input_length": tokens, "output_length": 1}
        self.lines.append(json.dumps(request | {"hash_ids": ids}))

    def write(self, folder: str | Path) -> str:
        path = Path(folder) / "trace.jsonl"
        path.write_text("\n".join(self.lines) + "\n")
        return str(path)


class ProcessTest(unittest.TestCase):
    """A test with a folder of its own, that fails if anything is left behind."""

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="membrain-test-")
        self.addCleanup(self._remove_folder)
        self._arenas = self._arena_files()

    def _remove_folder(self) -> None:
        for path in sorted(Path(self.folder).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        Path(self.folder).rmdir()

    @staticmethod
    def _arena_files() -> set[str]:
        """Of processes; other tests, which run meanwhile, name theirs membrain-test-..."""
        names = {path.name for path in Path("/dev/shm").glob("membrain-*")}
        return {name for name in names if not name.startswith("membrain-test-")}

    def assert_nothing_left(self) -> None:
        self.assertEqual(self._arena_files() - self._arenas, set(), "arenas left in /dev/shm")

    def figures(self, text: str) -> dict[str, Any]:
        """`--json` prints one object and nothing else."""
        figures: dict[str, Any] = json.loads(text)
        self.assertIsInstance(figures, dict)
        self.assertEqual(figures["wrong_bytes"], 0)
        missed = sum(figures["misses"].values())
        self.assertEqual(figures["blocks_looked_up"], figures["blocks_hit"] + missed)
        return figures


def main() -> None:
    """Runs the tests that the command line names; a run in which all were skipped is skipped."""
    if not BINARY:
        sys.exit("MEMBRAIN_TEST_BINARY must name the membrain binary")
    result = unittest.main(verbosity=2, exit=False).result
    if not result.wasSuccessful():
        sys.exit(1)
    if result.testsRun == len(result.skipped):
        sys.exit(SKIPPED)
