"""kubectl vip against a real API server: what people see, and what they see when something is missing.

The objects are written as speakers and controller write them; test/kubernetes has the tests in which those run.
"""
import datetime
import json
import os
import pathlib
import re
import threading
import time

import pytest
import yaml

import vipd
from cluster import ADDRESS, GROUP, PORT, SYSTEM, program
from lab import ROOT, wait_for

SLICES = "/apis/discovery.k8s.io/v1/namespaces/vms/endpointslices"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
V6 = "2001:db8::1:10"
V6_NAME = "2001-0db8-0000-0000-0000-0000-0001-0010"


def stamp(ago=0, micro=False):
    when = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=ago)
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def condition(kind, status, reason="Because", message=""):
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": stamp()}


class Cli:
    """kubectl-vip run where the API server can be reached."""

    def __init__(self, api):
        self.api = api

    def run(self, *words, config=None, env=None):
        kubeconfig = [] if config is False else ["--kubeconfig", config or self.api.admin]
        settings = {**vipd.environment(), **(env or {})}
        return self.api.host.run(["env", *[f"{key}={value}" for key, value in settings.items()],
                                  vipd.program("kubectl-vip"), *words, *kubeconfig], check=False, timeout=60)

    def __call__(self, *words, **more):
        done = self.run(*words, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, *words, code=1, **more):
        """The one line on stderr."""
        done = self.run(*words, **more)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
        return done.stderr

    def rows(self, *words, **more):
        """A table as dictionaries; cells are separated by three blanks."""
        lines = self(*words, **more).splitlines()
        head = lines[0].split()
        cells = [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in lines[1:]]
        return [dict(zip(head, row)) for row in cells]


@pytest.fixture
def served(fresh):
    """An API with one pool, two nodes' Speakers, a Service myvm-ssh served at two addresses by n1."""
    fresh.pool()
    fresh.patch(f"{GROUP}/addresspools/lab/status", {"status": {
        "capacity": {"ipv4": 126, "ipv6": 256}, "assigned": {"ipv4": 1, "ipv6": 1},
        "available": {"ipv4": 125, "ipv6": 255}, "conditions": [condition("Accepted", "True", "Accepted")]}})
    for node in ("n1", "n2"):
        fresh.create(f"{GROUP}/speakers", {"apiVersion": "vipd.dev/v1alpha1", "kind": "Speaker",
                                           "metadata": {"name": node}})
        speaker(fresh, node, Ready="True", Fenced="True", SafeToReboot="False")
        lease(fresh, f"speaker-{node}", node)
    lease(fresh, "vipd-controller", "controller-1")
    fresh.create("/api/v1/namespaces/vms/services", {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "myvm-ssh"},
        "spec": {"type": "LoadBalancer", "selector": {"vm": "myvm"}, "ports": [{"port": 22}]}})
    fresh.patch("/api/v1/namespaces/vms/services/myvm-ssh/status", {"status": {"loadBalancer": {"ingress": [
        {"ip": "192.0.2.10", "ipMode": "VIP"}, {"ip": V6, "ipMode": "VIP"}]}}})
    for name, address, router, vrid in (("192.0.2.10", "192.0.2.10", "lab.ipv4.10", 10),
                                        (V6_NAME, V6, "lab.ipv6.16", 16)):
        fresh.create(f"{GROUP}/virtualips", {
            "apiVersion": "vipd.dev/v1alpha1", "kind": "VirtualIP", "metadata": {"name": name},
            "spec": {"address": address, "pool": "lab", "virtualRouter": router, "virtualRouterID": vrid,
                     "services": [{"namespace": "vms", "name": "myvm-ssh"}],
                     "candidates": [{"node": "n1", "priority": 200}, {"node": "n2", "priority": 100}]}})
        own(fresh, name, "n1")
        lease(fresh, router, "n1")
    for family, address in (("IPv4", "10.244.1.11"), ("IPv6", "fd00:10:244:1::b")):
        fresh.create(SLICES, {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": f"myvm-ssh-{family.lower()}", "labels": {"kubernetes.io/service-name": "myvm-ssh"}},
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}, "nodeName": "n1"}],
            "ports": [{"port": 22, "protocol": "TCP"}]})
    yield fresh
    for family in ("ipv4", "ipv6"):
        fresh.delete(f"{SLICES}/myvm-ssh-{family}")


@pytest.fixture
def cli(served):
    return Cli(served)


def lease(api, name, holder, age=0):
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 7,
            "acquireTime": stamp(age, True), "renewTime": stamp(age, True)}
    if api.get(f"{LEASES}/{name}"):
        return api.patch(f"{LEASES}/{name}", {"spec": spec})
    return api.create(LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                               "metadata": {"name": name}, "spec": spec})


def own(api, name, owner, former="n2", ago=75, **more):
    status = {"owner": owner, "state": "Active", "term": 7, "since": stamp(ago), "transitions": 3,
              "conditions": [condition("Owned", "True", "OwnerLost")],
              "lastTransition": {"time": stamp(ago), "from": former, "to": owner, "reason": "OwnerLost",
                                 "message": f"{owner} took over", "outageMilliseconds": 61}, **more}
    return api.patch(f"{GROUP}/virtualips/{name}/status", {"status": status})


def speaker(api, node, **conditions):
    return api.patch(f"{GROUP}/speakers/{node}/status", {"status": {
        "fence": "egress", "dataplane": "director", "owned": 2, "version": "v0.1.0",
        "conditions": [condition(kind, status) for kind, status in conditions.items()]}})


def links(cli, *words, code):
    done = cli.run("explain", *words, "-o", "json")
    assert done.returncode == code, done.stdout + done.stderr
    tree = json.loads(done.stdout)
    assert tree["broken"] == (code == 1)
    return [link for link in tree["links"]]


def broken(cli, *words):
    """(link, text, remedy) of every broken link."""
    found = [link for link in links(cli, *words, code=1) if link["verdict"] == "BROKEN"]
    return [(link["link"], link["text"], link.get("remedy", "")) for link in found]


# --- status and pools

def test_status_says_who_owns_what(cli):
    rows = cli.rows("status")
    assert [row["ADDRESS"] for row in rows] == ["192.0.2.10", V6]
    assert rows[0] == {"ADDRESS": "192.0.2.10", "OWNER": "n1", "STATE": "Active", "SINCE": rows[0]["SINCE"],
                       "SERVICES": "vms/myvm-ssh", "POOL": "lab", "REASON": "OwnerLost", "OUTAGE": "61ms"}
    assert 75 <= int(rows[0]["SINCE"].rstrip("s")) < 100


def test_status_wide_marks_who_may_not_own_it(cli, served):
    own(served, "192.0.2.10", "n1", notEligible=[{"node": "n2", "reason": "GatewayUnreachable"}])
    rows = cli.rows("status", "-o", "wide")
    assert rows[0]["CANDIDATES"] == "n1:200,n2:100!" and rows[0]["VRID"] == "10" and rows[0]["TERM"] == "7"
    assert rows[0]["MESSAGE"] == "n1 took over"


def test_status_names_what_is_wrong_before_history(cli, served):
    own(served, "192.0.2.10", "n1", conditions=[condition("Owned", "True"),
                                             condition("EndpointsAvailable", "False", "NoEndpoints")])
    assert cli.rows("status")[0]["REASON"] == "NoEndpoints"


def test_status_in_the_formats_of_kubectl(cli, served):
    kubectl = json.loads(served.kubectl("get", "vip", "-o", "json"))
    ours = json.loads(cli("status", "-o", "json"))
    assert ours["kind"] == "List" and ours["items"] == kubectl["items"]
    assert yaml.safe_load(cli("status", "-o", "yaml")) == ours
    assert cli("status", "-oname").splitlines() == [f"virtualip.vipd.dev/{name}" for name in ("192.0.2.10", V6_NAME)]
    assert json.loads(cli("status", "192.0.2.10", "--output=json"))["spec"]["address"] == "192.0.2.10"
    assert len(cli("status", "--no-headers").splitlines()) == 2


def test_yaml_keeps_texts_that_look_like_something_else(cli, served):
    odd = ["yes", "1e3", "0x10", "null", "- a", "a: b", "a #b", " a", "a\nb", "", "2001-01-01", "12:30", "ä", "{}", "'"]
    served.patch(f"{GROUP}/virtualips/192.0.2.10", {"metadata": {"annotations": {
        f"odd-{number}": text for number, text in enumerate(odd)}}})
    notes = yaml.safe_load(cli("status", "192.0.2.10", "-o", "yaml"))["metadata"]["annotations"]
    assert [notes[f"odd-{number}"] for number in range(len(odd))] == odd


def test_status_takes_an_address_in_any_spelling(cli):
    for word in (V6, "2001:DB8:0::1:0010", V6_NAME):
        assert cli.rows("status", word)[0]["ADDRESS"] == V6


def test_status_of_a_namespace(cli):
    assert len(cli.rows("status", "-n", "vms")) == 2
    done = cli.run("-n", "elsewhere", "status")
    assert done.returncode == 0 and done.stdout == "" and "namespace elsewhere" in done.stderr


def test_status_of_an_address_that_is_not_there(cli):
    assert cli.fails("status", "192.0.2.11") == (
        "error: there is no VirtualIP 192.0.2.11; did you mean 192.0.2.10?\n")
    assert cli.fails("status", "203.0.113.77") == "error: there is no VirtualIP 203.0.113.77\n"


def test_check_says_before_whose_address_a_pool_would_lose(cli, served, tmp_path):
    held = {vip["spec"]["address"] for vip in served.list(f"{GROUP}/virtualips") if vip["spec"].get("pool") == "lab"}
    assert "192.0.2.10" in held
    file = tmp_path / "pool.yaml"
    file.write_text("apiVersion: vipd.dev/v1alpha1\nkind: AddressPool\nmetadata: {name: lab}\nspec:\n"
                    "  addresses: [192.0.2.0/24, 'fd00::/64', '2001:db8::/64']\n")
    assert "Every address that is held stays in its pool." in cli("check", "-f", file)
    file.write_text(file.read_text() + "  exclude: [192.0.2.10]\n")
    done = cli.run("check", file)
    assert done.returncode == 1
    row = done.stdout.splitlines()[1]
    assert row.startswith("192.0.2.10 ") and row.endswith("pool lab excludes it (exclude: 192.0.2.10)"), done.stdout
    assert "1 address would be held from outside the pool" in done.stderr
    file.write_text("apiVersion: vipd.dev/v1alpha1\nkind: AddressPool\nmetadata: {name: lab}\nspec: {addresses: [x]}\n")
    assert 'spec.addresses: "x" is no address' in cli.fails("check", file)
    assert "cannot read /nowhere" in cli.fails("check", "-f", "/nowhere")


def test_pools(cli, served):
    [row] = cli.rows("pools")
    assert re.fullmatch(r"\d+s|\d+m\d*s?", row.pop("AGE"))
    assert row == {
        "NAME": "lab", "ADDRESSES": "192.0.2.0/25,2001:db8::1:0/120", "ASSIGNED": "1 + 1 IPv6",
        "AVAILABLE": "125 + 255 IPv6", "QUARANTINE": "0", "DATAPLANE": "auto", "ACCEPTED": "True", "REASON": "Accepted"}
    served.patch(f"{GROUP}/addresspools/lab", {"spec": {"disabled": True}})
    assert cli.rows("pools")[0]["REASON"] == "Disabled"
    assert "did you mean lab?" in cli.fails("pools", "lob")


def test_colours_are_for_terminals_alone(cli, served):
    def said(*settings):
        words = " ".join(map(str, [vipd.program("kubectl-vip"), "status", "--kubeconfig", served.admin]))
        return served.host.run(["env", "TERM=xterm", *settings, "script", "-qec", words, "/dev/null"], timeout=60).stdout
    assert "\033[32mActive\033[0m" in said()
    assert "\033" not in said("NO_COLOR=1") and "Active" in said("NO_COLOR=1")
    assert "\033" not in cli("status", env={"TERM": "xterm"})


def test_status_goes_on_with_what_changes(cli, served, tmp_path):
    """A row for each change, none for notes; also after the server was away; those that are gone are Released."""
    proxy = served.proxy(7009)
    watch = served.host.start("watch", [vipd.program("kubectl-vip"), "status", "-w", "--kubeconfig", behind(served, tmp_path)],
                              env=vipd.environment())
    try:
        watch.wait_output(r"192\.0\.2\.10 +n1 +Active[^\n]*\n2001:db8::1:10 +n1 +Active", 30)
        served.patch(f"{GROUP}/virtualips/192.0.2.10", {"metadata": {"annotations": {"note": "of no interest"}}})
        own(served, "192.0.2.10", "n2", "n1", 0, state="Moving")
        watch.wait_output(r"192\.0\.2\.10 +n2 +Moving +\d+s +vms/myvm-ssh +lab +OwnerLost +61ms\n", 30)
        proxy.refuse()
        watch.wait_output(r"is not to be reached: .*; trying again\n|does not answer: .*; trying again\n", 60)
        own(served, "192.0.2.10", "n2", "n1", 0)
        served.delete(f"{GROUP}/virtualips/{V6_NAME}")
        proxy.heal()
        watch.wait_output(r"192\.0\.2\.10 +n2 +Active", 60)
        watch.wait_output(r"2001:db8::1:10 +n1 +Released", 60)
        rows = [line.split()[:3] for line in watch.output().splitlines() if re.search(" (Active|Moving|Released) ", line)]
        assert rows[:3] == [["192.0.2.10", "n1", "Active"], [V6, "n1", "Active"], ["192.0.2.10", "n2", "Moving"]]
        assert sorted(rows[3:]) == [["192.0.2.10", "n2", "Active"], [V6, "n1", "Released"]]
        assert watch.output().count("ADDRESS") == 1
    finally:
        watch.kill()
    assert "unknown option -w" in cli.fails("pools", "-w", code=2)


# --- completion

@pytest.mark.parametrize("words,offers", [
    (["ex"], ["explain"]), (["status", ""], ["192.0.2.10"]), (["handover", "192.0.2.1"], ["192.0.2.10"]),
    (["pools", ""], ["lab"]), (["drain", ""], ["n1", "n2"]), (["-n", "vms", "explain", "my"], ["myvm-ssh"]),
    (["drill", ""], ["run", "list", "show"]), (["drill", "show", ""], []), (["drill", "run", "-n", "vms", "m"], ["myvm-ssh"]),
    (["nothing", ""], []), (["status", "--nothing", ""], None),
])
def test_words_are_completed(cli, served, words, offers):
    """As kubectl asks kubectl_complete-vip: a word a line, what it means behind a tab, a directive at the end."""
    done = served.host.run(["env", f"KUBECONFIG={served.admin}", vipd.program("kubectl-vip"), "__complete", *words])
    lines = done.stdout.splitlines()
    if offers is None:
        assert lines == []
        return
    assert lines[-1] == ":4" and set(offers) <= {line.split("\t")[0] for line in lines[:-1]}
    assert len(lines) == 1 or offers


# --- explain

def test_explain_a_service_that_is_well(cli):
    done = cli.run("explain", "vms/myvm-ssh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout and "unknown" not in done.stdout
    assert "owner        n1 since 1m" in done.stdout or "owner        n1 since 7" in done.stdout
    assert "n2 -> n1, OwnerLost, nobody answered for 61 ms" in done.stdout
    for words in (["svc/myvm-ssh", "-n", "vms"], ["myvm-ssh", "--namespace=vms"]):
        assert cli("explain", *words).startswith("Service vms/myvm-ssh  22/TCP\n")


def test_explain_finds_the_service_that_was_meant(cli):
    assert "did you mean myvm-ssh?" in cli.fails("explain", "myvmssh", "-n", "vms")
    assert "but in namespace vms: say -n vms" in cli.fails("explain", "myvm-ssh", "-n", "default")
    assert "there is no Service in namespace vms called other" in cli.fails("explain", "vms/other")


def test_explain_a_service_that_is_not_ours(cli, served):
    for name, spec, link in (("plain", {"type": "ClusterIP"}, "type"),
                             ("theirs", {"type": "LoadBalancer", "loadBalancerClass": "other.io/lb"}, "class")):
        served.create("/api/v1/namespaces/vms/services", {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {**spec, "ports": [{"port": 80}]}})
        found = broken(cli, f"vms/{name}")
        assert len(found) == 1 and found[0][0] == link and found[0][2]


def test_explain_no_controller(cli, served):
    lease(served, "vipd-controller", "controller-1", age=300)
    assert broken(cli, "vms/myvm-ssh")[0][0] == "controller"
    served.delete(f"{LEASES}/vipd-controller")
    assert "none has ever run" in broken(cli, "vms/myvm-ssh")[0][1]


def test_explain_a_service_without_an_address(cli, served):
    for name in ("192.0.2.10", V6_NAME):
        served.delete(f"{GROUP}/virtualips/{name}")
    assert "said nothing" in broken(cli, "vms/myvm-ssh")[0][1]
    served.patch("/api/v1/namespaces/vms/services/myvm-ssh/status", {"status": {"conditions": [
        condition("vipd.dev/AddressAllocated", "False", "PoolExhausted", "pool lab has no free address")]}})
    [(link, text, remedy)] = broken(cli, "vms/myvm-ssh")
    assert link == "address" and text == "none: PoolExhausted: pool lab has no free address"
    assert remedy.startswith("Enlarge a pool")


def test_explain_nobody_may_own_it(cli, served):
    own(served, "192.0.2.10", "", state="Unowned",
        conditions=[condition("Owned", "False", "NoEligibleNode", "no node is left")],
        notEligible=[{"node": "n1", "reason": "LinkDown"}, {"node": "n2", "reason": "Maintenance"}])
    found = broken(cli, "vms/myvm-ssh")
    assert [entry[0] for entry in found] == ["candidates", "owner"]
    assert "n1 (LinkDown), n2 (Maintenance)" in found[0][1] and "undrain" in found[0][2]
    assert "no node is left" in found[1][1]


def test_explain_a_foreign_host_at_the_address(cli, served):
    own(served, "192.0.2.10", "", state="Conflict", conditions=[
        condition("Conflict", "True", "ForeignAddress", "02:aa:bb:cc:dd:ee answers")])
    [(link, text, remedy)] = broken(cli, "vms/myvm-ssh")
    assert link == "conflict" and "02:aa:bb:cc:dd:ee" in text and "exclude the address" in remedy


def test_explain_a_speaker_that_is_not_well(cli, served):
    speaker(served, "n1", Ready="True", Fenced="False")
    assert broken(cli, "vms/myvm-ssh")[0][0] == "fence"
    served.delete(f"{GROUP}/speakers/n1")
    assert "vipd does not run there" in broken(cli, "vms/myvm-ssh")[0][1]


def test_explain_who_cannot_answer_clients_beyond_the_lan(cli, served):
    """The owner, or where the VM is; whoever else cannot either is of no interest here."""
    def told():
        return [(link["address"], link["text"], link.get("remedy", "")) for link in links(cli, "vms/myvm-ssh", code=0)
                if link["link"] == "clients" and link["verdict"] == "note"]
    why = [condition("RemoteClientsServed", "False", "NoWayBack", "eth1: the default route (IPv4) is by eth0")]
    speaker(served, "n2", Ready="True", Fenced="True", RemoteClientsServed="False")
    assert told() == []
    own(served, "192.0.2.10", "n2")
    lease(served, "lab.ipv4.10", "n2")
    assert [address for address, text, remedy in told()] == ["192.0.2.10"]
    speaker(served, "n2", Ready="True", Fenced="True", RemoteClientsServed="True")
    served.patch(f"{GROUP}/speakers/n1/status", {"status": {"conditions": [
        condition("Ready", "True"), condition("Fenced", "True"), *why]}})
    address, text, remedy = told()[0]
    assert (address, text) == ("192.0.2.10",
                               "beyond the LAN get no replies from n1: eth1: the default route (IPv4) is by eth0")
    assert "with a larger metric" in remedy


def test_explain_a_node_that_loses_connections(cli, served):
    served.patch(f"{GROUP}/speakers/n1/status", {"status": {"conditions": [
        condition("Ready", "True"), condition("Fenced", "True"),
        condition("ConnectionsTracked", "False", "ConnectionsUntracked", "the table of connections is full")]}})
    told = [link for link in links(cli, "vms/myvm-ssh", code=0) if link["link"] == "connections"]
    assert {(link["verdict"], link["text"]) for link in told} == {("note", "are not safe on n1: the table of connections is full")}
    assert [link["address"] for link in told] == ["192.0.2.10", V6]  # it is a candidate for both
    assert "nf_conntrack_max" in told[0]["remedy"]


def test_explain_a_bridge_that_keeps_the_owner_from_vms_elsewhere(cli, served):
    def told():
        return [(link["address"], link["text"], link.get("remedy", "")) for link in links(cli, "vms/myvm-ssh", code=0)
                if link["link"] == "endpoints" and link["verdict"] == "note"]
    assert told() == []
    served.patch(f"{GROUP}/speakers/n1/status", {"status": {"conditions": [
        condition("Ready", "True"), condition("Fenced", "True"),
        condition("RemoteEndpointsServed", "False", "BridgeInTheWay", "192.0.2.10 is not served by this node")]}})
    address, text, remedy = told()[0]
    assert (address, text) == ("192.0.2.10",
                               "on other nodes may be out of reach for n1: 192.0.2.10 is not served by this node")
    assert "br_netfilter off" in remedy


def test_explain_what_may_be_old(cli, served):
    lease(served, "speaker-n1", "n1", age=400)
    lease(served, "lab.ipv4.10", "n2")
    unknown = [link for link in links(cli, "vms/myvm-ssh", code=0) if link["verdict"] == "unknown"]
    assert {link["link"] for link in unknown} == {"speaker", "lease"}
    assert "names n2" in next(link["text"] for link in unknown if link["link"] == "lease")


def test_explain_no_endpoint(cli, served):
    served.patch(f"{SLICES}/myvm-ssh-ipv4", {"endpoints": [{"addresses": ["10.244.1.11"],
                                                       "conditions": {"ready": False, "serving": False}}]})
    served.patch(f"{SLICES}/myvm-ssh-ipv6", {"endpoints": []})
    assert [(entry[0], entry[1]) for entry in broken(cli, "vms/myvm-ssh")] == [
        ("endpoints", "none of 1 IPv4 is ready"), ("endpoints", "there is no IPv6 one")]


def test_explain_local_traffic_and_no_endpoint_at_the_owner(cli, served):
    served.patch("/api/v1/namespaces/vms/services/myvm-ssh", {"spec": {"externalTrafficPolicy": "Local"}})
    own(served, "192.0.2.10", "n2", "n1")
    lease(served, "lab.ipv4.10", "n2")
    [(link, text, _)] = broken(cli, "vms/myvm-ssh")
    assert link == "endpoints" and text == "1 ready, none on n2, and externalTrafficPolicy is Local"


# --- handover, drain, undrain

def order(served, name="192.0.2.10"):
    notes = served.get(f"{GROUP}/virtualips/{name}")["metadata"].get("annotations", {})
    return json.loads(notes["vipd.dev/handover"]) if "vipd.dev/handover" in notes else None


def test_handover_writes_an_order_with_an_id_of_its_own(cli, served):
    cli("handover", "192.0.2.10", "--to", "n2")
    first = order(served)
    assert first["to"] == "n2" and len(first["id"]) == 16
    cli("handover", "192.0.2.10")
    assert order(served)["to"] == "" and order(served)["id"] != first["id"]


def test_handover_waits_for_the_new_owner(cli, served):
    def obey():
        told = wait_for("an order", lambda: order(served), 20)
        own(served, "192.0.2.10", "n2", "n1", 0, handoverID=told["id"], state="Moving")
        time.sleep(0.7)
        own(served, "192.0.2.10", "n2", "n1", 0, handoverID=told["id"])

    obeying = threading.Thread(target=obey)
    obeying.start()
    began = time.monotonic()
    said = cli("handover", "192.0.2.10", "--to=n2", "--wait")
    obeying.join()
    assert "192.0.2.10 is owned by n2 now" in said and time.monotonic() - began > 0.6


def test_handover_that_nobody_carries_out(cli, served):
    began = time.monotonic()
    assert "has not heard of it" in cli.fails("handover", "192.0.2.10", "--wait", "--timeout", "1s")
    assert 0.9 < time.monotonic() - began < 8
    assert cli("handover", "192.0.2.10", "--to", "n1") == "192.0.2.10 is owned by n1 already\n"


def test_handover_refuses_what_cannot_be(cli, served):
    assert "n3 is no candidate for 192.0.2.10; did you mean n1?" in cli.fails("handover", "192.0.2.10", "--to", "n3")
    assert "these are: n1, n2" in cli.fails("handover", "192.0.2.10", "--to", "elsewhere")
    for node, spec, ready, words in (("n4", {"maintenance": True}, "True", "kubectl vip undrain n4"),
                                     ("n5", {"excluded": True}, "True", "n5 is excluded"),
                                     ("n6", {}, "False", "the speaker of n6 is not ready: Because"),
                                     ("n7", {}, "True", "these are: n1, n2")):
        served.create(f"{GROUP}/speakers", {"apiVersion": "vipd.dev/v1alpha1", "kind": "Speaker",
                                            "metadata": {"name": node}, "spec": spec})
        speaker(served, node, Ready=ready)
        assert words in cli.fails("handover", "192.0.2.10", "--to", node)
    own(served, "192.0.2.10", "n1", notEligible=[{"node": "n2", "reason": "LinkDown", "message": "eth1 is down"}])
    assert "n2 may not own 192.0.2.10 now: LinkDown: eth1 is down" in cli.fails(
        "handover", "192.0.2.10", "--to", "n2")
    assert "no other node" in cli.fails("handover", "192.0.2.10")
    own(served, "192.0.2.10", "", state="Unowned")
    assert "has no owner" in cli.fails("handover", "192.0.2.10")
    assert "did you mean 192.0.2.10?" in cli.fails("handover", "192.0.2.100")
    assert order(served) is None


def test_handover_says_what_moves_along(cli, served):
    served.create(f"{GROUP}/virtualips", {
        "apiVersion": "vipd.dev/v1alpha1", "kind": "VirtualIP", "metadata": {"name": "192.0.2.11"},
        "spec": {"address": "192.0.2.11", "virtualRouter": "lab.ipv4.10", "virtualRouterID": 10}})
    assert "192.0.2.11 moves with it" in cli("handover", "192.0.2.10")


def test_drain_waits_until_it_is_safe(cli, served):
    speaker(served, "n1", Ready="True", SafeToReboot="True")  # a word from before the order

    def obey():
        wait_for("maintenance", lambda: served.get(f"{GROUP}/speakers/n1")["spec"]["maintenance"], 20)
        time.sleep(0.5)
        for name in ("192.0.2.10", V6_NAME):
            own(served, name, "n2", "n1", 0)

    obeying = threading.Thread(target=obey)
    obeying.start()
    began = time.monotonic()
    said = cli("drain", "n1", "--wait")
    obeying.join()
    assert said.endswith("n1 owns nothing and is safe to reboot\n") and time.monotonic() - began > 0.4
    assert "hands over 2 addresses" in said
    cli("undrain", "n1")
    assert not served.get(f"{GROUP}/speakers/n1")["spec"]["maintenance"]
    assert cli("undrain", "n1") == "n1 is not in maintenance\n"


def test_drain_in_vain(cli):
    assert "n1 is not safe to reboot after 1 s: it still owns 2 addresses" in cli.fails(
        "drain", "n1", "--wait", "--timeout=1s")


def test_drain_does_not_take_an_address_off_the_network(cli, served):
    own(served, "192.0.2.10", "n1", notEligible=[{"node": "n2", "reason": "LinkDown"}])
    said = cli.fails("drain", "n1")
    assert "192.0.2.10: no other node may own it now" in said and "--force" in said
    assert not served.get(f"{GROUP}/speakers/n1")["spec"]["maintenance"]
    cli("drain", "node/n1", "--force")
    assert served.get(f"{GROUP}/speakers/n1")["spec"]["maintenance"]
    assert "did you mean n1?" in cli.fails("drain", "n11")


# --- who may, and how the server is reached

def account(served, name, *roles):
    """A kubeconfig of a ServiceAccount with these ClusterRoles."""
    path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts"
    if not served.get(f"{path}/{name}"):
        served.create(path, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        for role in roles:
            served.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": f"{name}-{role}"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}]})
    return served.kubeconfig(name, token=served.token(name))


def test_a_missing_permission_is_named(cli, served):
    nobody = account(served, "nobody")
    said = cli.fails("status", config=nobody)
    assert "permission to list virtualips.vipd.dev is missing" in said and "vipd-view" in said
    assert f"system:serviceaccount:{SYSTEM}:nobody" in said
    assert "permission to get services is missing" in cli.fails("explain", "vms/myvm-ssh", config=nobody)


def test_the_roles_of_deploy_are_enough(cli, served):
    viewer = account(served, "viewer", "vipd-view")
    assert len(cli.rows("status", config=viewer)) == 2
    said = cli.fails("drain", "n1", config=viewer)
    assert "permission to patch speakers.vipd.dev is missing" in said and "vipd-operate" in said
    assert "permission to patch virtualips.vipd.dev" in cli.fails("handover", "192.0.2.10", config=viewer)
    operator = account(served, "operator", "vipd-operate")
    cli("handover", "192.0.2.10", config=operator)
    cli("drain", "n1", config=operator)
    cli("undrain", "n1", config=operator)


def test_explain_says_what_it_could_not_know(cli, served):
    """With the cluster's own role view: Services and our objects, but no Leases of vipd-system."""
    served.delete("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/reader-view")
    reader = account(served, "reader", "vipd-view")
    served.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "read-services"},
        "rules": [{"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list"]}]})
    served.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "read-services"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "read-services"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": SYSTEM}]})
    done = cli.run("explain", "vms/myvm-ssh", "-o", "json", config=reader)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {link["link"]: link["verdict"] for link in json.loads(done.stdout)["links"]}
    assert found["controller"] == "unknown" and found["lease"] == "unknown" and found["endpoints"] == "unknown"
    assert found["owner"] == "ok"


def behind(served, tmp_path):
    """A kubeconfig whose server is a proxy's port 7009."""
    config = tmp_path / "proxied"
    document = yaml.safe_load(served.admin.read_text())
    for entry in document["clusters"]:
        entry["cluster"]["server"] = entry["cluster"]["server"].replace(":6443", ":7009")
    config.write_text(yaml.safe_dump(document))
    return config


def through(cli, served, tmp_path, *words):
    """kubectl vip with the server behind a proxy; (exit code, {link: verdict}, everything said)."""
    done = cli.run(*words, "-o", "json", config=behind(served, tmp_path))
    return done.returncode, {link["link"]: link["verdict"] for link in json.loads(done.stdout)["links"]}, done.stdout


def test_explain_while_the_server_answers_only_some(cli, served, tmp_path):
    """etcd in trouble, say: what can be known of the address is told, what not is named."""
    proxy = served.proxy(7009, tls=True)
    proxy.answer(503, count=1000, match=r"GET .*/services")
    code, found, said = through(cli, served, tmp_path, "explain", "vms/myvm-ssh")
    assert code == 1 and found["service"] == "unknown" and found["owner"] == "ok" and found["candidates"] == "ok", said
    proxy.heal()
    proxy.answer(503, count=1000, match=r"GET .*/(speakers|leases)")
    code, found, said = through(cli, served, tmp_path, "explain", "vms/myvm-ssh")
    assert code == 0 and found["controller"] == found["speakers"] == "unknown" and found["owner"] == "ok", said


def test_explain_without_a_server(cli, served, tmp_path):
    proxy = served.proxy(7009)
    proxy.refuse()
    code, found, said = through(cli, served, tmp_path, "explain", "vms/myvm-ssh")
    assert code == 1 and found.pop("API server") == "BROKEN" and set(found.values()) == {"unknown"}, said
    assert "is not to be reached" in said and "vipd status, on the nodes" in said


def write(path, **changes):
    """A kubeconfig with something else in it than the lab's."""
    document = yaml.safe_load(changes.pop("source").read_text())
    for key, value in changes.items():
        document[key] = value
    path.write_text(yaml.safe_dump(document))
    return path


def test_kubeconfig_in_every_bad_shape(cli, served, tmp_path):
    missing, empty, broken_yaml = tmp_path / "missing", tmp_path / "empty", tmp_path / "broken"
    empty.write_text("")
    broken_yaml.write_text("clusters:\n- name: [\n")
    assert str(missing) in cli.fails("status", config=missing)
    assert "empty" in cli.fails("status", config=empty)
    assert f"{broken_yaml}:" in cli.fails("status", config=broken_yaml)
    old = write(tmp_path / "old", source=served.admin,
                users=[{"name": "lab", "user": {"auth-provider": {"name": "gcp"}}}])
    assert "auth-provider" in cli.fails("status", config=old)
    assert "nowhere" in cli.fails("status", "--context", "nowhere")
    expired = write(tmp_path / "expired", source=served.admin, users=[{"name": "lab", "user": {"token": "old-token"}}])
    assert f"does not accept the credentials of {expired}: log in again" in cli.fails("status", config=expired)
    stranger = served._write_kubeconfig(tmp_path / "stranger", "x", f"https://{ADDRESS}:{PORT + 1}")
    assert f"https://{ADDRESS}:{PORT + 1} ({stranger}) is not to be reached" in cli.fails("status", config=stranger)


def test_the_certificate_of_somebody_else_is_refused(cli, served, tmp_path):
    other = tmp_path / "other.crt"
    served.host.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                  "1", "-subj", "/CN=other", "-keyout", tmp_path / "key", "-out", other])
    config = served._write_kubeconfig(tmp_path / "config", "lab-admin-token", authority=other)
    assert "certificate" in cli.fails("status", config=config)


def test_kubeconfig_is_found_as_kubectl_finds_it(cli, served, tmp_path):
    listed = {"KUBECONFIG": f"{tmp_path / 'missing'}:{served.admin}"}
    assert "192.0.2.10" in cli("status", config=False, env=listed)
    (tmp_path / ".kube").mkdir()
    home = {"KUBECONFIG": "", "HOME": tmp_path}
    assert "no kubeconfig" in cli.fails("status", config=False, env=home)
    (tmp_path / ".kube/config").write_text(pathlib.Path(served.admin).read_text())
    assert "192.0.2.10" in cli("status", config=False, env=home)


def test_it_is_a_plugin_of_kubectl(served):
    path = f"{vipd.program('kubectl-vip').parent}:{os.environ['PATH']}"
    done = served.host.run(["env", f"PATH={path}", f"KUBECONFIG={served.admin}", "ASAN_OPTIONS=detect_leaks=1",
                         program("kubectl"), "vip", "status", "-o", "name"])
    assert done.stdout.splitlines()[0] == "virtualip.vipd.dev/192.0.2.10"


def test_version_also_without_a_server(cli, tmp_path):
    said = cli("version")
    assert "kubectl-vip  v" in said and "Kubernetes   v1." in said and "v0.1.0 on n1" in said
    done = cli.run("version", config=tmp_path / "none")
    assert done.returncode == 1 and done.stdout.startswith("kubectl-vip  v")


def test_bad_command_lines(cli):
    for words, expected in ((["stauts"], "did you mean status?"), (["explain"], "usage: kubectl vip explain SERVICE"),
                            (["status", "-o", "jsn"], "did you mean json?"), (["status", "--to", "n1"], "--to"),
                            (["drain", "n1", "n2"], "usage"), (["handover", "a", "--timeout", "soon"], "is no time"),
                            (["status", "--no-header"], "did you mean --no-headers?")):
        assert expected in cli.fails(*words, code=2)


def test_a_server_without_the_crds(cli, served):
    crds = list(yaml.safe_load_all((ROOT / "deploy/crds.yaml").read_text()))
    try:
        served.kubectl("delete", "-f", ROOT / "deploy/crds.yaml", timeout=60)
        for words in (["status"], ["pools"], ["drain", "n1"], ["handover", "192.0.2.10"]):
            said = cli.fails(*words)
            assert "vipd is not installed; run kubectl apply -f deploy/crds.yaml" in said
        done = cli.run("explain", "vms/myvm-ssh")
        assert "vipd is not installed" in done.stdout
    finally:
        served.kubectl("apply", "-f", ROOT / "deploy/crds.yaml")
        served.kubectl("wait", "--for=condition=Established", "--timeout=30s",
                    *[f"crd/{crd['metadata']['name']}" for crd in crds], timeout=40)
