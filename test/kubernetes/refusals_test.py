"""Wishes that cannot be met: what the owner of a Service reads, word for word, in conditions, Events and describe."""
import time

import pytest

from cluster import ApiError
from controllers import POOLS
from lab import wait_for

FREE_IT = "ask for another address, or free it there"
KEYS = "annotate both with the same key"


def asks(*addresses, **notes):
    return {"annotations": {**({"vipd.dev/addresses": ",".join(addresses)} if addresses else {}),
                            **{f"vipd.dev/{name.replace('_', '-')}": value for name, value in notes.items()}}}


REFUSALS = [
    # name, Service, reason, sentence
    ("malformed", asks("192.0.2"), "InvalidConfiguration",
     '"192.0.2" in annotation vipd.dev/addresses is no address; write one such as 192.0.2.10 or 2001:db8::10, two '
     "separated by a comma"),
    ("two-of-one", asks("192.0.2.60", "192.0.2.61"), "InvalidConfiguration",
     "annotation vipd.dev/addresses asks for more than one IPv4 address; a Service gets one of each family"),
    ("wrong-family", asks("2001:db8::1:60"), "InvalidConfiguration",
     "annotation vipd.dev/addresses asks for the IPv6 address 2001:db8::1:60, but the Service is IPv4 only; set "
     "spec.ipFamilyPolicy to PreferDualStack or ask for an IPv4 address"),
    ("special", asks("127.0.0.1"), "InvalidConfiguration",
     "127.0.0.1 can be nobody's virtual address (loopback, multicast, link-local or unspecified)"),
    ("outside", asks("203.0.113.9"), "AddressNotInPool",
     "203.0.113.9 is in no pool: lab has 192.0.2.0/25; quota has 192.0.2.220-192.0.2.225; tiny has 192.0.2.210"),
    ("by-field", {"loadBalancerIP": "203.0.113.9"}, "AddressNotInPool",
     "203.0.113.9 is in no pool: lab has 192.0.2.0/25; quota has 192.0.2.220-192.0.2.225; tiny has 192.0.2.210"),
    ("excluded", asks("192.0.2.50"), "AddressNotInPool",
     "192.0.2.50 cannot be given: pool lab excludes it (exclude: 192.0.2.50); ask for another address"),
    ("skipped", asks("192.0.2.127"), "AddressNotInPool",
     "192.0.2.127 cannot be given: pool lab skips it (avoidFirstLast, first or last in 192.0.2.0/25); ask for another "
     "address"),
    ("other-pool", asks("192.0.2.60", pool="tiny"), "AddressNotInPool",
     "192.0.2.60 is in pool lab, not in pool tiny that vipd.dev/pool names: correct one of the two"),
    ("reserved", asks("192.0.2.51"), "AddressReserved",
     "192.0.2.51 is reserved for Service dns/resolver by pool lab: ask for another address"),
    ("taken", asks("192.0.2.52"), "AddressInUse",
     "192.0.2.52 is held by Service vms/holder: ask for another address, or let both share it by the same "
     "vipd.dev/sharing-key"),
    ("node", asks("192.0.2.2"), "AddressInUse", f"192.0.2.2 is in use by Node n2: {FREE_IT}"),
    ("external", asks("192.0.2.53"), "AddressInUse",
     f"192.0.2.53 is in use by Service vms/claims (spec.externalIPs): {FREE_IT}"),
    ("unshared", asks("192.0.2.52", sharing_key="x"), "SharingRefused",
     f"192.0.2.52 is held by Service vms/holder, which has no vipd.dev/sharing-key: {KEYS}"),
    ("other-key", asks("192.0.2.54", sharing_key="x"), "SharingRefused",
     f'192.0.2.54 is held by Service vms/sharer with another vipd.dev/sharing-key ("web"): {KEYS}'),
    ("same-port", {**asks("192.0.2.54", sharing_key="web"), "ports": (80,)}, "SharingRefused",
     "192.0.2.54 cannot be shared with Service vms/sharer: both use port 80/TCP"),
    ("policy", {**asks("192.0.2.54", sharing_key="web"), "ports": (81,), "externalTrafficPolicy": "Local"},
     "SharingRefused", "192.0.2.54 cannot be shared with Service vms/sharer: their externalTrafficPolicy differs"),
    ("no-pool", asks(pool="labb"), "PoolNotFound",
     'pool "labb" does not exist: vipd.dev/pool can be lab, quota, tiny'),
    ("not-for-us", asks(pool="team"), "PoolNotFound",
     "pool team is not for namespace vms; name another in vipd.dev/pool"),
    ("full", asks(pool="tiny"), "PoolExhausted",
     "no IPv4 address can be given: pool tiny is full; name another in vipd.dev/pool, or wait for a release"),
    ("quota", asks(pool="quota"), "QuotaExceeded",
     "namespace vms holds all 1 addresses that pool quota allows a namespace: delete a Service of the namespace, or "
     "ask for a higher maxPerNamespace"),
    ("many-ports", {"ports": range(1, 1026), "allocateLoadBalancerNodePorts": False}, "InvalidConfiguration",
     "the Service has 1025 ports, at most 1024 of one can be served: make several Services of it that share an address "
     "(vipd.dev/sharing-key)"),
    ("network", asks(network="a/b/c"), "InvalidConfiguration",
     'annotation vipd.dev/network: "a/b/c" is no network: write NAMESPACE/NAME of a NetworkAttachmentDefinition'),
]
NOTHING = ("no pool has an IPv4 address to give: lab is disabled; quota is given on request only (autoAssign); team is "
           "not for namespace vms; tiny is given on request only (autoAssign)")


@pytest.fixture
def full(running):
    """A world in which much is taken, reserved, excluded."""
    running.api.pool(exclude=["192.0.2.50"], reservations=[
        {"address": "192.0.2.51", "service": {"namespace": "dns", "name": "resolver"}}])
    running.api.pool(name="tiny", addresses=["192.0.2.210"], autoAssign=False)
    running.api.pool(name="quota", addresses=["192.0.2.220-192.0.2.225"], autoAssign=False, maxPerNamespace=1)
    running.api.pool(name="team", addresses=["192.0.2.230"], autoAssign=False, namespaces=["others"])
    running.create("holder", ["192.0.2.52"])
    running.create("claims", type="ClusterIP", externalIPs=["192.0.2.53"])
    running.create("sharer", ["192.0.2.54"], ports=(80,), annotations={"vipd.dev/sharing-key": "web"})
    running.create("first", **asks(pool="tiny"))
    running.create("second", **asks(pool="quota"))
    for name in ("holder", "sharer", "first", "second"):
        running.api.external_ip(name)
    return running


def refused(world, name, reason, sentence):
    found = world.wait_condition(name, "AddressAllocated", "False", reason, sentence)
    assert found["message"] == sentence
    assert world.wait_condition(name, "Serving", "False", reason)["message"] == "no address to serve"
    world.wait_event(name, reason, sentence)
    assert world.notes(name, reason) == [sentence] and world.api.ingress(name) == []


def test_every_refusal_says_why_in_condition_and_event(full):
    for name, more, _, _ in REFUSALS:
        full.create(name, **more)
    for name, _, reason, sentence in REFUSALS:
        refused(full, name, reason, sentence)
    told = full.api.kubectl("describe", "services", "--show-events=true", namespace="vms")
    assert [sentence for _, _, _, sentence in REFUSALS if sentence not in told] == []
    # Told once, however often something around it changes.
    full.create("bystander")
    full.api.external_ip("bystander")
    full.delete("bystander")
    full.wait_gone("bystander")
    time.sleep(0.5)
    assert [full.reasons(name).count(reason) for name, _, reason, _ in REFUSALS] == [1] * len(REFUSALS)
    full.api.patch(f"{POOLS}/lab", {"spec": {"disabled": True}})
    full.create("nothing")
    refused(full, "nothing", "PoolExhausted", NOTHING)


def test_an_address_that_no_node_may_own_is_told(running):
    running.api.pool(name="far", addresses=["198.51.100.8"], autoAssign=False)
    running.create("far", **asks(pool="far"))
    running.wait_address("far", "198.51.100.8")
    found = running.wait_condition("far", "Serving", "False", "NoEligibleNode", "no node may own 198.51.100.8: ")
    nodes = found["message"].partition(": ")[2].split(", ")
    assert sorted(nodes) == [f"n{number} NotOnSegment" for number in (1, 2, 3)]
    running.wait_event("far", "NoEligibleNode", found["message"])
    running.create("nobody", **asks("192.0.2.20", nodes="n7"))
    found = running.wait_condition("nobody", "Serving", "False", "NoEligibleNode", "no node may own 192.0.2.20: ")
    assert sorted(found["message"].partition(": ")[2].split(", ")) == [
        f"n{number} NodeNotSelected" for number in (1, 2, 3)]


def test_a_misspelt_annotation_is_told_and_ignored(running):
    for name, wrong, told in (
            ("close", "adresses", "annotation vipd.dev/adresses is unknown and ignored; did you mean vipd.dev/addresses?"),
            ("near", "sharing_key", "annotation vipd.dev/sharing_key is unknown and ignored; did you mean "
                                    "vipd.dev/sharing-key?"),
            ("far", "colour", "annotation vipd.dev/colour is unknown and ignored; known are vipd.dev/addresses, "
                              "vipd.dev/all-ports, vipd.dev/nodes, vipd.dev/pool and vipd.dev/sharing-key")):
        running.create(name, annotations={f"vipd.dev/{wrong}": "192.0.2.70"})
        running.api.external_ip(name)
        running.wait_event(name, "InvalidConfiguration", told)
        assert running.notes(name, "InvalidConfiguration") == [told]
    running.create("every", annotations={"vipd.dev/all-ports": "true"})
    running.api.external_ip("every")
    wait_for("its Event", lambda: "AddressAllocated" in running.reasons("every"))
    assert running.reasons("every") == ["AddressAllocated"]


def test_what_the_api_server_refuses_never_comes_here(running):
    with pytest.raises(ApiError) as error:
        running.create("zero", ports=(0,))
    assert "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive" in str(error.value)
