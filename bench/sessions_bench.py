"""What many sessions cost one server, and how they come back after a change of leaders.

usage: sessions_bench.py [--build build/release] [--sessions N] [--seconds S] [--no-watch] [--json]

Starts three members of etcd, two servers and a node on this machine, and `sessions_load`: whole
clients in one process, each with its heartbeats, a lookup of 64 blocks and a small request a
second. Then the leader is killed, and the time is taken until every session is back and has found
its blocks. Sessions, servers and etcd share the machine's processors. With --no-watch servers wait
for the end of a dead leader's lease, and all sessions ask after another meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = 64


def fill(house: Any) -> None:
    import membrain
    from cluster_house import PATIENCE, wait_for

    house.node()
    client = membrain.SyncClient.open(house.addresses, connect_timeout=PATIENCE)
    space = client.open_namespace(model="sessions bench")
    names = [number.to_bytes(8, "little") for number in range(BLOCKS)]
    blocks = [membrain.Block(name, bytes(4096)) for name in names]
    wait_for("a node that stores", lambda: client.store(space, blocks, timeout=2.0).ok == BLOCKS)
    client.close()


def measure(program: Path, sessions: int, seconds: int, watch: bool) -> dict[str, float]:
    from cluster_house import ClusterHouse

    house = ClusterHouse()
    words = [str(program)]
    try:
        house.start(servers=2, words=() if watch else ("--no-leader-watch",))
        fill(house)
        words += [house.addresses, str(sessions), str(seconds)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout is not None
            figures: dict[str, float] = json.loads(load.stdout.readline() or "{}")
            leader = house.leader()
            if not figures or leader is None:
                sys.exit("the sessions could not be opened")
            leader.kill()
            began = time.monotonic()
            if not load.stdout.readline():
                sys.exit("the sessions did not come back")
            figures["herd_ms"] = round(1000 * (time.monotonic() - began))
    finally:
        house.end()
    return figures


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--build", type=Path, default=ROOT / "build" / "release")
    options.add_argument("--sessions", type=int, default=250)
    options.add_argument("--seconds", type=int, default=20)
    options.add_argument("--no-watch", action="store_true")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    build = chosen.build.resolve()
    binary, program = build / "tools" / "membrain", build / "bench" / "sessions_load"
    for needed in (binary, program):
        if not needed.exists():
            sys.exit(f"{needed} is not there: build it first, or name another --build")
    os.environ["MEMBRAIN_TEST_BINARY"] = str(binary)
    for folder in (ROOT / "tests/cluster", ROOT / "tests/tools", build / "python"):
        sys.path.insert(0, str(folder))
    figures = measure(program, chosen.sessions, chosen.seconds, not chosen.no_watch)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:>20} {value:>10}")


if __name__ == "__main__":
    main()
