"""One node that has hundreds of addresses: what happens to all of them at once takes longer than a fence lasts."""
import re

import manifests
import vipd
from lab import Lab, ip_batch, wait_for

COUNT = 1200
MANY = [f"203.0.{112 + n // 250}.{n % 250 + 1}" for n in range(COUNT)]
OTHER = "198.18.0.10"


class Many(vipd.Standalone):
    def __init__(self, lab, interval_ms):
        super().__init__(lab, addresses=["203.0.112.0/20"], vrrp={"advertisementIntervalMilliseconds": interval_ms})
        manifests.write(self.folder / "services.yaml",
                        *[manifests.service(f"many-{number}", [address]) for number, address in enumerate(MANY)])

    def has_all(self, name):
        return set(MANY) <= set(self.lab[name].addresses("eth1"))


def test_link_of_many_addresses_down(record_property):
    """Who lost its link says so, however many it has to withdraw, and what is owned on another segment goes on."""
    with Lab(nodes=1) as lab:
        node, client = lab["n1"], lab.client
        ip_batch(node.namespace, "address add 203.0.127.251/20 dev eth1",
                 f"link add eth2 type veth peer name eth2 netns {client.namespace}",
                 "link set eth2 up", "address add 198.18.0.1/24 dev eth2")
        ip_batch(client.namespace, "link set eth2 up", "address add 198.18.0.150/24 dev eth2")
        cluster = Many(lab, 50)
        manifests.write(cluster.folder / "other.yaml",
                        manifests.pool("other", ["198.18.0.0/25"], vrrp={"advertisementIntervalMilliseconds": 50}))
        cluster.expose("other", [OTHER], [])
        cluster.start()
        wait_for("it to have all", lambda: cluster.has_all("n1"), 60, 0.2)
        wait_for("the other one to answer", lambda: client.pings(OTHER, 0.5), 20)
        daemon = cluster["n1"]
        routers = [router for router in daemon.status()["routers"] if router["addresses"] != OTHER]
        assert len(routers) > 200 and all(router["state"] == "Active" for router in routers)
        before = len(daemon.log())
        probe = client.probe("ping", OTHER, 1)
        wait_for("its first answer", lambda: probe.events(), 5)
        node.cut()
        lost = wait_for("all to be withdrawn", lambda: len(found := re.findall(
            r" reason=(\w+) vip=.* old_owner=n1 ", daemon.log()[before:])) >= len(routers) and found, 20)
        wait_for("the addresses to go", lambda: not set(MANY) & set(node.addresses("eth1")), 10)
        seen = probe.stop()
        record_property("other", seen)
        assert set(lost) == {"LinkDown"} and len(lost) == len(routers), {why: lost.count(why) for why in set(lost)}
        assert seen["lost"] == 0, seen
        daemon.stop()
        reports = lab.sanitizer_reports()
    assert not reports, reports
