#!/usr/bin/env python3
"""Prints what gpu_bench measured beside its limits: gpu_table.py FILE.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# Row, the plain copy it is held against, and the least ratio. A copy on the device reads and
# writes: hashing at half of the memory's bandwidth is as fast as copying.
TARGETS = [
    ("scatter/32768", "copy/to_gpu", 0.9),
    ("gather/32768", "copy/from_gpu", 0.9),
    ("pull/32768", "copy/to_gpu", 0.8),
    ("chunks/32768", "copy/on_gpu", 0.8),
    ("checksum/2097152", "copy/on_gpu", 1.0),
]


def medians(text: str) -> dict[str, float]:
    """Bytes a second by row."""
    found: dict[str, float] = {}
    for row in json.loads(text)["benchmarks"]:
        if row.get("aggregate_name") == "median" and "bytes_per_second" in row:
            found[row["run_name"].removesuffix("/real_time")] = float(row["bytes_per_second"])
    return found


def parts(name: str) -> tuple[str, int, str]:
    """Rows in the order of their names, and of their sizes."""
    what, _, size = name.partition("/")
    return what, int(size) if size.isdigit() else 0, size


def table(found: dict[str, float]) -> list[str]:
    lines = [f"{'row':20} {'GB/s':>8} {'of':16} {'ratio':>6} {'target':>7}"]
    held = {name: (control, target) for name, control, target in TARGETS}
    for name, rate in sorted(found.items(), key=lambda row: parts(row[0])):
        line = f"{name:20} {rate / 1e9:8.2f}"
        if name in held and held[name][0] in found:
            control, target = held[name]
            ratio = rate / found[control]
            verdict = "holds" if ratio >= target else "does not hold"
            line += f" {control:16} {ratio:6.2f} {'>= ' + str(target):>7} {verdict}"
        lines.append(line)
    return lines


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0 if len(sys.argv) == 2 else 2
    print("\n".join(table(medians(Path(sys.argv[1]).read_text()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
