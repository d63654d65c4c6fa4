"""A small engine with and without Membrain: the same bits, and how long the first token takes.

usage: python3 python/examples/mini_engine [--server 127.0.0.1:9201] [--longest 2048]
           [--plot ttft.svg] [--json]

Prompts are beginnings of documents on this machine, as bytes. One engine computes each prompt and
stores it; another, with an empty cache, loads it; a third, without Membrain, computes everything.
The logits of all three must be equal, bit by bit. Needs a server with a node
(membrain server --with-node 1GiB) and the package (PYTHONPATH=build/release/python).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from engine import Engine
from model import BLOCK_TOKENS, Model, Shape
from plot import draw

from membrain import Client, MembrainError

DOCUMENTS = (
    Path(__file__).resolve().parents[3] / "docs",
    Path("/usr/share/common-licenses"),
    Path("/usr/share/doc"),
)


def text(length: int) -> bytes:
    """Of documents that are there."""
    found = b""
    for folder in DOCUMENTS:
        for path in sorted(folder.glob("*")):
            if path.is_file() and path.suffix in ("", ".md", ".txt"):
                found += path.read_bytes()
            if len(found) >= length:
                return found[:length]
    raise SystemExit(f"the documents of this machine have only {len(found)} bytes")


async def measure(server: str, lengths: Sequence[int], repeats: int) -> list[dict[str, float]]:
    model = Model(Shape())
    shape = model.shape
    blocks = max(lengths) // BLOCK_TOKENS + 2
    rows = []
    secret = os.environ.get("MEMBRAIN_SECRET", "")
    async with await Client.open(server, secret=secret) as client:
        space = await client.open_namespace(
            model=f"mini {shape}", kv_dtype="float32", block_tokens=BLOCK_TOKENS, layout="layers"
        )
        space = await client.clear(space)  # of earlier runs
        whole = text(max(lengths) + repeats)
        for length in lengths:
            alone, loaded = [], []
            for repeat in range(repeats):
                prompt = whole[repeat : repeat + length]
                first = await Engine(model, blocks, client, space).prefill(prompt)
                again = await Engine(model, blocks, client, space).prefill(prompt)
                without = await Engine(model, blocks).prefill(prompt)
                if not np.array_equal(first.logits, without.logits):
                    raise SystemExit("the same prompt gave other bits: is BLAS deterministic?")
                if not np.array_equal(again.logits, without.logits):
                    raise SystemExit(f"{length} tokens: the logits differ with Membrain")
                if again.reused_tokens < length - BLOCK_TOKENS:
                    raise SystemExit(f"{length} tokens: only {again.reused_tokens} were loaded")
                alone.append(without.seconds * 1e3)
                loaded.append(again.seconds * 1e3)
            row = {
                "tokens": length,
                "computed_ms": statistics.median(alone),
                "loaded_ms": statistics.median(loaded),
            }
            rows.append(row)
            print(f"{length} tokens done", file=sys.stderr)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--server", default="127.0.0.1:9201")
    parser.add_argument("--longest", type=int, default=2048, help="tokens of the longest prompt")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="an SVG file to draw into")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lengths = [options.longest * step // 8 for step in (1, 2, 4, 6, 8)]
    try:
        rows = asyncio.run(measure(options.server, lengths, options.repeats))
    except MembrainError as error:
        raise SystemExit(
            f"{options.server}: {error}. Start one: membrain server --with-node 1GiB"
        ) from None
    if options.json:
        print(json.dumps(rows))
    else:
        print(f"{'prompt':>8}{'computed':>14}{'loaded':>12}{'':>10}")
        for row in rows:
            ratio = row["computed_ms"] / row["loaded_ms"]
            print(
                f"{row['tokens']:8.0f}{row['computed_ms']:11.1f} ms{row['loaded_ms']:9.1f} ms"
                f"{ratio:8.1f} x"
            )
        print("logits are equal, bit by bit, for every prompt")
    if options.plot:
        series = {
            "computed": [row["computed_ms"] for row in rows],
            "with Membrain": [row["loaded_ms"] for row in rows],
        }
        title = "Time to the first token"
        draw(options.plot, title, "tokens of the prompt", "ms", [float(n) for n in lengths], series)
    return 0


if __name__ == "__main__":
    sys.exit(main())
