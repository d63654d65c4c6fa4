#!/usr/bin/env python3
"""gpu_bench on the fake driver and the fake NCCL: every row moves the right bytes, and the exit
status tells no GPU from one that does not work; and what tools/gpu_check.sh makes of that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import gpu_table  # noqa: E402

BENCH = os.environ["MEMBRAIN_TEST_BENCH"]
FAKES = os.environ["MEMBRAIN_TEST_FAKES"]


CHECK = Path(__file__).parent.parent / "tools" / "gpu_check.sh"


def run(*arguments: str, libraries: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, LD_LIBRARY_PATH=libraries, **more)
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
        self.assertEqual(ran.returncode, 77)
        self.assertIn("gpu_bench: no NVIDIA driver on this machine", ran.stderr)

    def test_a_gpu_that_does_not_work_is_a_failure(self) -> None:
        broken = {
            "cuInit=802": "CUDA_ERROR_SYSTEM_NOT_READY",
            "cuModuleLoadData=222": "cuModuleLoadData",
            "cuMemAlloc_v2=2": "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY",
        }
        for call, why in broken.items():
            ran = run("--benchmark_list_tests", libraries=FAKES, MEMBRAIN_FAKE_CUDA_FAILS=call)
            self.assertEqual(ran.returncode, 1, call)
            self.assertIn(why, ran.stderr)

    def test_a_gpu_that_is_not_there_is_none(self) -> None:
        ran = run(libraries=FAKES, MEMBRAIN_FAKE_CUDA_FAILS="cuInit=100")
        self.assertEqual(ran.returncode, 77, ran.stderr)


class GpuCheck(unittest.TestCase):
    """The script, with programs that say what a test wants."""

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        for name in ("bin/cmake", "build/release/bench/gpu_bench", *self.tests()):
            self.program(name, "exit 0")
        self.program("bin/compute-sanitizer", f'echo "$@" >>{self.folder}/sanitized')
        self.program("tools/gpu_table.py", "")
        shutil.copy(CHECK, self.folder / "tools/gpu_check.sh")

    def tests(self) -> list[str]:
        names = ("cuda/gpu_test", "client/client_gpu_test", "nccl/nccl_gpu_test")
        return [f"build/release/tests/{name}" for name in names]

    def program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def check(self) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ, PATH=f"{self.folder}/bin:{os.environ['PATH']}")
        script = self.folder / "tools/gpu_check.sh"
        return subprocess.run([str(script), "--no-setup"], env=environment, capture_output=True,
                              text=True, timeout=60)

    def test_is_skipped_where_there_is_no_gpu(self) -> None:
        self.program("build/release/bench/gpu_bench", "echo 'gpu_bench: no GPU' >&2; exit 77")
        ran = self.check()
        self.assertEqual(ran.returncode, 77)
        self.assertIn("SKIPPED: no GPU", ran.stdout)

    def test_fails_where_the_gpu_does_not_work(self) -> None:
        self.program("build/release/bench/gpu_bench", "echo 'gpu_bench: cuInit' >&2; exit 1")
        ran = self.check()
        self.assertEqual(ran.returncode, 1)
        self.assertIn("FAILED: the GPU cannot be used: cuInit", ran.stderr)
        self.assertNotIn("SKIPPED", ran.stdout)

    def test_calls_that_fail_on_purpose_are_no_errors_of_the_kernels(self) -> None:
        ran = self.check()
        self.assertEqual(ran.returncode, 0, ran.stderr)
        lines = (self.folder / "sanitized").read_text().splitlines()
        self.assertEqual(len(lines), 2)
        for line in lines:
            self.assertIn("--report-api-errors no", line)

    def test_a_test_that_fails_is_a_failure(self) -> None:
        for name in self.tests():
            self.program(name, "exit 1")
            self.assertEqual(self.check().returncode, 1, name)
            self.program(name, "exit 0")


def driver_alone(folder: str) -> str:
    """A folder with the fake driver and no NCCL."""
    (Path(folder) / "libcuda.so.1").symlink_to(Path(FAKES.split(":")[1], "libcuda.so.1").resolve())
    return folder


if __name__ == "__main__":
    unittest.main()
