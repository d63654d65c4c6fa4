"""Commands that are used wrongly, or find nobody, say so and end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from membrain_process import (
    BINARY,
    PATIENCE,
    Process,
    ProcessTest,
    Trace,
    clean_environment,
    main,
    run,
    taken_port,
)

TOOLS = Path(__file__).resolve().parents[2] / "tools"
GOOD_LINE = '{"timestamp": 0, "input_length": 512, "output_length": 1, "hash_ids": [1]}'


class Usage(ProcessTest):
    def test_every_command_has_help_and_unknown_flags_are_named(self) -> None:
        commands = ("server", "node", "status", "replay", "demo", "bench", "doctor", "torture")
        for command in commands:
            status, out, err = run(command, "--help")
            self.assertEqual((status, err), (0, ""), command)
            self.assertIn("--config", out)
            status, out, err = run(command, "--frobnicate")
            self.assertEqual((status, out), (2, ""), command)
            self.assertIn("--frobnicate", err)
            self.assertIn(f"membrain {command} --help", err)

    def test_no_command_and_unknown_commands_are_usage_errors(self) -> None:
        self.assertEqual(run()[0], 2)
        status, out, err = run("frobnicate")
        self.assertEqual((status, out), (2, ""))
        self.assertIn("frobnicate", err)

    def test_a_wrong_value_is_named_with_its_option_variable_or_line(self) -> None:
        status, _, err = run("node", "--capacity", "lots")
        self.assertEqual(status, 2)
        self.assertIn('--capacity: "lots" is not a size', err)
        environment = clean_environment(MEMBRAIN_TIMEOUT="soon")
        status, _, err = run("status", env=environment)
        self.assertEqual(status, 2)
        self.assertIn('MEMBRAIN_TIMEOUT: "soon" is not a duration', err)
        config = Path(self.folder) / "membrain.toml"
        config.write_text('[status]\nserver = "nowhere"\n')
        status, _, err = run("status", "--config", str(config))
        self.assertEqual(status, 2)
        self.assertIn(f"{config}:2:", err)

    def test_a_node_without_capacity_is_refused(self) -> None:
        trace = Trace(1).write(self.folder)
        for words in (
            ["node"],
            ["node", "--capacity", "0"],
            ["replay", "--trace", trace, "--capacity", "0"],
        ):
            status, _, err = run(*words)
            self.assertEqual(status, 2)
            self.assertIn("--capacity", err)
        self.assertEqual(run("server", "--with-node", "0")[0], 2)

    def test_a_secret_never_stands_on_the_command_line(self) -> None:
        status, _, err = run("server", "--secret", "hush")
        self.assertEqual(status, 2)
        self.assertIn("--secret", err)

    def test_options_of_a_server_that_make_no_sense_are_wrong_usage(self) -> None:
        for option, value in (
            ("--replicas", "9"),
            ("--zone-rule", "x"),
            ("--lease", "1s"),
            ("--cluster", "a/b"),
            ("--shards", "65"),
            ("--shard-ports", "65530"),
            ("--shard-ports", str(2**64 - 16)),
        ):
            words = ["server", "--listen", "127.0.0.1:0", "--no-admin", "--temporary"]
            status, out, err = run(*words, option, value)
            self.assertEqual((status, out), (2, ""), option)
            self.assertIn(f"server: {option}", err)
        words = ["server", "--listen", "0.0.0.0:9201", "--etcd", "http://127.0.0.1:1"]
        status, _, err = run(*words, "--no-admin", "--temporary")
        self.assertEqual(status, 2)
        self.assertIn("--advertise HOST:PORT", err)

    def test_ctl_takes_no_number_for_another_shards(self) -> None:
        for words in (["split", str(2**32)], ["move", str(2**32), "server0"]):
            status, out, err = run("ctl", "--etcd", "http://127.0.0.1:1", *words)
            self.assertEqual((status, out), (2, ""))
            self.assertIn(f"{words[0]}: there is no shard {2**32}", err)
        for words in (["split", "first"], ["move", "-1", "server0"]):
            status, out, err = run("ctl", "--etcd", "http://127.0.0.1:1", "--", *words)
            self.assertEqual((status, out), (2, ""))
            self.assertIn(f'"{words[1]}" is not a whole number', err)
        status, _, err = run("ctl", "--etcd", "http://127.0.0.1:1", "--cluster", "a/b")
        self.assertEqual(status, 2)
        self.assertIn("--cluster", err)

    def test_ctl_says_what_it_can_be_asked_for(self) -> None:
        wrong: list[tuple[list[str], str]] = [
            (["drane", "server0"], "drain NAME, join NAME, rebalance, move SHARD NAME, split"),
            (["drain"], "it is: membrain ctl drain NAME"),
            (["join", "one", "two"], "it is: membrain ctl join NAME"),
            (["rebalance", "now"], "it is: membrain ctl rebalance"),
            (["move", "3"], "it is: membrain ctl move SHARD NAME"),
            (["split"], "it is: membrain ctl split SHARD"),
            (["rebalance", "--drain", "server0"], "--drain"),
        ]
        for words, said in wrong:
            status, out, err = run("ctl", "--etcd", "http://127.0.0.1:1", *words)
            self.assertEqual((status, out), (2, ""), words)
            self.assertIn(said, err)
        status, out, _ = run("ctl", "--help")
        self.assertEqual(status, 0)
        for form in ("drain NAME", "join NAME", "rebalance", "move SHARD NAME", "split SHARD"):
            self.assertIn(form, out)


class Output(ProcessTest):
    """Standard output that cannot take what is said."""

    @staticmethod
    def help_into(out: int) -> tuple[int, str]:
        """Status and standard error of `membrain --help`, once it has ended."""
        done = subprocess.run(
            [BINARY, "--help"], stdout=out, stderr=subprocess.PIPE, text=True, check=False,
            timeout=PATIENCE, env=clean_environment(),
        )  # fmt: skip
        return done.returncode, done.stderr

    def test_a_full_disk_is_a_failure_that_is_named(self) -> None:
        with open("/dev/full", "wb") as full:
            status, err = self.help_into(full.fileno())
        self.assertEqual(status, 1)
        self.assertIn("standard output: No space left on device", err)

    def test_a_reader_who_has_gone_is_none(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        self.assertEqual(self.help_into(writer), (0, ""))
        os.close(writer)

    def test_a_pipe_that_does_not_block_is_waited_for(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        filled = os.write(writer, b"-" * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))
        with subprocess.Popen([BINARY, "--help"], stdout=writer, env=clean_environment()) as told:
            os.close(writer)
            with contextlib.suppress(subprocess.TimeoutExpired):
                told.wait(1)  # whoever loses what does not fit has ended by then
            with open(reader, "rb") as pipe:
                text = pipe.read()[filled:].decode()
        self.assertEqual((told.returncode, text), (0, run("--help")[1] + "\n"))


class PythonDemo(ProcessTest):
    def test_it_is_interrupted_as_any_program_is(self) -> None:
        """The binary becomes Python's, with a package beside it that only waits."""
        binary = Path(self.folder) / "tools" / "membrain"
        package = Path(self.folder) / "python" / "membrain"
        for folder in (binary.parent, package):
            folder.mkdir(parents=True)
        shutil.copy(BINARY, binary)
        (package / "__init__.py").touch()
        (package / "demo.py").write_text(
            "import signal\nprint('up', flush=True)\nsignal.pause()\n", "utf-8"
        )
        demo = subprocess.Popen(
            [str(binary), "demo", "--python"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=clean_environment(),
        )  # fmt: skip
        try:
            assert demo.stdout is not None
            self.assertEqual(demo.stdout.readline(), "up\n")
            demo.send_signal(signal.SIGINT)
            self.assertEqual(demo.wait(PATIENCE), -signal.SIGINT)
        finally:
            demo.kill()
            demo.communicate()


class TestScript(ProcessTest):
    """tools/test.sh, which judges all others."""

    def types_checked(self, mypy: str) -> bool:
        """What `check_types` says, as a step calls it, with a mypy that is this script."""
        folder = Path(self.folder)
        for made in ("tests", "python/tests", "python/examples/mini_engine", "bin"):
            (folder / made).mkdir(parents=True, exist_ok=True)
        program = folder / "bin" / "mypy"
        program.write_text(f"#!/bin/sh\n{mypy}\n", "utf-8")
        program.chmod(0o755)
        source = f"<(sed -n '/^check_types() {{$/,/^}}$/p' {TOOLS / 'test.sh'})"
        script = f"set -euo pipefail; source {source}; if check_types; then echo passed; fi"
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=True,
            timeout=PATIENCE, env=os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}"},
        )  # fmt: skip
        return done.stdout == "passed\n"

    def test_types_are_right_only_where_mypy_says_so_everywhere(self) -> None:
        self.assertTrue(self.types_checked("exit 0"))
        for wrong in ("*/python/tests", "*/mini_engine", "*/tests"):
            self.assertFalse(self.types_checked(f"case $PWD in {wrong}) exit 1 ;; esac"), wrong)
        # The tests' own types alone: */tests is the Python package's folder, too.
        alone = "case $PWD in */python/*) ;; */tests) exit 1 ;; esac"
        self.assertFalse(self.types_checked(alone))


class BrokenTraces(ProcessTest):
    def trace(self, text: str) -> str:
        path = Path(self.folder) / "broken.jsonl"
        path.write_text(text)
        return str(path)

    def test_a_broken_or_missing_line_is_named_with_its_number(self) -> None:
        for broken in ("{", '{"timestamp": 0}', GOOD_LINE.replace("[1]", "[-1]")):
            path = self.trace(f"{GOOD_LINE}\n{GOOD_LINE}\n{broken}\n{GOOD_LINE}\n")
            status, out, err = run("replay", "--trace", path, "--json")
            self.assertEqual((status, out), (1, ""), broken)
            self.assertIn(f"{path}:3: ", err)

    def test_a_line_that_ends_too_early_is_named(self) -> None:
        path = self.trace(f"{GOOD_LINE}\n{GOOD_LINE[:30]}")
        status, _, err = run("replay", "--trace", path)
        self.assertEqual(status, 1)
        self.assertIn(f"{path}:2: ", err)

    def test_a_missing_an_empty_and_an_unnamed_trace_are_told_apart(self) -> None:
        status, _, err = run("replay", "--trace", f"{self.folder}/none.jsonl")
        self.assertEqual(status, 1)
        self.assertIn("No such file", err)
        status, _, err = run("replay", "--trace", self.trace(""))
        self.assertEqual(status, 1)
        self.assertIn("no request", err)
        status, _, err = run("replay")
        self.assertEqual(status, 2)
        self.assertIn("--trace", err)


class NobodyThere(ProcessTest):
    def test_status_of_a_dead_server_fails_within_seconds(self) -> None:
        with taken_port() as sock:
            port = sock.getsockname()[1]
        began = time.monotonic()
        status, out, err = run("status", "--json", "--server", f"127.0.0.1:{port}", patience=20)
        self.assertLess(time.monotonic() - began, 15)
        self.assertEqual((status, out), (1, ""))
        self.assertIn(f"127.0.0.1:{port}", err)

    def test_status_of_a_server_that_never_answers_fails_within_seconds(self) -> None:
        with taken_port() as sock:
            address = f"127.0.0.1:{sock.getsockname()[1]}"
            status, out, err = run("status", "--server", address, "--timeout", "1s", patience=20)
        self.assertEqual((status, out), (1, ""))
        self.assertIn(address, err)

    def test_replay_without_a_server_fails_and_names_it(self) -> None:
        with taken_port() as sock:
            address = f"127.0.0.1:{sock.getsockname()[1]}"
        trace = Trace(3).write(self.folder)
        status, out, err = run("replay", "--trace", trace, "--server", address, "--json")
        self.assertEqual((status, out), (1, ""))
        self.assertIn(address, err)


class Serving(ProcessTest):
    def test_a_port_in_use_is_named_with_the_cure(self) -> None:
        with taken_port() as sock:
            address = f"127.0.0.1:{sock.getsockname()[1]}"
            status, out, err = run("server", "--listen", address, "--no-admin", "--temporary")
            self.assertEqual((status, out), (1, ""))
            self.assertIn(address, err)
            self.assertIn("--listen", err)
            status, out, err = run(
                "server", "--listen", "127.0.0.1:0", "--admin", address, "--temporary"
            )
            self.assertEqual((status, out), (1, ""))
            self.assertIn(address, err)
            self.assertIn("--admin", err)

    def test_a_server_with_a_node_says_it_is_ready_answers_and_stops_in_order(self) -> None:
        words = ["server", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        state = f"{self.folder}/state"
        name = f"test-{os.getpid()}"
        self.addCleanup(Path(f"/dev/shm/membrain-{name}").unlink)
        words += ["--with-node", "16MiB", "--node-name", name, "--state-dir", state]
        with Process(*words) as server:
            ready = server.wait_for_line("membrain server ready").split()
            address, admin = ready[3], ready[5]
            status, out, err = run("status", "--server", address, "--json")
            self.assertEqual(status, 0, err)
            self.assertTrue(json.loads(out))
            self.assertEqual(run("status", "--server", address)[0], 0)
            self.assertTrue(self.http(admin, "/healthz").endswith("ok\n"))
            body = self.http(admin, "/status").split("\r\n\r\n", 1)[1]
            self.assertTrue(json.loads(body))
            server.end()
            self.assertEqual(server.wait(), 0)

    def test_a_server_for_everybody_without_a_secret_is_warned_of(self) -> None:
        words = ["server", "--no-admin", "--temporary", "--listen"]
        with Process(*words, "0.0.0.0:0") as server:
            server.wait_for_line("there is no secret", where="err")
        for listen, secret in (("127.0.0.1:0", ""), ("0.0.0.0:0", "hush")):
            with Process(*words, listen, env=clean_environment(MEMBRAIN_SECRET=secret)) as server:
                server.wait_for_line("membrain server ready")
                server.end()
                self.assertNotIn("there is no secret", server.describe())

    def test_any_user_may_ask_for_the_status(self) -> None:
        nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        if os.geteuid() != 0 or run("--version", at=nobody)[0] != 0:
            self.skipTest("needs root, and a program that others may run")
        words = ["server", "--listen", "127.0.0.1:0", "--no-admin", "--temporary"]
        with Process(*words, at=nobody) as server:
            address = server.wait_for_line("ready").split()[3]
            status, _, err = run("status", "--server", address)
            self.assertEqual(status, 0, err)

    def test_two_servers_do_not_share_a_state_directory(self) -> None:
        words = ["server", "--listen", "127.0.0.1:0", "--no-admin", "--state-dir", self.folder]
        with Process(*words) as first:
            first.wait_for_line("ready")
            status, _, err = run(*words)
            self.assertEqual(status, 1)
            self.assertIn(self.folder, err)

    def test_a_wrong_secret_is_denied_and_never_shown(self) -> None:
        secret = Path(self.folder) / "secret"
        secret.write_text("the-right-one\n")
        words = ["server", "--listen", "127.0.0.1:0", "--no-admin", "--temporary", "-v"]
        with Process(*words, "--secret-file", str(secret)) as server:
            address = server.wait_for_line("ready").split()[3]
            environment = clean_environment(MEMBRAIN_SECRET="the-wrong-one")
            status, _, err = run("status", "-v", "--server", address, env=environment)
            self.assertEqual(status, 1)
            right = run("status", "-v", "--server", address, "--secret-file", str(secret))
            self.assertEqual(right[0], 0, right[2])
            shown = err + right[1] + right[2] + server.describe()
            self.assertNotIn("the-wrong-one", shown)
            self.assertNotIn("the-right-one", shown)

    @staticmethod
    def http(address: str, path: str) -> str:
        host, port = address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            parts = []
            while part := sock.recv(65536):
                parts.append(part)
        return b"".join(parts).decode()


if __name__ == "__main__":
    main()
