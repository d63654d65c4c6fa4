"""membrain ctl, which asks for something and waits until it has happened."""

from __future__ import annotations

import json
import signal

from cluster_house import ClusterHouse, ClusterTest, Server, main, wait_for
from membrain_process import Process, run
from network import Here


class Ctl(ClusterTest):
    def test_interrupted_it_says_so_and_that_it_may_yet_happen(self) -> None:
        house = ClusterHouse()
        self.addCleanup(house.end)
        for name in ("server0", "server1"):
            words = ("--name", name, "--lease", "60s")
            house.servers.append(Server(house, name, Here(), *words))
        etcd = ["--etcd", house.members.urls]
        house.servers[1].stop()  # it counts as alive, and takes nothing over

        def wanted() -> str:
            _, out, _ = run("ctl", "--json", *etcd)
            return str(json.loads(out)["shards"][0]["wanted"]) if out else ""

        with Process("ctl", *etcd, "--move", "0", "--to", "server1", "--timeout", "60s") as ctl:
            wait_for("the wish is known", lambda: wanted() == "server1")
            ctl.send(signal.SIGINT)
            self.assertEqual(ctl.wait(), 1)
            self.assertIn("interrupted: it was asked for", "\n".join(ctl.err))


if __name__ == "__main__":
    main()
