"""`membrain bench`: rows, wrong usage, missing programs, interruption."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path
from typing import Any

from membrain_process import BINARY, Process, ProcessTest, children_of, main, run

KEYS = {"name", "value", "unit", "control", "control_value", "ratio", "target", "holds"}
BENCHMARKS = Path(BINARY).parent.parent / "bench"

# Stands for every benchmark program: writes one row, or hangs when it is asked for Redis.
FAKE = """#!/bin/sh
for word in "$@"; do
  case $word in
    --benchmark_out=*) out=${word#--benchmark_out=} ;;
    --benchmark_filter=*redis*) echo started; exec sleep 600 ;;
    --benchmark_filter=*lookup*) echo "no such thing"; exit 3 ;;
  esac
done
echo '{"benchmarks": [{"run_name": "find_batch/10000000", "keys_per_second": 2e7}]}' >"$out"
"""


def rows_of(out: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(out)["rows"]}


class Bench(ProcessTest):
    def fake_programs(self) -> str:
        for name in ("transfer_bench", "metadata_bench", "peer_bench", "store_bench"):
            path = Path(self.folder) / name
            path.write_text(FAKE)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return self.folder

    def test_an_unknown_row_is_refused_with_the_list_of_rows(self) -> None:
        status, out, err = run("bench", "--only", "nonsense")
        self.assertEqual((status, out), (2, ""))
        self.assertIn('"nonsense"', err)
        self.assertIn("fetch_tcp_1MiB_w4\n", err)

    def test_a_folder_without_benchmarks_is_named_with_the_cure(self) -> None:
        status, out, err = run("bench", "--bench-dir", self.folder)
        self.assertEqual((status, out), (2, ""))
        self.assertIn(self.folder, err)

    def test_wrong_numbers_and_folders_are_refused_before_anything_runs(self) -> None:
        folder = self.fake_programs()
        status, _, err = run("bench", "--bench-dir", folder, "--repetitions", "0")
        self.assertEqual(status, 2)
        self.assertIn("--repetitions", err)
        plot = f"{folder}/nowhere/plot.svg"
        status, _, err = run("bench", "--bench-dir", folder, "--plot", plot)
        self.assertEqual(status, 2)
        self.assertIn("--plot", err)

    def test_a_measured_row_has_every_key(self) -> None:
        words = ["--only", "catalog_keys", "--json", "--bench-dir", self.fake_programs()]
        status, out, err = run("bench", *words)
        self.assertEqual(status, 0, err)
        row = rows_of(out)["catalog_keys"]
        self.assertLessEqual(KEYS, set(row))
        self.assertEqual((row["value"], row["control"], row["holds"]), (20.0, None, True))

    def test_rows_that_fail_are_null_and_the_others_come(self) -> None:
        words = ["--only", "catalog_keys,lookup_512", "--only", "fetch_view_b16", "--json"]
        status, out, _ = run("bench", *words, "--bench-dir", self.fake_programs())
        self.assertEqual(status, 1)
        rows = rows_of(out)
        self.assertEqual(rows["catalog_keys"]["value"], 20.0)
        self.assertIsNone(rows["lookup_512"]["value"])
        self.assertIn("no such thing", rows["lookup_512"]["error"])
        self.assertIn("fetch_view/b16", rows["fetch_view_b16"]["error"])

    def test_what_a_program_said_last_is_told_however_fast_it_ended(self) -> None:
        folder = self.fake_programs()
        for _ in range(20):  # once, words that came just before the end were lost
            _, out, _ = run("bench", "--only", "lookup_512", "--json", "--bench-dir", folder)
            self.assertIn("no such thing", rows_of(out)["lookup_512"]["error"])

    def test_ctrl_c_ends_the_benchmark_too(self) -> None:
        words = ["--only", "redis_exists", "--bench-dir", self.fake_programs()]
        with Process("bench", *words) as bench:
            bench.wait_for_line("[1/1]", "err")
            while not (started := children_of(bench.pid)):
                bench.read(0.05)
            bench.send(signal.SIGINT)
            self.assertEqual(bench.wait(20), 1)
            self.assertIn("interrupted", bench.describe())
            for pid, _ in started:
                self.assertFalse(Path(f"/proc/{pid}").exists())

    def test_a_real_row_is_measured(self) -> None:
        if not (BENCHMARKS / "metadata_bench").exists():
            self.skipTest("benchmarks are not built here (MEMBRAIN_BENCH)")
        status, out, err = run("bench", "--only", "lookup_512", "--repetitions", "1", "--json")
        self.assertEqual(status, 0, err)
        row = rows_of(out)["lookup_512"]
        self.assertGreater(row["value"], 0)
        self.assertEqual((row["unit"], row["target"]), ("us", 150))


if __name__ == "__main__":
    main()
