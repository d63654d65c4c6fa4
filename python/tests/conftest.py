"""A server with a node, as processes, for each test that asks for one."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

BINARY = os.environ.get("MEMBRAIN_TEST_BINARY", "membrain")


class Server:
    """Runs until it is ended; its address is known once it listens."""

    def __init__(self, listen: str = "127.0.0.1:0", node: str = "64MiB") -> None:
        words = ["server", "--listen", listen, "--no-admin", "--with-node", node, "--temporary"]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MEMBRAIN_")}
        self._process = subprocess.Popen(
            [BINARY, *words], stderr=subprocess.PIPE, text=True, env=kept
        )
        assert self._process.stderr is not None
        self.address = ""
        for line in self._process.stderr:
            if found := re.search(r"the server listens at (\S+)", line):
                self.address = found[1]
            if "registered with" in line:  # the node
                return
        raise AssertionError("the server ended before it listened")

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        """It answers nothing, until it goes on."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)


def own_address() -> str:
    """Of a server that will be started again there: below the ports that the kernel hands out, so
    that nobody else takes it meanwhile."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, lowest)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return f"127.0.0.1:{port}"


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.end()


def hash_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vllm: under vLLM's own scheduler, where it is installed")
