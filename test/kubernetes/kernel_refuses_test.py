"""What the kernel of one node does not take of the rules: all else is there, it is said whose it is and what to do, and that it is over.

An administrator gave a set of ours a size, so the real kernel refuses what is one too many.
"""
import re

import pytest

import manifests
import vipd
from cluster import GROUP
from lab import wait_for
from speaker_test import Rack, V4

SECOND = "192.0.2.11"
CURE = "nft 'delete table inet vipd; delete table netdev vipd'"


@pytest.fixture
def rack(api):
    with Rack(api) as one:
        yield one
        assert one.lab.sanitizer_reports() == []


def limit(node, table, name, spare=0):
    """The set takes `spare` elements more than it has, and no other."""
    kind = "map" if name == "service4" else "set"
    listed = node.run(["nft", "-s", "list", kind, *table.split(), "vipd", name]).stdout
    has = len(re.search(r"elements = \{(.*?)\}", listed, re.S)[1].split(","))
    words = "; ".join(line.strip() for line in listed.splitlines() if line.strip().startswith(("type", "flags")))
    node.run(["nft", f"add {kind} {table} vipd {name} {{ {words}; size {has + spare}; }}"])


def condition(rack, node, name="DataplaneProgrammed"):
    found = rack.api.get(f"{GROUP}/speakers/{node}").get("status", {}).get("conditions", [])
    return next(((one["status"], one["reason"], one["message"]) for one in found if one["type"] == name), None)


def expose_second(rack):
    web = manifests.service("web", [], (22, 80), selector={"vmi.kubevirt.io/id": "vm3"})
    rack.api.create("/api/v1/namespaces/vms/services", web)
    rack.allocate(SECOND, service=web)
    return rack.speakers.owner(SECOND)


def show(daemon, *words):
    """`vipd status`, as a person reads it."""
    return daemon.node.run([vipd.program(), "status", "--runtime-dir", daemon.runtime, *words]).stdout


def said(rack, node):
    return [line for line in rack[node].log().splitlines() if "the kernel refuses" in line]


def test_a_rule_of_a_service_is_refused_and_taken_again(rack):
    rack.expose(V4)
    owner = rack.speakers.owner(V4)
    node = rack.lab[owner]
    limit(node, "inet", "service4", spare=1)  # of the two ports of web one has room
    wait_for("the rules to be put back", lambda: "changed the rules of vipd: put back" in rack[owner].log())
    assert condition(rack, owner)[0] == "True"
    expose_second(rack)
    refused = wait_for("the Speaker to say so", lambda: (found := condition(rack, owner)) and found[0] == "False" and found, 15)
    assert refused[1] == "KernelRefused"
    assert "refuses 1 elements of table vipd, all others are there: of Service vms/web:" in refused[2], refused
    assert CURE in refused[2]
    # The rest is there, on this node and on the others.
    keys = [f"{SECOND} . tcp . {port}" for port in (22, 80)]
    there = [key for key in keys if node.run(["nft", "get", "element", "inet", "vipd", "service4", f"{{ {key} }}"],
                                             check=False).returncode == 0]
    assert len(there) == 1
    way = "here4" if owner == "n3" else "node4"  # the VM's node, or another
    for key in keys:
        node.run(["nft", "get", "element", "netdev", "vipd", way, f"{{ {key} }}"])
    assert rack.speakers.serves(V4) == "vm3"
    others = {name for name in rack.speakers.daemons if name != owner}
    assert {condition(rack, name)[0] for name in others} == {"True"}
    # Everybody who asks is told.
    status = rack[owner].status()
    assert "Service vms/web" in status["message"] and status["ready"]
    assert "Service vms/web" in show(rack[owner]) and CURE in show(rack[owner])
    lines = said(rack, owner)
    assert len(lines) == 1 and "service=vms/web" in lines[0] and "reason=KernelRefused" in lines[0] and CURE in lines[0]
    wait_for("an Event", lambda: "KernelRefused" in rack.api.kubectl("describe", "svc", "web", namespace="vms"), 10)
    assert "KernelRefused" not in rack.api.kubectl("describe", "svc", "ssh", namespace="vms")
    # Tried again it is as it was, and is not said again.
    show(rack[owner], "--verify")
    assert len(said(rack, owner)) == 1 and condition(rack, owner)[0] == "False"
    # What the advice says is the cure.
    node.run(["sh", "-c", CURE])
    wait_for("the Speaker to be content", lambda: condition(rack, owner)[0] == "True", 15)
    assert rack[owner].status()["message"] == ""
    assert "the kernel has all elements of table vipd again" in rack[owner].log()
    for key in keys:
        node.run(["nft", "get", "element", "inet", "vipd", "service4", f"{{ {key} }}"])
    assert [rack.client.reaches(SECOND, port) for port in (22, 80)] == ["vm3"] * 2


def test_who_cannot_fence_an_address_does_not_own_it(rack):
    rack.expose(V4)
    owner = rack.speakers.owner(V4)
    limit(rack.lab[owner], "netdev", "vips4")
    wait_for("the rules to be put back", lambda: "changed the rules of vipd: put back" in rack[owner].log())
    assert expose_second(rack) != owner
    assert rack.speakers.serves(SECOND) == "vm3" and rack.speakers.owner(V4) == owner
    why = wait_for("why it is not eligible", lambda: rack.status(SECOND).get("notEligible"), 10)
    assert [(one["node"], one["reason"]) for one in why] == [(owner, "KernelRefused")]
    assert f"address {SECOND}" in condition(rack, owner)[2]
    limit(rack.lab[owner], "netdev", "vips4", spare=100)
    wait_for("it to be eligible", lambda: rack[owner].eligible(SECOND), 15)
    rack.move(SECOND, owner)
    assert rack.speakers.serves(SECOND) == "vm3"
