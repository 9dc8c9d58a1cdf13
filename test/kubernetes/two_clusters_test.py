"""Two clusters on one LAN, each with an API server of its own, that know nothing of each other."""
import contextlib
import time

import pytest

import manifests
import vipd
from cluster import GROUP, Cluster
from lab import Lab, ip_batch, wait_for

SERVICES = "/api/v1/namespaces/vms/services"
IDS = range(100, 200)
VRRP = {"virtualRouterIDs": [f"{IDS[0]}-{IDS[-1]}"]}


@pytest.fixture(scope="module")
def servers(api):
    with Cluster(address="10.98.0.252") as second:
        second.install()
        yield api, second


@pytest.fixture
def clusters(servers):
    """`one` on n1 and n2, `two` on n3 and n4, a controller each; the test before left nothing."""
    with contextlib.ExitStack() as stack:
        for api in servers:
            api.reset()
            stack.callback(api.reset)
        lab = stack.enter_context(Lab(nodes=4, vms=[("vm2", "n2"), ("vm4", "n4")], management=True))
        made = []
        for api, nodes in zip(servers, (["n1", "n2"], ["n3", "n4"])):
            api.attach(lab, nodes)
            made.append(vipd.Speakers(lab, api, nodes))
            made[-1].start_controller()
            made[-1].start()
        for cluster in made:
            cluster.ready()
        yield made
        for cluster in made:
            cluster.stop_controllers()
            for daemon in cluster.daemons.values():
                if daemon.running():
                    daemon.stop()
        reports = lab.sanitizer_reports() + [report for api in servers for report in api.sanitizer_reports()]
    assert not reports, reports


def expose(cluster, vm, address):
    """A Service for it, with the VM on the second node of the cluster."""
    cluster.api.create(SERVICES, manifests.service("ssh", [address], selector={"vmi.kubevirt.io/id": vm}))


def vip(cluster, address):
    """The VirtualIP of it, which has no status before a speaker's first; empty as long as there is none."""
    return {"spec": {}, "status": {}} | (cluster.api.get(f"{GROUP}/virtualips/{address}") or {})


def router_of(cluster, address):
    return vip(cluster, address)["spec"].get("virtualRouterID")


def condition(thing, kind):
    return next((one for one in thing.get("status", {}).get("conditions", []) if one["type"] == kind), {})


def owner_told(cluster, address):
    """Whom kubectl, the Lease and the LAN name alike; None as long as they do not."""
    found = vip(cluster, address)
    owner = found["status"].get("owner")
    lease = cluster.api.leases().get(found["spec"].get("virtualRouter"), {})
    return owner if owner and owner == lease.get("spec", {}).get("holderIdentity") == cluster.answering(address) else None


def strangers_told(cluster):
    """{node: IDs of strangers} as `kubectl get speakers -o yaml` says it."""
    return {thing["metadata"]["name"]: {stranger["id"] for segment in thing.get("status", {}).get("segments", [])
                                        for stranger in segment.get("foreignVirtualRouters", [])}
            for thing in cluster.api.list(f"{GROUP}/speakers")}


def macs(cluster):
    return {cluster.lab[name].mac for name in cluster.daemons}


def test_the_same_virtual_router_ids_part_them_and_each_fails_over_alone(clusters):
    one, two = clusters
    client = one.lab.client
    ours, theirs = "192.0.2.20", "192.0.2.40"
    for cluster, address in ((one, ours), (two, theirs)):
        cluster.api.pool(addresses=[address], vrrp=VRRP)
    # Both at once: each takes the first ID of its pool before it has heard of the other.
    expose(one, "vm2", ours)
    expose(two, "vm4", theirs)
    for cluster, address, vm in ((one, ours, "vm2"), (two, theirs, "vm4")):
        cluster.serves(address, vm=vm)
    assert router_of(one, ours) == router_of(two, theirs) == IDS[0]
    arp = {address: client.probe("arp", "eth1", address, 2) for address in (ours, theirs)}
    began = [wait_for("an owner that all name", lambda: owner_told(cluster, address))
             for cluster, address in ((one, ours), (two, theirs))]

    wait_for("the clusters to part", lambda: router_of(one, ours) != router_of(two, theirs), 15)
    for cluster, address in ((one, ours), (two, theirs)):
        told = wait_for("an Event about it", lambda: [
            event["note"] for event in cluster.api.events() if event["reason"] == "ForeignVirtualRouter"], 15)
        assert f"which is no node, sends VRRP adverts with virtual router ID {IDS[0]}" in told[0], told
        assert IDS[0] in set().union(*strangers_told(cluster).values())
    wait_for("the old virtual routers to go", lambda: all(
        [name for name in cluster.api.leases() if name.startswith("lab.")] == [vip(cluster, address)["spec"]["virtualRouter"]]
        for cluster, address in ((one, ours), (two, theirs))), 15)
    # Nobody has moved, and nobody goes on to another ID.
    routers = router_of(one, ours), router_of(two, theirs)
    assert [wait_for("an owner that all name", lambda: owner_told(cluster, address))
            for cluster, address in ((one, ours), (two, theirs))] == began
    terms = [vip(cluster, address)["status"]["term"] for cluster, address in ((one, ours), (two, theirs))]

    one[began[0]].kill()
    heir = one.owner(ours, other_than=began[0])
    assert heir in one.daemons
    wait_for("kubectl to name it", lambda: owner_told(one, ours) == heir)
    time.sleep(4)  # a stranger is one after three seconds
    seen = {address: probe.stop() for address, probe in arp.items()}
    assert (router_of(one, ours), router_of(two, theirs)) == routers
    for address, cluster in ((ours, one), (theirs, two)):
        assert seen[address]["two"] == 0 and not seen[address]["dark"], (address, seen)
        assert set(seen[address]["answerers"]) <= macs(cluster), (address, seen)
    assert seen[theirs]["outages"] <= 1 and len(seen[theirs]["answerers"]) == 1, seen  # one: its virtual router changed
    print("parted:", routers, seen)
    assert owner_told(two, theirs) == began[1] and vip(two, theirs)["status"]["term"] == terms[1]


def test_the_same_address_is_served_by_the_cluster_that_had_it(clusters):
    one, two = clusters
    client = one.lab.client
    address = "192.0.2.20"
    for cluster in clusters:
        cluster.api.pool(addresses=[address], vrrp=VRRP)
    expose(one, "vm2", address)
    one.serves(address, vm="vm2")
    owner = wait_for("an owner that all name", lambda: owner_told(one, address))
    arp = client.probe("arp", "eth1", address, 2)
    expose(two, "vm4", address)

    def refused():
        found, service = vip(two, address), two.api.service("ssh")
        return (found["status"].get("state") == "Conflict" and condition(found, "Conflict").get("status") == "True"
                and condition(service, "vipd.dev/Serving").get("reason") == "ForeignAddress" and found)
    told = condition(wait_for("the other cluster to say so", refused, 15), "Conflict")
    assert told["reason"] == "ForeignAddress" and one.lab[owner].mac in told["message"], told
    assert address in two.api.kubectl("get", "vip", "--no-headers") and "Conflict" in two.api.kubectl("get", "vip")
    wait_for("an Event about it", lambda: "ForeignAddress" in {event["reason"] for event in two.api.events()})
    moves = vip(one, address)["status"]["transitions"]

    one[owner].kill()
    heir = one.owner(address, other_than=owner)
    assert heir in one.daemons
    wait_for("kubectl to name it", lambda: owner_told(one, address) == heir)
    one[owner].start()
    time.sleep(12)  # the other cluster looks again every ten seconds
    seen = arp.stop()
    print("same address:", seen)
    assert seen["two"] == 0 and not seen["dark"] and set(seen["answerers"]) == macs(one), seen
    assert seen["outages"] <= 2, seen
    assert owner_told(one, address) == heir and one.serves(address, vm="vm2")
    assert vip(one, address)["status"]["transitions"] == moves + 1
    assert refused() and two.holders(address) == [] and "owner" not in vip(two, address)["status"]

    # The first cluster lets it go: the other one has been waiting for it.
    one.api.delete(f"{SERVICES}/ssh")
    wait_for("the other cluster to take it", lambda: two.answering(address) in two.daemons, 20)
    assert two.serves(address, vm="vm4") and one.holders(address) == []
    wait_for("kubectl to say so", lambda: owner_told(two, address))
    wait_for("no conflict to be left", lambda: condition(vip(two, address), "Conflict").get("status") == "False"
             and condition(two.api.service("ssh"), "vipd.dev/Serving").get("status") == "True")


def test_the_same_addresses_claimed_in_the_same_instant(clusters):
    """Each finds them free and takes them; then one cluster gives in and says who has it, and so it stays."""
    one, two = clusters
    client = one.lab.client
    addresses = [f"192.0.2.{number}" for number in range(20, 24)]
    for cluster in clusters:
        cluster.api.pool(addresses=addresses, vrrp=VRRP)
    arp = {address: client.probe("arp", "eth1", address, 2) for address in addresses}
    lab = one.lab
    # Nobody can claim before all can: within the 10 ms in which a foreign holder is looked for.
    for node in lab.nodes.values():
        node.cut()
    for cluster, vm in ((one, "vm2"), (two, "vm4")):
        for number, address in enumerate(addresses):
            cluster.api.create(SERVICES, manifests.service(f"ssh-{number}", [address], selector={"vmi.kubevirt.io/id": vm}))
    wait_for("every node to know of them", lambda: all(
        len(daemon.status()["routers"]) == len(addresses) for cluster in clusters for daemon in cluster.daemons.values()), 20)
    began = time.monotonic()
    ip_batch(lab.switch.namespace, *[f"link set lan-{name} master lan up" for name in lab.nodes])

    def winner(address):
        """The cluster that serves it, once the other one has given in and said so."""
        for cluster, other, vm in ((one, two, "vm2"), (two, one, "vm4")):
            if owner_told(cluster, address) and vip(other, address)["status"].get("state") == "Conflict":
                assert condition(vip(other, address), "Conflict")["reason"] == "ForeignAddress"
                return cluster, other, vm
        return None

    won = {address: wait_for(f"one cluster to have {address}", lambda: winner(address), 25) for address in addresses}
    settled = time.monotonic() - began
    time.sleep(23)  # the loser looks again every ten seconds
    for address, (cluster, other, vm) in won.items():
        seen = arp[address].stop()
        print(address, "one" if cluster is one else "two", f"settled within {settled:.1f} s:", seen)
        assert not seen["dark"], seen
        # A busy machine may make its owner oversleep: then it is another node of that cluster.
        assert wait_for("an owner that all name", lambda: owner_told(cluster, address)) in cluster.daemons
        assert vip(other, address)["status"]["state"] == "Conflict" and other.holders(address) == []
        assert cluster.serves(address, vm=vm)
