"""How long a cluster is without its leader.

usage: failover_bench.py [--build build/release] [--trials N] [--how kill|pause|all]
                         [--no-watch] [--blocks N] [--json]

Starts three members of etcd, two servers and a node on this machine, and an engine that looks up
and fetches 40 blocks over and over, comparing every byte. Then, trial after trial, the leader is
killed (SIGKILL), or stopped until the other server leads (SIGSTOP), and the time is taken until the
engine has found and read all blocks again, and until the new leader knows every block that there
was. Killed leaders are started again, stopped ones go on. With --no-watch servers wait for the end
of a dead leader's lease. With --blocks the node has so many more blocks, of a page each. A trial in
which a pin, a replica or a byte was lost ends the run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COUNT = 40
PORTION = 1024  # small blocks of one call
SMALL_BYTES = 64
PAGE_BYTES = 4096  # what a small block takes in an arena


def fill(house: Any, blocks: int) -> int:
    """Small blocks, of somebody who goes then; how many are there."""
    import membrain

    with membrain.SyncClient.open(house.addresses, label="filler") as client:
        space = client.open_namespace(model="many blocks", block_tokens=16)
        there = 0
        for first in range(0, blocks, PORTION):
            numbers = range(first, min(first + PORTION, blocks))
            names = [hashlib.sha256(f"small {number}".encode()).digest() for number in numbers]
            portion = [membrain.Block(name, name[:1] * SMALL_BYTES) for name in names]
            there += int(client.store(space, portion, timeout=60.0).ok)
    return there


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def stats_of(engine: Any) -> dict[str, int]:
    """What the leader counts; nothing while connections come and go after a change."""
    import membrain

    try:
        told: dict[str, int] = engine.stats()
    except membrain.MembrainError:
        return {}
    return told


def found_all(stats: dict[str, int], blocks: int) -> dict[str, int] | None:
    return stats if stats.get("replicas", -1) >= blocks else None


def one_trial(
    house: Any, engine: Any, how: str, blocks: int, wait_for: Any
) -> tuple[float, float]:
    """Seconds to a good lookup, and until every block is known."""
    leader = wait_for("a leader", house.leader)
    held = engine.hold(0, 10)
    epoch = wait_for("an epoch", lambda: stats_of(engine))["epoch"]
    if how == "kill":
        leader.kill()
    else:
        leader.stop()
    began = time.monotonic()
    # A stopped server answers nothing: what was asked of it has to time out first.
    wait_for("a good lookup", lambda: engine.good_lookup(0, COUNT))
    took = time.monotonic() - began
    if engine.fetch(held, 0) != 10:
        raise AssertionError("blocks that were pinned are gone")
    stats = wait_for("all blocks", lambda: found_all(stats_of(engine), blocks))
    known = time.monotonic() - began
    if stats["epoch"] <= epoch:
        raise AssertionError("the epoch has not grown")
    if stats["pins"] != 10 or stats["replicas"] != blocks:
        raise AssertionError(f"only {stats['pins']} pins, {stats['replicas']} replicas are left")
    held.release()
    if how == "kill":
        leader.start()
    else:
        leader.go_on()
        leader.process.wait_for_line("leads no more", where="err")
        leader.process.err.clear()
    wait_for("the former leader follows", lambda: not leader.leads())
    return took, known


def measure(how: str, trials: int, more: int, watch: bool) -> dict[str, float]:
    from cluster_house import ClusterHouse, Server, wait_for
    from network import Here

    house = ClusterHouse()
    try:
        for name in ("server0", "server1"):
            words = () if watch else ("--no-leader-watch",)
            house.servers.append(Server(house, name, Here(), *words))
        house.node(f"{64 + more * PAGE_BYTES * 3 // 2 // 2**20}MiB")
        engine = house.engine()
        wait_for("a node that stores", lambda: engine.store(0, COUNT) == COUNT)
        blocks = COUNT + fill(house, more)
        took = []
        known = []
        for trial in range(trials):
            found, all_found = one_trial(house, engine, how, blocks, wait_for)
            took.append(1000 * found)
            known.append(1000 * all_found)
            if sys.stderr.isatty():
                print(f"\r{how}: {trial + 1} of {trials}", end="", file=sys.stderr)
        if sys.stderr.isatty():
            print(file=sys.stderr)
    finally:
        house.end()
    return {
        "trials": trials,
        "blocks": blocks,
        "median_ms": quantile(took, 0.5),
        "p99_ms": quantile(took, 0.99),
        "longest_ms": max(took),
        "all_known_median_ms": quantile(known, 0.5),
        "all_known_longest_ms": max(known),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--build", type=Path, default=ROOT / "build" / "release")
    options.add_argument("--trials", type=int, default=20)
    options.add_argument("--how", choices=("kill", "pause", "all"), default="all")
    options.add_argument("--no-watch", action="store_true")
    options.add_argument("--blocks", type=int, default=0)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    binary = chosen.build.resolve() / "tools" / "membrain"
    if not binary.exists():
        sys.exit(f"{binary} is not there: build it first, or name another --build")
    os.environ["MEMBRAIN_TEST_BINARY"] = str(binary)
    for folder in ("tests/cluster", "tests/tools"):
        sys.path.insert(0, str(ROOT / folder))
    sys.path.insert(0, str(chosen.build.resolve() / "python"))
    ways = ("kill", "pause") if chosen.how == "all" else (chosen.how,)
    found = {how: measure(how, chosen.trials, chosen.blocks, not chosen.no_watch) for how in ways}
    if chosen.json:
        print(json.dumps(found))
        return
    heads = f"{'median':>10} {'p99':>10} {'longest':>10} {'all known':>12}"
    print(f"{'leader is':>12} {'trials':>8} {heads}")
    for how, row in found.items():
        words = f"{row['median_ms']:>7.0f} ms {row['p99_ms']:>7.0f} ms {row['longest_ms']:>7.0f} ms"
        words += f" {row['all_known_median_ms']:>9.0f} ms"
        print(f"{how + ('ed' if how == 'kill' else 'd'):>12} {row['trials']:>8} {words}")


if __name__ == "__main__":
    main()
