"""What deploy/ says to systemd, Kubernetes and helm holds together, and membrain knows every option
in it. helm is not in Debian 12: the chart is rendered by render.go, with helm's own libraries."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import]  # Debian has no stubs of it

HERE = Path(__file__).resolve().parent
DEPLOY = HERE.parent.parent / "deploy"
CHART = DEPLOY / "helm" / "membrain"
BINARY = os.environ.get("MEMBRAIN_TEST_BINARY", "")
PREFIX = os.environ.get("MEMBRAIN_TEST_PREFIX", "")  # where all was installed
UNITS = ("membrain-server.service", "membrain-node.service")
SPRIG = "golang-github-masterminds-sprig-dev"  # brings yaml.v3
GO_PATH = os.environ.get("GOPATH", "/usr/share/gocode")  # where Debian has Go's libraries
BUILD_PATIENCE = 900.0  # the first time, with all of sprig

Object = dict[str, Any]


@cache
def options(command: str) -> set[str]:
    """Those that `membrain COMMAND --help` lists, without dashes."""
    words = [BINARY, command, "--help"]
    told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    return set(re.findall(r"^\s+(?:-\w,)?--([a-z-]+)", told, re.MULTILINE))


@cache
def renderer() -> str:
    """The program that render.go is; "" where it cannot be built."""
    go = shutil.which("go")
    if go is None or not (Path(GO_PATH) / "src/github.com/Masterminds/sprig").is_dir():
        return ""
    program = str(Path(tempfile.mkdtemp(prefix="membrain-render-")) / "render")
    atexit.register(shutil.rmtree, Path(program).parent)
    environment = os.environ | {"GOPATH": GO_PATH, "GO111MODULE": "off"}
    words = [go, "build", "-o", program, str(HERE / "render.go")]
    subprocess.run(words, check=True, env=environment, timeout=BUILD_PATIENCE)
    return program


def values() -> Object:
    loaded: Object = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    return loaded


def settings(unit: str) -> dict[str, dict[str, str]]:
    """Of a unit, by section; no key comes twice in ours."""
    found: dict[str, dict[str, str]] = {}
    for line in (DEPLOY / "systemd" / f"{unit}.in").read_text("utf-8").splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            assert section.setdefault(key, value) == value, line
    return found


class Units(unittest.TestCase):
    def test_options_of_both_units_exist(self) -> None:
        for unit in UNITS:
            text = (DEPLOY / "systemd" / f"{unit}.in").read_text("utf-8")
            started = re.search(r"^ExecStart=@membrain_program@ (\w+) (.*)$", text, re.MULTILINE)
            assert started is not None, unit
            named = set(re.findall(r"--([a-z-]+)", started[2]))
            named |= set(re.findall(r"^#   ([a-z-]+) = ", text, re.MULTILINE))  # the example
            self.assertEqual(named - options(started[1]), set(), unit)
            self.assertIn(f"#   [{started[1]}]\n", text)

    def test_both_run_as_the_user_that_is_installed_with_them(self) -> None:
        """UCX's shared memory joins processes of one user only."""
        users = (DEPLOY / "systemd" / "membrain.sysusers").read_text("utf-8")
        made = re.findall(r"^u (\w+) -", users, re.MULTILINE)
        self.assertEqual(len(made), 1)
        for unit in UNITS:
            service = settings(unit)["Service"]
            self.assertEqual([service["User"], service["Group"]], made * 2, unit)
            self.assertNotIn("DynamicUser", service)

    def test_both_are_started_again_however_often_they_end(self) -> None:
        for unit in UNITS:
            self.assertEqual(settings(unit)["Unit"]["StartLimitIntervalSec"], "0", unit)
            self.assertEqual(settings(unit)["Service"]["Restart"], "always", unit)

    @unittest.skipIf(PREFIX == "", "MEMBRAIN_TEST_PREFIX does not name an installation")
    def test_what_is_installed_starts_the_program_that_is_installed(self) -> None:
        self.assertTrue((Path(PREFIX) / "lib/sysusers.d/membrain.conf").is_file())
        for unit in UNITS:
            text = (Path(PREFIX) / "lib/systemd/system" / unit).read_text("utf-8")
            started = re.search(r"^ExecStart=(\S+) ", text, re.MULTILINE)
            assert started is not None, unit
            self.assertEqual(Path(started[1]), Path(PREFIX) / "bin" / "membrain")
            self.assertTrue(os.access(started[1], os.X_OK), started[1])
            self.assertNotIn("@", text)


class Objects(unittest.TestCase):
    """What any set of Kubernetes objects must be."""

    def assert_sound(self, objects: list[Object]) -> None:
        by_kind = {(one["kind"], one["metadata"]["name"]): one for one in objects}
        self.assertEqual(len(by_kind), len(objects), "a name came twice")
        for one in objects:
            if one["kind"] in ("StatefulSet", "DaemonSet"):
                self.assert_sound_workload(one, by_kind)

    def assert_sound_workload(self, one: Object, by_kind: dict[tuple[str, str], Object]) -> None:
        spec, pod = one["spec"], one["spec"]["template"]
        labels = pod["metadata"]["labels"]
        self.assertLessEqual(spec["selector"]["matchLabels"].items(), labels.items())
        (container,) = pod["spec"]["containers"]
        command, *words = container["args"]
        for word in words:
            self.assertRegex(word, r"^--[a-z-]+(=\S+)?$")
        named = {word[2:].partition("=")[0] for word in words}
        self.assertEqual(named - options(command), set())
        self.assertEqual(len(named), len(words), "an option came twice")
        variables = {variable["name"] for variable in container["env"]}
        self.assertEqual(set(re.findall(r"\$\((\w+)\)", " ".join(words))), variables)
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
        self.assertEqual({mount["name"] for mount in container["volumeMounts"]}, volumes)
        if one["kind"] == "StatefulSet":
            service = by_kind["Service", spec["serviceName"]]
            self.assertLessEqual(service["spec"]["selector"].items(), labels.items())
            self.assert_ports(container, service)
            self.assert_probes(container)
            # The claim is mounted as the image's user's, or nobody's, without it.
            user = pod["spec"]["securityContext"]
            self.assertEqual(user["fsGroup"], user["runAsGroup"])
            if spec["replicas"] > 1:
                self.assert_disrupted_one_by_one(one, by_kind)
        else:
            self.assert_meets_servers(words, by_kind)

    def assert_ports(self, container: Object, service: Object) -> None:
        ports = {port["containerPort"] for port in container["ports"]}
        names = {port.get("name") for port in container["ports"]}
        self.assertLessEqual({port["port"] for port in service["spec"]["ports"]}, ports)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            self.assertIn(container[probe]["httpGet"]["port"], ports | names)
        listened = re.findall(r"--(?:listen|admin)=\S+:(\d+)", " ".join(container["args"]))
        self.assertEqual(set(map(int, listened)), ports)

    def assert_probes(self, container: Object) -> None:
        """Nobody is killed who takes a minute to join."""
        startup = container["startupProbe"]
        self.assertGreaterEqual(startup["periodSeconds"] * startup["failureThreshold"], 60)

    def assert_disrupted_one_by_one(
        self, servers: Object, by_kind: dict[tuple[str, str], Object]
    ) -> None:
        budget = by_kind["PodDisruptionBudget", servers["metadata"]["name"]]["spec"]
        self.assertEqual(budget["maxUnavailable"], 1)
        self.assertEqual(budget["selector"], servers["spec"]["selector"])

    def assert_meets_servers(
        self, words: list[str], by_kind: dict[tuple[str, str], Object]
    ) -> None:
        """A node knows every server by the name that it has in the cluster's DNS."""
        (servers,) = (one for (kind, _), one in by_kind.items() if kind == "StatefulSet")
        set_name, space = servers["metadata"]["name"], servers["metadata"].get("namespace", "space")
        host = f"{servers['spec']['serviceName']}.{space}.svc:9201"
        hosts = [f"{set_name}-{i}.{host}" for i in range(servers["spec"]["replicas"])]
        self.assertIn("--server=" + ",".join(hosts), words)
        (container,) = servers["spec"]["template"]["spec"]["containers"]
        self.assertIn(f"--advertise=$(POD).{host}", container["args"])


class Manifests(Objects):
    def test_the_manifests_hold_together(self) -> None:
        text = (DEPLOY / "kubernetes" / "membrain.yaml").read_text("utf-8")
        objects = list(yaml.safe_load_all(text))
        self.assertEqual({one["kind"] for one in objects},
                         {"Namespace", "Secret", "Service", "PodDisruptionBudget", "StatefulSet",
                          "DaemonSet"})
        self.assert_sound(objects)

    def test_the_first_thing_said_is_to_change_the_secret(self) -> None:
        text = (DEPLOY / "kubernetes" / "membrain.yaml").read_text("utf-8")
        self.assertTrue(text.startswith("# CHANGE THE SECRET FIRST"))


class Values(unittest.TestCase):
    def test_templates_use_every_value_and_no_other(self) -> None:
        used: set[str] = set()
        for path in (CHART / "templates").iterdir():
            used |= set(re.findall(r"\.Values\.([\w.]+)", path.read_text("utf-8")))
        named = set()
        for key, value in values().items():
            inner = value if isinstance(value, dict) else None
            named |= {key} if inner is None else {f"{key}.{name}" for name in inner}
        self.assertEqual(used, named)

    def test_the_chart_has_the_programs_version(self) -> None:
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
        told = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True)
        self.assertIn(chart["appVersion"], told.stdout)


class Chart(Objects):
    def render(self, **changes: Object) -> tuple[list[Object], str]:
        """Its objects, or why there are none. `changes` by section of values.yaml."""
        if not renderer():
            self.skipTest(f"the chart is not rendered: apt-get install golang-go {SPRIG}")
        merged = values()
        for section, change in changes.items():
            merged[section] |= change
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
        data = {"Values": merged, "Release": {"Name": "one", "Namespace": "space"},
                "Chart": {name[0].upper() + name[1:]: value for name, value in chart.items()}}
        done = subprocess.run(
            [renderer(), str(CHART / "templates")], input=json.dumps(data),
            capture_output=True, text=True, check=False, timeout=60,
        )
        if done.returncode != 0:
            return [], done.stderr
        return [one for one in yaml.safe_load_all(done.stdout) if one], ""

    def rendered(self, **changes: Object) -> list[Object]:
        objects, why = self.render(**changes)
        self.assertEqual(why, "")
        self.assert_sound(objects)
        return objects

    def test_two_servers_agree_by_etcd(self) -> None:
        ends = ["http://a:2379", "http://b:2379"]
        objects = self.rendered(etcd={"endpoints": ends}, secret={"value": "s: '\""})
        kinds = sorted(one["kind"] for one in objects)
        self.assertEqual(
            kinds, ["DaemonSet", "PodDisruptionBudget", "Secret", "Service", "StatefulSet"]
        )
        of = {one["kind"]: one for one in objects}
        self.assertEqual(of["Secret"]["stringData"]["secret"], "s: '\"")
        (server,) = of["StatefulSet"]["spec"]["template"]["spec"]["containers"]
        self.assertIn("--etcd=http://a:2379,http://b:2379", server["args"])
        self.assertIn("--expected-blocks=1000000", server["args"])
        self.assertEqual(server["image"], "membrain:0.1.0")

    def test_one_server_needs_no_etcd(self) -> None:
        objects = self.rendered(server={"replicas": 1}, secret={"existing": "mine"})
        self.assertNotIn("Secret", {one["kind"] for one in objects})
        self.assertNotIn("etcd", json.dumps(objects))
        for one in objects:
            if one["kind"] != "Service":
                used = one["spec"]["template"]["spec"]["volumes"][0]["secret"]["secretName"]
                self.assertEqual(used, "mine")

    def test_one_server_may_have_several_shards_without_etcd(self) -> None:
        shards = {"replicas": 1, "shards": 4, "shardPorts": 9300}
        objects = self.rendered(server=shards, secret={"value": "s"})
        of = {one["kind"]: one for one in objects}
        (server,) = of["StatefulSet"]["spec"]["template"]["spec"]["containers"]
        self.assertLessEqual({"--shards=4", "--shard-ports=9300"}, set(server["args"]))
        for other in ("--etcd=", "--cluster=", "--lease="):
            self.assertNotIn(other, " ".join(server["args"]))

    def test_another_secret_is_another_pod(self) -> None:
        def annotations(**secret: str) -> list[Object]:
            objects = self.rendered(server={"replicas": 1}, secret=secret)
            return [one["spec"]["template"]["metadata"]["annotations"] for one in objects
                    if one["kind"] in ("StatefulSet", "DaemonSet")]

        first, again, other = annotations(value="a"), annotations(value="a"), annotations(value="b")
        self.assertEqual(len(first), 2)
        self.assertEqual(first, again)
        for one, another in zip(first, other, strict=True):
            self.assertNotEqual(one, another)
        self.assertNotEqual(annotations(existing="mine"), annotations(existing="yours"))

    def test_servers_run_as_the_user_that_their_claim_belongs_to(self) -> None:
        objects = self.rendered(server={"replicas": 1, "runAsUser": 77}, secret={"value": "s"})
        (server,) = (one for one in objects if one["kind"] == "StatefulSet")
        user = server["spec"]["template"]["spec"]["securityContext"]
        self.assertEqual(set(user.values()), {77})

    def test_everything_can_be_set(self) -> None:
        tolerations = [{"key": "gpu", "operator": "Exists"}]
        section = {"tolerations": tolerations, "nodeSelector": {"a/b": "true"},
                   "resources": {"limits": {"rdma/hca": 1}}}
        objects = self.rendered(
            etcd={"endpoints": ["https://a:2379"], "tlsSecret": "tls", "clientCertificate": True},
            secret={"value": "s"},
            server=section | {"replicas": 3, "storageClassName": "fast",
                              "extraArgs": ["--hot-lookups=0", "--log-level=debug"]},
            node=section | {"zone": "rack-7", "oneSidedReads": True, "drainSeconds": 600,
                            "extraArgs": ["--fresh"]},
        )
        (node,) = (one["spec"]["template"]["spec"] for one in objects if one["kind"] == "DaemonSet")
        self.assertIn("--drain=600s", node["containers"][0]["args"])
        self.assertGreater(node["terminationGracePeriodSeconds"], 600)
        for one in objects:
            if one["kind"] in ("StatefulSet", "DaemonSet"):
                pod = one["spec"]["template"]["spec"]
                self.assertEqual(pod["tolerations"], tolerations)
                self.assertEqual(pod["nodeSelector"], {"a/b": "true"})
                self.assertEqual(pod["containers"][0]["resources"], section["resources"])

    def test_what_is_missing_is_named(self) -> None:
        _, why = self.render(secret={"value": "s"})
        self.assertIn("several servers agree by etcd: set etcd.endpoints", why)
        _, why = self.render(server={"replicas": 1})
        self.assertIn("set secret.value, or secret.existing", why)


def main() -> None:
    ended = unittest.main(verbosity=2, exit=False).result
    if not ended.wasSuccessful():
        sys.exit(1)
    if len(ended.skipped) == ended.testsRun:
        sys.exit(77)  # what ctest takes for "skipped"


if __name__ == "__main__":
    main()
