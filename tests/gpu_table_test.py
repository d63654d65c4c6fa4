#!/usr/bin/env python3
"""What tools/gpu_table.py makes of gpu_bench's figures."""

from __future__ import annotations

import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import gpu_table  # noqa: E402


def figures(**rates: float) -> str:
    rows = [
        {"run_name": name.replace("_at_", "/") + "/real_time", "aggregate_name": which,
         "bytes_per_second": rate if which == "median" else 1.0}
        for name, rate in rates.items()
        for which in ("mean", "median", "cv")
    ]
    return json.dumps({"benchmarks": rows})


class Table(unittest.TestCase):
    def test_takes_medians(self) -> None:
        self.assertEqual(gpu_table.medians(figures(copy_at_to_gpu=5e9)), {"copy/to_gpu": 5e9})

    def test_says_what_holds(self) -> None:
        rates = {"copy/to_gpu": 50e9, "scatter/32768": 46e9, "scatter/4096": 30e9}
        lines = gpu_table.table(rates)
        self.assertEqual([line.split()[0] for line in lines[1:]],
                         ["copy/to_gpu", "scatter/4096", "scatter/32768"])
        self.assertIn("0.92", lines[3])
        self.assertTrue(lines[3].endswith("holds"))
        self.assertNotIn("holds", lines[2])

    def test_says_what_does_not(self) -> None:
        lines = gpu_table.table({"copy/on_gpu": 100e9, "chunks/32768": 79e9})
        self.assertTrue(lines[1].endswith("does not hold") or lines[2].endswith("does not hold"))

    def test_compares_with_nothing_that_was_not_measured(self) -> None:
        self.assertEqual(len(gpu_table.table({"scatter/32768": 1e9})[1].split()), 2)


if __name__ == "__main__":
    unittest.main()
