#!/usr/bin/env python3
"""gpu_bench on the fake driver and the fake NCCL: every row moves the right bytes, and the exit
status tells no GPU from one that does not work; and what tools/gpu_check.sh makes of that."""

from __future__ import annotations

import json
import os
import re
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
            ran = run("--on-gpu-mib=16", "--benchmark_min_time=0.001",
                      "--benchmark_repetitions=2", "--benchmark_report_aggregates_only=true",
                      f"--benchmark_out={out}", "--benchmark_out_format=json", libraries=FAKES)
            self.assertEqual(ran.returncode, 0, ran.stderr)
            text = out.read_text()
        self.assertEqual(gpu_table.failures(text), {}, ran.stderr)
        rows = gpu_table.medians(text)
        self.assertEqual(sorted(rows), sorted(name.removesuffix("/real_time") for name in names))
        for name, (controls, _) in gpu_table.TARGETS.items():
            self.assertLessEqual({name, *controls}, set(rows))
        self.assertEqual(rows["peer/32768"].label, "shm")

    def test_what_a_row_moves_at_once_hides_what_its_start_costs(self) -> None:
        """Many blocks over the bus; on the device more than its cache holds, as one launch."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "rows.json"
            ran = run("--on-gpu-mib=128", "--benchmark_min_time=0.001", f"--benchmark_out={out}",
                      "--benchmark_filter=^(copy/(to|on)_gpu|pull/32768|chunks/(4096|32768))",
                      "--benchmark_out_format=json", libraries=FAKES)
            self.assertEqual(ran.returncode, 0, ran.stderr)
            rows = json.loads(out.read_text())["benchmarks"]
        moved = {row["name"].removesuffix("/real_time"): int(row["bytes_each"]) >> 20
                 for row in rows}
        self.assertEqual(moved, {"copy/to_gpu": 32, "pull/32768": 32, "copy/on_gpu": 128,
                                 "chunks/4096": 64, "chunks/32768": 128})

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

    def test_a_driver_that_does_not_load_is_a_failure(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "libcuda.so.1").touch()
            ran = run("--benchmark_list_tests", libraries=folder)
        self.assertEqual(ran.returncode, 1, ran.stderr)
        self.assertIn("gpu_bench: the NVIDIA driver's library cannot be loaded", ran.stderr)
        self.assertIn("file too short", ran.stderr)

    def test_a_gpu_that_is_not_there_is_none(self) -> None:
        ran = run(libraries=FAKES, MEMBRAIN_FAKE_CUDA_FAILS="cuInit=100")
        self.assertEqual(ran.returncode, 77, ran.stderr)


class GpuCheck(unittest.TestCase):
    """The script, with programs that say what a test wants."""

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        for name in ("bin/cmake", "build/release/bench/gpu_bench", *self.programs()):
            self.program(name, "exit 0")
        self.program("bin/compute-sanitizer", f'echo "$@" >>{self.folder}/sanitized')
        self.program("tools/gpu_table.py", "")
        shutil.copy(CHECK, self.folder / "tools/gpu_check.sh")

    def programs(self) -> list[str]:
        names = ("cuda/gpu_test", "client/client_gpu_test", "nccl/nccl_gpu_test")
        return [f"build/release/tests/{name}" for name in names]

    def program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def check(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ, PATH=f"{self.folder}/bin:{os.environ['PATH']}", **more)
        script = self.folder / "tools/gpu_check.sh"
        return subprocess.run([str(script), *(words or ("--no-setup",))], env=environment,
                              capture_output=True, text=True, timeout=60)

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
        for name in self.programs():
            self.program(name, "exit 1")
            self.assertEqual(self.check().returncode, 1, name)
            self.program(name, "exit 0")

    def test_what_fails_says_why(self) -> None:
        self.program(self.programs()[1], "echo 'the pages are wrong' >&2; exit 1")
        ran = self.check()
        self.assertEqual(ran.returncode, 1)
        self.assertIn("the pages are wrong", ran.stderr)
        self.assertIn("FAILED: client_gpu_test ended with 1", ran.stderr)

    def test_a_bench_that_dies_is_a_failure_and_says_so(self) -> None:
        self.program("build/release/bench/gpu_bench",
                     "case $* in *list_tests*) exit 0 ;; esac\n"
                     "echo 'of a row' >&2; kill -SEGV $$")
        ran = self.check()
        self.assertEqual(ran.returncode, 1)
        self.assertIn("of a row", ran.stderr)
        self.assertIn("FAILED: gpu_bench ended with 139", ran.stderr)

    def test_what_was_built_elsewhere_is_not_built_again(self) -> None:
        (self.folder / "build/release").rename(self.folder / "elsewhere")
        for name in ("bin/cmake", "tools/setup.sh"):
            self.program(name, "exit 1")
        ran = self.check("--programs", str(self.folder / "elsewhere"))
        self.assertEqual(ran.returncode, 0, ran.stderr)
        (self.folder / "elsewhere/tests/cuda/gpu_test").unlink()
        ran = self.check("--programs", str(self.folder / "elsewhere"))
        self.assertEqual(ran.returncode, 1)
        self.assertIn("has no tests/cuda/gpu_test", ran.stderr)

    def test_compute_sanitizer_is_found_in_the_toolkit(self) -> None:
        (self.folder / "cuda").mkdir()
        (self.folder / "bin/compute-sanitizer").unlink()
        self.program("cuda/bin/compute-sanitizer", f'echo "$@" >>{self.folder}/sanitized')
        ran = self.check("--no-setup", CUDA_HOME=str(self.folder / "cuda"))
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(len((self.folder / "sanitized").read_text().splitlines()), 2)

    def test_nccl_is_found_in_a_toolkit_or_a_package(self) -> None:
        self.program("bin/ldconfig", "exit 0")  # the machine has none
        told = f'echo "$LD_LIBRARY_PATH" >{self.folder}/libraries'
        self.program("build/release/tests/nccl/nccl_gpu_test", told)
        for place, variable in (("cuda/lib64", "CUDA_HOME"),
                                ("packages/nvidia/nccl/lib", "PYTHONPATH")):
            library = self.folder / place / "libnccl.so.2"
            library.parent.mkdir(parents=True)
            library.touch()
            where = str(self.folder / place.split("/")[0])
            ran = self.check("--no-setup", **{"CUDA_HOME": "", variable: where})
            self.assertEqual(ran.returncode, 0, ran.stderr)
            self.assertIn(str(library.parent), (self.folder / "libraries").read_text())


class GpuBundle(unittest.TestCase):
    """What `gpu_check.sh --bundle` makes of this build."""

    bundle: Path

    @classmethod
    def setUpClass(cls) -> None:
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.bundle = Path(temporary.name) / "bundle"
        build = str(Path(BENCH).parent.parent)
        subprocess.run([str(CHECK), "--programs", build, "--bundle", str(cls.bundle)], check=True,
                       capture_output=True, text=True, timeout=120)

    def test_runs_without_what_it_was_built_from(self) -> None:
        ran = subprocess.run(
            [str(self.bundle / "gpu_check.sh"), "--driver", "libno-such-driver.so.1"],
            env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60)
        self.assertEqual(ran.returncode, 77, ran.stderr)
        self.assertIn("SKIPPED: no NVIDIA driver", ran.stdout)

    def test_has_all_that_its_programs_load(self) -> None:
        """But for the C library, and what belongs to a driver."""
        programs = [path for path in self.bundle.rglob("*_test") if path.is_file()]
        programs += [self.bundle / "bench/gpu_bench", *self.bundle.glob("lib/ucx/*.so*")]
        self.assertGreater(len(programs), 6)
        for program in programs:
            said = subprocess.run(["ldd", str(program)], capture_output=True, text=True,
                                  env={"LD_LIBRARY_PATH": str(self.bundle / "lib")}).stdout
            for line in said.splitlines():
                name, arrow, path = line.strip().partition(" => ")
                if arrow and not re.match(r"lib(c|m|cuda|nvidia-ml)\.so", name):
                    self.assertTrue(path.startswith(str(self.bundle)), line)


def driver_alone(folder: str) -> str:
    """A folder with the fake driver and no NCCL."""
    (Path(folder) / "libcuda.so.1").symlink_to(Path(FAKES.split(":")[1], "libcuda.so.1").resolve())
    return folder


if __name__ == "__main__":
    unittest.main()
