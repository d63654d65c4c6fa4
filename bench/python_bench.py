"""What the client costs in Python: the same calls from C++ and from Python, in turns.

usage: python_bench.py [--build build/release] [--rounds N] [--repeats N] [--json]

Starts a server with a node, and measures fetches of 16 blocks of 1 MiB and lookups of 512 hashes,
blocking and awaited. Medians of several runs each; a ratio above 1 is in Python's favour.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

BLOCK_BYTES, BATCH, LOOKUP = 1 << 20, 16, 512


class Server:
    def __init__(self, build: Path, node: str) -> None:
        binary = build / "tools" / "membrain"
        if not binary.exists():
            sys.exit(f"{binary} is not there: build it first, or name another --build")
        words = ["server", "--listen", "127.0.0.1:0", "--no-admin", "--with-node", node]
        self._process = subprocess.Popen(
            [binary, *words, "--temporary"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        self.address = ""
        for line in self._process.stderr:
            if found := re.search(r"the server listens at (\S+)", line):
                self.address = found[1]
            if "registered with" in line:
                return
        raise SystemExit("the server ended before it listened: " + str(self._process.wait()))

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)


def median_us(rounds: int, work: Callable[[], Any]) -> float:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


async def awaited_us(rounds: int, work: Callable[[], Awaitable[Any]]) -> float:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        await work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def hashes() -> list[bytes]:
    return [number.to_bytes(32, "little") for number in range(BATCH)]


def from_cpp(build: Path, server: str, rounds: int) -> dict[str, float]:
    words = [server, BLOCK_BYTES, BATCH, rounds, LOOKUP]
    program = build / "bench" / "client_loop"
    ran = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=True)
    return dict(json.loads(ran.stdout))


def from_python(server: str, rounds: int) -> dict[str, float]:
    from membrain import Block, SyncClient

    with SyncClient.open(server) as client:
        space = client.open_namespace(model="python bench")
        into = [bytearray(BLOCK_BYTES) for _ in range(BATCH)]
        names = hashes()
        client.store(space, [Block(name, data) for name, data in zip(names, into, strict=True)])
        match = client.lookup(space, names)

        def fetch() -> None:
            assert client.fetch(match, into).ok == BATCH

        wanted = (names * LOOKUP)[:LOOKUP]

        def lookup() -> None:
            assert client.lookup(space, wanted).prefix == LOOKUP

        return {"fetch_us": median_us(rounds, fetch), "lookup_us": median_us(rounds, lookup)}


def awaited(server: str, rounds: int) -> dict[str, float]:
    from membrain import Client

    async def work() -> dict[str, float]:
        async with await Client.open(server) as client:
            space = await client.open_namespace(model="python bench")
            into = [bytearray(BLOCK_BYTES) for _ in range(BATCH)]
            names = hashes()
            match = await client.lookup(space, names)
            wanted = (names * LOOKUP)[:LOOKUP]
            return {
                "fetch_us": await awaited_us(rounds, lambda: client.fetch(match, into)),
                "lookup_us": await awaited_us(rounds, lambda: client.lookup(space, wanted)),
            }

    return asyncio.run(work())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--build", type=Path, default=Path("build/release"))
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, str(options.build.resolve() / "python"))
    server = Server(options.build, "256MiB")
    runs: dict[str, list[dict[str, float]]] = {"C++": [], "blocking": [], "awaited": []}
    try:
        for repeat in range(options.repeats):
            print(f"run {repeat + 1} of {options.repeats}", file=sys.stderr)
            runs["C++"].append(from_cpp(options.build, server.address, options.rounds))
            runs["blocking"].append(from_python(server.address, options.rounds))
            runs["awaited"].append(awaited(server.address, options.rounds))
    finally:
        server.end()
    figures = {
        who: {name: statistics.median(run[name] for run in of) for name in of[0]}
        for who, of in runs.items()
    }
    if options.json:
        print(json.dumps(figures))
        return 0
    print(f"{'':10}{'fetch 16 x 1 MiB':>24}{'ratio':>8}{'lookup 512':>14}{'ratio':>8}")
    control = figures["C++"]
    for who, of in figures.items():
        rate = BATCH * BLOCK_BYTES / of["fetch_us"] * 1e6 / 2**30
        print(
            f"{who:10}{of['fetch_us']:10.0f} us {rate:5.2f} GiB/s"
            f"{control['fetch_us'] / of['fetch_us']:8.2f}{of['lookup_us']:11.0f} us"
            f"{control['lookup_us'] / of['lookup_us']:8.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
