"""python/test_membrain_demo.py, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from conftest import BINARY, Server, own_address

SCRIPT = Path(__file__).resolve().parents[1] / "test_membrain_demo.py"
ENVIRONMENT = {**os.environ, "MEMBRAIN_BINARY": BINARY}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)


def test_it_starts_a_server_and_the_second_engine_gets_hits() -> None:
    ran = run("--server", own_address())
    assert ran.returncode == 0, ran.stderr
    assert "started a server" in ran.stdout
    assert re.search(r"MEMBRAIN STORE engine 1", ran.stdout)
    assert re.search(r"MEMBRAIN HIT   engine 2", ran.stdout)
    assert re.search(r"hits +0 +[1-9]", ran.stdout) and "every byte right" in ran.stdout


def test_the_binary_runs_it_too() -> None:
    beside = Path(BINARY).resolve().parents[1] / "python"
    ran = subprocess.run([BINARY, "demo", "--python"], capture_output=True, text=True, timeout=120)
    assert beside.is_dir()
    assert ran.returncode == 0, ran.stderr
    assert "every byte right" in ran.stdout


def test_it_finds_a_server(server: Server) -> None:
    ran = run("--server", server.address, "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["good"] and told["engine 2"]["hits"] > 0 and told["engine 2"]["wrong"] == 0


def test_without_a_node_it_says_so() -> None:
    words = ["server", "--listen", "127.0.0.1:0", "--no-admin", "--temporary"]
    with subprocess.Popen([BINARY, *words], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        lines = iter(server.stderr)
        address = next(filter(None, (re.search(r"server listens at (\S+)", x) for x in lines)))[1]
        ran = run("--server", address)
        server.terminate()
    assert ran.returncode == 1 and "got no hits: is a node registered" in ran.stdout


def test_a_server_that_is_killed_means_misses_until_it_is_back() -> None:
    address = own_address()
    server = Server(listen=address)
    command = [sys.executable, str(SCRIPT), "--server", address, "--seconds", "6"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT
    ) as demo:
        assert demo.stdout is not None
        said: list[str] = []

        def until(pattern: str) -> None:
            assert demo.stdout is not None
            for line in demo.stdout:
                said.append(line)
                if re.search(pattern, line):
                    return
            raise AssertionError(f"it never said {pattern!r}:\n" + "".join(said[-20:]))

        until(r"MEMBRAIN STORE engine 1")
        server.kill()
        until(r"MEMBRAIN MISS +engine 1 .*the cluster is away")
        again = Server(listen=address)
        until(r"MEMBRAIN HIT +engine 2")
        until(r"every byte right")
    assert demo.returncode == 0
    again.end()
