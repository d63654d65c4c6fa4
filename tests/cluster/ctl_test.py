"""membrain ctl, which asks for something and waits until it has happened."""

from __future__ import annotations

import json
import signal

from cluster_house import ClusterHouse, ClusterTest, Server, main, wait_for
from membrain_process import Process, run
from network import Here


class Ctl(ClusterTest):
    def test_it_tells_of_each_member_of_etcd(self) -> None:
        house = self.house()
        etcd = ["--etcd", house.members.urls]
        urls = house.members.urls.split(",")
        status, out, err = run("ctl", "--json", *etcd)
        self.assertEqual(status, 0, err)
        told = json.loads(out)["etcd"]
        self.assertEqual([one["address"] for one in told], urls)
        for one in told:
            self.assertTrue(one["answers"] and one["has_leader"] and one["bytes"] > 0, one)
            self.assertRegex(one["version"], r"^3\.")
        house.members.kill(2)
        wait_for("a leader", lambda: run("ctl", *etcd)[0] == 0)
        self.assertIn(f"etcd {urls[2]}: does not answer", run("ctl", *etcd)[1])
        house.members.kill(1)

        def alone() -> str:
            return run("ctl", "--timeout", "2s", *etcd)[2]

        wait_for("nobody leads", lambda: f"etcd {urls[0]}: version 3" in (told := alone())
                 and "has no leader" in told)

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
