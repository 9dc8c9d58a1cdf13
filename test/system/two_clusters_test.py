"""Two clusters of vipd on one LAN that know nothing of each other: the same virtual router ID, or the same addresses."""
import collections
import sys
import pathlib
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

import vipd  # noqa: E402
from lab import Lab, LabError, ip_batch, wait_for  # noqa: E402

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


@pytest.mark.parametrize("ids", ["other IDs", "the same IDs"])
@pytest.mark.parametrize("virtual_mac", [False, True], ids=["own MACs", "virtual MACs"])
def test_addresses_that_both_take_in_the_same_instant_are_one_cluster_s(ids, virtual_mac):
    """Each looks for a foreign holder for 10 ms and finds none, since the other one has not taken it yet either."""
    numbers = range(10, 18)  # some of them are taken so, if not each
    pairs = [(f"192.0.2.{number}", f"2001:db8::1:{number}") for number in numbers]
    addresses = [address for pair in pairs for address in pair]
    with Lab(nodes=4, vms=[("vm2", "n2"), ("vm4", "n4")]) as lab:
        clusters = []
        for nodes, folder, vm, first in ((["n1", "n2"], "one", "vm2", 100), (["n3", "n4"], "other", "vm4", 150)):
            first = 100 if ids == "the same IDs" else first
            cluster = vipd.Standalone(lab, nodes, folder, vrrp={
                "virtualRouterIDs": [f"{first}-{first + len(pairs) - 1}"], "virtualMAC": virtual_mac})
            for number, pair in zip(numbers, pairs):
                cluster.expose(f"service-{number}", pair, [vm], candidates=nodes)
            clusters.append(cluster)
        for node in lab.nodes.values():
            node.cut()
        for cluster in clusters:
            cluster.start()
        wait_for("every node to know of them", lambda: all(
            status and status["ready"] and len(status["routers"]) == len(addresses)
            for cluster in clusters for status in (daemon.status() for daemon in cluster.daemons.values())), 20)

        def ask():
            return {address: lab.client.probe("arp", "eth1", address, 10) for address in addresses}
        arp = ask()
        ip_batch(lab.switch.namespace, *[f"link set lan-{name} master lan up" for name in lab.nodes])

        def holders():
            return {address: [name for cluster in clusters for name in cluster.holders(address)] for address in addresses}

        def states():
            """{address: [states that its nodes say, by cluster]}"""
            said = collections.defaultdict(lambda: ([], []))
            for number, cluster in enumerate(clusters):
                for daemon in cluster.daemons.values():
                    for router in (daemon.status() or {"routers": []})["routers"]:
                        said[router["addresses"]][number].append(router["state"])
            return said

        def settled():
            found = states()
            return found if all(sorted(sorted(by_cluster) for by_cluster in found[address]) ==
                                [["Active", "Backup"], ["Conflict", "Conflict"]] for address in addresses) else None
        def told(address):
            """For who reads of a failure: all that was said of the address."""
            return "\n".join([f"{address}: {holders()[address]} have it, {states()[address]}"] + [
                line for cluster in clusters for daemon in cluster.daemons.values()
                for line in daemon.log().splitlines() if f"vip={address} " in line][-40:])

        before = wait_for("one cluster to have each, and the other one to say so", settled, 10)
        had = holders()
        assert all(len(names) == 1 for names in had.values()), had
        seen = {address: probe.stop() for address, probe in arp.items()}
        for address, probe in seen.items():
            assert probe["two"] < 20 and not probe["dark"], (address, probe)
        logs = "".join(daemon.log() for cluster in clusters for daemon in cluster.daemons.values())
        print("given up again:", logs.count("which it had just taken"), "answered by two for a moment:",
              [probe["two"] for probe in seen.values()], "had by", collections.Counter(sum(had.values(), [])))
        arp = ask()
        time.sleep(13)  # the others look again every ten seconds
        for address, probe in arp.items():
            seen = probe.stop()
            assert seen["two"] == seen["outages"] == 0 and not seen["dark"], f"{address}: {seen}\n{told(address)}"
        assert holders() == had and settled() == before

        # By now it is the cluster's for good: its second node needs nobody's leave.
        address = addresses[0]
        owner, = had[address]
        cluster, = [cluster for cluster in clusters if owner in cluster.daemons]
        arp = lab.client.probe("arp", "eth1", address, 2)
        cluster[owner].kill()
        wait_for("the next node of that cluster", lambda: (found := holders()[address]) and found != [owner] and
                 set(found) - {owner} <= set(cluster.daemons))
        try:
            cluster.serves(address)
        except LabError as error:
            raise LabError(f"{error}; {owner} was killed\n{told(address)}") from None
        seen = arp.stop()
        assert not seen["dark"] and seen["longest_ms"] < 1500, seen
        for cluster in clusters:
            for daemon in cluster.daemons.values():
                if daemon.running():
                    daemon.stop()
        assert lab.sanitizer_reports() == []
