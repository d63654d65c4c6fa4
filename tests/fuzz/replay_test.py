"""What replays corpora and what fuzzes must be able to fail: tests with a target that has bugs on
purpose (planted.cc), and of what tools/fuzz.sh says."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import run

HERE = Path(__file__).resolve().parent
PLANTED = os.environ.get("MEMBRAIN_FUZZ_PLANTED", "")

SAID = """INFO: Seed: 1
#2\tINITED cov: 18 ft: 20 corp: 1/1b exec/s: 0 rss: 30Mb
#262144\tpulse  cov: 91 ft: 120 corp: 7/122b lim: 2600 exec/s: 43690 rss: 58Mb
artifact_prefix='x/'; Test unit written to x/crash-1
stat::number_of_executed_units: 300000
"""


class Replay(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def replay(self, **files: bytes) -> subprocess.CompletedProcess[str]:
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        words = [PLANTED, str(self.folder)]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)

    def test_what_is_good_passes_and_is_counted(self) -> None:
        done = self.replay(one=b"", two=b"BO", three=b"x" * 5000)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(done.stdout.splitlines()[-1], "3 inputs, no crash")

    def test_a_crash_fails_and_the_last_line_names_its_file(self) -> None:
        done = self.replay(a=b"fine", b=b"BOO", c=b"never read")
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout.splitlines()[-1], str(self.folder / "b"))

    def test_a_read_past_the_input_fails_without_a_sanitizer_too(self) -> None:
        for size in (1, 4095, 4096, 4097):
            done = self.replay(a=b">" * size)
            self.assertNotEqual(done.returncode, 0, f"{size} bytes")
            self.assertEqual(done.stdout.splitlines()[-1], str(self.folder / "a"))

    def test_a_folder_without_files_and_a_file_that_is_missing_fail(self) -> None:
        self.assertEqual(self.replay().returncode, 1)
        words = [PLANTED, str(self.folder / "missing")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot be read", done.stdout)


class Corpus(unittest.TestCase):
    def test_every_target_has_one_and_all_are_small(self) -> None:
        targets = run.all_targets((HERE / "CMakeLists.txt").read_text(encoding="utf-8"))
        folders = [path for path in run.CORPUS.iterdir() if path.is_dir()]
        self.assertEqual(targets, sorted(path.name for path in folders))
        for folder in folders:
            self.assertGreater(len(list(folder.iterdir())), 0, folder.name)
        total = sum(path.stat().st_size for path in run.CORPUS.rglob("*") if path.is_file())
        self.assertLess(total, 1 << 20)

    def test_the_samples_hold_every_message(self) -> None:
        listed = (HERE.parent / "protocol" / "samples.h").read_text(encoding="utf-8")
        found = re.search(r"EveryMessageIn =\s*List<(.*?)>;", listed, re.DOTALL)
        assert found is not None
        samples = set(re.split(r",\s*", found[1].strip()))
        messages = set()
        for header in (run.ROOT / "protocol").glob("*messages.h"):
            text = header.read_text(encoding="utf-8")
            messages |= set(re.findall(r"struct (\w+) \{\n  static constexpr Type kType", text))
        self.assertEqual(samples, messages - {"Empty"})
        self.assertGreater(len(messages), 40)


class Script(unittest.TestCase):
    def test_what_libfuzzer_prints_is_read(self) -> None:
        outcome = run.Outcome("t", seconds=10.0)
        for line in SAID.splitlines():
            outcome.take_line(line)
        self.assertEqual((outcome.executions, outcome.edges), (300_000, 91))
        self.assertEqual(outcome.crashes, ["x/crash-1"])
        self.assertEqual(outcome.per_second, 30_000)
        outcome.take_line("#400000: cov: 95 ft: 130 corp: 9 exec/s: 9 oom/timeout/crash: 0/0/0")
        self.assertEqual((outcome.executions, outcome.edges), (400_000, 95))

    def test_the_table_and_the_object_add_up(self) -> None:
        good = run.Outcome("a", executions=1_000, seconds=1.0, edges=10, inputs=3, added=1)
        bad = run.Outcome("b", executions=3_000, seconds=1.0, edges=5, crashes=["x"])
        lines = run.table([good, bad]).splitlines()
        self.assertEqual(lines[-1].split(), ["total", "2", "4,000", "2,000", "15", "3", "1", "1"])
        told = json.loads(run.as_json([good, bad]))
        self.assertEqual((told["executions"], told["crashes"]), (4_000, 1))
        self.assertEqual(told["targets"][0]["exec_per_second"], 1_000)
        self.assertIn("fuzz_b x", run.crashes_in_words([good, bad]))

    def call(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(HERE / "run.py"), *words], capture_output=True, text=True,
            check=False, env=os.environ | environment,
        )

    def test_wrong_words_are_refused(self) -> None:
        for words, why in (
            (["--minutes", "0"], "not above 0"),
            (["--minutes", "soon"], "soon is not a number"),
            (["--jobs", "0"], "at least one"),
            (["nothing"], "no such target: nothing; there are admin_http"),
            (["--often"], "unrecognized"),
        ):
            done = self.call(*words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(why, done.stderr)

    def test_an_interrupted_run_tells_what_ran_until_then(self) -> None:
        def ran(outcome: run.Outcome, _seconds: float, _jobs: int) -> None:
            outcome.executions, outcome.seconds = 50, 2.0
            if outcome.target == "seals":
                raise KeyboardInterrupt

        told = io.StringIO()
        with (
            mock.patch.multiple(run, check_tools=mock.DEFAULT, build=mock.DEFAULT, run_target=ran),
            mock.patch("subprocess.run"),
            contextlib.redirect_stdout(told),
        ):
            self.assertEqual(run.main(["frames", "seals", "frames", "grants"]), 130)
        lines = told.getvalue().splitlines()
        self.assertEqual([line.split()[0] for line in lines[1:]], ["frames", "seals", "total"])
        self.assertEqual(lines[-1].split()[:4], ["total", "4", "100", "25"])

    def test_targets_are_listed(self) -> None:
        done = self.call("--list")
        self.assertEqual(done.returncode, 0)
        self.assertIn("frames", done.stdout.split())
        self.assertNotIn("planted", done.stdout.split())

    def test_a_missing_clang_is_named_with_what_to_do(self) -> None:
        done = self.call("seals", PATH="/nowhere")
        self.assertEqual(done.returncode, 2)
        self.assertIn("clang++-16 is not installed", done.stderr)
        self.assertIn("apt-get install", done.stderr)


class Fuzzing(unittest.TestCase):
    def test_a_planted_bug_is_found_and_its_input_kept(self) -> None:
        try:
            run.check_tools()
        except run.CannotRun as missing:
            self.skipTest(str(missing))
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.addCleanup(setattr, run, "BUILD", run.BUILD)
        run.BUILD = folder
        program = folder / "fuzz_planted"
        flags = ["-std=c++20", "-g1", "-fsanitize=fuzzer,address", f"-I{run.ROOT}"]
        words = [run.COMPILER, *flags, str(HERE / "planted.cc"), "-o", str(program)]
        subprocess.run(words, check=True, capture_output=True)
        outcome = run.Outcome("planted")
        run.fuzz(program, outcome, 60, 1, [])
        self.assertEqual(len(outcome.crashes), 1)
        again = subprocess.run([program, outcome.crashes[0]], capture_output=True, check=False)
        self.assertNotEqual(again.returncode, 0)
        self.assertIn(f"fuzz_planted {outcome.crashes[0]}", run.crashes_in_words([outcome]))


if __name__ == "__main__":
    unittest.main(verbosity=2)
