"""How soon a killed leader is followed, with a watch on leaders and without."""

from __future__ import annotations

import time

from cluster_house import LEASE, ClusterHouse, ClusterTest, Server, main, tell, wait_for
from network import Here

# A lease is renewed when a third of it is over: so much is left of it at the least.
LEFT = LEASE * 2 / 3


class LeaderWatch(ClusterTest):
    def test_without_it_a_killed_leader_is_followed_when_its_lease_has_ended(self) -> None:
        house = ClusterHouse()
        self.addCleanup(house.end)
        for name in ("server0", "server1"):
            words = ("--name", name, "--no-leader-watch")
            house.servers.append(Server(house, name, Here(), *words))
        leader = wait_for("a leader", house.leader)
        other = house.follower()
        leader.kill()
        began = time.monotonic()
        wait_for("the other leads", other.leads)
        took = time.monotonic() - began
        self.assertGreater(took, LEFT - 0.5)
        tell(led_again_after=took)


if __name__ == "__main__":
    main()
