"""How long a node is away when its process dies: with its arena, and for good.

usage: restart_bench.py [--build build/release] [--capacity GIB] [--trials N] [--json]

Starts a server and a node on this machine, and an engine that stores blocks of 64 KiB until the
node's arena is three quarters full. Then, trial after trial, the node is killed (SIGKILL); the time
is taken until its blocks have left the answers, it is started again, and the time is taken until
the first of its blocks is found and read again, and until all are found. In the end all are read
and compared. The worst trial counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PORTION = 1024  # blocks of one call


def stored(engine: Any, blocks: int) -> int:
    """Stores as many, with the same bytes each time; how many are there."""
    return sum(engine.store(first, PORTION, 30.0) for first in range(0, blocks, PORTION))


def found(engine: Any, blocks: int) -> int:
    return sum(engine.found(first, PORTION) for first in range(0, blocks, PORTION))


def one_trial(house: Any, engine: Any, blocks: int, wait_for: Any) -> dict[str, float]:
    node = house.nodes[0]
    before = found(engine, blocks)
    node.kill()
    began = time.monotonic()
    wait_for("its blocks' end", lambda: engine.stats()["nodes"] == 0)
    gone = time.monotonic() - began
    if found(engine, blocks) != 0:
        raise AssertionError("a dead node's blocks are still in the answers")
    began = time.monotonic()
    node.begin()
    wait_for("the first block", lambda: engine.good_lookup(0, 1))
    first = time.monotonic() - began
    node.process.wait_for_line("membrain node ready")
    back = wait_for("all blocks", lambda: found(engine, blocks) >= before * 0.999)
    return {
        "gone_ms": 1000 * gone,
        "first_hit_ms": 1000 * first,
        "all_back_ms": 1000 * (time.monotonic() - began),
        "back_share": found(engine, blocks) / before if back else 0,
    }


def measure(capacity_bytes: int, trials: int) -> dict[str, float]:
    from cluster_engine import BLOCK_BYTES
    from cluster_house import ClusterHouse, wait_for

    house = ClusterHouse(members=0)
    blocks = capacity_bytes * 3 // 4 // BLOCK_BYTES // PORTION * PORTION
    try:
        house.start(servers=1)
        house.node(f"{capacity_bytes >> 20}MiB", lasting=True)
        engine = house.engine()
        wait_for("a node that stores", lambda: engine.store(0, 1) == 1)
        here = stored(engine, blocks)
        rows = [one_trial(house, engine, blocks, wait_for) for _ in range(trials)]
        right = sum(
            engine.fetch(engine.hold(first, PORTION), first) for first in range(0, blocks, PORTION)
        )
    finally:
        house.end()
    worst = {name: max(row[name] for row in rows) for name in rows[0] if name != "back_share"}
    share = min(row["back_share"] for row in rows)
    return worst | {"back_share": share, "blocks": here, "read_right": right, "trials": trials}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--build", type=Path, default=ROOT / "build" / "release")
    options.add_argument("--capacity", type=int, default=4, help="of the arena, in GiB")
    options.add_argument("--trials", type=int, default=5)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    build = chosen.build.resolve()
    binary = build / "tools" / "membrain"
    if not binary.exists():
        sys.exit(f"{binary} is not there: build it first, or name another --build")
    os.environ["MEMBRAIN_TEST_BINARY"] = str(binary)
    for folder in (ROOT / "tests/cluster", ROOT / "tests/tools", build / "python"):
        sys.path.insert(0, str(folder))
    figures = measure(chosen.capacity << 30, chosen.trials)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:>14} {value:>12.4g}")


if __name__ == "__main__":
    main()
