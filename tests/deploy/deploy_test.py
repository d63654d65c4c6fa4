"""What deploy/ says to systemd, Kubernetes and helm holds together, and membrain knows every option
in it. helm is not in Debian 12: the chart is rendered by render.go, with helm's own libraries."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
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


class Units(unittest.TestCase):
    def test_options_of_both_units_exist(self) -> None:
        for unit in sorted((DEPLOY / "systemd").glob("*.service")):
            text = unit.read_text("utf-8")
            started = re.search(r"^ExecStart=/usr/bin/membrain (\w+) (.*)$", text, re.MULTILINE)
            assert started is not None, unit
            named = set(re.findall(r"--([a-z-]+)", started[2]))
            named |= set(re.findall(r"^#   ([a-z-]+) = ", text, re.MULTILINE))  # the example
            self.assertEqual(named - options(started[1]), set(), unit.name)
            self.assertIn(f"#   [{started[1]}]\n", text)


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
        else:
            self.assert_meets_servers(words, by_kind)

    def assert_ports(self, container: Object, service: Object) -> None:
        ports = {port["containerPort"] for port in container["ports"]}
        names = {port.get("name") for port in container["ports"]}
        self.assertLessEqual({port["port"] for port in service["spec"]["ports"]}, ports)
        self.assertIn(container["livenessProbe"]["httpGet"]["port"], ports | names)
        listened = re.findall(r"--(?:listen|admin)=\S+:(\d+)", " ".join(container["args"]))
        self.assertEqual(set(map(int, listened)), ports)

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
                         {"Namespace", "Secret", "Service", "StatefulSet", "DaemonSet"})
        self.assert_sound(objects)


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
        self.assertEqual(kinds, ["DaemonSet", "Secret", "Service", "StatefulSet"])
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


if __name__ == "__main__":
    unittest.main(verbosity=2)
