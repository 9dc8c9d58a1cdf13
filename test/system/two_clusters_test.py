"""Two clusters of vipd on one LAN that know nothing of each other and have the same virtual router ID."""
import sys
import pathlib
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

import vipd  # noqa: E402
from lab import Lab  # noqa: E402

OURS, THEIRS = ["192.0.2.10", "2001:db8::1:10"], ["192.0.2.20", "2001:db8::1:20"]


def test_neither_disturbs_the_other():
    with Lab(nodes=4, vms=[("vm2", "n2"), ("vm4", "n4")]) as lab:
        one, other = [vipd.Standalone(lab, nodes, folder, vrrp={"virtualRouterIDs": [77]})
                      for nodes, folder in ((["n1", "n2"], "one"), (["n3", "n4"], "other"))]
        one.expose("mine", OURS, ["vm2"], candidates=["n1", "n2"])
        other.expose("theirs", THEIRS, ["vm4"], candidates=["n3", "n4"])
        for cluster, addresses, vm in ((one, OURS, "vm2"), (other, THEIRS, "vm4")):
            cluster.start()
            for address in addresses:
                cluster.serves(address, vm=vm)
        assert {router["virtualRouterID"] for name in lab.nodes for cluster in (one, other) if name in cluster.daemons
                for router in cluster[name].status()["routers"]} == {77}
        for cluster, names in ((one, ("n1", "n2")), (other, ("n3", "n4"))):
            for name in names:
                cluster[name].process.wait_output("reason=ForeignVirtualRouter")

        arp = {address: lab.client.probe("arp", "eth1", address, 2) for address in OURS + THEIRS}
        connect = {address: lab.client.probe("connect", address, 22, 10) for address in THEIRS}
        # The first candidates, unless a busy machine has moved them before.
        killed, hung = one.owner(OURS[0]), other.owner(THEIRS[0])
        one[killed].kill()
        heirs = [one.owner(address, other_than=killed) for address in OURS]
        one[killed].start()
        other[hung].hang()
        heirs += [other.owner(address, other_than=hung) for address in THEIRS]
        other[hung].wake()
        other[hung].process.wait_output("reason=Overslept")
        time.sleep(2)
        seen = {address: probe.stop() for address, probe in arp.items()}
        for address, probe in seen.items():
            assert probe["two"] == 0 and not probe["dark"], (address, probe)
            assert probe["outages"] <= 1 and probe["longest_ms"] < 1500, (address, probe)
        for address, probe in connect.items():
            assert not probe.stop()["dark"], address
        assert [one.owner(address) for address in OURS] + [other.owner(address) for address in THEIRS] == heirs
        for cluster in (one, other):
            for daemon in cluster.daemons.values():
                daemon.stop()
        assert lab.sanitizer_reports() == []
