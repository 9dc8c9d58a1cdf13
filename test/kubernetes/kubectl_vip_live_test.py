"""kubectl vip and a cluster that lives: speakers carry out what it asks, and it says what they see."""
import json

import pytest

import vipd
from cluster import GROUP
from kubectl_vip_test import Cli
from lab import ROOT, wait_for


@pytest.fixture(scope="module")
def live(api):
    """Three nodes with speakers, a controller, a VM on n3 with a Service; n1 and n2 may own its address."""
    labels = {"n1": {"rack": "a"}, "n2": {"rack": "a"}}
    with vipd.exposed(api, labels, nodes={"selector": {"matchLabels": {"rack": "a"}}}) as cluster:
        yield cluster


@pytest.fixture
def cluster(live):
    """Both candidates fit, the status says so, and nobody is on the move."""
    yield live
    live.lab["n1"].heal("lan")
    live.lab["n2"].heal("lan")
    for name in ("n1", "n2"):
        live.api.patch(f"{GROUP}/speakers/{name}", {"spec": {"maintenance": False}})
    settle(live)


@pytest.fixture
def cli(live):
    settle(live)
    return Cli(live.api)


def candidates(cluster):
    return cluster.api.vips()[cluster.address]["spec"]["candidates"]


def settle(cluster):
    def settled():
        status = cluster.api.vips()[cluster.address].get("status", {})
        return (status.get("state") == "Active" and not status.get("notEligible") and len(candidates(cluster)) == 2
                and status.get("owner") == cluster.answering(cluster.address))
    wait_for("two eligible candidates and a status that is true", settled, 30, 0.1)


def owner_and_other(cluster):
    owner = cluster.owner(cluster.address)
    return owner, "n1" if owner == "n2" else "n2"


def only(cluster, name):
    """Behind its closed fence the former owner keeps the address for a moment: connections under way end well."""
    wait_for(f"{name} alone to have it", lambda: cluster.holders(cluster.address) == [name], 5)


def test_everything_is_explained_and_well(cluster, cli):
    done = cli.run("explain", "vms/myvm-ssh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout and "unknown" not in done.stdout
    owner, _ = owner_and_other(cluster)
    row = cli.rows("status")[0]
    assert (row["ADDRESS"], row["OWNER"], row["STATE"], row["SERVICES"]) == (
        cluster.address, owner, "Active", "vms/myvm-ssh")
    # The status of a pool is written after what it counts.
    wait_for("the pool to count it", lambda: cli.rows("pools")[0]["ASSIGNED"] == "1 + 0 IPv6", 20, 0.3)


@pytest.mark.parametrize("what,condition,value", [
    ("pool/lab", "Accepted", "True"), ("pool/lab", "AddressesAvailable", "True"),
    ("vip/{address}", "Owned", "True"), ("vip/{address}", "Announced", "True"), ("vip/{address}", "EndpointsAvailable", "True"),
    ("vip/{address}", "Conflict", "False"),
    ("speakers/{owner}", "Ready", "True"), ("speakers/{owner}", "SafeToReboot", "False"), ("speakers/{owner}", "APIReachable", "True"),
    ("speakers/{owner}", "Fenced", "True"), ("speakers/{owner}", "DataplaneProgrammed", "True"),
    ("speakers/{owner}", "MetricsServed", "True"), ("speakers/{owner}", "RemoteClientsServed", "True"),
    ("speakers/{owner}", "AdvertsHeard", "True"), ("speakers/{owner}", "ConnectionsTracked", "True"), ("speakers/{owner}", "RemoteEndpointsServed", "True"),
    ("svc/myvm-ssh", "vipd.dev/AddressAllocated", "True"), ("svc/myvm-ssh", "vipd.dev/Serving", "True"),
])  # those of drills: drill_test.py
def test_kubectl_waits_for_every_condition_of_the_guide(cluster, cli, what, condition, value):
    assert f"`{condition}`" in (ROOT / "deploy/docs/administrator.md").read_text()
    name = what.format(address=cluster.address, owner=cluster.owner(cluster.address))
    cluster.api.kubectl("wait", "-n", "vms", f"--for=condition={condition}={value}", "--timeout=20s", name, timeout=30)


def test_handover_moves_it_and_loses_nothing(cluster, cli):
    owner, other = owner_and_other(cluster)
    stream = cluster.lab.client.probe("stream", cluster.address, 22, 10, 5)
    asking = cluster.lab.client.probe("arp", "eth1", cluster.address, 2)
    wait_for("answers", lambda: any(event["event"] == "answered" for event in asking.events()))
    said = cli("handover", cluster.address, "--to", other, "--wait")
    assert f"{cluster.address} is owned by {other} now" in said
    assert cluster.owner(cluster.address) == other
    only(cluster, other)
    held, seen = stream.stop(), asking.stop()
    assert (held["kept"], held["lost"], held["stuck"], held["corrupt"]) == (5, 0, 0, 0)
    assert seen["two"] == 0
    assert cli.rows("status")[0]["REASON"] == "Handover"
    assert f"{owner} -> {other}, Handover" in cli("explain", "vms/myvm-ssh")
    assert cli("handover", cluster.address, "--to", other) == f"{cluster.address} is owned by {other} already\n"
    settle(cluster)
    assert f"is owned by {owner} now" in cli("handover", cluster.address, "--wait")


def test_drain_until_it_is_safe_to_reboot(cluster, cli):
    owner, other = owner_and_other(cluster)
    said = cli("drain", owner, "--wait")
    assert said.endswith(f"{owner} owns nothing and is safe to reboot\n")
    only(cluster, other)
    wait_for("the controller to see it", lambda: len(candidates(cluster)) == 1, 10)
    assert f"{owner} is in maintenance and owns nothing: kubectl vip undrain {owner}" in cli.fails(
        "handover", cluster.address, "--to", owner)
    said = cli.fails("drain", other)
    assert f"{cluster.address}: no other node may own it now" in said
    cli("undrain", owner)
    settle(cluster)
    assert cluster.owner(cluster.address) == other


def test_a_node_without_its_link_is_no_target(cluster, cli):
    _, other = owner_and_other(cluster)
    cluster.lab[other].cut("lan")
    wait_for("its speaker to say so", lambda: any(
        entry["node"] == other for entry in cluster.api.vips()[cluster.address]["status"].get("notEligible", [])), 20)
    said = cli.run("handover", cluster.address, "--to", other).stderr
    assert f"{other} may not own {cluster.address} now: LinkDown" in said
    explained = cli("explain", "vms/myvm-ssh")
    assert "alone; not now: " + other in explained and "nobody could take over" in explained


def broken_link(cli):
    """The tree of explain once it says that the VM does not answer."""
    def broken():
        done = cli.run("explain", "vms/myvm-ssh", "-o", "json")
        return done.returncode == 1 and json.loads(done.stdout)
    tree = wait_for("a broken link", broken, 20, 0.3)
    found = {link["link"]: link for link in tree["links"] if link["verdict"] == "BROKEN"}
    assert "endpoints" in found and set(found) <= {"endpoints", "serving"}
    return found["endpoints"]


def well_again(cluster, cli):
    cluster.serves(cluster.address)
    wait_for("it to be well again", lambda: cli.run("explain", "vms/myvm-ssh").returncode == 0, 20, 0.3)


def test_a_vm_that_is_down_is_the_broken_link(cluster, cli):
    vm = cluster.lab.vms["myvm"]
    cluster.api.vm_ready(vm, False)
    try:
        assert "start the virtual machine" in broken_link(cli)["remedy"]
    finally:
        cluster.api.vm_ready(vm, True)
    well_again(cluster, cli)


def test_a_vm_that_is_paused_keeps_its_address_and_its_connections(cluster, cli):
    """As KubeVirt does it: condition Paused, and by a readiness gate the pod is not ready."""
    vm, api = cluster.lab.vms["myvm"], cluster.api
    owner = cluster.owner(cluster.address)
    held = cluster.lab.client.probe("stream", cluster.address, 22, 10, 5)
    wait_for("connections", lambda: sum(event["event"] == "connected" for event in held.events()) == 5)
    api.pause(vm, True)
    try:
        assert "virtual machine myvm is paused (PausedByUser): virtctl -n vms unpause vm myvm" in broken_link(cli)["remedy"]
        wait_for("the Service to say so", lambda: ("vipd.dev/Serving", "False", "NoEndpoints") in [
            (one["type"], one["status"], one["reason"]) for one in api.service("myvm-ssh")["status"]["conditions"]], 20)
        cluster.refuses(cluster.address, seconds=20)  # the endpoint is held for a while: a snapshot pauses, too
        assert api.ingress("myvm-ssh") == [cluster.address] and cluster.owner(cluster.address) == owner
    finally:
        api.pause(vm, False)
    well_again(cluster, cli)
    kept = held.stop()
    assert (kept["kept"], kept["lost"], kept["corrupt"]) == (5, 0, 0), kept
