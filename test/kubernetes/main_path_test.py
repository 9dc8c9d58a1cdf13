"""The main job on a real API server: from `virtctl expose` to a byte from the VM, and on when its owner dies."""
import datetime
import time

import pytest

import manifests
import vipd
from cluster import GROUP, SYSTEM
from lab import Lab, wait_for
from stranger import Stranger, advert

SERVICES = "/api/v1/namespaces/vms/services"
MACHINES = "/apis/kubevirt.io/v1/namespaces/vms/virtualmachines"


@pytest.fixture(scope="module")
def place(api):
    """Three nodes with speakers, a controller, a VM on n2 and another on n3."""
    with Lab(vms=[("test-vm-1", "n2"), ("test-vm-2", "n3")], management=True) as lab:
        api.attach(lab)
        api.pool()
        cluster = vipd.Speakers(lab, api)
        cluster.start_controller()
        cluster.start()
        cluster.ready()
        yield cluster
        cluster.stop_controllers()
        for daemon in cluster.daemons.values():
            if daemon.running():
                daemon.stop()
        reports = lab.sanitizer_reports() + api.sanitizer_reports()
        api.reset()
    assert not reports, reports


@pytest.fixture
def cluster(place):
    """Everybody runs; every Service of the test before is gone without a trace."""
    lab, api = place.lab, place.api
    yield place
    for node in lab.nodes.values():
        if not node.powered:
            node.power_on()
        node.heal("lan")
        node.heal("mgt")
    for daemon in place.daemons.values():
        if not daemon.running():
            daemon.start()
    if not place.controllers:
        place.start_controller()
    place.ready(30)
    gone = [address for thing in api.list(SERVICES) for address in api.ingress(thing["metadata"]["name"])]
    for thing in api.list(SERVICES):
        api.delete(f"{SERVICES}/{thing['metadata']['name']}")
    nothing_left(place, gone)


def routers(api):
    return [name for name in api.leases() if not name.startswith("speaker-") and name != "vipd-controller"]


def nothing_left(cluster, addresses, seconds=20):
    api = cluster.api
    wait_for("the Services to go", lambda: not api.list(SERVICES), seconds)
    wait_for("the VirtualIPs to go", lambda: not api.vips(), seconds)
    wait_for("the Leases to go", lambda: not routers(api), seconds)
    cluster.gone(*addresses, seconds=seconds)


def expose(cluster, vm="test-vm-1", name="myvm-ssh", *words, count=1):
    cluster.api.expose(vm, name, 22, *words)
    addresses = cluster.api.external_ip(name, count=2) if count == 2 else [cluster.api.external_ip(name)]
    for address in addresses:
        cluster.serves(address, vm=vm)
    return addresses


def status_owner(api, address):
    return api.vips()[address.replace(":", "-")].get("status", {}).get("owner")


def test_virtctl_expose_gives_an_address_that_reaches_the_vm(cluster):
    api = cluster.api
    address, = expose(cluster)
    owner = cluster.owner(address)
    assert cluster.holders(address) == [owner]
    wait_for("the VirtualIP to name its owner", lambda: status_owner(api, address) == owner)
    lease, = [api.leases()[name] for name in routers(api)]
    assert lease["spec"]["holderIdentity"] == owner
    assert address in api.kubectl("get", "svc", "-n", "vms", "myvm-ssh")
    line = api.kubectl("get", "vip", "--no-headers")
    assert address in line and owner in line and "Active" in line and "myvm-ssh" in line, line
    speakers = api.kubectl("get", "speakers")
    assert all(name in speakers for name in cluster.daemons), speakers
    service = api.service("myvm-ssh")
    assert "vipd.dev/address" in service["metadata"]["finalizers"]
    condition = wait_for("the Service to be said to be served", lambda: [
        c for c in api.service("myvm-ssh")["status"].get("conditions", [])
        if c["type"] == "vipd.dev/Serving" and c["status"] == "True"])
    assert condition
    reasons = wait_for("an Event", lambda: {event["reason"] for event in api.events()} & {"AddressAllocated"})
    assert reasons


def test_both_families(cluster):
    addresses = expose(cluster, "test-vm-1", "both", "--ip-family-policy", "RequireDualStack", count=2)
    assert {":" in address for address in addresses} == {True, False}
    for address in addresses:
        assert cluster.owner(address) in cluster.daemons


@pytest.mark.parametrize("loss", ["kill", "power", "link", "dead switch port"])
def test_owner_is_lost(cluster, loss):
    api, lab = cluster.api, cluster.lab
    api.create(SERVICES, steered("lost", cluster))
    address = api.external_ip("lost")
    cluster.serves(address, vm="test-vm-2")
    owner = cluster.owner(address)
    arp, held = lab.client.probe("arp", "eth1", address, 2), lab.client.probe("stream", address, 22, 10, 10)
    time.sleep(1)
    if loss == "kill":
        cluster[owner].kill()
    elif loss == "power":
        lab[owner].power_off()
    else:
        lab[owner].cut("lan", carrier=loss == "link")
    heir = cluster.owner(address, other_than=owner)
    cluster.serves(address, vm="test-vm-2")
    wait_for("the VirtualIP to name the new owner", lambda: status_owner(api, address) == heir)
    transition = api.vips()[address]["status"]["lastTransition"]
    assert transition["from"] == owner and transition["to"] == heir and transition["reason"], transition
    time.sleep(1.5)
    seen, kept = arp.stop(), held.stop()
    assert seen["two"] == 0 and not seen["dark"], seen
    assert kept["kept"] == 10 and kept["corrupt"] == 0, kept


def test_a_stranger_with_its_virtual_router_id_is_made_room_for(cluster):
    api, lab = cluster.api, cluster.lab
    api.create(SERVICES, steered("room", cluster))
    address = api.external_ip("room")
    cluster.serves(address, vm="test-vm-2")
    owner, before = cluster.owner(address), api.vips()[address]["spec"]["virtualRouterID"]
    wait_for("the VirtualIP to name its owner", lambda: status_owner(api, address) == owner)
    ping, arp = lab.client.probe("ping", address, 2), lab.client.probe("arp", "eth1", address, 2)
    held = lab.client.probe("stream", address, 22, 10, 10)
    stranger, packet = Stranger(lab.client), advert(before, ("192.0.2.150",), priority=100)

    def moved():
        stranger.send(packet)
        return api.vips()[address]["spec"]["virtualRouterID"] != before
    wait_for("another virtual router", moved, 15, every=0.5)
    wait_for("its Lease", lambda: [name for name in routers(api) if not name.endswith(f".{before}")])
    time.sleep(2)
    pings, seen, kept = ping.stop(), arp.stop(), held.stop()
    print("virtual router ID changed:", pings, seen, kept)
    assert cluster.owner(address) == owner, "the same node has it, on another virtual router"
    assert seen["two"] == 0 and kept["kept"] == 10 and kept["corrupt"] == 0, (seen, kept)
    note, = [event["note"] for event in api.events() if event["reason"] == "ForeignVirtualRouter"]
    assert f"192.0.2.150, which is no node, sends VRRP adverts with virtual router ID {before}" in note


def steered(name, cluster):
    """A Service for the VM on n3 whose owner is n1 or n2, so that the VM does not go with its owner."""
    return manifests.service(name, [], selector={"vmi.kubevirt.io/id": "test-vm-2"},
                             annotations={"vipd.dev/nodes": "n1,n2"})


def test_sigterm_is_a_planned_handover(cluster):
    api, lab = cluster.api, cluster.lab
    address, = expose(cluster, "test-vm-2", "planned")
    owner = cluster.owner(address)
    ping, arp = lab.client.probe("ping", address, 1), lab.client.probe("arp", "eth1", address, 2)
    time.sleep(0.5)
    cluster[owner].stop()
    heir = cluster.owner(address, other_than=owner)
    time.sleep(1)
    assert ping.stop()["lost"] == 0
    assert arp.stop()["two"] == 0
    wait_for("the VirtualIP to name the new owner", lambda: status_owner(api, address) == heir)
    assert api.vips()[address]["status"]["lastTransition"]["reason"] == "Handover"


def test_deleted_service_leaves_nothing(cluster):
    api = cluster.api
    addresses = expose(cluster, "test-vm-1", "short", "--ip-family-policy", "RequireDualStack", count=2)
    api.delete(f"{SERVICES}/short")
    nothing_left(cluster, addresses)


def test_a_service_goes_with_its_vm(cluster):
    """Kubernetes' garbage collector deletes it, since virtctl says whose it is; older virtctl does not say it."""
    api = cluster.api
    address, = expose(cluster)
    machine = api.get(f"{MACHINES}/test-vm-1")
    owner = {"apiVersion": machine["apiVersion"], "kind": machine["kind"], "name": machine["metadata"]["name"],
             "uid": machine["metadata"]["uid"], "controller": True, "blockOwnerDeletion": False}
    if not api.service("myvm-ssh")["metadata"].get("ownerReferences"):
        api.patch(f"{SERVICES}/myvm-ssh", {"metadata": {"ownerReferences": [owner]}})
    assert [one["uid"] for one in api.service("myvm-ssh")["metadata"]["ownerReferences"]] == [owner["uid"]]
    api.delete(f"{MACHINES}/test-vm-1")
    try:
        nothing_left(cluster, [address], 60)
        kept = [(one["address"], one["service"]) for one in api.get(f"{GROUP}/addresspools/lab")["status"]["quarantine"]]
        assert (address, "vms/myvm-ssh") in kept
        assert "AddressReleased" in {event["reason"] for event in api.events() if event["regarding"]["name"] == "myvm-ssh"}
    finally:
        api.create(MACHINES, {**machine, "metadata": {"name": "test-vm-1"}})


def test_deleted_while_the_controller_was_down(cluster):
    api = cluster.api
    address, = expose(cluster)
    cluster.kill_controllers()
    api.delete(f"{SERVICES}/myvm-ssh")
    time.sleep(1)
    assert api.service("myvm-ssh"), "the finalizer keeps the Service until its address is given back"
    cluster.start_controller()
    nothing_left(cluster, [address], 30)


def test_deleted_while_the_owner_was_down(cluster):
    api = cluster.api
    address, = expose(cluster)
    owner = cluster.owner(address)
    cluster[owner].kill()
    api.delete(f"{SERVICES}/myvm-ssh")
    wait_for("the VirtualIP to go", lambda: not api.vips())
    cluster[owner].start()
    nothing_left(cluster, [address])


def test_api_server_away_changes_nothing_and_failover_goes_on(cluster):
    api, lab = cluster.api, cluster.lab
    api.create(SERVICES, steered("alone", cluster))
    address = api.external_ip("alone")
    cluster.serves(address, vm="test-vm-2")
    wait_for("an heir to be told of it, which nobody could tell it afterwards", lambda: all(
        cluster[name].eligible(address) for name in ("n1", "n2")), 20)
    owner = cluster.owner(address)
    arp = lab.client.probe("arp", "eth1", address, 2)
    api.freeze_server()
    try:
        time.sleep(12)
        assert cluster.answering(address) == owner
        cluster[owner].kill()
        heir = cluster.owner(address, other_than=owner)
        time.sleep(1)
    finally:
        api.thaw_server()
    seen = arp.stop()
    assert seen["two"] == 0 and seen["outages"] == 1, seen
    wait_for("the Lease to follow", lambda: [
        1 for name in routers(api) if api.leases()[name]["spec"]["holderIdentity"] == heir], 20)
    time.sleep(2)
    assert cluster.answering(address) == heir


def test_wall_clocks_change_nothing(cluster):
    """Wrong by hours, each in its own way, and stepped while they run; the controller's is right. Only a clock behind the
    certificate of the API server is in the way, and said to be."""
    api, lab = cluster.api, cluster.lab
    try:
        for name, wrong in (("n1", 0), ("n2", 7200), ("n3", -30 * 86400)):
            cluster[name].stop()
            cluster[name].step_clock(wrong)
            cluster[name].start()
        cluster["n3"].process.wait_output("certificate is not yet valid: is this node's clock behind")
        cluster["n3"].stop()
        cluster["n3"].step_clock(40000)
        cluster["n3"].start()
        cluster.ready(30)
        api.create(SERVICES, steered("late", cluster))
        address = api.external_ip("late")
        cluster.serves(address, vm="test-vm-2")
        owner = cluster.owner(address)
        wait_for("the VirtualIP to name its owner", lambda: status_owner(api, address) == owner)
        before = api.vips()[address]["status"]["transitions"], api.leases()[routers(api)[0]]["spec"]["leaseTransitions"]
        arp = lab.client.probe("arp", "eth1", address, 2)
        for step in (3600, -3000, 90000, 0):
            for name in ("n1", "n2"):
                cluster[name].step_clock(step if name == owner else -step // 30)
            time.sleep(2)
            if step == 90000:
                wait_for("the wrong time in what the owner writes", lambda: api.leases()[f"speaker-{owner}"]["spec"][
                    "renewTime"] > f"{datetime.datetime.utcnow() + datetime.timedelta(hours=24):%Y-%m-%dT%H:%M:%S}", 20)
        seen = arp.stop()
        print("stepped:", seen)
        assert seen["outages"] == 0 and seen["two"] == 0 and len(seen["answerers"]) == 1, seen
        assert before == (api.vips()[address]["status"]["transitions"],
                          api.leases()[routers(api)[0]]["spec"]["leaseTransitions"])
        conditions = [(name, one["type"], one["reason"]) for name in lab.nodes
                      for one in api.get(f"{GROUP}/speakers/{name}")["status"]["conditions"] if one["status"] == "Unknown"]
        assert conditions == [], "the controller takes a speaker for silent"
        arp = lab.client.probe("arp", "eth1", address, 2)
        cluster[owner].kill()
        cluster.owner(address, other_than=owner)
        time.sleep(1)
        seen = arp.stop()
        assert seen["outages"] == 1 and seen["two"] == 0 and seen["longest_ms"] < 1500, seen
    finally:
        for daemon in cluster.daemons.values():
            daemon.clock = None
            if daemon.running():
                daemon.restart()


def test_a_crashed_speaker_that_comes_back_at_once_keeps_the_address(cluster):
    api, lab = cluster.api, cluster.lab
    address, = expose(cluster, "test-vm-2", "again")
    owner = cluster.owner(address)
    held = lab.client.probe("stream", address, 22, 10, 10)
    arp = lab.client.probe("arp", "eth1", address, 2)
    time.sleep(0.5)
    cluster[owner].restart()
    time.sleep(3)
    assert cluster.answering(address) in cluster.daemons
    seen, kept = arp.stop(), held.stop()
    assert seen["two"] == 0 and not seen["dark"]
    assert kept["kept"] == 10, kept
