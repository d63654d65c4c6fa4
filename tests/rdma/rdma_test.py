"""The transport, and a small cluster, over RDMA: in virtual machines with Soft-RoCE devices.

usage: rdma_test.py BINARIES OUT [--turn TEST... | unittest's arguments]
BINARIES is a build folder, e.g. build/dev; OUT gets a folder per test. With --turn one of the named
tests is run, another with each commit. See docs/rdma.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vm

BINARIES = Path("build/dev")
OUT = Path("build/dev/rdma")
HERE = Path(__file__).resolve().parent


LAST_WORDS = 4000  # of a log, in a failure's message: reports of reports are cut


@dataclass
class Verdict:
    """What a GoogleTest program reports of one test."""

    word: str  # passed, failed or skipped
    why: str


def verdicts(path: Path) -> dict[str, Verdict]:
    """Of every test of a program, by name; none if it did not come to its end."""
    if not path.exists():
        return {}
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found = {}
    for suite in report["testsuites"]:
        for test in suite["testsuite"]:
            why = "\n".join(failure["failure"] for failure in test.get("failures", []))
            skipped = test.get("result") == "SKIPPED"
            word = "failed" if why else "skipped" if skipped else "passed"
            found[f"{suite['name']}.{test['name']}"] = Verdict(word, why)
    return found


@unittest.skipIf(vm.what_is_missing(), vm.what_is_missing())
class Rdma(unittest.TestCase):
    """Each test boots its machines anew."""

    def boot(self, nodes: int, seconds: int, command: str) -> list[vm.Outcome]:
        accelerator = os.environ.get("MEMBRAIN_VM_ACCELERATOR", "tcg")
        machines = vm.Machines(nodes=nodes, seconds=seconds, accelerator=accelerator)
        self.out = OUT / self.id().rpartition(".")[2]
        return machines.run(command, self.out)

    def expect_passed(self, report: str, at_least: int, outcome: vm.Outcome) -> None:
        """A filter that matches nothing passes nothing: so many tests have to be there."""
        found = verdicts(self.out / report)
        passed = sum(verdict.word == "passed" for verdict in found.values())
        told = f"{report}: {passed} of {len(found)} tests passed"
        print(told, file=sys.stderr)
        failed = [f"{name} failed: {verdict.why}" for name, verdict in found.items()
                  if verdict.word == "failed"]
        if failed or passed < at_least:
            words = [told, f"at least {at_least} have to; the command ended with {outcome.status}"]
            self.fail("\n".join([*words, *failed, "...", outcome.log[-LAST_WORDS:]]))

    def expect_success(self, outcome: vm.Outcome) -> None:
        self.assertEqual(outcome.status, 0, outcome.log[-LAST_WORDS:])


class OneMachine(Rdma):
    def test_the_transports_tests_pass_between_two_devices(self) -> None:
        names = ("ucx_test", "ucx_process_test")
        runs = [f"{BINARIES}/tests/ucx/{name} --gtest_filter='*/rdma*' "
                f"--gtest_output=json:$OUT/{name}.json" for name in names]
        # Last: it takes a wire down.
        runs.append(f"MEMBRAIN_TEST_WIRE=1 {BINARIES}/tests/verbs/verbs_test "
                    f"--gtest_filter='Ports.*' --gtest_output=json:$OUT/verbs_test.json")
        outcome = self.boot(1, 420, " && ".join(runs))[0]
        self.expect_passed("ucx_test.json", 32, outcome)
        self.expect_passed("ucx_process_test.json", 6, outcome)
        self.expect_passed("verbs_test.json", 2, outcome)
        self.expect_success(outcome)


class TwoMachines(Rdma):
    def run_part(self, part: str, seconds: int) -> list[vm.Outcome]:
        return self.boot(2, seconds, f"{HERE}/two_machines.sh {BINARIES} {part}")

    def test_the_transports_tests_of_two_processes_pass_between_hosts(self) -> None:
        outcomes = self.run_part("suite", 420)
        self.expect_passed("suite.json", 12, outcomes[0])
        for outcome in outcomes:
            self.expect_success(outcome)

    def test_losses_flaps_and_power_cuts_cost_no_byte(self) -> None:
        # The second machine's power is cut: it leaves no status.
        outcome = self.run_part("faults", 420)[0]
        self.expect_passed("faults.json", 5, outcome)
        self.expect_success(outcome)

    def replayed(self, name: str) -> dict[str, Any]:
        """What engines report that compared every byte."""
        report: dict[str, Any] = json.loads((self.out / f"{name}.json").read_text(encoding="utf-8"))
        self.assertEqual(report["wrong_bytes"], 0, name)
        return report

    def test_one_sided_reads_bear_losses_flaps_and_a_power_cut(self) -> None:
        # The second machine's power is cut: it leaves no status.
        outcome = self.run_part("reads", 420)[0]
        self.expect_success(outcome)
        for name in ("clean", "lossy", "flaps", "cut"):
            report = self.replayed(name)
            print(f"{name}: {report['lanes']}, {report['misses']}", file=sys.stderr)
            self.assertGreater(report["lanes"].get("one-sided", 0), 0, name)

    def test_a_cluster_moves_its_blocks_by_rdma_alone(self) -> None:
        outcomes = self.run_part("cluster", 180)
        for outcome in outcomes:
            self.expect_success(outcome)
        report = self.replayed("replay")
        self.assertEqual(report["misses"]["peer_lost"] + report["misses"]["corrupt"], 0)
        self.assertGreater(report["blocks_hit"], 0)
        # The first blocks are asked for; once a node's window is known, they are read.
        self.assertEqual(sorted(report["lanes"]), ["one-sided", "rdma"])
        self.assertGreater(report["lanes"]["one-sided"], 0)


def whose_turn(names: list[str]) -> str:
    words = ["git", "rev-list", "--count", "HEAD"]
    counted = subprocess.run(words, cwd=HERE, capture_output=True, text=True, check=False).stdout
    return names[int(counted.strip() or 0) % len(names)]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    BINARIES, OUT = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    wanted = sys.argv[3:]
    if wanted[:1] == ["--turn"]:
        wanted = [whose_turn(wanted[1:])]
    unittest.main(argv=[sys.argv[0], "--verbose", *wanted])
