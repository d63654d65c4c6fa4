"""A server with a node, as processes, for each test that asks for one."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator

import pytest

BINARY = os.environ.get("MEMBRAIN_TEST_BINARY", "membrain")


class Server:
    """Runs until it is ended; its address is known once it listens."""

    def __init__(self, listen: str = "127.0.0.1:0") -> None:
        words = ["server", "--listen", listen, "--no-admin", "--with-node", "64MiB", "--temporary"]
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

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.end()


def hash_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()
