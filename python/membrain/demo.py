"""Two engines that share their KV cache blocks through Membrain.

usage: python -m membrain.demo [--server 127.0.0.1:9201] [--seconds S] [--json]

Finds the server, or starts one with a node. Each engine is a process of its own: it looks a
prompt's blocks up, fetches what another engine computed, compares every byte with what it would
have computed, and stores the rest. Ends with 0 only if the second engine got hits, all of them
identical.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from membrain.client import Client
from membrain.errors import Denied, MembrainError
from membrain.kv_cache_manager import MembrainKVCacheManager
from membrain.layout import Layout
from membrain.sync_client import SyncClient

BLOCK_TOKENS, LAYERS, PAGE, BLOCKS, PROMPTS = 16, 4, 16 * 1024, 512, 8

SECRET = os.environ.get("MEMBRAIN_SECRET", "")


def find_binary() -> str:
    beside = Path(__file__).absolute().parents[2] / "tools" / "membrain"  # of the same build
    for place in (os.environ.get("MEMBRAIN_BINARY"), str(beside), shutil.which("membrain")):
        if place and os.access(place, os.X_OK):
            return place
    raise SystemExit(
        "no server there, and no `membrain` to start one: build it (tools/demo.sh), name it in"
        " MEMBRAIN_BINARY, or start `membrain server --with-node 1GiB` elsewhere and give --server"
    )


# ---- an engine


@dataclass
class Summary:
    requests: int = 0
    blocks: int = 0
    local: int = 0
    hits: int = 0
    stored: int = 0
    wrong: int = 0
    away: int = 0  # requests for which the cluster was away


def chain(tokens: list[int]) -> list[bytes]:
    """A hash a full block, of its tokens and all before."""
    hashes: list[bytes] = []
    for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        words = repr(tokens[start : start + BLOCK_TOKENS]).encode()
        hashes.append(hashlib.sha256((hashes[-1] if hashes else b"seed") + words).digest())
    return hashes


def prompt(number: int, turn: int) -> list[int]:
    """Conversations: each turn adds to what was said."""
    return [(number * 7919 + i) % 50_000 for i in range(165 + 96 * turn)]


class Engine:
    """Its KV cache is numpy's; what it "computes" is a function of the prompt so far."""

    def __init__(self, number: int, client: Any) -> None:
        self.number = number
        self.client = client
        self.summary = Summary()
        self.cache = [np.zeros((BLOCKS, PAGE), np.uint8) for _ in range(LAYERS)]
        layout = Layout.of_arrays(self.cache)
        self.manager = MembrainKVCacheManager(
            blocks=BLOCKS, block_tokens=BLOCK_TOKENS, client=client, layout=layout
        )

    def computed(self, name: bytes, layer: int) -> bytes:
        return hashlib.shake_256(name + bytes([layer])).digest(64) * (PAGE // 64)

    async def join(self) -> bool:
        try:
            self.manager.space = await self.client.open_namespace(
                model="demo", kv_dtype="uint8", block_tokens=BLOCK_TOKENS, layout=f"{LAYERS}x{PAGE}"
            )
        except MembrainError:
            self.manager.space = None
        return self.manager.space is not None

    async def serve(self, name: str, tokens: list[int]) -> None:
        summary, manager = self.summary, self.manager
        if not await self.join():
            summary.away += 1
        request = SimpleNamespace(
            request_id=name,
            block_hashes=chain(tokens),
            num_tokens=len(tokens),
            num_computed_tokens=0,
        )
        begun = time.perf_counter()
        _, local = manager.get_computed_blocks(request)
        await manager.remote_tokens(request)
        assert manager.allocate_slots(request, len(tokens) - local) is not None
        reused = await manager.fetch(request, local)
        hit_ms = (time.perf_counter() - begun) * 1e3
        request.num_computed_tokens = reused
        self.compute(request, reused // BLOCK_TOKENS)
        begun = time.perf_counter()
        stored = await manager.save(request, len(tokens)) - reused // BLOCK_TOKENS
        count = len(request.block_hashes)
        hits = (reused - local) // BLOCK_TOKENS
        summary.requests += 1
        summary.blocks += count
        summary.local += local // BLOCK_TOKENS
        summary.hits += hits
        summary.stored += max(stored, 0)
        if hits:
            self.say("HIT", name, f"{hits:3} of {count:3} blocks in {hit_ms:.1f} ms")
        if stored > 0:
            store_ms = (time.perf_counter() - begun) * 1e3
            self.say("STORE", name, f"{stored:3} of {count:3} blocks in {store_ms:.1f} ms")
        if not hits and stored <= 0 and not local:
            self.say("MISS", name, "the cluster is away: everything is computed")
        manager.free(request)

    def compute(self, request: Any, first: int) -> None:
        """Blocks from `first` on; those before it must be what it would have computed."""
        (ids,) = self.manager.get_block_ids(request.request_id)
        for index, name in enumerate(request.block_hashes):
            for layer, plane in enumerate(self.cache):
                right = self.computed(name, layer)
                if index >= first:
                    plane[ids[index]] = memoryview(right)
                elif plane[ids[index]].tobytes() != right:
                    self.summary.wrong += 1

    def say(self, what: str, name: str, words: str) -> None:
        print(f"MEMBRAIN {what:5} engine {self.number}  {name:24} {words}", flush=True)


async def run_engine(number: int, server: str, seconds: float) -> Summary:
    async with await Client.open(server, secret=SECRET) as client:
        engine = Engine(number, client)
        end = time.monotonic() + seconds
        turn = 0
        while turn < 3 or time.monotonic() < end:
            for conversation in range(PROMPTS):
                name = f"conversation {conversation}.{turn}"
                # A longer run talks of more than an engine's cache holds.
                topic = conversation + PROMPTS * (turn // 3 % 4)
                await engine.serve(name, prompt(topic, turn % 3))
            turn += 1
            if turn >= 3:
                await asyncio.sleep(0.05)
        return engine.summary


# ---- the whole


def server_answers(server: str) -> bool:
    try:
        wait = timedelta(seconds=1)
        SyncClient.open(server, secret=SECRET, connect_timeout=wait).close()
    except Denied as error:
        raise SystemExit(f"{server}: {error}. Set MEMBRAIN_SECRET to its secret") from None
    except MembrainError:
        return False
    return True


def start_server(server: str) -> subprocess.Popen[str]:
    words = [find_binary(), "server", "--listen", server, "--with-node", "256MiB", "--temporary"]
    process = subprocess.Popen(
        [*words, "--no-admin"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "registered with" in line:  # the node
            print(f"started a server with a node at {server}", flush=True)
            return process
    raise SystemExit("the server did not start:\n" + "".join(said))


def engine_process(number: int, options: argparse.Namespace) -> Summary:
    words = [sys.executable, "-m", "membrain.demo", "--engine", str(number)]
    words += ["--server", options.server, "--seconds", str(options.seconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            if line.startswith("{"):
                last = line
            elif not options.json:
                print(line, end="", flush=True)
    if process.returncode != 0 or not last:
        raise SystemExit(f"engine {number} ended with {process.returncode}")
    return Summary(**json.loads(last))


def report(first: Summary, second: Summary, as_json: bool) -> int:
    good = second.hits > 0 and first.wrong == second.wrong == 0
    if as_json:
        print(json.dumps({"engine 1": asdict(first), "engine 2": asdict(second), "good": good}))
        return 0 if good else 1
    print("\ncache metrics")
    for name in asdict(first):
        print(f"  {name:10}{getattr(first, name):10}{getattr(second, name):10}")
    if good:
        print(f"\nthe second engine reused {second.hits} blocks of the first, every byte right")
    elif second.hits:
        print(f"\n{first.wrong + second.wrong} blocks were not what was stored")
    else:
        print("\nthe second engine got no hits: is a node registered (`membrain status`)?")
    return 0 if good else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--server", default="127.0.0.1:9201", help="found there, or started")
    parser.add_argument("--seconds", type=float, default=0, help="that each engine runs at least")
    parser.add_argument("--json", action="store_true", help="only the metrics, as JSON")
    parser.add_argument("--engine", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        summary = asyncio.run(run_engine(options.engine, options.server, options.seconds))
        print(json.dumps(asdict(summary)))
        return 0
    server = None if server_answers(options.server) else start_server(options.server)
    try:
        first = engine_process(1, options)
        return report(first, engine_process(2, options), options.json)
    finally:
        if server is not None:
            server.terminate()
            server.communicate(timeout=30)


if __name__ == "__main__":
    sys.exit(main())
