"""FailoverDrills on real speakers and a real API server: measured from another node, compared with an outside observer."""
import json
import re
import time
from xml.etree import ElementTree

import pytest

import manifests
import vipd
from cluster import GROUP
from kubectl_vip_test import Cli
from lab import wait_for

DRILLS = f"{GROUP}/failoverdrills"


@pytest.fixture(scope="module")
def live(api):
    with vipd.exposed(api) as cluster:
        api.patch("/api/v1/namespaces/vms/services/myvm-ssh", {"spec": {"ipFamilyPolicy": "PreferDualStack"}})
        cluster.six = next(address for address in api.external_ip("myvm-ssh", count=2) if ":" in address)
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
    assert last["answeredByTwoMilliseconds"] == 0
    assert seen["two"] <= 1 # a question that was on the LAN as the new owner's first advert was
    assert last["probesSent"] > 1000
    assert streams["kept"] == 5 and streams["lost"] == 0
    assert found["runs"] == [last] and "run" not in found
    assert vip(cluster)["status"]["lastTransition"]["to"] == last["to"]
    [probe] = [thing["status"]["probe"] for thing in cluster.api.list(f"{GROUP}/speakers") if "probe" in thing["status"]]
    assert probe["state"] == "Done" and probe["message"] == ""


@pytest.mark.parametrize("action,more", [("Crash", {}), ("Hang", {"holdSeconds": 2}), ("Isolate", {"holdSeconds": 2})])
def test_a_fault_is_survived_measured_and_over_by_itself(cluster, action, more):
    """Another node takes over, an outside observer measures the same, and the old owner is well again."""
    owner = settled(cluster)
    arp = cluster.lab.client.probe("arp", "eth1", cluster.address, 2)
    drill(cluster, action=action, probe={"intervalMilliseconds": 2}, budget={"outageMilliseconds": 1000}, **more)
    found = ended(cluster)
    seen = arp.stop()
    last = found["last"]
    assert found["phase"] == "Succeeded", (found, seen)
    assert last["from"] == owner and last["to"] == cluster.answering(cluster.address) and last["action"] == action
    assert 20 < last["outageMilliseconds"] < 1000
    assert abs(last["outageMilliseconds"] - seen["longest_ms"]) <= 4 + seen["late_ms"], (last, seen)
    assert last["answeredByTwoMilliseconds"] == 0 and seen["two"] == 0
    line = [span["answeredBy"] for span in last["timeline"]]
    assert line[0] == owner and line[-1] == cluster.answering(cluster.address) != owner and "" in line, last
    assert settled(cluster) == line[-1]
    assert "vipd-drill" not in cluster.lab[owner].ruleset()


def candidates(cluster, address):
    return {entry["node"] for entry in cluster.api.vips()[address]["spec"]["candidates"]}


@pytest.fixture
def apart(cluster):
    """n2 may not own the address: it looks on, whoever takes over, and has no endpoint."""
    path = "/api/v1/namespaces/vms/services/myvm-ssh"
    cluster.api.patch(path, {"metadata": {"annotations": {"vipd.dev/nodes": "n1,n3"}}})
    wait_for("two candidates", lambda: candidates(cluster, cluster.address) == {"n1", "n3"}, 20)
    yield cluster
    cluster.api.patch(path, {"metadata": {"annotations": {"vipd.dev/nodes": None}}})
    wait_for("three candidates", lambda: len(candidates(cluster, cluster.address)) == 3, 20)


def at_the_vm(cluster, address):
    """The address is at n3, where the VM is: then the looker-on is another node, and can ask over TCP."""
    settled(cluster)
    Cli(cluster.api)("handover", address, "--to", "n3", "--wait")
    settled(cluster)
    wait_for("n3 to own it", lambda: cluster.answering(address) == "n3")


@pytest.mark.parametrize("protocol", ["TCP", "ICMP"])
def test_what_is_behind_the_address_is_asked(cluster, apart, protocol):
    """A SYN, an echo request: answered until the crash and after it, through rules and VM, as a client's are."""
    at_the_vm(cluster, cluster.address)
    held = {"lostConnections": 0} if protocol == "TCP" else {}
    drill(cluster, action="Crash", probe={"intervalMilliseconds": 10, "protocol": protocol}, budget=held)
    last = ended(cluster)["last"]
    assert last["verdict"] == "Succeeded", last
    assert 20 < last["outageMilliseconds"] < 1500 and last["probesSent"] > 300, last
    assert 2 <= last["probesLost"] < last["probesSent"] / 4, last
    assert (last.get("connectionsKept"), last.get("connectionsLost")) == ((3, 0) if held else (None, None))


def test_datagrams_are_measured_as_an_outside_observer_measures_them(cluster):
    """Also the connections of the address are held: its one port for UDP is another one's for TCP."""
    cluster.api.create("/api/v1/namespaces/vms/services", manifests.service(
        "myvm-udp", [], ["22/UDP"], selector={"vmi.kubevirt.io/id": "myvm"}, annotations={"vipd.dev/nodes": "n1,n3"}))
    try:
        address = cluster.api.external_ip("myvm-udp")
        wait_for("it to be Active", lambda: cluster.api.vips()[address].get("status", {}).get("state") == "Active", 20)
        at_the_vm(cluster, address)
        outside = cluster.lab.client.probe("udp", address, 22, 5)
        drill(cluster, target={"virtualIP": address}, action="Crash", probe={"protocol": "UDP", "intervalMilliseconds": 5})
        last = ended(cluster)["last"]
        seen = outside.stop()
        assert last["verdict"] == "Succeeded" and 20 < last["outageMilliseconds"] < 1500, (last, seen)
        assert abs(last["outageMilliseconds"] - seen["longest_ms"]) <= 15 + seen["late_ms"], (last, seen)
        drill(cluster, "d2", target={"virtualIP": address}, budget={"lostConnections": 0})
        found = ended(cluster, "d2")
        assert found["phase"] == "Refused" and "no Service of the address has a TCP port" in found["last"]["message"]
    finally:
        cluster.api.delete("/api/v1/namespaces/vms/services/myvm-udp")


def test_connections_that_are_lost_fail_the_drill(cluster, apart):
    """The VM hears nothing of them any more, as if whoever took over had sent them elsewhere."""
    at_the_vm(cluster, cluster.address)
    vm = cluster.lab.vms["myvm"]
    drill(cluster, budget={"lostConnections": 2})
    wait_for("the handover", lambda: cluster.answering(cluster.address) not in (None, "n3"), 15)
    vm.run(["nft", "-f", "-"], text="table inet deaf {\nchain in {\ntype filter hook input priority 0\n"
                                    "tcp dport 22 tcp flags & syn == 0 drop\n}\n}\n")
    try:
        found = ended(cluster)
    finally:
        vm.run(["nft", "delete", "table", "inet", "deaf"])
    assert found["phase"] == "Failed", found
    assert "3 of 3 connections were lost; 2 were allowed" in found["last"]["message"]
    assert (found["last"]["connectionsKept"], found["last"]["connectionsLost"]) == (0, 3)
    columns = cluster.api.kubectl("get", "drill", "d1", "-o", "custom-columns=KEPT:.status.last.connectionsKept", "--no-headers")
    assert columns.split() == ["0"]


def test_a_port_that_nobody_listens_on_fails_the_drill(cluster, apart):
    at_the_vm(cluster, cluster.address)
    drill(cluster, probe={"protocol": "TCP", "port": 2222}, budget={"outageMilliseconds": 500})
    last = ended(cluster)["last"]
    assert last["verdict"] == "Failed" and re.match(r"none of \d+ probes was answered", last["message"]), last
    assert last["probesLost"] == last["probesSent"]
    owner = settled(cluster)
    drill(cluster, "d2", probe={"port": 2222}, budget={"lostConnections": 0})
    found = ended(cluster, "d2")
    assert found["phase"] == "Refused" and "connections to port 2222 could not be opened" in found["last"]["message"], found
    assert settled(cluster) == owner


@pytest.mark.parametrize("protocol", ["ARP", "ICMP"])
def test_ipv6(cluster, protocol):
    wait_for("an owner", lambda: "Active" in [thing.get("status", {}).get("state") for thing in cluster.api.vips().values()
                                              if thing["spec"]["address"] == cluster.six], 20)
    seen = cluster.lab.client.probe("arp", "eth1", cluster.six, 5) if protocol == "ARP" else None
    drill(cluster, target={"virtualIP": cluster.six}, action="Crash", probe={"protocol": protocol})
    last = ended(cluster)["last"]
    assert last["verdict"] == "Succeeded" and 20 < last["outageMilliseconds"] < 1500, last
    if seen:
        outside = seen.stop()
        assert abs(last["outageMilliseconds"] - outside["longest_ms"]) <= 6 + outside["late_ms"], (last, outside)


def test_a_node_as_a_whole_crashes(cluster):
    """The engine kills itself; what watches over it (here the test) starts it again."""
    owner = settled(cluster)
    arp = cluster.lab.client.probe("arp", "eth1", cluster.address, 2)
    drill(cluster, target={"node": owner}, action="Crash", probe={"intervalMilliseconds": 2})
    wait_for("the engine to be gone", lambda: not cluster[owner].running(), 15)
    new = cluster.owner(cluster.address, other_than=owner)
    cluster[owner].start()
    found = ended(cluster)
    seen = arp.stop()
    assert found["phase"] == "Succeeded" and found["target"] == f"node {owner}", found
    assert abs(found["last"]["outageMilliseconds"] - seen["longest_ms"]) <= 4 + seen["late_ms"], (found, seen)
    assert settled(cluster) == new


def test_a_node_as_a_whole_hangs_and_wakes_by_itself(cluster):
    owner = settled(cluster)
    engine, moves = cluster[owner].process.pid, vip(cluster)["status"]["transitions"]
    drill(cluster, target={"node": owner}, action="Hang", holdSeconds=2, budget={"outageMilliseconds": 1000})
    stopped = lambda: open(f"/proc/{engine}/stat").read().rpartition(")")[2].split()[0] == "T"  # noqa: E731
    wait_for("the engine to be stopped", stopped, 15)
    found = ended(cluster)
    assert found["phase"] == "Succeeded" and not stopped(), found
    assert settled(cluster) != owner and cluster[owner].process.pid == engine
    assert vip(cluster)["status"]["transitions"] == moves + 1  # its agent, which went on, did not take the word back


@pytest.mark.parametrize("killed", ["engine", "controller"])
def test_a_fault_ends_though_who_ordered_or_carries_it_out_dies(cluster, killed):
    owner = settled(cluster)
    drill(cluster, action="Isolate", holdSeconds=3)
    wait_for("the isolation", lambda: "vipd-drill" in cluster.lab[owner].ruleset(), 15)
    if killed == "engine":
        cluster[owner].restart()
    else:
        cluster.kill_controllers()
    wait_for("its elements to run out", lambda: "expires" not in cluster.lab[owner].run(
        ["nft", "list", "table", "netdev", "vipd-drill"], check=False).stdout, 10)
    if killed == "controller":
        cluster.start_controller()
    cluster.ready()
    assert ended(cluster, seconds=60)["phase"] in ("Succeeded", "Failed")
    settled(cluster)


def test_every_address_of_a_pool_one_after_another(cluster):
    cluster.api.expose("myvm", "myvm-web")
    try:
        other = cluster.api.external_ip("myvm-web")
        cluster.serves(other)
        settled(cluster)
        drill(cluster, target={"pool": "lab"}, action="Crash")
        found = ended(cluster, seconds=60)
        assert found["phase"] == "Succeeded" and found["target"] == "pool lab" and "run" not in found, found
        assert {run["virtualIP"] for run in found["runs"]} == {cluster.address, cluster.six, other}
    finally:
        cluster.api.delete("/api/v1/namespaces/vms/services/myvm-web")


def test_by_schedule(cluster):
    """Every minute, in a zone that is not ours; suspended it rests."""
    drill(cluster, schedule="* * * * *", timeZone="Asia/Kathmandu", suspend=True)
    time.sleep(2)
    assert not status(cluster), "one that is wanted knows at once when it runs"
    cluster.api.patch(f"{DRILLS}/d1", {"spec": {"suspend": False}})
    planned = wait_for("the time of the next run", lambda: status(cluster).get("nextRun"), 20)
    assert status(cluster)["phase"] == "Pending" and planned.endswith(":00Z")
    found = wait_for("a run and the time of another", lambda: (now := status(cluster)).get("runs") and
                     now.get("nextRun", planned) > planned and now, 180)
    first = found["runs"][0]  # was its failover good? That is what the other tests are about
    assert first["verdict"] != "Refused" and first["started"] >= planned, found
    cluster.api.patch(f"{DRILLS}/d1", {"spec": {"suspend": True}})


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
    assert [run["virtualIP"] for run in found["runs"]] == [cluster.address, cluster.six]


@pytest.mark.parametrize("target,spec,says", [
    ({"virtualIP": "192.0.2.250"}, {}, "no VirtualIP of 192.0.2.250"),
    ({"service": {"namespace": "vms", "name": "none"}}, {}, "Service vms/none has no address"),
    (None, {"probe": {"protocol": "UDP"}}, "no Service of the address has a UDP port: say spec.probe.port"),
    ({"pool": "none"}, {}, "no address of AddressPool none is in use"),
    ({"node": "n9"}, {"action": "Crash"}, "node n9 owns no address"),
    (None, {"schedule": "61 * * * *"}, "spec.schedule 61 * * * *: 61 is no minute (0 to 59)"),
    (None, {"schedule": "@daily", "timeZone": "Europe/Pariss"}, "spec.timeZone Europe/Pariss"),
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


def test_who_answers_is_told_apart_behind_a_virtual_mac_too(cluster):
    """The pool's setting on its way to the LAN; clients see one MAC, and the drill which node it is."""
    owner, pool = settled(cluster), f"{GROUP}/addresspools/lab"
    cluster.api.patch(pool, {"spec": {"vrrp": {"virtualMAC": True}}})
    try:
        mac = f"00:00:5e:00:01:{vip(cluster)['spec']['virtualRouterID']:02x}"
        wait_for("the virtual MAC", lambda: cluster.lab.client.mac_of(cluster.address) == mac)
        drill(cluster)
        last = ended(cluster)["last"]
        assert last["verdict"] == "Succeeded" and last["answeredByTwoMilliseconds"] == 0, last
        line = [span["answeredBy"] for span in last["timeline"]]
        assert line[0] == owner and line[-1] == last["to"] != owner, last
        assert cluster.lab.client.mac_of(cluster.address) == mac
    finally:
        cluster.api.patch(pool, {"spec": {"vrrp": {"virtualMAC": False}}})
        wait_for("the owner's own MAC", lambda: cluster.answering(cluster.address) in cluster.daemons)


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
    cluster.api.kubectl("wait", "--for=condition=Succeeded", "--timeout=5s", "drill/told")
    columns = cluster.api.kubectl("get", "drill", "told", "--no-headers").split()
    assert columns[:4] == ["told", cluster.address, "Handover", "Succeeded"]


def test_kubectl_vip_drill(cluster, apart):
    """Run, listed and shown; the exit code is the verdict."""
    at_the_vm(cluster, cluster.address)
    cli, owner = Cli(cluster.api), "n3"
    said = cli("drill", "run", cluster.address, "--budget", "500", "--lost-connections", "0", "--wait")
    name = re.match(r"failoverdrill.vipd.dev/(drill-[0-9a-f]{8}) created\n", said).group(1)
    assert re.search(rf"^Succeeded: from {owner} to n\d; nobody answered for [\d.]+ ms$", said, re.M), said
    [row] = cli.rows("drill", "list")
    assert row["NAME"] == name and row["TARGET"] == cluster.address and row["PHASE"] == "Succeeded"
    assert row["BUDGET"] == "500ms" and row["KEPT"] == "3/3" and row["FROM"] == owner and row["OUTAGE"].endswith("ms")
    shown = cli("drill", "show", name)
    assert re.search(rf"{re.escape(cluster.address)} +{owner} .* Succeeded ", shown)
    assert re.search(rf"^  {owner} +=+ *$", shown, re.M) and re.search(rf"^ +0\.0 ms  {owner}$", shown, re.M), shown
    picture = ElementTree.fromstring(cli("drill", "show", name, "-o", "svg"))
    assert owner in [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert json.loads(cli("drill", "show", name, "-o", "json"))["metadata"]["name"] == name
    settled(cluster)
    said = cli.run("drill", "run", "-n", "vms", "none", "--wait")
    assert said.returncode == 1 and "Refused: Service vms/none has no address" in said.stdout
    refused = re.search(r"/(drill-[0-9a-f]{8}) ", said.stdout).group(1)
    assert cli.run("drill", "show", refused).returncode == 1
    assert f"did you mean {name}" in cli.fails("drill", "show", name[:-1])
    assert "-o svg draws one drill" in cli.fails("drill", "list", "-o", "svg")
    assert "no output format" in cli.fails("status", "-o", "svg", code=2)
    assert "--action explode is none" in cli.fails("drill", "run", cluster.address, "--action", "explode", code=2)
    assert "--hold 301 is none" in cli.fails("drill", "run", cluster.address, "--hold", "301", code=2)
    settled(cluster)
    said = cli("drill", "run", "pool/lab", "--action", "crash", "--wait")
    assert re.search(r"^Succeeded: from n\d to n\d; nobody answered for [\d.]+ ms$", said, re.M), said
    crash = re.search(r"/(drill-[0-9a-f]{8}) ", said).group(1)
    assert re.search(r"ms  nobody, for [\d.]+ ms$", cli("drill", "show", crash), re.M)
    assert "usage" in cli.fails("drill", "stop", code=2) and "usage" in cli.fails("drill", "run", code=2)
    assert "--lost-connections -1 is none" in cli.fails(
        "drill", "run", cluster.address, "--lost-connections", "-1", code=2)
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
