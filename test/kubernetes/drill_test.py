"""FailoverDrills on real speakers and a real API server: measured from another node, compared with an outside observer."""
import json
import re
import time

import pytest

import vipd
from cluster import GROUP
from kubectl_vip_test import Cli
from lab import wait_for

DRILLS = f"{GROUP}/failoverdrills"


@pytest.fixture(scope="module")
def live(api):
    with vipd.exposed(api) as cluster:
        yield cluster


def vip(cluster):
    return cluster.api.vips()[cluster.address]


def settled(cluster):
    """One owner that is Active, everybody else may own it, no handover is under way."""
    def look():
        found = vip(cluster)
        status, notes = found.get("status", {}), found["metadata"].get("annotations", {})
        order = json.loads(notes.get("vipd.dev/handover", "{}"))
        ready = [condition["status"] for thing in cluster.api.list(f"{GROUP}/speakers")
                 for condition in thing.get("status", {}).get("conditions", []) if condition["type"] == "Ready"]
        return (ready == ["True"] * 3 and status.get("state") == "Active" and not status.get("notEligible") and
                order.get("id") == (status.get("handoverID") if order else None) and
                cluster.answering(cluster.address) == status["owner"] and status["owner"])
    return wait_for("an owner that is well", look, 30)


@pytest.fixture
def cluster(live):
    for node in live.lab.nodes.values():
        node.heal()
    settled(live)
    yield live
    for thing in live.api.list(DRILLS):
        live.api.delete(f"{DRILLS}/{thing['metadata']['name']}")


def drill(cluster, name="d1", target=None, **spec):
    cluster.api.create(DRILLS, {
        "apiVersion": "vipd.dev/v1alpha1", "kind": "FailoverDrill", "metadata": {"name": name},
        "spec": {"target": target or {"virtualIP": cluster.address}, "action": "Handover", **spec}})


def status(cluster, name="d1"):
    return (cluster.api.get(f"{DRILLS}/{name}") or {}).get("status", {})


def ended(cluster, name="d1", seconds=30):
    return wait_for(f"the end of drill {name}", lambda: (found := status(cluster, name)).get("phase") in
                    ("Succeeded", "Failed", "Refused") and found, seconds)


def test_a_handover_is_measured_as_an_outside_observer_measures_it(cluster):
    owner = settled(cluster)
    arp = cluster.lab.client.probe("arp", "eth1", cluster.address, 2)
    held = cluster.lab.client.probe("stream", cluster.address, 22, 10, 5)
    drill(cluster, probe={"protocol": "ARP", "intervalMilliseconds": 2}, budget={"outageMilliseconds": 500})
    found = ended(cluster)
    seen, streams = arp.stop(), held.stop()
    last = found["last"]
    assert found["phase"] == last["verdict"] == "Succeeded", found
    assert last["from"] == owner and last["to"] == cluster.answering(cluster.address) != owner
    assert last["virtualIP"] == cluster.address and found["target"] == cluster.address
    assert abs(last["outageMilliseconds"] - seen["longest_ms"]) <= 2, (last, seen)
    assert last["answeredByTwoMilliseconds"] == 0 and seen["two"] == 0
    assert last["probesSent"] > 1000
    assert streams["kept"] == 5 and streams["lost"] == 0
    assert found["runs"] == [last] and "run" not in found
    assert vip(cluster)["status"]["lastTransition"]["to"] == last["to"]
    [probe] = [thing["status"]["probe"] for thing in cluster.api.list(f"{GROUP}/speakers") if "probe" in thing["status"]]
    assert probe["state"] == "Done" and probe["message"] == ""


def test_it_runs_again_when_its_spec_changes_and_keeps_what_was(cluster):
    drill(cluster, budget={"outageMilliseconds": 500})
    first = ended(cluster)
    settled(cluster)
    cluster.api.patch(f"{DRILLS}/d1", {"spec": {"budget": {"outageMilliseconds": 400}}})
    wait_for("a second run", lambda: len(status(cluster).get("runs", [])) == 2, 30)
    second = status(cluster)
    assert second["runs"][0] == first["last"] and second["runs"][1] == second["last"]
    assert second["last"]["from"] == first["last"]["to"]


def test_the_address_of_a_service(cluster):
    drill(cluster, target={"service": {"namespace": "vms", "name": "myvm-ssh"}})
    found = ended(cluster)
    assert found["phase"] == "Succeeded" and found["target"] == "vms/myvm-ssh"
    assert found["last"]["virtualIP"] == cluster.address


@pytest.mark.parametrize("target,spec,says", [
    ({"virtualIP": "192.0.2.250"}, {}, "no VirtualIP of 192.0.2.250"),
    ({"service": {"namespace": "vms", "name": "none"}}, {}, "Service vms/none has no address"),
    (None, {"action": "Crash"}, "spec.action Crash"),
    (None, {"schedule": "@daily"}, "spec.schedule"),
    (None, {"budget": {"lostConnections": 0}}, "spec.budget.lostConnections"),
])
def test_what_cannot_be_run_is_refused_in_words(cluster, target, spec, says):
    owner = settled(cluster)
    drill(cluster, target=target, **spec)
    found = ended(cluster)
    assert found["phase"] == "Refused" and says in found["last"]["message"]
    assert settled(cluster) == owner


def test_without_a_second_node_it_would_be_an_outage(cluster):
    owner = settled(cluster)
    others = [name for name in cluster.daemons if name != owner]
    for name in others:
        cluster.lab[name].cut()
    try:
        wait_for("the others to be out of it", lambda: {entry["node"] for entry in vip(cluster)["status"].get(
            "notEligible", [])} == set(others), 20)
        drill(cluster)
        found = ended(cluster)
        assert found["phase"] == "Refused" and "no second node may own" in found["last"]["message"]
        assert all(name in found["last"]["message"] for name in others)
        assert cluster.answering(cluster.address) == owner
    finally:
        for name in others:
            cluster.lab[name].heal()


def test_one_after_another(cluster):
    drill(cluster, "d1")
    wait_for("the first to run", lambda: status(cluster, "d1").get("phase") == "Running")
    drill(cluster, "d2")
    found = ended(cluster, "d2")
    assert found["phase"] == "Refused" and "drill d1 is running" in found["last"]["message"]
    assert ended(cluster, "d1")["phase"] == "Succeeded"


def test_a_node_that_dies_meanwhile_fails_it_and_is_measured_as_outside(cluster):
    """The outage is that of the crash, and longer than the budget."""
    drill(cluster, budget={"outageMilliseconds": 1})
    run = wait_for("the plan", lambda: status(cluster).get("run"), 10)
    arp = cluster.lab.client.probe("arp", "eth1", cluster.address, 2)
    wait_for("the handover", lambda: vip(cluster)["status"].get("owner") == run["to"] and
             cluster.answering(cluster.address) == run["to"], 5)
    cluster[run["to"]].kill()
    try:
        found = ended(cluster, seconds=40)
        seen = arp.stop()
    finally:
        cluster[run["to"]].start()
        cluster.ready()
    assert found["phase"] == "Failed" and found["last"]["to"] == run["to"], found
    assert f"it was to go from {run['from']} to {run['to']} and is at" in found["last"]["message"]
    # Each measures to its own interval, 5 ms there, 2 ms here; and this one may have been kept from asking.
    difference = abs(found["last"]["outageMilliseconds"] - seen["longest_ms"])
    assert seen["longest_ms"] > 50 and difference <= 7 + seen["late_ms"], (found["last"], seen)
    assert cluster.owner(cluster.address)


def test_another_controller_ends_it(cluster):
    drill(cluster)
    assert wait_for("it to run", lambda: status(cluster).get("phase")) == "Running", status(cluster)
    cluster.kill_controllers()
    cluster.start_controller()
    found = ended(cluster, seconds=60)
    assert found["phase"] == "Succeeded" or "no controller led" in found["last"]["message"], found
    assert len(found["runs"]) == 1
    settled(cluster)


def test_it_is_told_by_events_and_metrics(cluster):
    drill(cluster, "told")
    ended(cluster, "told")

    def reasons():
        return [event["reason"] for event in cluster.api.events("default")
                if event["regarding"]["kind"] == "FailoverDrill" and event["regarding"]["name"] == "told"]

    wait_for("its Events", lambda: {"DrillStarted", "DrillSucceeded"} <= set(reasons()))
    port = 9460 + len(cluster.controllers)
    text = cluster.api.host.run(["curl", "-sS", "-m", "5", f"http://127.0.0.1:{port}/metrics"]).stdout
    assert 'vipd_drill_failed{drill="told"} 0' in text
    columns = cluster.api.kubectl("get", "drill", "told", "--no-headers").split()
    assert columns[:4] == ["told", cluster.address, "Handover", "Succeeded"]


def test_kubectl_vip_drill(cluster):
    """Run, listed and shown; the exit code is the verdict."""
    cli, owner = Cli(cluster.api), settled(cluster)
    said = cli("drill", "run", cluster.address, "--budget", "500", "--wait")
    name = re.match(r"failoverdrill.vipd.dev/(drill-[0-9a-f]{8}) created\n", said).group(1)
    assert re.search(rf"^Succeeded: from {owner} to n\d; nobody answered for [\d.]+ ms$", said, re.M), said
    [row] = cli.rows("drill", "list")
    assert row["NAME"] == name and row["TARGET"] == cluster.address and row["PHASE"] == "Succeeded"
    assert row["BUDGET"] == "500ms" and row["FROM"] == owner and row["OUTAGE"].endswith("ms")
    [run] = cli.rows("drill", "show", name)
    assert run["ADDRESS"] == cluster.address and run["VERDICT"] == "Succeeded" and int(run["SENT"]) > 500
    assert json.loads(cli("drill", "show", name, "-o", "json"))["metadata"]["name"] == name
    settled(cluster)
    said = cli.run("drill", "run", "-n", "vms", "none", "--wait")
    assert said.returncode == 1 and "Refused: Service vms/none has no address" in said.stdout
    refused = re.search(r"/(drill-[0-9a-f]{8}) ", said.stdout).group(1)
    assert cli.run("drill", "show", refused).returncode == 1
    assert f"did you mean {name}" in cli.fails("drill", "show", name[:-1])
    assert "usage" in cli.fails("drill", "stop", code=2) and "usage" in cli.fails("drill", "run", code=2)
    assert "--budget soon is none" in cli.fails("drill", "run", cluster.address, "--budget", "soon", code=2)


def test_an_old_order_to_look_on_is_not_carried_out_again(cluster):
    """A speaker that is started again finds the annotation of a drill that is over."""
    drill(cluster)
    last = ended(cluster)["last"]
    [node] = [name for name in cluster.daemons if name not in (last["from"], last["to"])]
    before = cluster.api.get(f"{GROUP}/speakers/{node}")["status"]["probe"]
    cluster.lab[node].run(["kill", "-9", cluster[node].feeder()])
    cluster[node].process.wait_output("has been told to the engine")
    time.sleep(2)
    assert cluster.api.get(f"{GROUP}/speakers/{node}")["status"]["probe"] == before
