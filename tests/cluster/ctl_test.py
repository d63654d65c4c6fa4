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

        with Process("ctl", *etcd, "move", "0", "server1", "--timeout", "60s") as ctl:
            wait_for("the wish is known", lambda: wanted() == "server1")
            ctl.send(signal.SIGINT)
            self.assertEqual(ctl.wait(), 1)
            self.assertIn("interrupted: it was asked for", "\n".join(ctl.err))

    def shard_server(self, house: ClusterHouse, name: str) -> Server:
        server = Server(house, name, Here(), "--name", name, "--shards", "4")
        house.servers.append(server)
        return server

    def shard_house(self, *servers: str) -> ClusterHouse:
        house = ClusterHouse()
        self.addCleanup(house.end)
        for name in servers:
            self.shard_server(house, name)
        return house

    def led(self, out: str) -> list[str]:
        return sorted(str(one["leader"]) for one in json.loads(out)["shards"])

    def test_a_server_that_joins_leads_its_share(self) -> None:
        house = self.shard_house("server0")
        etcd = ["--etcd", house.members.urls]
        with Process("ctl", "--json", *etcd, "join", "server1", "--timeout", "60s") as ctl:
            ctl.wait_for_line("waiting for server1 to become a member", where="err")
            self.shard_server(house, "server1")
            self.assertEqual(ctl.wait(), 0, ctl.describe())
            self.assertEqual(self.led("\n".join(ctl.out)), 2 * ["server0"] + 2 * ["server1"])
            self.assertIn("of 4 shards are as they are to be", "\n".join(ctl.err))

    def test_a_drained_server_leads_nothing_until_it_joins_again(self) -> None:
        house = self.shard_house("server0", "server1")
        etcd = ["--json", "--etcd", house.members.urls]
        status, out, err = run("ctl", *etcd, "drain", "server0")
        self.assertEqual((status, self.led(out)), (0, 4 * ["server1"]), err)
        status, out, err = run("ctl", *etcd, "join", "server0")
        self.assertEqual(self.led(out), 2 * ["server0"] + 2 * ["server1"], err)

    def test_who_does_not_join_in_time_is_named_and_why(self) -> None:
        house = self.shard_house("server0")
        etcd = ["--etcd", house.members.urls]
        status, out, err = run("ctl", *etcd, "join", "server1", "--timeout", "300ms")
        self.assertEqual((status, out), (1, ""))
        for said in ('no server named "server1"', "those are: server0", "start it with --name"):
            self.assertIn(said, err)

    def test_a_member_that_finds_no_shard_to_lead_is_told_of(self) -> None:
        house = self.house()
        names = [one["name"] for one in json.loads(
            run("ctl", "--json", "--etcd", house.members.urls)[1])["servers"]]
        told = [run("ctl", "--etcd", house.members.urls, "join", name) for name in names]
        self.assertEqual([status for status, _, _ in told], [0, 0], told)
        self.assertEqual(sum("fewer shards than servers" in err for _, _, err in told), 1, told)

    def test_a_node_is_not_drained_from_here_and_how_it_is(self) -> None:
        house = self.shard_house("server0")
        node = house.node()
        for name in (node.name, "node"):
            status, out, err = run("ctl", "--etcd", house.members.urls, "drain", name)
            self.assertEqual((status, out), (1, ""))
            for said in (f'no living server is named "{name}"', "If it is a node",
                         "--drain 10m", "SIGTERM"):
                self.assertIn(said, err)


if __name__ == "__main__":
    main()
