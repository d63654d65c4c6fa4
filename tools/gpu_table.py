#!/usr/bin/env python3
"""Prints what gpu_bench measured beside its limits: gpu_table.py FILE.json."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

# Row, what it is held against (the slower, of several), and the least ratio. A copy on the device
# reads and writes: hashing at half of the memory's bandwidth is as fast as copying.
TARGETS = {
    "scatter/32768": (("copy/to_gpu",), 0.9),
    "gather/32768": (("copy/from_gpu",), 0.9),
    "pull/32768": (("copy/to_gpu",), 0.8),
    "chunks/32768": (("copy/on_gpu",), 0.8),
    "checksum/2097152": (("copy/on_gpu",), 1.0),
    "peer/32768": (("copy/ipc",), 0.9),
    "staged/32768": (("fetch/host", "copy/to_gpu"), 0.8),
}


@dataclass
class Row:
    rate: float  # bytes a second
    label: str = ""  # the lanes it went by


def medians(text: str) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in json.loads(text)["benchmarks"]:
        if row.get("aggregate_name") == "median" and "bytes_per_second" in row:
            name = row["run_name"].removesuffix("/real_time")
            found[name] = Row(float(row["bytes_per_second"]), row.get("label", ""))
    return found


def failures(text: str) -> dict[str, str]:
    """Why a row has no figure."""
    return {
        row["run_name"].removesuffix("/real_time"): row.get("error_message", "")
        for row in json.loads(text)["benchmarks"]
        if row.get("error_occurred")
    }


def parts(name: str) -> tuple[str, int, str]:
    """Rows in the order of their names, and of their sizes."""
    what, _, size = name.partition("/")
    return what, int(size) if size.isdigit() else 0, size


def verdict(name: str, found: dict[str, Row]) -> str:
    """What a row is held against, and whether it holds; empty if that was not measured."""
    controls, target = TARGETS.get(name, ((), 0.0))
    if not controls or not all(control in found for control in controls):
        return ""
    control = min(controls, key=lambda one: found[one].rate)
    ratio = found[name].rate / found[control].rate
    words = "holds" if ratio >= target else "does not hold"
    return f" {control:16} {ratio:6.2f} {'>= ' + str(target):>7} {words}"


def table(found: dict[str, Row], failed: dict[str, str] | None = None) -> list[str]:
    lines = [f"{'row':20} {'GB/s':>8} {'of':16} {'ratio':>6} {'target':>7}"]
    for name, row in sorted(found.items(), key=lambda item: parts(item[0])):
        line = f"{name:20} {row.rate / 1e9:8.2f}{verdict(name, found)}"
        lines.append(line + (f" (by {row.label})" if row.label else ""))
    lines += [f"{name:20} {'none':>8} {why}" for name, why in sorted((failed or {}).items())]
    return lines


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0 if len(sys.argv) == 2 else 2
    text = Path(sys.argv[1]).read_text()
    print("\n".join(table(medians(text), failures(text))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
