"""Addresses that somebody else has or names: spec.externalIPs, OpenShift, strangers on the LAN."""
import contextlib
import time

import pytest

from controllers import POOLS, SPEAKERS, VIPS
from lab import wait_for

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OPENSHIFT = "/apis/config.openshift.io/v1"
REFUSAL = "ask for another address, or free it there"


def test_external_ips_are_brought_up_from_pools_that_allow_it(running):
    running.api.pool(name="ext", addresses=["192.0.2.200-192.0.2.209"], autoAssign=False, externalIPs=True,
                     quarantineSeconds=1)
    running.create("inner", type="ClusterIP", externalIPs=["192.0.2.200", "203.0.113.9"])
    running.wait_holders({"192.0.2.200": ["inner"]})
    running.wait_event("inner", "AddressAllocated", "192.0.2.200 of pool ext (spec.externalIPs)")
    # Whoever else routes an address that is in no pool: that is not told.
    assert running.reasons("inner") == ["AddressAllocated"]
    assert "finalizers" not in running.api.service("inner")["metadata"]
    # A Service with an address of its own has them beside it; its status shows its own alone.
    running.create("both", externalIPs=["192.0.2.201"])
    own = running.api.external_ip("both")
    running.wait_holders({"192.0.2.200": ["inner"], "192.0.2.201": ["both"], own: ["both"]})
    assert running.api.ingress("both") == [own]
    running.change("both", {"spec": {"externalIPs": ["192.0.2.202"]}})
    running.wait_holders({"192.0.2.200": ["inner"], "192.0.2.202": ["both"], own: ["both"]})
    # A restart changes nothing.
    before = {vip["metadata"]["name"]: vip["metadata"]["resourceVersion"] for vip in running.api.vips().values()}
    running.stop()
    running.start()
    time.sleep(1)
    assert before == {vip["metadata"]["name"]: vip["metadata"]["resourceVersion"]
                      for vip in running.api.vips().values()}
    running.change("both", {"spec": {"type": "ClusterIP"}})
    running.wait_holders({"192.0.2.200": ["inner"], "192.0.2.202": ["both"]})
    wait_for("finalizers to go", lambda: not running.api.service("both")["metadata"].get("finalizers"))
    running.delete("both")
    running.delete("inner")
    running.nothing_left()


def test_external_ips_that_cannot_be_had_are_told(running):
    running.api.pool(name="ext", addresses=["192.0.2.200-192.0.2.209"], externalIPs=True, autoAssign=False,
                     maxPerNamespace=1)
    running.create("holder", ["192.0.2.60"])
    running.wait_address("holder", "192.0.2.60")
    running.create("forbidden", type="ClusterIP", externalIPs=["192.0.2.61"])
    running.wait_event("forbidden", "AddressNotInPool", "192.0.2.61 cannot be given: pool lab does not allow externalIPs")
    running.create("first", type="ClusterIP", externalIPs=["192.0.2.200"])
    running.wait_holders({"192.0.2.60": ["holder"], "192.0.2.200": ["first"]})
    running.create("second", type="ClusterIP", externalIPs=["192.0.2.200"])
    running.wait_event("second", "AddressInUse", "192.0.2.200 is in use by Service vms/first (spec.externalIPs): " + REFUSAL)
    running.create("third", type="ClusterIP", externalIPs=["192.0.2.201"])
    running.wait_event("third", "QuotaExceeded", "namespace vms holds all 1 addresses that pool ext allows a namespace")
    # And whatever a Service names there is nobody else's address.
    running.create("wants", ["192.0.2.61"])
    running.wait_condition("wants", "AddressAllocated", "False", "AddressInUse",
                           "192.0.2.61 is in use by Service vms/forbidden (spec.externalIPs): " + REFUSAL)
    running.api.patch(f"{POOLS}/lab", {"spec": {"externalIPs": True}})
    running.wait_holders({"192.0.2.60": ["holder"], "192.0.2.61": ["forbidden"], "192.0.2.200": ["first"]})


@pytest.fixture
def openshift(world):
    """As much of config.openshift.io as the controller reads."""
    kinds = {"infrastructures": "Infrastructure", "networks": "Network"}
    for plural, kind in kinds.items():
        world.api.create(CRDS, {
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.config.openshift.io",
                         "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
            "spec": {"group": "config.openshift.io", "scope": "Cluster",
                     "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
                     "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                         "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}})

    def served():
        with contextlib.suppress(Exception):
            for plural in kinds:
                world.api.list(f"{OPENSHIFT}/{plural}")
            return True
    wait_for("the definitions to be served", served)
    head = {"apiVersion": "config.openshift.io/v1", "metadata": {"name": "cluster"}}
    world.api.create(f"{OPENSHIFT}/infrastructures", head | {"kind": "Infrastructure", "status": {
        "apiServerURL": "https://api.lab.example.org:6443", "platformStatus": {"type": "BareMetal", "baremetal": {
            "apiServerInternalIPs": ["192.0.2.40"], "ingressIPs": ["192.0.2.41", "2001:db8::1:41"]}}}})
    world.api.create(f"{OPENSHIFT}/networks", head | {"kind": "Network", "spec": {
        "externalIP": {"autoAssignCIDRs": ["192.0.2.64/28"]}}})
    world.start()
    yield world
    world.stop()
    for plural in kinds:
        world.api.delete(f"{CRDS}/{plural}.config.openshift.io")


def test_what_openshift_uses_is_refused_and_avoided(openshift):
    for name, address, who in (("api", "192.0.2.40", "apiServerInternalIPs"),
                               ("ingress", "192.0.2.41", "ingressIPs"),
                               ("assigned", "192.0.2.70", "externalIP.autoAssignCIDRs")):
        openshift.create(name, [address])
        openshift.wait_condition(name, "AddressAllocated", "False", "AddressInUse",
                                 f"{address} is in use by OpenShift ({who}): {REFUSAL}")
    openshift.create("second", externalIPs=["192.0.2.66"])
    openshift.api.external_ip("second")
    openshift.wait_event("second", "AddressInUse", "192.0.2.66 in spec.externalIPs was assigned by OpenShift")
    # The virtual router IDs of its keepalived come from the cluster's name: 51 and 146.
    openshift.create("near", ["192.0.2.51"])
    openshift.wait_address("near", "192.0.2.51")
    assert openshift.api.get(f"{VIPS}/192.0.2.51")["spec"]["virtualRouterID"] == 52
    # The range becomes another one: who waits is served, who holds keeps.
    openshift.api.patch(f"{OPENSHIFT}/networks/cluster", {"spec": {"externalIP": {"autoAssignCIDRs": ["192.0.2.48/28"]}}})
    openshift.wait_address("assigned", "192.0.2.70")
    openshift.create("late", ["192.0.2.52"])
    openshift.wait_condition("late", "AddressAllocated", "False", "AddressInUse", "autoAssignCIDRs")
    openshift.wait_address("near", "192.0.2.51")


def heard(world, node, *strangers):
    """As the speaker of the node writes it: who sends adverts and is no node."""
    segments = world.api.get(f"{SPEAKERS}/{node}")["status"]["segments"]
    for segment in segments:
        segment["foreignVirtualRouters"] = [
            {"id": number, "address": address} for number, address in strangers
            if (":" in address) == (":" in segment["prefix"])]
    world.api.patch(f"{SPEAKERS}/{node}/status", {"status": {"segments": segments}})


def router_of(world, address):
    spec = world.api.get(f"{VIPS}/{address}")["spec"]
    assert spec["virtualRouter"].endswith(f".{spec['virtualRouterID']}")
    return spec["virtualRouterID"]


def test_virtual_router_ids_of_strangers_are_avoided_and_left(running):
    heard(running, "n2", (20, "192.0.2.177"), (21, "192.0.2.3"), (20, "fe80::77"))
    time.sleep(0.5)
    running.create("avoids", ["192.0.2.20"])
    running.wait_address("avoids", "192.0.2.20")
    assert router_of(running, "192.0.2.20") == 21, "20 is a stranger's; 21 is what n3 sends, a node"
    running.create("leaves", ["192.0.2.30"])
    running.wait_address("leaves", "192.0.2.30")
    before = running.api.get(f"{VIPS}/192.0.2.30")["spec"]
    second = before["candidates"][1]["node"]
    running.api.patch(f"{VIPS}/192.0.2.30/status", {"status": {"owner": second, "state": "Active"}})
    assert before["virtualRouterID"] == 30
    heard(running, "n1", (30, "192.0.2.177"))
    wait_for("another virtual router", lambda: router_of(running, "192.0.2.30") != 30)
    moved = router_of(running, "192.0.2.30")
    running.wait_event("leaves", "ForeignVirtualRouter",
                       "192.0.2.177, which is no node, sends VRRP adverts with virtual router ID 30 on the segment: "
                       f"192.0.2.30 gets virtual router ID {moved} instead")
    # Whoever has the address is to win the new one: nothing moves.
    assert running.api.get(f"{VIPS}/192.0.2.30")["spec"]["candidates"][0]["node"] == second
    running.wait_address("leaves", "192.0.2.30")
    # It follows: once is enough for a while.
    heard(running, "n1", (30, "192.0.2.177"), (moved, "192.0.2.177"))
    time.sleep(1)
    assert router_of(running, "192.0.2.30") == moved
    # The stranger goes: nothing moves back.
    heard(running, "n1")
    time.sleep(0.5)
    assert router_of(running, "192.0.2.30") == moved
