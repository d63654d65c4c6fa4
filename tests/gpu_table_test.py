#!/usr/bin/env python3
"""What tools/gpu_table.py makes of gpu_bench's figures."""

from __future__ import annotations

import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import gpu_table  # noqa: E402


def rows(**rates: float) -> dict[str, gpu_table.Row]:
    return {name.replace("_at_", "/"): gpu_table.Row(rate) for name, rate in rates.items()}


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
        self.assertEqual(gpu_table.medians(figures(copy_at_to_gpu=5e9)), rows(copy_at_to_gpu=5e9))

    def test_says_what_holds(self) -> None:
        lines = gpu_table.table(
            rows(copy_at_to_gpu=50e9, scatter_at_32768=46e9, scatter_at_4096=30e9))
        self.assertEqual([line.split()[0] for line in lines[1:]],
                         ["copy/to_gpu", "scatter/4096", "scatter/32768"])
        self.assertIn("0.92", lines[3])
        self.assertTrue(lines[3].endswith("holds"))
        self.assertNotIn("holds", lines[2])

    def test_says_what_does_not(self) -> None:
        lines = gpu_table.table(rows(copy_at_on_gpu=100e9, chunks_at_32768=79e9))
        self.assertTrue(lines[1].endswith("does not hold") or lines[2].endswith("does not hold"))

    def test_compares_with_nothing_that_was_not_measured(self) -> None:
        self.assertEqual(len(gpu_table.table(rows(scatter_at_32768=1e9))[1].split()), 2)
        lines = gpu_table.table(rows(staged_at_32768=1e9, copy_at_to_gpu=1e9))
        self.assertEqual(len(lines[2].split()), 2, "of its two legs one was measured")

    def test_compares_with_the_slower_of_two_legs(self) -> None:
        found = rows(staged_at_32768=9e9, fetch_at_host=10e9, copy_at_to_gpu=50e9)
        found["staged/32768"].label = "shm"
        line = gpu_table.table(found)[3]
        self.assertIn("fetch/host", line)
        self.assertIn("0.90", line)
        self.assertTrue(line.endswith("holds (by shm)"), line)

    def test_says_why_a_row_has_no_figure(self) -> None:
        text = json.dumps({"benchmarks": [
            {"run_name": "nccl/32768/real_time", "error_occurred": True,
             "error_message": "no NCCL: it is not there"}]})
        self.assertEqual(gpu_table.medians(text), {})
        self.assertEqual(gpu_table.table({}, gpu_table.failures(text))[1].split(),
                         ["nccl/32768", "none", "no", "NCCL:", "it", "is", "not", "there"])


if __name__ == "__main__":
    unittest.main()
