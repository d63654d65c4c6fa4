"""The doctor: what it says of this machine, of a server, of lanes, and of what is wrong."""

from __future__ import annotations

import json
import os
from typing import Any

from membrain_process import Process, ProcessTest, clean_environment, main, run, taken_port

STATUS = {"ok": 0, "warn": 1, "fail": 2}


def ask(*words: str, **extra: str) -> dict[str, Any]:
    """Its report; the exit status must say the same."""
    status, out, err = run("doctor", "--json", *words, env=clean_environment(**extra))
    report: dict[str, Any] = json.loads(out)
    assert status == STATUS[report["health"]], (status, out, err)
    healths = [STATUS[check["health"]] for check in report["checks"]]
    assert status == max(healths), out
    return report


def check_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [one for one in report["checks"] if one["id"] == name]
    assert found, report
    return found[0]


class Doctor(ProcessTest):
    def test_what_is_not_well_has_a_cure_and_what_is_has_none(self) -> None:
        report = ask("--fast")
        self.assertEqual(report["lanes"], [])
        for check in report["checks"]:
            self.assertEqual(check["cure"] == "", check["health"] == "ok", check)
        for name in ("ucx", "cuda", "rdma", "locked-memory", "shared-memory", "clock", "server"):
            check_of(report, name)

    def test_people_read_lines_and_a_sum(self) -> None:
        _, out, err = run("doctor", "--fast")
        self.assertEqual(err, "")
        *lines, total = out.splitlines()
        self.assertRegex(total, r"^\d+ ok, \d+ to look at, \d+ broken$")
        for line in lines:
            self.assertRegex(line, r"^(ok|warn|fail|      +->) ")

    def test_every_lane_of_this_host_is_measured(self) -> None:
        lanes = {lane["lane"]: lane for lane in ask()["lanes"]}
        for name in ("mapped", "shm", "tcp"):
            self.assertEqual(lanes[name]["reason"], "", lanes[name])
            self.assertGreater(lanes[name]["bytes_per_second"], 0)
        self.assertIn("tcp/lo", lanes["tcp"]["route"])
        self.assertRegex(lanes["shm"]["route"], "posix|sysv")
        self.assertGreater(lanes["tcp"]["roundtrip_us"], 0)

    def test_a_gpu_is_described_and_measured(self) -> None:
        fake = os.environ["MEMBRAIN_TEST_FAKE_CUDA"]
        report = ask(LD_LIBRARY_PATH=fake)
        self.assertEqual(check_of(report, "gpu")["health"], "ok")
        self.assertIn("pinned memory", check_of(report, "gpu")["text"])
        gpu = [lane for lane in report["lanes"] if lane["lane"] == "gpu0"]
        self.assertEqual([lane["memory"] for lane in gpu], ["device"])
        self.assertGreater(gpu[0]["bytes_per_second"], 0, gpu)

    def test_settings_from_outside_are_named(self) -> None:
        check = check_of(ask("--fast", UCX_TLS="tcp,self"), "ucx-environment")
        self.assertEqual(check["health"], "warn")
        self.assertIn("UCX_TLS=tcp,self", check["text"])

    def test_a_ucx_that_cannot_start_is_a_failure(self) -> None:
        report = ask("--fast", UCX_TLS="no_such_transport")
        self.assertEqual(report["health"], "fail")
        self.assertIn("UCX_*", check_of(report, "ucx")["cure"])

    def test_a_lane_that_cannot_be_had_is_no_end_of_the_others(self) -> None:
        lanes = {lane["lane"]: lane for lane in ask(UCX_TLS="tcp,self")["lanes"]}
        self.assertIn("tcp instead", lanes["shm"]["reason"])
        self.assertEqual(lanes["tcp"]["reason"], "")


class Server(ProcessTest):
    def test_one_that_runs_is_found(self) -> None:
        with Process(
            "server", "--listen", "127.0.0.1:0", "--no-admin", "--temporary",
            env=clean_environment(MEMBRAIN_SECRET="hush"),
        ) as server:  # fmt: skip
            address = server.wait_for_line("membrain server ready").split()[3]
            found = check_of(ask("--fast", "--server", address, MEMBRAIN_SECRET="hush"), "server")
            self.assertEqual(found["health"], "ok")
            self.assertIn("answers", found["text"])
            refused = check_of(ask("--fast", "--server", address), "server")
            self.assertEqual(refused["health"], "warn")
            self.assertIn("secret", refused["text"])

    def test_a_secret_that_cannot_be_read_is_told_from_one_that_is_wrong(self) -> None:
        report = ask("--fast", "--secret-file", f"{self.folder}/none")
        found = check_of(report, "secret")
        self.assertEqual(found["health"], "fail")
        self.assertIn("none: cannot be read: No such file", found["text"])
        self.assertNotIn("server", {check["id"] for check in report["checks"]})

    def test_somebody_else_at_its_port_is_named(self) -> None:
        with taken_port() as sock:
            address = f"127.0.0.1:{sock.getsockname()[1]}"
            check = check_of(ask("--fast", "--server", address), "server")
            self.assertEqual(check["health"], "warn")
            self.assertIn("no Membrain server", check["text"])

    def test_nobody_at_a_far_address_is_a_warning(self) -> None:
        check = check_of(ask("--fast", "--server", "192.0.2.1:9201"), "server")
        self.assertEqual(check["health"], "warn")
        self.assertIn("nobody answers", check["text"])


if __name__ == "__main__":
    main()
