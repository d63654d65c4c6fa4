#!/usr/bin/env python3
"""gpu_bench on the fake driver and the fake NCCL: every row moves the right bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import gpu_table  # noqa: E402

BENCH = os.environ["MEMBRAIN_TEST_BENCH"]
FAKES = os.environ["MEMBRAIN_TEST_FAKES"]


def run(*arguments: str, libraries: str = "") -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, LD_LIBRARY_PATH=libraries)
    return subprocess.run([BENCH, *arguments], env=environment, capture_output=True, text=True,
                          timeout=200)


class GpuBench(unittest.TestCase):
    def test_measures_every_row(self) -> None:
        names = run("--benchmark_list_tests", libraries=FAKES).stdout.split()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "rows.json"
            ran = run("--benchmark_min_time=0.001", "--benchmark_repetitions=2",
                      "--benchmark_report_aggregates_only=true", f"--benchmark_out={out}",
                      "--benchmark_out_format=json", libraries=FAKES)
            self.assertEqual(ran.returncode, 0, ran.stderr)
            text = out.read_text()
        self.assertEqual(gpu_table.failures(text), {}, ran.stderr)
        rows = gpu_table.medians(text)
        self.assertEqual(sorted(rows), sorted(name.removesuffix("/real_time") for name in names))
        for name, (controls, _) in gpu_table.TARGETS.items():
            self.assertLessEqual({name, *controls}, set(rows))
        self.assertEqual(rows["peer/32768"].label, "shm")

    def test_a_row_whose_other_side_is_missing_says_so(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "rows.json"
            run("--benchmark_filter=^(nccl|copy/ipc)", "--benchmark_min_time=0.001",
                f"--benchmark_out={out}", "--benchmark_out_format=json",
                libraries=driver_alone(folder))
            failed = gpu_table.failures(out.read_text())
        self.assertEqual(list(failed), ["nccl/32768"])
        # Where NVIDIA's own NCCL is, it finds no GPU.
        self.assertRegex(failed["nccl/32768"], "^no (NCCL|id|communicator): ")

    def test_without_a_driver_says_so(self) -> None:
        ran = run()
        if ran.returncode == 0:
            self.skipTest("this machine has a GPU")
        self.assertIn("gpu_bench: no NVIDIA driver on this machine", ran.stderr)


def driver_alone(folder: str) -> str:
    """A folder with the fake driver and no NCCL."""
    (Path(folder) / "libcuda.so.1").symlink_to(Path(FAKES.split(":")[1], "libcuda.so.1").resolve())
    return folder


if __name__ == "__main__":
    unittest.main()
