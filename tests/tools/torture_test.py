"""Torture: a cluster of real processes that is hurt for some seconds, and what is told of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

from membrain_process import (
    SANITIZED,
    Process,
    ProcessTest,
    children_of,
    clean_environment,
    main,
    run,
)

NONE_OF = ("wrong_bytes", "hangs", "leaks", "anomalies", "crashes")
MINUTES = "0.5" if SANITIZED else "0.2"
TIMEOUT = "8s" if SANITIZED else "4s"  # bounds are against hangs, not against slowness
PATIENCE = 400.0


class TortureTest(ProcessTest):
    def setUp(self) -> None:
        super().setUp()
        self._before = self._left()

    @staticmethod
    def _left() -> set[Path]:
        folders = (Path(tempfile.gettempdir()), Path("/dev/shm"))
        return {path for folder in folders for path in folder.glob("membrain-torture-*")}

    def assert_sound(self, words: list[str]) -> dict[str, Any]:
        status, out, err = run(
            "torture", "--minutes", MINUTES, "--timeout", TIMEOUT, "--json", *words,
            patience=PATIENCE,
        )
        self.assertTrue(out, err)
        figures: dict[str, Any] = json.loads(out)
        self.assertEqual({name: figures[name] for name in NONE_OF}, dict.fromkeys(NONE_OF, 0), out)
        self.assertEqual(status, 0, err)
        for name in ("operations", "bytes", "judged", "judged_reads", "blocks_found"):
            self.assertGreater(figures[name], 0, name)
        self.assertLessEqual(figures["judged_undisturbed"], figures["judged_reads"])
        self.assertTrue(figures["faults"])
        self.assert_cleaned_up()
        return figures

    def assert_cleaned_up(self) -> None:
        self.assertEqual(self._left() - self._before, set())


class Torture(TortureTest):
    def test_one_server_without_etcd_bears_it(self) -> None:
        self.assert_sound(["--no-etcd", "--seed", "3"])

    @unittest.skipIf(shutil.which("etcd") is None, "no etcd: apt-get install etcd-server")
    def test_servers_with_etcd_bear_it(self) -> None:
        self.assert_sound(["--seed", "5"])

    @unittest.skipIf(shutil.which("etcd") is None, "no etcd: apt-get install etcd-server")
    def test_several_shards_bear_it(self) -> None:
        self.assert_sound(["--seed", "7", "--shards", "3"])

    def test_blocks_on_two_nodes_bear_it(self) -> None:
        self.assert_sound(["--no-etcd", "--seed", "9", "--replicas", "2"])

    def test_without_etcd_it_says_what_to_install(self) -> None:
        status, out, err = run(
            "torture", "--minutes", "0.1", env=clean_environment(PATH="/nonexistent")
        )
        self.assertEqual((status, out), (1, ""))
        self.assertIn("etcd-server", err)
        self.assertIn("--no-etcd", err)
        self.assert_cleaned_up()

    def test_wrong_options_are_named(self) -> None:
        for words in (["--minutes", "0"], ["--engines", "0"], ["--arena", "1KiB"],
                      ["--replicas", "5"]):
            status, out, err = run("torture", "--no-etcd", *words)
            self.assertEqual((status, out), (2, ""), words)
            self.assertIn(words[0], err)

    def test_interrupted_it_ends_all_and_leaves_nothing(self) -> None:
        with Process("torture", "--no-etcd", "--minutes", "30") as process:
            limit = time.monotonic() + 60
            while sum(kind == "torture-engine" for _, kind in children_of(process.pid)) < 4:
                self.assertLess(time.monotonic(), limit)
                process.read(0.05)
            started = [pid for pid, _ in children_of(process.pid)]
            process.send(signal.SIGINT)
            self.assertEqual(process.wait(), 1)
            self.assertIn("interrupted", "\n".join(process.err))
        for pid in started:
            self.assertFalse(os.path.exists(f"/proc/{pid}"), "a process was left behind")
        self.assert_cleaned_up()


if __name__ == "__main__":
    main()
