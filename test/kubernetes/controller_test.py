"""The controller alone against a real API server: what a user reads, what an administrator reads, what is left.

Nodes and Speakers are written as kubelets and speakers write them; test/kubernetes/main_path_test.py has real ones.
"""
import concurrent.futures
import json
import time

import pytest

import manifests
from cluster import OLDEST, SYSTEM, ApiError
from controllers import LEASES, POOLS, SERVICES, SPEAKERS, VIPS
from lab import wait_for
from metrics_test import page
from vipd import program

FINALIZERS = ["vipd.dev/address", "service.kubernetes.io/load-balancer-cleanup"]
IP_MODE = {} if OLDEST else {"ipMode": "VIP"}  # unknown before 1.29


# --- the path


def test_a_service_gets_an_address_a_record_and_a_status(running):
    running.create("ssh")
    address = running.api.external_ip("ssh")
    service = running.api.service("ssh")
    vip = running.api.get(f"{VIPS}/{address}")
    assert service["metadata"]["finalizers"] == FINALIZERS
    assert service["status"]["loadBalancer"]["ingress"] == [
        {"ip": address, **IP_MODE, "ports": [{"port": 22, "protocol": "TCP"}]}]
    assert vip["spec"]["services"] == [{"namespace": "vms", "name": "ssh", "uid": service["metadata"]["uid"]}]
    assert vip["spec"]["pool"] == "lab"
    assert vip["spec"]["virtualRouter"] == f"lab.ipv4.{vip['spec']['virtualRouterID']}"
    assert vip["spec"]["vrrp"] == {"advertisementIntervalMilliseconds": 100, "mode": "multicast", "version": 3,
                                   "virtualMAC": False}
    assert sorted(c["node"] for c in vip["spec"]["candidates"]) == ["n1", "n2", "n3"]
    assert [c["priority"] for c in vip["spec"]["candidates"]] == [254, 247, 240]
    running.wait_condition("ssh", "AddressAllocated", "True", "AddressAllocated", address)
    running.wait_condition("ssh", "Serving", "False", "Provisioning", f"no node has taken {address} yet")
    running.wait_event("ssh", "AddressAllocated", f"{address} of pool lab")
    wait_for("the pool to count", lambda: running.pool_status().get("assigned") == {"ipv4": 1, "ipv6": 0})
    assert "AddressAllocated" in running.api.kubectl("describe", "service", "ssh", namespace="vms")


def test_serving_follows_what_the_owner_says(running):
    running.create("ssh")
    address = running.api.external_ip("ssh")
    status = f"{VIPS}/{address}/status"
    running.api.patch(status, {"status": {"owner": "n1", "state": "Active"}})
    running.wait_condition("ssh", "Serving", "True", "Serving", address)
    before = running.api.service("ssh")["metadata"]["resourceVersion"]
    # A failover of some hundred milliseconds, a handover: no write to the Service.
    running.api.patch(status, {"status": {"owner": "", "state": "Unowned"}})
    time.sleep(0.3)
    running.api.patch(status, {"status": {"owner": "n2", "state": "Moving"}})
    time.sleep(0.3)
    running.api.patch(status, {"status": {"owner": "n2", "state": "Active"}})
    time.sleep(4)
    assert running.api.service("ssh")["metadata"]["resourceVersion"] == before
    running.api.patch(status, {"status": {"owner": "", "state": "Unowned"}})
    running.wait_condition("ssh", "Serving", "False", "Provisioning")
    running.api.patch(status, {"status": {"state": "Conflict", "conditions": [
        {"type": "Conflict", "status": "True", "reason": "ForeignAddress", "lastTransitionTime": manifests.STAMP,
         "message": f"02:00:00:00:00:99 answers for {address}"}]}})
    running.wait_condition("ssh", "Serving", "False", "ForeignAddress", "02:00:00:00:00:99")


def test_both_families_and_a_family_that_comes_and_goes(running):
    running.create("ssh", ipFamilies=["IPv4", "IPv6"], ipFamilyPolicy="PreferDualStack")
    four, six = running.api.external_ip("ssh", count=2)
    assert ":" in six and ":" not in four
    assert running.api.get(f"{VIPS}/{manifests.virtual_ip_name(six)}")["spec"]["virtualRouter"].startswith("lab.ipv6.")
    running.change("ssh", {"spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"],
                                    "clusterIPs": [running.api.service("ssh")["spec"]["clusterIP"]]}})
    running.wait_address("ssh", four)
    running.wait_holders({four: ["ssh"]})
    running.change("ssh", {"spec": {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}})
    running.wait_address("ssh", [four, six])  # the one it had is kept for it


def test_status_lists_every_port_and_follows_changes(running):
    running.create("ssh", ports=(22, 80))
    address = running.api.external_ip("ssh")
    running.change("ssh", {"spec": {"ports": [{"name": "dns", "port": 53, "protocol": "UDP"},
                                              {"name": "ssh", "port": 2222, "protocol": "TCP"}]}})
    wait_for("the new ports", lambda: running.api.service("ssh")["status"]["loadBalancer"]["ingress"] == [
        {"ip": address, **IP_MODE, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 2222, "protocol": "TCP"}]}])


# --- whose it is


def test_other_classes_and_types_are_left_alone(world):
    world.start()
    world.create("other", loadBalancerClass="example.org/lb")
    world.create("inner", type="ClusterIP")
    world.create("ours", loadBalancerClass="vipd.dev/vip")
    world.api.external_ip("ours")
    for name in ("other", "inner"):
        found = world.api.service(name)
        assert "finalizers" not in found["metadata"] and found["status"] == {"loadBalancer": {}}
    world.stop()
    world.create("plain")
    world.start("--default-class=false")
    world.create("named", loadBalancerClass="vipd.dev/vip")
    world.api.external_ip("named")
    assert world.api.ingress("plain") == []


def test_what_others_wrote_stays(running):
    thing = manifests.service("ssh", [])
    thing["metadata"]["finalizers"] = ["example.org/first", "example.org/second"]
    running.api.create(SERVICES, thing)
    running.api.external_ip("ssh")
    assert running.api.service("ssh")["metadata"]["finalizers"] == [
        "example.org/first", "example.org/second", *FINALIZERS]
    foreign = {"type": "example.org/Seen", "status": "True", "reason": "Seen", "message": "",
               "lastTransitionTime": manifests.STAMP}
    running.api.request("PATCH", f"{SERVICES}/ssh/status", {"status": {"conditions": [foreign]}},
                        "application/strategic-merge-patch+json")
    running.change("ssh", {"spec": {"ports": [{"name": "x", "port": 23}]}})
    wait_for("the new port", lambda: running.api.service("ssh")["status"]["loadBalancer"]["ingress"][0]["ports"] == [
        {"port": 23, "protocol": "TCP"}])
    assert foreign in running.api.service("ssh")["status"]["conditions"]
    running.change("ssh", {"spec": {"type": "ClusterIP"}})
    wait_for("ours to be gone", lambda: running.api.service("ssh")["metadata"]["finalizers"] == [
        "example.org/first", "example.org/second"])
    assert running.api.service("ssh")["status"]["conditions"] == [foreign]


# --- wishes


def test_wishes_are_met(running):
    running.api.pool(name="extra", addresses=["192.0.2.200-192.0.2.209"], autoAssign=False)
    running.create("asked", ["192.0.2.77"])
    running.create("old", loadBalancerIP="192.0.2.78")
    running.create("both", ["192.0.2.79", "2001:db8::1:79"])
    running.create("pooled", annotations={"vipd.dev/pool": "extra"})
    running.create("placed", annotations={"vipd.dev/nodes": "n2, n3"})
    running.wait_address("asked", "192.0.2.77")
    running.wait_address("old", "192.0.2.78")
    running.wait_address("both", ["192.0.2.79", "2001:db8::1:79"])
    running.wait_address("pooled", "192.0.2.200")
    placed = running.api.get(f"{VIPS}/{running.api.external_ip('placed')}")
    assert sorted(c["node"] for c in placed["spec"]["candidates"]) == ["n2", "n3"]
    running.change("placed", {"metadata": {"annotations": {"vipd.dev/nodes": "n1"}}})
    wait_for("n1 alone", lambda: [c["node"] for c in running.api.get(f"{VIPS}/{placed['spec']['address']}")[
        "spec"]["candidates"]] == ["n1"])
    running.change("asked", {"metadata": {"annotations": {"vipd.dev/addresses": "192.0.2.70"}}})
    running.wait_address("asked", "192.0.2.70")
    running.wait_event("asked", "AddressMoved", "192.0.2.70 of pool lab")
    wait_for("the old one to go", lambda: "192.0.2.77" not in running.holders())


def test_two_services_share_an_address_and_leave_it_one_by_one(running):
    note = {"vipd.dev/sharing-key": "web"}
    running.api.pool(quarantineSeconds=1)
    running.create("web", ports=(80,), annotations=note)
    address = running.api.external_ip("web")
    running.create("tls", ports=(443,), annotations=note)
    running.wait_address("tls", address)
    running.wait_holders({address: ["web", "tls"]})
    running.create("clash", [address], ports=(443,), annotations=note)
    running.wait_condition("clash", "AddressAllocated", "False", "SharingRefused")
    running.delete("web")
    running.wait_gone("web")
    running.wait_holders({address: ["tls"]})
    assert running.pool_status().get("quarantine", []) == []
    running.delete("tls")
    running.wait_gone("tls")
    running.wait_address("clash", address)  # a second later
    running.delete("clash")
    running.wait_gone("clash")
    running.nothing_left()


def test_a_refused_service_is_served_when_something_changes(running):
    running.api.pool(name="tiny", addresses=["192.0.2.210"], autoAssign=False, quarantineSeconds=1)
    running.create("first", annotations={"vipd.dev/pool": "tiny"})
    running.wait_address("first", "192.0.2.210")
    running.create("second", annotations={"vipd.dev/pool": "tiny"})
    running.create("third", annotations={"vipd.dev/pool": "tiny"})
    running.create("later", annotations={"vipd.dev/pool": "later"})
    running.wait_condition("second", "AddressAllocated", "False", "PoolExhausted")
    running.wait_condition("third", "AddressAllocated", "False", "PoolExhausted")
    running.wait_condition("later", "AddressAllocated", "False", "PoolNotFound")
    running.delete("first")  # a second later its address is free, and who reads metrics sees that first
    running.wait_gone("first")
    wait_for("one of them to be served", lambda: page(running.api.host)[0] == 200 and (
        running.api.ingress("second") or running.api.ingress("third")))
    wait_for("the quarantine to end", lambda: running.pool_status("tiny")["quarantine"] == [])
    running.api.patch(f"{POOLS}/tiny", {"spec": {"addresses": ["192.0.2.210-192.0.2.211"]}})
    running.api.pool(name="later", addresses=["192.0.2.230"], autoAssign=False)
    assert sorted(running.api.external_ip(name) for name in ("second", "third")) == ["192.0.2.210", "192.0.2.211"]
    running.wait_address("later", "192.0.2.230")
    running.wait_condition("later", "AddressAllocated", "True", "AddressAllocated")


def test_a_wish_that_cannot_be_met_costs_no_address(running):
    running.create("other", ["192.0.2.71"])
    running.create("ssh", ["192.0.2.70"])
    running.wait_address("ssh", "192.0.2.70")
    running.change("ssh", {"metadata": {"annotations": {"vipd.dev/addresses": "192.0.2.71"}}})
    running.wait_condition("ssh", "AddressAllocated", "True", "AddressInUse", "meanwhile it has 192.0.2.70")
    running.change("ssh", {"metadata": {"annotations": {"vipd.dev/addresses": "nonsense"}}})
    running.wait_condition("ssh", "AddressAllocated", "True", "InvalidConfiguration", "meanwhile it has 192.0.2.70")
    running.wait_address("ssh", "192.0.2.70")
    running.delete("other")
    running.change("ssh", {"metadata": {"annotations": {"vipd.dev/addresses": "192.0.2.72"}}})
    running.wait_address("ssh", "192.0.2.72")


# --- backwards


def test_deletion_leaves_nothing_and_keeps_the_address_for_a_while(running):
    running.create("ssh")
    address = running.api.external_ip("ssh")
    router = running.api.get(f"{VIPS}/{address}")["spec"]["virtualRouter"]
    running.api.create(LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {
        "name": router, "namespace": SYSTEM, "labels": {"vipd.dev/virtual-router": "true"}},
        "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 10}})
    time.sleep(1.5)
    assert router in running.api.leases()
    running.delete("ssh")
    running.wait_gone("ssh")
    running.nothing_left()
    entry, = running.pool_status()["quarantine"]
    assert (entry["address"], entry["service"]) == (address, "vms/ssh")
    running.create("other")
    assert running.api.external_ip("other") != address
    running.create("ssh")
    running.wait_address("ssh", address)
    wait_for("the quarantine to end", lambda: running.pool_status()["quarantine"] == [])


def test_types_change_back_and_forth(running):
    running.create("ssh")
    address = running.api.external_ip("ssh")
    for _ in range(3):
        running.change("ssh", {"spec": {"type": "ClusterIP"}})
        wait_for("finalizers and conditions to go", lambda: not (
            (found := running.api.service("ssh"))["metadata"].get("finalizers")
            or found["status"].get("conditions") or running.api.ingress("ssh")))
        running.wait_holders({})
        running.change("ssh", {"spec": {"type": "LoadBalancer"}})
        running.wait_address("ssh", address)
        assert running.api.service("ssh")["metadata"]["finalizers"] == FINALIZERS
    wait_for("repeats to be one series", lambda: [
        (event.get("series") or {}).get("count", 1) for event in running.api.events("vms")
        if event["reason"] == "AddressReleased"] == [2])


def test_a_service_made_again_under_its_name_takes_the_address_over(running):
    running.create("ssh")
    address = running.api.external_ip("ssh")
    for _ in range(10):
        old = running.api.service("ssh")["metadata"]["uid"]
        running.delete("ssh")
        wait_for("the name to be free", lambda: running.api.service("ssh") is None, every=0.001)
        new = running.create("ssh")["metadata"]["uid"]
        assert new != old
        running.wait_address("ssh", address)
        wait_for("the new uid", lambda: running.api.get(f"{VIPS}/{address}")["spec"]["services"][0]["uid"] == new)
    running.consistent()


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_what_happens_behind_its_back_is_cleaned_up(world, down):
    """A Service deleted, its finalizer taken away, made again, retyped; a VirtualIP deleted; with the controller up
    and down meanwhile."""
    world.start()
    names = ["deleted", "forced", "again", "retyped", "vipless", "kept"]
    for name in names:
        world.create(name)
    had = {name: world.api.external_ip(name) for name in names}
    if down:
        world.kill()
    world.delete("deleted")
    for name in ("forced", "again"):
        world.change(name, {"metadata": {"finalizers": None}})
        world.delete(name)
        world.wait_gone(name)
    world.create("again")
    world.change("retyped", {"spec": {"type": "ClusterIP"}})
    world.api.delete(f"{VIPS}/{had['vipless']}")
    if down:
        time.sleep(0.3)
        world.start()
    world.wait_gone("deleted")
    wait_for("the new one to be served", lambda: world.api.ingress("again"))
    wait_for("retyped to be free", lambda: not world.api.service("retyped")["metadata"].get("finalizers"))
    world.wait_holders({had[name]: [name] for name in ("again", "vipless", "kept")})
    world.consistent()
    for name in ("again", "vipless", "kept", "retyped"):
        world.delete(name)
    for name in ("again", "vipless", "kept", "retyped"):
        world.wait_gone(name)
    world.nothing_left()


def test_a_stray_virtual_ip_and_a_stray_lease_go(running):
    running.api.create(VIPS, {"apiVersion": "vipd.dev/v1alpha1", "kind": "VirtualIP", "metadata": {"name": "192.0.2.90"},
                              "spec": {"address": "192.0.2.90", "pool": "lab", "virtualRouter": "lab.ipv4.90",
                                       "virtualRouterID": 90,
                                       "services": [{"namespace": "vms", "name": "never-was"}]}})
    running.api.create(LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {
        "name": "lab.ipv4.91", "namespace": SYSTEM, "labels": {"vipd.dev/virtual-router": "true"}}, "spec": {}})
    running.nothing_left()


# --- pools


def test_pool_status_says_what_is_wrong_with_it(running):
    def condition(name, kind, status, reason, text=""):
        def look():
            for found in running.pool_status(name).get("conditions", []):
                if found["type"] == kind:
                    return (found["status"], found["reason"]) == (status, reason) and text in found["message"]
            return False
        wait_for(f"{kind} of {name} to be {status} {reason} {text!r}: {running.pool_status(name)}", look)

    condition("lab", "Accepted", "True", "Accepted")
    condition("lab", "AddressesAvailable", "True", "Available")
    assert running.pool_status()["capacity"] == {"ipv4": 126, "ipv6": 256}
    running.api.pool(name="backwards", addresses=["192.0.2.140-192.0.2.130"])
    condition("backwards", "Accepted", "False", "InvalidConfiguration", "192.0.2.140-192.0.2.130")
    running.api.pool(name="downwards", vrrp={"virtualRouterIDs": ["40-20"]})
    condition("downwards", "Accepted", "False", "InvalidConfiguration", "spec.vrrp.virtualRouterIDs")
    running.api.delete(f"{POOLS}/downwards")
    running.api.pool(name="overlapping", addresses=["192.0.2.100-192.0.2.110"])
    condition("overlapping", "Accepted", "True", "Accepted", "overlaps with lab")
    condition("lab", "Accepted", "True", "Accepted", "overlaps with overlapping")
    running.api.patch(f"{POOLS}/overlapping", {"spec": {"disabled": True}})
    condition("overlapping", "AddressesAvailable", "False", "Disabled")
    running.create("ssh", ["192.0.2.20"])
    running.wait_address("ssh", "192.0.2.20")
    running.api.patch(f"{POOLS}/lab", {"spec": {"addresses": ["192.0.2.64/26"]}})
    condition("lab", "Accepted", "True", "Accepted", "1 address is held that is no longer in the pool")
    running.wait_address("ssh", "192.0.2.20")
    generation = running.api.get(f"{POOLS}/lab")["metadata"]["generation"]
    assert running.pool_status()["observedGeneration"] == generation
    running.api.delete(f"{POOLS}/lab")
    time.sleep(0.5)
    running.wait_address("ssh", "192.0.2.20")
    running.create("new")
    running.wait_condition("new", "AddressAllocated", "False", "PoolExhausted")
    running.delete("ssh")
    running.wait_gone("ssh")
    running.wait_holders({})


def test_settings_of_a_pool_reach_its_addresses(running):
    running.create("ssh")
    address = running.api.external_ip("ssh")
    running.api.patch(f"{POOLS}/lab", {"spec": {
        "vrrp": {"advertisementIntervalMilliseconds": 200, "mode": "unicast"}, "dataplane": "nat",
        "interfaces": ["eth1"], "attachedNetworks": [{"network": "vms/lan", "ranges": ["10.50.0.0/24"]}]}})
    wait_for("the settings", lambda: (spec := running.api.get(f"{VIPS}/{address}")["spec"]) and (
        spec["vrrp"]["advertisementIntervalMilliseconds"], spec["vrrp"]["mode"], spec["dataplane"],
        spec["interfaces"], spec.get("attachedNetworks")) == (200, "unicast", "nat", ["eth1"], [
            {"network": "vms/lan", "ranges": ["10.50.0.0/24"]}]))


# --- nodes


def candidates(world, address):
    return [c["node"] for c in world.api.get(f"{VIPS}/{address}")["spec"]["candidates"]]


def test_candidates_follow_nodes_and_the_first_one_stays(running):
    running.create("ssh")
    address = running.api.external_ip("ssh")
    first, *others = candidates(running, address)
    running.node("n4", 4)
    wait_for("n4 to be a candidate", lambda: "n4" in candidates(running, address))
    assert candidates(running, address)[0] == first
    running.api.patch(f"/api/v1/nodes/{others[0]}", {"metadata": {"labels": {
        "node.kubernetes.io/exclude-from-external-load-balancers": ""}}})
    wait_for("the excluded one to go", lambda: others[0] not in candidates(running, address))
    running.api.patch(f"{SPEAKERS}/{others[1]}", {"spec": {"excluded": True}})
    wait_for("the other excluded one to go", lambda: others[1] not in candidates(running, address))
    running.api.delete(f"/api/v1/nodes/{first}")
    wait_for("the next one alone", lambda: candidates(running, address) == ["n4"])
    # Rather one that was to be left out than nobody; and that is said.
    running.segments("n4", [("eth1", "198.51.100.0/24", "198.51.100.4")])
    wait_for("the labelled one", lambda: candidates(running, address) == [others[0]])
    running.wait_event("ssh", "NoEligibleNode", "the label is ignored")
    running.segments(others[0], [("eth1", "198.51.100.0/24", "198.51.100.2")])
    running.wait_condition("ssh", "Serving", "False", "NoEligibleNode")
    running.segments("n4", [("eth1", "192.0.2.0/24", "192.0.2.4")])
    wait_for("n4 again", lambda: candidates(running, address) == ["n4"])


def test_a_cordon_changes_nothing_and_a_cluster_may_shrink_to_one_node(running):
    running.create("ssh")
    address = running.api.external_ip("ssh")
    first, *others = candidates(running, address)
    before = running.api.get(f"{VIPS}/{address}")["metadata"]["resourceVersion"]
    running.api.patch(f"/api/v1/nodes/{first}", {"spec": {"unschedulable": True}})  # kubectl cordon
    running.create("later")
    running.api.external_ip("later")
    assert running.api.get(f"{VIPS}/{address}")["metadata"]["resourceVersion"] == before
    for name in others:
        running.api.delete(f"/api/v1/nodes/{name}")
        running.api.delete(f"{SPEAKERS}/{name}")
    wait_for("one candidate", lambda: candidates(running, address) == [first])
    running.create("alone")
    assert candidates(running, running.api.external_ip("alone")) == [first]
    running.node("renamed", 2)  # the address of one of the old ones, and another name
    running.node("n5", 5)
    wait_for("three again", lambda: set(candidates(running, address)) == {first, "renamed", "n5"})
    assert candidates(running, address)[0] == first


def test_addresses_spread_over_the_nodes(running):
    for number in range(12):
        running.create(f"s{number}")
    firsts = [candidates(running, running.api.external_ip(f"s{number}"))[0] for number in range(12)]
    assert sorted(firsts.count(name) for name in ("n1", "n2", "n3")) == [4, 4, 4]


# --- several of them


def leader(api):
    lease = api.get(f"{LEASES}/vipd-controller")
    return lease["spec"]["holderIdentity"] if lease else ""


def test_one_leads_and_the_next_takes_over(world):
    first = world.start()
    second = world.start(wait=False)
    time.sleep(2)
    assert "leads: " not in second.output()
    holder = leader(world.api)
    world.create("one")
    world.api.external_ip("one")
    # Asked to end: the Lease is given back, the other has it at once.
    before = time.monotonic()
    assert first.stop() == 0
    second.wait_output("leads: 1 Services", 3)
    assert time.monotonic() - before < 3
    assert leader(world.api) not in ("", holder)
    world.create("two")
    world.api.external_ip("two")
    # Killed: its Lease has to run out.
    third = world.start(wait=False)
    time.sleep(1)
    before = time.monotonic()
    second.kill()
    world.create("three")
    third.wait_output("leads: 3 Services", 20)
    world.api.external_ip("three")
    assert time.monotonic() - before < 10
    # Stopped and woken up after its time: it writes nothing until it has read the Lease again.
    fourth = world.start(wait=False)
    time.sleep(1)
    third.signal(19)
    fourth.wait_output("leads: ", 20)
    third.signal(18)
    third.wait_output("another leads", 5)
    world.create("four")
    world.api.external_ip("four")
    assert leader(world.api) != "" and "vms/four" not in third.output()
    world.consistent()


def test_followers_write_nothing(world):
    world.start()
    world.start(wait=False)
    time.sleep(2)
    names = [f"s{number}" for number in range(10)]
    for name in names:
        world.create(name)
    for name in names:
        world.api.external_ip(name)
    # Whoever writes has a name in managedFields; a VirtualIP is written once, a Service three times.
    assert [vip["metadata"]["generation"] for vip in world.api.vips().values()] == [1] * 10
    assert all("conflict" not in process.output() for process in world.controllers)
    world.consistent()


def settle(world, services, seconds=60):
    """Every Service served, every other address free, nothing written any more."""
    wait_for("every Service to be served", lambda: all(
        world.api.ingress(name) for name in services), seconds)
    wait_for("VirtualIPs and status to agree", lambda: sorted(
        name for names in world.holders().values() for name in names) == sorted(services), seconds)
    return world.consistent()


def test_two_that_both_believe_to_lead_double_nothing(world):
    """Without election: every write of the one is stale for the other."""
    world.start("--leader-elect=false")
    world.start("--leader-elect=false")
    names = [f"s{number}" for number in range(25)]
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        list(pool.map(world.create, names))
    settle(world, names)
    for name in names[:10]:
        world.delete(name)
    for name in names[:10]:
        world.wait_gone(name, 30)
    settle(world, names[10:])
    for name in names[10:]:
        world.delete(name)
    for name in names[10:]:
        world.wait_gone(name, 30)
    world.nothing_left(30)


def test_killed_between_any_two_writes(world):
    """Services come, go, change their type and are shared while the controller is killed again and again."""
    names = [f"s{number}" for number in range(24)]
    kept = names[::2]
    steps = []
    for index, name in enumerate(names):
        more = {"annotations": {"vipd.dev/sharing-key": f"k{index // 4}"}, "ports": (1000 + index,)} if index % 4 < 2 else {}
        if index % 3 == 2:
            more |= {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"}
        steps.append((world.create, name, more))
    for name in names[1::2]:
        steps.append((world.delete, name, {}))
    for name in kept[::3]:
        steps.append((world.change, name, {"patch": {"spec": {"type": "ClusterIP"}}}))
        steps.append((world.change, name, {"patch": {"spec": {"type": "LoadBalancer"}}}))
    process = world.start(wait=False)
    kills = 0
    for number, (call, name, more) in enumerate(steps):
        try:
            call(name, **more)
        except ApiError as error:
            assert error.status in (404, 409)
        if number % 2 == 0:
            time.sleep(0.013 * (number % 7))
            process.kill()
            kills += 1
            world.forget_leader()
            process = world.start(wait=False)
            process.wait_output("leads: ", 15)
    assert kills > 20
    for name in names[1::2]:
        world.wait_gone(name, 30)
    wait_for("every Service to be served", lambda: all(world.api.ingress(name) for name in kept), 30)

    def agree():
        try:
            return world.consistent() or True
        except AssertionError:
            return False
    wait_for("records and status to agree", agree, 30)
    for name in kept:
        world.delete(name)
    for name in kept:
        world.wait_gone(name, 30)
    world.nothing_left(30)


def test_many_at_once(running):
    names = [f"s{number:03}" for number in range(100)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(running.create, names))
    settle(running, names)
    assert len(set(running.holders())) == 100
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(running.delete, names))
    for name in names:
        running.wait_gone(name, 30)
    running.nothing_left(30)
    wait_for("all to be kept for their former holders", lambda: len(running.pool_status()["quarantine"]) == 100)


# --- trouble


TLS = 7102


@pytest.fixture
def behind(world):
    """A controller whose way to the server can be made to fail (HTTP/1.1 beyond the proxy)."""
    world.proxy = world.api.proxy(TLS, tls=True)
    world.process = world.start(port=TLS)
    yield world
    world.proxy.heal()


@pytest.mark.parametrize("status,headers,match", [
    (401, {}, "."),
    (403, {}, "(POST|PATCH|PUT) "),
    (409, {}, "(POST|PATCH|PUT) "),
    (422, {}, "PATCH "),
    (429, {"Retry-After": "1"}, "."),
    (500, {}, "(POST|PATCH|DELETE) "),
    (503, {"Retry-After": "1"}, "."),
    (504, {}, "(POST|PATCH) "),
], ids=lambda value: str(value) if isinstance(value, int) else "")
def test_answers_that_fail_lose_and_double_nothing(behind, status, headers, match):
    behind.create("before")
    behind.create("leaving")
    kept = behind.api.external_ip("before")
    behind.api.external_ip("leaving")
    behind.proxy.answer(status, headers, match=match)
    behind.create("during")
    behind.delete("leaving")
    time.sleep(3)
    assert behind.api.ingress("during") == []
    assert len([line for line in behind.process.output().splitlines()
                if "level=error" in line or "level=warning" in line]) < 15
    behind.proxy.heal()
    behind.api.external_ip("during", seconds=40)
    behind.wait_gone("leaving", 40)
    behind.wait_address("before", kept)
    behind.consistent()


def test_answers_that_get_lost_lose_and_double_nothing(behind):
    """The write lands and nobody hears of it."""
    for number in range(12):
        behind.proxy.cut_after(40)  # in the middle of the head of some answer
        behind.create(f"s{number}")
        time.sleep(0.15)
    settle(behind, [f"s{number}" for number in range(12)])
    assert all(vip["metadata"]["name"] for vip in behind.api.vips().values())
    assert len(behind.api.vips()) == 12


def test_a_server_that_is_away_is_waited_for(behind):
    behind.create("before")
    kept = behind.api.external_ip("before")
    behind.proxy.refuse()
    behind.create("during")
    time.sleep(4)
    lines = [line for line in behind.process.output().splitlines() if "unreachable" in line]
    assert lines and len(lines) < 30, lines
    behind.proxy.heal()
    behind.api.external_ip("during", seconds=40)
    behind.wait_address("before", kept)


@pytest.mark.parametrize("leading", [True, False], ids=["leading", "following"])
def test_watches_that_say_nothing_are_begun_anew(behind, leading):
    """Every stream is kept open and nothing comes down it any more; other requests are answered."""
    if not leading:
        behind.stop()
        behind.start()
        behind.proxy.requests.clear()
        behind.process = behind.start(port=TLS, wait=False)
    wait_for("its watches", lambda: sum("watch=" in one for one in behind.proxy.requests) >= 10)
    time.sleep(1)
    assert behind.proxy.swallow(r"GET .*watch=.* vipd-controller/") >= 9
    behind.create("unheard")
    if not leading:
        behind.process.wait_output("everything is listed and watched anew", 25)
        behind.controllers[0].stop()
    behind.api.external_ip("unheard", seconds=25)
    behind.process.wait_output("everything is listed and watched anew", 1)
    behind.process.wait_output("it lists and tells again", 5)
    behind.consistent()


def test_all_there_is_comes_as_a_stream_or_in_pages(world):
    """WatchList is off in some servers that are in use, and unknown to the oldest."""
    proxy = world.api.proxy(TLS, tls=True)

    def asked():
        lists = [one for one in proxy.requests if one.startswith("GET ") and "limit=" in one]
        return lists, [one for one in proxy.requests if "sendInitialEvents=true" in one]
    world.create("first")
    world.start(port=TLS)
    world.api.external_ip("first")
    pages, streams = asked()
    if OLDEST:  # it is what the second half makes of a new one
        assert len(pages) >= len(streams) >= 9, proxy.requests
        return
    assert pages == [] and len(streams) >= 9, proxy.requests
    world.stop()
    world.api.restart_server("--feature-gates=WatchList=false")
    try:
        proxy.requests.clear()
        world.start(port=TLS)
        world.create("second")
        world.api.external_ip("second")
        pages, streams = asked()
        assert len(pages) >= len(streams) >= 9 and len(set(streams)) == len(streams), proxy.requests
        world.consistent()
        world.stop()
    finally:
        world.api.restart_server()


def test_missing_roles_and_definitions_are_named(behind):
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/vipd-controller"
    role = behind.api.get(roles)
    try:
        behind.api.patch(roles, {"rules": [rule for rule in role["rules"] if "virtualips" not in rule["resources"]]})
        behind.create("ssh")
        behind.process.wait_output(r"creating a VirtualIP.*403 .*cannot create resource .{0,4}virtualips.*"
                                   r"kubectl apply -f deploy/rbac.yaml", 10)
    finally:
        behind.api.patch(roles, {"rules": role["rules"]})
    behind.api.external_ip("ssh", seconds=70)
    behind.proxy.answer(404, {}, "404 page not found\n", match="/apis/vipd.dev/")
    behind.proxy.reset()
    behind.process.wait_output(r"watching /apis/vipd.dev/v1alpha1/virtualips: 404 .*"
                               r"kubectl apply -f deploy/crds.yaml", 20)


def test_bad_command_lines_and_configurations_are_told(world):
    def run(*words, env=None):
        done = world.api.host.run(["env", *(env or []), program(), "controller", *words], check=False)
        return done.returncode, done.stdout + done.stderr
    code, said = run("--kubeconfig", world.api.dir / "none")
    assert code == 1 and "none" in said
    bad = world.api.dir / "bad.kubeconfig"
    bad.write_text("clusters: [")
    code, said = run("--kubeconfig", bad)
    assert code == 1 and "bad.kubeconfig" in said
    code, said = run("--colour=blue")
    assert code == 2 and "--colour" in said
    code, said = run("extra")
    assert code == 2 and "extra" in said


def test_addresses_beyond_the_last_virtual_router_are_packed_and_move_together(running):
    running.api.pool(vrrp={"virtualRouterIDs": [20, "31-32"]})
    for number in range(7):
        running.create(f"s{number}", [f"192.0.2.{80 + number}"])
    for number in range(7):
        running.api.external_ip(f"s{number}")

    def routers():
        found = {}
        for vip in running.api.vips().values():
            found.setdefault(vip["spec"]["virtualRouter"], []).append([c["node"] for c in vip["spec"]["candidates"]])
        return found
    assert sorted(map(len, routers().values())) == [2, 2, 3]
    assert sorted(routers()) == ["lab.ipv4.20", "lab.ipv4.31", "lab.ipv4.32"]
    wait_for("companions to agree", lambda: all(len(set(map(tuple, lists))) == 1 for lists in routers().values()))

    def written():
        return {name: vip["metadata"]["resourceVersion"] for name, vip in running.api.vips().items()}
    before = written()
    running.create("lowest", ["192.0.2.70"])  # of a virtual router: the others follow such a one
    running.wait_address("lowest", "192.0.2.70")
    time.sleep(0.5)
    assert {name: version for name, version in written().items() if name != "192.0.2.70"} == before
    assert all(len(set(map(tuple, lists))) == 1 for lists in routers().values())
    running.node("n4", 4)
    running.api.patch(f"{SPEAKERS}/n2", {"spec": {"excluded": True}})
    wait_for("companions to follow", lambda: all(
        set(lists[0]) == {"n1", "n3", "n4"} and len(set(map(tuple, lists))) == 1 for lists in routers().values()))


def test_packed_addresses_keep_to_the_nodes_that_each_allows(running):
    running.api.pool(vrrp={"virtualRouterIDs": ["31-32"]})
    for number in range(4):
        running.create(f"s{number}", annotations={"vipd.dev/nodes": "n1,n2"} if number % 2 else {})
    address = {f"s{number}": running.api.external_ip(f"s{number}") for number in range(4)}

    def nodes(name):
        return set(candidates(running, address[name]))
    wait_for("each to have its own", lambda: all(
        nodes(f"s{number}") == ({"n1", "n2"} if number % 2 else {"n1", "n2", "n3"}) for number in range(4)))
    # Asks for other nodes than those it is packed with: they are kept to as well.
    running.change("s3", {"metadata": {"annotations": {"vipd.dev/nodes": "n2"}}})
    wait_for("n2 alone", lambda: nodes("s3") == {"n2"})
    assert nodes("s1") <= {"n1", "n2"} and "n2" in nodes("s1")
    assert nodes("s0") == {"n1", "n2", "n3"} == nodes("s2")


# --- owners


def slices(world, service, nodes):
    """EndpointSlice of the Service with an endpoint on each of these nodes; {node: ready}."""
    path = "/apis/discovery.k8s.io/v1/namespaces/vms/endpointslices"
    world.api.delete(f"{path}/{service}-0")
    world.api.create(path, {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": f"{service}-0", "namespace": "vms", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"addresses": [f"10.244.0.{index + 1}"], "conditions": {"ready": ready}, "nodeName": node}
                      for index, (node, ready) in enumerate(nodes.items())],
        "ports": [{"name": "port-22", "port": 22, "protocol": "TCP"}]})


def order(world, address):
    """What the annotation vipd.dev/handover says; {} if nothing."""
    return json.loads(world.api.get(f"{VIPS}/{address}")["metadata"].get("annotations", {}).get("vipd.dev/handover", "{}"))


def own(world, address, node):
    """As the speaker of the node writes it, and the order carried out."""
    world.api.patch(f"{VIPS}/{address}/status", {"status": {
        "owner": node, "state": "Active", "handoverID": order(world, address).get("id", "")}})


def test_local_traffic_follows_its_endpoints(running):
    running.create("ssh", externalTrafficPolicy="Local")
    address = running.api.external_ip("ssh")
    slices(running, "ssh", {"n2": True})
    wait_for("n2 to be first", lambda: candidates(running, address)[0] == "n2")
    own(running, address, "n2")
    time.sleep(0.5)
    assert order(running, address) == {}
    slices(running, "ssh", {})  # the empty moment of a migration moves nothing
    time.sleep(0.5)
    assert candidates(running, address)[0] == "n2" and order(running, address) == {}
    slices(running, "ssh", {"n2": False, "n3": True})
    wait_for("n3 to be first", lambda: candidates(running, address)[0] == "n3")
    wait_for("the order", lambda: order(running, address).get("to") == "n3")
    first = order(running, address)["id"]
    own(running, address, "n3")
    # Back again: not at once, then yes.
    slices(running, "ssh", {"n2": True, "n3": False})
    wait_for("n2 to be first", lambda: candidates(running, address)[0] == "n2")
    time.sleep(1)
    assert order(running, address)["id"] == first
    wait_for("the second order", lambda: order(running, address)["id"] != first, 10)
    assert order(running, address)["to"] == "n2"
    running.change("ssh", {"spec": {"externalTrafficPolicy": "Cluster"}})
    own(running, address, "n3")
    time.sleep(1)
    assert running.api.get(f"{VIPS}/{address}")["status"]["owner"] == "n3"


def test_owner_that_may_not_own_any_more_is_asked_to_hand_over(running):
    running.create("ssh")
    address = running.api.external_ip("ssh")
    first, second, _ = candidates(running, address)
    own(running, address, first)
    running.change("ssh", {"metadata": {"annotations": {"vipd.dev/nodes": second}}})
    wait_for("the order", lambda: order(running, address).get("to") == second)
    assert candidates(running, address) == [second, first]  # until it has handed over
    own(running, address, second)
    wait_for("the old one to go", lambda: candidates(running, address) == [second])


def test_preferred_nodes_get_their_addresses_back_and_others_do_not(running):
    for number, label in enumerate(("a", "b", "b")):
        running.api.patch(f"/api/v1/nodes/n{number + 1}", {"metadata": {"labels": {"rack": label}}})
    preferred = {"nodes": {"preferred": [{"weight": 50, "selector": {"matchLabels": {"rack": "a"}}}]}}
    running.api.pool(preemption="preferred", **preferred)
    running.create("moves")
    address = running.api.external_ip("moves")
    assert candidates(running, address)[0] == "n1"
    own(running, address, "n2")  # after a failure of n1
    wait_for("the order", lambda: order(running, address).get("to") == "n1")
    running.api.patch(f"{POOLS}/lab", {"spec": {"preemption": "sticky"}})
    running.create("stays")
    address = running.api.external_ip("stays")
    own(running, address, "n3")
    time.sleep(1)
    assert order(running, address) == {}


def test_what_a_node_lost_comes_back_to_it_slowly_and_in_part(running):
    """Three nodes with four addresses each; one is lost, comes back, and gets some again by handovers."""
    addresses = []
    for number in range(12):
        running.create(f"s{number}")
        addresses.append(running.api.external_ip(f"s{number}"))
    firsts = {address: candidates(running, address) for address in addresses}
    for address, (first, second, _) in firsts.items():
        own(running, address, second if first == "n3" else first)

    def owners():
        return [running.api.get(f"{VIPS}/{address}")["status"]["owner"] for address in addresses]

    def spread():
        counts = [owners().count(node) for node in ("n1", "n2", "n3")]
        return max(counts) - min(counts)
    at_once = 0
    end = time.monotonic() + 90
    while spread() > 4:
        assert time.monotonic() < end, owners()
        asked = {address: order(running, address).get("to") for address in addresses
                 if order(running, address).get("id", "") != running.api.get(f"{VIPS}/{address}")["status"]["handoverID"]}
        assert set(asked.values()) <= {"n3"} and len(asked) <= 4, asked
        at_once = max(at_once, len(asked))
        for address, node in asked.items():
            own(running, address, node)
        time.sleep(0.5)
    assert 1 <= at_once <= 4
    before = owners()
    time.sleep(12)
    assert owners() == before and before.count("n3") >= 2, before


def test_speakers_that_fall_silent_are_told_of_and_their_addresses_too(running):
    running.create("ssh")
    address = running.api.external_ip("ssh")
    first = candidates(running, address)[0]
    own(running, address, first)
    running.api.patch(f"{VIPS}/{address}/status", {"status": {"conditions": [
        {"type": "Owned", "status": "True", "reason": "OwnerElected", "message": "", "lastTransitionTime": manifests.STAMP}]}})
    running.wait_condition("ssh", "Serving", "True", "Serving")
    running.api.patch(f"{SPEAKERS}/{first}/status", {"status": {"conditions": [
        {"type": "Ready", "status": "True", "reason": "AsExpected", "message": "", "lastTransitionTime": manifests.STAMP},
        {"type": "Fenced", "status": "True", "reason": "AsExpected", "message": "",
         "lastTransitionTime": manifests.STAMP}]}})
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {
        "name": f"speaker-{first}", "namespace": SYSTEM, "labels": {"vipd.dev/speaker": "true"}},
        "spec": {"holderIdentity": first, "leaseDurationSeconds": 2}}
    running.api.create(LEASES, lease)

    def ready():
        return {c["type"]: c["status"] for c in running.api.get(f"{SPEAKERS}/{first}")["status"]["conditions"]}
    for _ in range(4):  # signs of life
        time.sleep(2)
        running.api.patch(f"{LEASES}/speaker-{first}", {"spec": {"acquireTime": None, "leaseTransitions": int(time.time())}})
        assert ready()["Ready"] == "True"
    wait_for("silence to be told", lambda: ready()["Ready"] == "Unknown", 12)
    assert set(ready().values()) == {"Unknown"}  # nobody can vouch for its fence either
    wait_for("its address to be unowned", lambda: running.api.get(f"{VIPS}/{address}")["status"].get("owner") is None)
    wait_for("its condition to say so", lambda: {"Unknown"} == {
        c["status"] for c in running.api.get(f"{VIPS}/{address}")["status"]["conditions"]
        if c["type"] in ("Owned", "Announced")})
    running.wait_condition("ssh", "Serving", "False", "Provisioning", "no node has taken")
    assert candidates(running, address)[0] == first  # a crash is no reason to rewrite candidates
    own(running, address, first)
    running.api.patch(f"{LEASES}/speaker-{first}", {"spec": {"leaseTransitions": 1}})
    running.wait_condition("ssh", "Serving", "True", "Serving")
