"""Speakers on a real API server, with VirtualIPs made by hand as the controller makes them."""
import json
import os
import pathlib
import re
import signal
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

import manifests  # noqa: E402
import vipd  # noqa: E402
from cluster import GROUP, SYSTEM  # noqa: E402
from lab import Lab, LabError, ip_batch, run, wait_for  # noqa: E402

V4, V6 = "192.0.2.10", "2001:db8::1:10"
BOTH = [V4, V6]
ROUTERS = {V4: "lab.ipv4.10", V6: "lab.ipv6.16"}


class Rack:
    """Three nodes with speakers, VMs vm1 on n1 and vm3 on n3, and a Service `ssh` of vm3."""

    def __init__(self, api, start=True, port=6443):
        self.api = api
        self.lab = Lab(nodes=3, vms=[("vm1", "n1", [22, 80]), ("vm3", "n3", [22, 80])], management=True)
        self.started, self.port = start, port
        self.service = manifests.service("ssh", [], (22, 80), selector={"vmi.kubevirt.io/id": "vm3"},
                                         ipFamilies=["IPv4", "IPv6"], ipFamilyPolicy="RequireDualStack")

    def __enter__(self):
        self.lab.__enter__()
        try:
            self.api.attach(self.lab)
            self.speakers = vipd.Speakers(self.lab, self.api)
            if self.port != 6443:
                self.speakers.connect(self.port)
            if self.started:
                self.speakers.start()
                self.speakers.ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.lab.down()
        self.api.reset()

    def __getitem__(self, name):
        return self.speakers[name]

    @property
    def client(self):
        return self.lab.client

    def allocate(self, *addresses, service=None, candidates=("n1", "n2", "n3")):
        """What the controller does: VirtualIPs for a Service, one virtual router each."""
        for address in addresses:
            thing = manifests.virtual_ip(address, service or self.service, candidates)
            number = int(address.rpartition(":" if ":" in address else ".")[2], 16 if ":" in address else 10)
            family = "ipv6" if ":" in address else "ipv4"
            thing["spec"].update(virtualRouter=f"lab.{family}.{number}", virtualRouterID=number)
            self.api.create(f"{GROUP}/virtualips", thing)

    def expose(self, *addresses):
        self.api.create("/api/v1/namespaces/vms/services", self.service)
        self.allocate(*(addresses or BOTH))
        for address in addresses or BOTH:
            self.speakers.serves(address)
            # A first owner whose Lease is granted late gives way to whom the server named.
            wait_for(f"the Lease of {address} to name who answers", lambda: (holder := self.holder(address))
                     and holder == self.speakers.answering(address))
        return self

    def holder(self, address):
        return (self.lease(address) or {}).get("spec", {}).get("holderIdentity")

    def vip(self, address=V4):
        return self.api.get(f"{GROUP}/virtualips/{manifests.virtual_ip_name(address)}")

    def status(self, address=V4):
        return self.vip(address).get("status", {})

    def recorded(self, address, owner, seconds=5):
        """Waits until VirtualIP.status says so; the status."""
        return wait_for(f"status of {address} to name {owner}",
                        lambda: (found := self.status(address)).get("owner") == owner and found, seconds)

    def lease(self, address=V4):
        return self.api.get(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/{ROUTERS[address]}")

    def one_owner(self):
        """One node owns both addresses; moved there if need be (the VM's node n3 is a candidate like others)."""
        owner = self.speakers.owner(V4)
        if self.speakers.owner(V6) != owner:
            self.move(V6, owner)
        return owner

    def move(self, address, to, seconds=10):
        name = manifests.virtual_ip_name(address)
        self.api.patch(f"{GROUP}/virtualips/{name}", {"metadata": {"annotations": {
            "vipd.dev/handover": json.dumps({"to": to, "id": f"move-{time.monotonic_ns()}"})}}})
        wait_for(f"{address} to move to {to}", lambda: self.speakers.answering(address) == to, seconds)

    def slices(self):
        """Whether each endpoint of the Service is ready, as its IPv4 and IPv6 slices say."""
        return [endpoint["conditions"]["ready"]
                for one in self.api.list("/apis/discovery.k8s.io/v1/namespaces/vms/endpointslices")
                if one["metadata"]["labels"].get("kubernetes.io/service-name") == "ssh"
                for endpoint in one.get("endpoints") or []]

    def conditions(self, address=V4):
        return {one["type"]: one for one in self.status(address).get("conditions", [])}

    def transitions(self):
        """How often the owner changed, as the engines tell it: {address: number}."""
        return {address: self.status(address).get("transitions") for address in BOTH}


@pytest.fixture
def rack(api):
    with Rack(api) as one:
        yield one
        assert one.lab.sanitizer_reports() == []


def watched(rack, *addresses, interval=2):
    return {address: (rack.client.probe("arp", "eth1", address, interval),
                      rack.client.probe("connect", address, 80, 5)) for address in addresses or BOTH}


def seen(probes):
    return {address: {"arp": arp.stop(), "connect": connect.stop()} for address, (arp, connect) in probes.items()}


# --- the main path


def test_one_owner_with_a_lease_serves_both_families(rack):
    rack.expose()
    for address in BOTH:
        owner = rack.speakers.owner(address)
        assert rack.speakers.holders(address) == [owner]
        assert rack.speakers.serves(address) == "vm3"
        status = rack.recorded(address, owner)
        lease = rack.lease(address)
        assert lease["spec"]["holderIdentity"] == owner
        assert lease["spec"]["leaseTransitions"] == status["term"] == 1
        assert lease["metadata"]["labels"] == {"vipd.dev/virtual-router": "true"}
        assert [(one["kind"], one["name"], one["uid"]) for one in lease["metadata"]["ownerReferences"]] == [
            ("VirtualIP", manifests.virtual_ip_name(address), rack.vip(address)["metadata"]["uid"])]
        assert status["state"] == "Active" and status["transitions"] == 1
        assert status["lastTransition"]["to"] == owner
        assert status["lastTransition"]["reason"] == "OwnerElected"
        conditions = {one["type"]: one["status"] for one in status["conditions"]}
        assert conditions == {"Owned": "True", "Announced": "True", "EndpointsAvailable": "True",
                              "Conflict": "False"}


def test_kubectl_tells_who_has_it(rack):
    rack.expose(V4)
    owner = rack.speakers.owner(V4)
    rack.recorded(V4, owner)
    line = rack.api.kubectl("get", "vip", V4).splitlines()[1].split()
    assert line[:3] == [V4, owner, "Active"] and "ssh" in line
    wait_for("Speakers to be told", lambda: [
        line.split()[:3] for line in rack.api.kubectl("get", "speakers").splitlines()[1:]] ==
        [[name, "True", "1" if name == owner else "0"] for name in ("n1", "n2", "n3")])
    speaker = rack.api.get(f"{GROUP}/speakers/n1")
    segments = {(one["interface"], one["address"]): one for one in speaker["status"]["segments"]}
    assert segments["eth1", "192.0.2.1"]["prefix"] == "192.0.2.0/24"
    assert segments["eth1", "192.0.2.1"]["mac"] == "02:00:00:00:00:01"
    assert {one["type"]: one["status"] for one in speaker["status"]["conditions"]} == {
        "Ready": "True", "SafeToReboot": "False", "APIReachable": "True", "Fenced": "True",
        "DataplaneProgrammed": "True", "MetricsServed": "True", "RemoteClientsServed": "True", "AdvertsHeard": "True",
        "RemoteEndpointsServed": "True", "ConnectionsTracked": "True"}
    described = rack.api.kubectl("describe", "svc", "ssh", namespace="vms")
    assert "OwnerElected" in described and "vipd.dev/speaker" in described
    assert "OwnerElected" in rack.api.kubectl("describe", "vip", V4)


def test_every_speaker_says_that_it_is_there(rack):
    names = {"speaker-n1", "speaker-n2", "speaker-n3"}
    wait_for("the speakers' Leases", lambda: names <= set(rack.api.leases()), 15)
    leases = rack.api.leases()
    for name in ("n1", "n2", "n3"):
        lease = leases[f"speaker-{name}"]
        assert lease["spec"]["holderIdentity"] == name
        assert lease["metadata"]["labels"] == {"vipd.dev/speaker": "true"}
    before = leases["speaker-n1"]["spec"]["renewTime"]
    wait_for("a renewal", lambda: rack.api.leases()["speaker-n1"]["spec"]["renewTime"] != before, 13)


def test_endpoints_follow_the_vm(rack):
    rack.expose(V4)
    rack.recorded(V4, rack.speakers.owner(V4))
    vm = rack.lab.vms["vm3"]

    def becomes(ready, status, reason):
        """The slice is the controller manager's, and may take its time; the condition is ours."""
        rack.api.vm_ready(vm, ready)
        wait_for(f"slices to say ready={ready}: {rack.slices()}", lambda: set(rack.slices()) == {ready}, 60)
        try:
            wait_for("it", lambda: (found := rack.conditions().get("EndpointsAvailable", {})).get("status") == status
                     and found["reason"] == reason, 5)
        except LabError:
            raise AssertionError(f"wanted {status} {reason}, have {rack.conditions()}; slices {rack.slices()}") from None

    becomes(False, "False", "NoEndpoints")
    rack.speakers.refuses(V4, seconds=20)
    becomes(True, "True", "AsExpected")
    rack.speakers.serves(V4)


FAMILIES = pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])


def on_50(six, number):
    """An address on network vms/lan."""
    return f"fd50::{number:x}" if six else f"10.50.0.{number}"


def prefix_50(six, number):
    return f"{on_50(six, number)}/{64 if six else 24}"


def with_50(device, six, number):
    return f"address add {prefix_50(six, number)} dev {device}" + (" nodad" if six else "")


def attached(rack, six):
    """vm3 has an interface on network vms/lan, br50 on its node; answers what boots it with this MAC and address."""
    vm, node = rack.lab.vms["vm3"], rack.lab["n3"]
    ip_batch(node.namespace, "link add br50 address 02:50:00:00:00:01 type bridge", "link set br50 up", with_50("br50", six, 1),
             f"link add vm50 type veth peer name net1 netns {vm.namespace}", "link set vm50 master br50 up",
             # hairpinMode, as for cni0: with br_netfilter the bridge itself gives back what is translated to who sent it.
             "link set vm50 type bridge_slave hairpin on")

    def boot(mac, number, reported=None):
        ip_batch(vm.namespace, f"link set net1 down address {mac}", "address flush dev net1", "link set net1 up",
                 with_50("net1", six, number))
        instance = "/apis/kubevirt.io/v1/namespaces/vms/virtualmachineinstances/vm3"
        rack.api.patch(instance, {"spec": {"networks": [
            {"name": "default", "pod": {}}, {"name": "second", "multus": {"networkName": "lan"}}]}})
        rack.api.patch(f"{instance}/status", {"status": {"phase": "Running", "nodeName": "n3", "interfaces": [
            {"name": "default", "ipAddress": vm.address4, "ipAddresses": [vm.address4]},
            # Guests say their link-local address, too, and some say it first.
            {"name": "second", "mac": mac, "ipAddresses": ["fe80::50:ff:fe00:7", reported or on_50(six, number)],
             "infoSource": "domain, guest-agent"}]}})
    boot("02:50:00:00:00:07", 7)
    return boot


def expose_attached(rack, six, ports=(22,)):
    service = manifests.service("ssh", [], ports, selector={"vmi.kubevirt.io/id": "vm3"},
                                annotations={"vipd.dev/network": "vms/lan"}, ipFamilies=["IPv6" if six else "IPv4"])
    rack.api.create("/api/v1/namespaces/vms/services", service)
    rack.allocate(BOTH[six], service=service)


def allow_attached(rack, six):
    rack.api.patch(f"{GROUP}/virtualips/{manifests.virtual_ip_name(BOTH[six])}", {"spec": {"attachedNetworks": [
        {"network": "vms/lan", "ranges": ["fd50::/64" if six else "10.50.0.0/24"]}]}})
    rack.speakers.serves(BOTH[six], seconds=20)


@FAMILIES
def test_an_attached_network_is_asked_by_pods_nodes_and_its_own_vms(rack, six):
    """A VM asks its own address, and another VM's on the same network, by the pod network and by the attached one; so does a
    pod elsewhere. Each is asked in a node's name: the VM's way out is neither the pod network nor a node."""
    vm, other, address = rack.lab.vms["vm3"], rack.lab.vms["vm1"], BOTH[six]
    attached(rack, six)
    ip_batch(rack.lab["n3"].namespace, f"link add vm51 type veth peer name net1 netns {other.namespace}",
             f"link add n1-50 type veth peer name net50 netns {rack.lab['n1'].namespace}",
             "link set vm51 master br50 up", "link set n1-50 master br50 up")
    ip_batch(other.namespace, "link set net1 up", with_50("net1", six, 8))
    ip_batch(rack.lab["n1"].namespace, "link set net50 up", with_50("net50", six, 2))
    expose_attached(rack, six, (22, "80/UDP"))
    allow_attached(rack, six)
    for node in rack.lab.nodes.values():
        node.run(["nft", "delete", "table", "inet", "cni"])  # not every network plugin masquerades its pods
    gateway = vm.ip("-6" if six else "-4", "route", "show", "default")[0]["gateway"]
    ip_batch(vm.namespace, f"route replace default via {on_50(six, 254)} dev net1", f"route add {address} via {gateway}")

    def asks(host, source):
        wait_for(f"{host.name} to be answered", lambda: host.reaches(address, 22), 3)
        assert host.ask(address, 22, "whoami") == ("vm3", f"vm3 {source}"), host.name
        assert host.ask_udp(address, 80, "whoami") == ("vm3", source), host.name
    for host in (rack.client, rack.lab.far, rack.lab["n3"], vm):
        asks(host, on_50(six, 1))
    for host in (rack.lab["n1"], other):
        asks(host, on_50(six, 2))
    for host in (vm, other):
        ip_batch(host.namespace, f"route replace {address} via {on_50(six, 1)} dev net1")
        asks(host, on_50(six, 1))
    for name in ("iptables", "ip6tables"):  # if there is br_netfilter
        rack.lab["n3"].run(["sysctl", "-w", f"net.bridge.bridge-nf-call-{name}=0"], check=False)
    for host in (vm, other):
        asks(host, on_50(six, 1))


@FAMILIES
def test_an_address_on_an_attached_network_follows_the_vm(rack, six):
    """Another MAC and another address with every boot; what it reports outside of what the pool allows is no target."""
    node, boot, address = rack.lab["n3"], attached(rack, six), BOTH[six]
    outside = "fd00:10:244:1::1" if six else "10.244.1.1"

    def condition():
        return rack.conditions(address).get("EndpointsAvailable", {})

    expose_attached(rack, six)
    wait_for("the pool to be asked", lambda: "network vms/lan is not among" in condition().get("message", ""), 20)
    allow_attached(rack, six)
    # In the name of its node: the way out of that network need not be this node.
    assert rack.client.ask(address, 22, "whoami")[1] == f"vm3 {on_50(six, 1)}"
    boot("02:50:00:00:00:99", 200)
    rack.speakers.serves(address, seconds=20)
    assert on_50(six, 200) in node.ruleset()
    boot("02:50:00:00:00:99", 200, reported=outside)
    wait_for("the condition to say why", lambda: condition().get("status") == "False" and
             f"VM vm3 reports {outside} on network vms/lan, which is in no range" in condition()["message"], 20)
    rack.speakers.refuses(address, seconds=20)
    assert f"{outside} ." not in node.ruleset()
    boot("02:50:00:00:00:99", 200)
    rack.speakers.serves(address, seconds=20)


def test_deleted_it_leaves_nothing(rack):
    rack.expose()
    for address in BOTH:
        rack.api.delete(f"{GROUP}/virtualips/{manifests.virtual_ip_name(address)}")
    rack.speakers.gone(*BOTH)
    for address in BOTH:
        assert rack.speakers.answering(address) is None
    wait_for("the Leases to go with their VirtualIPs",
             lambda: not set(ROUTERS.values()) & set(rack.api.leases()), 30)


def test_deleted_while_a_speaker_was_down_it_leaves_nothing(rack):
    rack.expose()
    owner = rack.one_owner()
    rack[owner].kill()
    for address in BOTH:
        rack.api.delete(f"{GROUP}/virtualips/{manifests.virtual_ip_name(address)}")
    rack[owner].start()
    rack.speakers.ready()
    rack.speakers.gone(*BOTH, seconds=15)


# --- who fails


def test_the_owner_is_killed(rack):
    rack.expose()
    old = rack.one_owner()
    before = {address: rack.recorded(address, old) for address in BOTH}
    probes = watched(rack)
    rack[old].kill()
    time.sleep(2)
    for address, by in seen(probes).items():
        new = rack.speakers.owner(address, other_than=old)
        assert by["arp"]["two"] == 0, address
        assert by["arp"]["longest_ms"] < 1000
        status = rack.recorded(address, new)
        lease = rack.lease(address)
        assert lease["spec"]["holderIdentity"] == new
        assert lease["spec"]["leaseTransitions"] == before[address]["term"] + 1 == status["term"]
        assert status["lastTransition"]["from"] == old and status["lastTransition"]["to"] == new
        assert status["lastTransition"]["reason"] == "OwnerLost"
        assert status["lastTransition"]["outageMilliseconds"] > 0
        assert status["transitions"] == before[address]["transitions"] + 1


def test_sigterm_loses_nothing(rack):
    rack.expose()
    old = rack.one_owner()
    probes = watched(rack)
    time.sleep(0.3)
    rack[old].stop()
    time.sleep(0.5)
    for address, by in seen(probes).items():
        new = rack.speakers.owner(address, other_than=old)
        assert by["connect"]["lost"] == 0 and by["arp"]["lost"] == 0, (address, by)
        assert by["arp"]["two"] <= 1
        status = rack.recorded(address, new)
        assert status["lastTransition"]["reason"] == "Handover" and status["lastTransition"]["from"] == old
    speaker = rack.api.get(f"{GROUP}/speakers/{old}")["status"]
    assert speaker["owned"] == 0
    assert next(one for one in speaker["conditions"] if one["type"] == "Ready")["reason"] == "Stopped"


def test_the_last_speaker_says_that_nobody_has_it(rack):
    rack.expose(V4)
    for name in ("n1", "n2", "n3"):
        rack[name].stop()
    status = rack.status(V4)
    assert "owner" not in status and status["state"] == "Unowned"
    assert rack.conditions()["Owned"]["status"] == "False"
    assert rack.lease(V4)["spec"].get("holderIdentity", "") == ""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_without_its_agent_the_owner_goes_on(rack, how):
    rack.expose()
    owner = rack.one_owner()
    for address in BOTH:
        rack.recorded(address, owner)
    before = rack.transitions()
    agent = rack[owner].feeder()
    probes = watched(rack)
    os.kill(agent, getattr(signal, how))
    time.sleep(6)
    if how == "SIGSTOP":
        os.kill(agent, signal.SIGCONT)
    for address, by in seen(probes).items():
        assert by["arp"]["lost"] == by["arp"]["two"] == by["connect"]["lost"] == 0, (address, by)
        assert rack.speakers.answering(address) == owner
    wait_for("an agent that is in touch", lambda: rack[owner].status()["apiReachable"])
    assert rack[owner].feeder() == agent or how == "SIGKILL"
    # And it works: what changes is told.
    rack.api.vm_ready(rack.lab.vms["vm3"], False)
    rack.speakers.refuses(V4)
    assert rack.transitions() == before


def test_the_api_server_is_away_for_a_while(rack):
    """Nothing moves; who dies meanwhile is replaced; afterwards the record is right again."""
    rack.expose()
    owner = rack.one_owner()
    before = {address: rack.recorded(address, owner)["transitions"] for address in BOTH}
    probes = watched(rack)
    rack.api.stop_server()
    try:
        wait_for("the owner to notice", lambda: not rack[owner].status()["apiReachable"], 8)
        time.sleep(20)
        for address, by in seen(probes).items():
            assert by["arp"]["lost"] == by["arp"]["two"] == by["connect"]["lost"] == 0, (address, by)
        others = [name for name in ("n1", "n2", "n3") if name != owner]
        lines = [line for line in rack[owner].log().splitlines() if "program=agent" in line and "level=warning" in line]
        assert 1 <= len(lines) <= 8, lines
        probes = watched(rack)
        rack[owner].kill()
        time.sleep(2)
        for address, by in seen(probes).items():
            assert rack.speakers.owner(address) in others
            assert by["arp"]["two"] == 0 and by["arp"]["longest_ms"] < 1000, (address, by)
    finally:
        rack.api.start_server()
    for address in BOTH:
        new = rack.speakers.owner(address)
        status = rack.recorded(address, new, 15)
        assert status["transitions"] == before[address] + 1
        wait_for("the Lease to follow", lambda: rack.lease(address)["spec"]["holderIdentity"] == new, 10)


def test_it_starts_without_an_api_server(rack):
    """What was wanted last is served from the state file."""
    rack.expose()
    for name in ("n1", "n2", "n3"):
        wait_for("the state to be saved", lambda: (rack[name].state / "engine.state").exists())
    time.sleep(2.5)
    rack.api.stop_server()
    try:
        for name in ("n1", "n2", "n3"):
            rack[name].kill()
        for name in ("n1", "n2", "n3"):
            rack[name].start()
        for address in BOTH:
            assert rack.speakers.owner(address, 20)
            assert rack.speakers.serves(address) == "vm3"
    finally:
        rack.api.start_server()
    for address in BOTH:
        owner = rack.speakers.owner(address)
        rack.recorded(address, owner, 20)
        wait_for("the Lease to follow", lambda: rack.lease(address)["spec"]["holderIdentity"] == owner, 10)


# --- orders


def test_a_handover_by_annotation_is_carried_out_once(rack):
    rack.expose(V4)
    old = rack.speakers.owner(V4)
    rack.recorded(V4, old)
    new = next(name for name in ("n1", "n2", "n3") if name != old)
    probes = watched(rack, V4)
    rack.api.patch(f"{GROUP}/virtualips/{V4}", {"metadata": {"annotations": {
        "vipd.dev/handover": json.dumps({"to": new, "id": "one"})}}})
    status = rack.recorded(V4, new)
    time.sleep(1.5)
    by = seen(probes)[V4]
    assert by["connect"]["lost"] == 0 and by["arp"]["lost"] == 0, by
    assert rack.speakers.answering(V4) == new
    status = rack.status(V4)
    assert status["handoverID"] == "one" and status["transitions"] == 2
    assert status["lastTransition"]["reason"] == "Handover"


def test_maintenance_hands_everything_over(rack):
    rack.expose()
    old = rack.one_owner()
    probes = watched(rack)
    rack.api.patch(f"{GROUP}/speakers/{old}", {"spec": {"maintenance": True}})

    def safe():
        conditions = rack.api.get(f"{GROUP}/speakers/{old}")["status"]["conditions"]
        return next(one for one in conditions if one["type"] == "SafeToReboot")["status"] == "True"
    wait_for("it to be safe to reboot", safe)
    for address, by in seen(probes).items():
        assert rack.speakers.answering(address) != old
        assert by["connect"]["lost"] == 0 and by["arp"]["lost"] == 0, (address, by)
    rack[old].restart()
    rack.speakers.ready()
    time.sleep(1)
    assert rack[old].status() and not rack.speakers.holders(V4) == [old]


# --- what is told, and what is not


def test_at_rest_hardly_anything_is_asked(rack):
    """Twenty addresses cost no more than one: renewals, the liveness Lease, nothing else."""
    addresses = [f"192.0.2.{number}" for number in range(20, 40)]
    rack.api.create("/api/v1/namespaces/vms/services", rack.service)
    rack.allocate(*addresses)
    for address in addresses:
        rack.speakers.owner(address)
    wait_for("every status", lambda: all(rack.status(address).get("owner") for address in addresses))
    time.sleep(4)
    versions = {name: thing["metadata"]["resourceVersion"] for name, thing in rack.api.vips().items()}
    speakers = [thing["metadata"]["resourceVersion"] for thing in rack.api.list(f"{GROUP}/speakers")]
    time.sleep(12)
    assert versions == {name: thing["metadata"]["resourceVersion"] for name, thing in rack.api.vips().items()}
    assert speakers == [thing["metadata"]["resourceVersion"] for thing in rack.api.list(f"{GROUP}/speakers")]


def test_each_node_says_why_it_may_not_own_it(rack):
    rack.expose(V4)
    owner = rack.speakers.owner(V4)
    others = [name for name in ("n1", "n2", "n3") if name != owner]
    for name in others:
        rack.lab[name].cut("lan")

    def reasons():
        return {one["node"]: one["reason"] for one in rack.status(V4).get("notEligible", [])}
    wait_for("both to tell", lambda: set(reasons()) == set(others), 10)
    assert all(word in ("LinkDown", "NotOnSegment") for word in reasons().values()), reasons()
    rack.lab[others[0]].heal("lan")
    wait_for("one to be fine again", lambda: set(reasons()) == {others[1]}, 10)
    assert rack.recorded(V4, owner)["state"] == "Active"


def test_a_bad_edit_is_told_and_changes_nothing(rack):
    rack.expose(V4)
    owner = rack.speakers.owner(V4)
    # The schema lets this pass: an address nobody can have.
    rack.allocate("224.0.0.9")
    rack[owner].process.wait_output(r"VirtualIP 224\.0\.0\.9: spec\.address must be")
    assert rack.speakers.answering(V4) == owner


# --- the API server misbehaves


@pytest.fixture
def proxy(api):
    """A way to the API server that can be made to fail; it ends TLS itself."""
    one = api.proxy(7001, tls=True)
    yield one
    one.close()
    api.proxies.remove(one)


@pytest.fixture
def crooked(api, proxy):
    """A rack whose speakers talk through the proxy."""
    with Rack(api, port=proxy.port) as one:
        one.proxy = proxy
        yield one
        proxy.heal()
        assert one.lab.sanitizer_reports() == []


def warnings(rack, name="n1"):
    return [line for line in rack[name].log().splitlines() if "program=agent" in line and "level=warning" in line]


def works(rack, address, seconds=20):
    """A new address is served: lists, watches and Lease writes are whole again."""
    rack.allocate(address)
    rack.speakers.serves(address, seconds=seconds)
    owner = rack.speakers.owner(address)
    rack.recorded(address, owner, 10)


def test_answers_that_deny(crooked):
    """Each kind of refusal in turn: nothing moves, one line says it, and it works again afterwards."""
    rack = crooked
    rack.expose()
    owners = {address: rack.speakers.owner(address) for address in BOTH}
    for number, (status, headers) in enumerate([(401, {}), (403, {}), (429, {"Retry-After": "1"}), (500, {}),
                                                (503, {}), (410, {})]):
        before = {name: len(warnings(rack, name)) for name in ("n1", "n2", "n3")}
        rack.proxy.answer(status, headers)
        rack.proxy.reset()  # the watches, too
        time.sleep(4)
        assert {address: rack.speakers.answering(address) for address in BOTH} == owners, status
        rack.proxy.heal()
        works(rack, f"192.0.2.{60 + number}")
        if status != 410:
            for name, count in before.items():
                said = [re.search(r"API server: ([^:]*)", line).group(1) for line in warnings(rack, name)[count:]]
                assert said and max(map(said.count, said)) <= 4, (status, warnings(rack, name)[count:])
    assert {address: rack.speakers.answering(address) for address in BOTH} == owners


def test_connections_that_break(crooked):
    rack = crooked
    rack.expose()
    owners = {address: rack.speakers.owner(address) for address in BOTH}

    def check(address, *orders):
        for order in orders:
            order()
        works(rack, address, 40)
        assert {address: rack.speakers.answering(address) for address in BOTH} == owners

    check("192.0.2.70", rack.proxy.reset)
    check("192.0.2.71", lambda: rack.proxy.cut_after(700), rack.proxy.reset)  # in the middle of an object
    check("192.0.2.72", rack.proxy.refuse, lambda: time.sleep(4), rack.proxy.heal)
    rack.proxy.delay = 0.2
    check("192.0.2.73")
    rack.proxy.delay = 0
    rack.proxy.freeze()  # half-open: nothing passes, nothing is closed
    time.sleep(5)
    assert {address: rack.speakers.answering(address) for address in BOTH} == owners
    assert not rack[owners[V4]].status()["apiReachable"]
    check("192.0.2.74", rack.proxy.heal)


def test_a_watch_that_is_too_old(crooked):
    """410 as an event in the stream: listed again, nothing lost, nothing taken down meanwhile."""
    rack, proxy = crooked, crooked.proxy
    rack.expose()
    owner = rack.speakers.owner(V4)
    expired = json.dumps({"type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version"}}) + "\n"
    probes = watched(rack)
    proxy.answer(200, body=expired, match=r"GET .*watch=true")
    proxy.reset()
    time.sleep(3)
    proxy.heal()
    for address, by in seen(probes).items():
        assert by["connect"]["lost"] == by["arp"]["lost"] == 0, by
    works(rack, "192.0.2.75")
    assert rack.speakers.answering(V4) == owner


def test_a_watch_that_is_no_json(crooked):
    rack, proxy = crooked, crooked.proxy
    rack.expose(V4)
    owner = rack.speakers.owner(V4)
    proxy.answer(200, body='{"type":"MODIFIED","object":{"kind"\n', match=r"GET .*watch=true")
    proxy.reset()
    wait_for("every agent to say so", lambda: all(
        any("no JSON" in line for line in warnings(rack, name)) for name in rack.speakers.daemons))
    assert rack.speakers.answering(V4) == owner
    proxy.heal()
    works(rack, "192.0.2.76", 30)
    assert rack.speakers.answering(V4) == owner


def test_a_slow_server_delays_but_loses_nothing(crooked):
    rack, proxy = crooked, crooked.proxy
    rack.expose(V4)
    proxy.rate = 4000
    proxy.reset()
    works(rack, "192.0.2.77", 60)


def test_a_forbidden_resource_is_named(api):
    """403 of the real server: verb and resource are in the line, and what grants it."""
    role = api.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/vipd-speaker")
    rules = [rule for rule in role["rules"] if rule["resources"] != ["endpointslices"]]
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/vipd-speaker"
    api.patch(path, {"rules": rules})
    try:
        with Rack(api, start=False) as rack:
            rack.speakers.start("n1")
            found = rack["n1"].process.wait_output(r"endpointslices: forbidden: [^\n]*")
            assert 'cannot list resource \\"endpointslices\\"' in found.group(0), found.group(0)
            assert "kubectl apply -f deploy/rbac.yaml" in found.group(0)
            assert not rack["n1"].status()["ready"]
            api.patch(path, {"rules": role["rules"]})
            rack.speakers.ready(40)
    finally:
        api.patch(path, {"rules": role["rules"]})


def test_without_the_definitions_it_says_which_command_installs_them(api, proxy):
    proxy.answer(404, body="404 page not found\n", match=r"/apis/vipd\.dev/")
    with Rack(api, start=False, port=proxy.port) as rack:
        rack.speakers.start("n1")
        rack["n1"].process.wait_output(r"virtualips: not found: [^\n]*kubectl apply -f deploy/crds\.yaml")
        proxy.heal()
        rack.speakers.ready(40)


def test_it_is_not_ready_before_its_speaker_is_there(api, proxy):
    """A server holds back what is made of a new definition for two seconds; `kubectl wait speakers --all` after the rollout
    of the guide would find nothing to wait for."""
    proxy.delay = 0.3
    with Rack(api, start=False, port=proxy.port) as rack:
        rack.speakers.start("n1")
        wait_for("it to be ready", lambda: (rack["n1"].status() or {}).get("ready"), 40)
        assert api.get(f"{GROUP}/speakers/n1")


# --- credentials


def test_the_wrong_authority_is_named(api):
    with Rack(api, start=False) as rack:
        other = rack.lab.dir / "other.crt"
        rack.lab.client.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                             "-nodes", "-days", "1", "-subj", "/CN=other", "-keyout", rack.lab.dir / "other.key",
                             "-out", other])
        rack.speakers.connect(authority=other)
        rack.speakers.start("n1")
        rack["n1"].process.wait_output(r"unreachable: [^\n]*certificate[^\n]*certificate-authority of the kubeconfig")
        rack.speakers.connect()
        # The file was replaced by a good one; SIGHUP reads it.
        os.kill(rack["n1"].feeder(), signal.SIGHUP)
        rack.speakers.ready(40)


def test_an_expired_token_is_read_again_where_it_stands(rack):
    """As with rotated tokens: the file has a new one when the server refuses the old one."""
    rack.expose(V4)
    owner = rack.speakers.owner(V4)
    config = rack.api.kubeconfig("speaker", "n1", token="nobody-knows-this-token")
    rack["n1"].kill()
    rack["n1"].start()
    rack["n1"].process.wait_output(r"unauthorized: [^\n]*has it expired\?")
    assert config == rack.api.kubeconfig("speaker", "n1")
    wait_for("it to be ready with the new token", lambda: rack["n1"].status()["apiReachable"], 40)
    rack.speakers.ready(40)
    assert rack.speakers.owner(V4) and owner


def test_a_token_file_is_followed(api):
    """tokenFile: swapped by a symbolic link, for root alone, as kubelet does it."""
    with Rack(api, start=False) as rack:
        folder = rack.lab.dir / "secret"
        folder.mkdir()
        folder.chmod(0o755)
        account = api.service_account("speaker")
        for name in ("a", "b"):
            (folder / name).mkdir()
            (folder / name / "token").write_text(api.token(account, "n1") if name == "b" else "stale")
            (folder / name / "token").chmod(0o600)
        (folder / "..data").symlink_to("a")
        (folder / "token").symlink_to("..data/token")
        config = rack.lab.dir / "n1.kubeconfig"
        text = api.kubeconfig("speaker", "n1").read_text()
        config.write_text(re.sub(r"token: .*", f"tokenFile: {folder}/token", text))
        config.chmod(0o644)
        rack["n1"].words = ["speaker", "--node", "n1", "--kubeconfig", config]
        rack.speakers.start("n1")
        rack["n1"].process.wait_output("only root can read the credentials: the agent has read them and is nobody")
        rack["n1"].process.wait_output("unauthorized")
        nobody(rack)
        (folder / "..new").symlink_to("b")
        (folder / "..new").rename(folder / "..data")
        rack["n1"].process.wait_output("the agent starts again to read its credentials", 40)
        rack.speakers.ready(10)
        nobody(rack)
        before = rack["n1"].feeder()
        rack["n1"].process.signal(signal.SIGHUP, everyone=False)
        wait_for("another agent", lambda: (found := rack["n1"].process.children()) and found != [before])
        rack.speakers.ready(10)


def nobody(rack):
    status = pathlib.Path(f"/proc/{rack['n1'].feeder()}/status").read_text()
    assert re.search(r"(?m)^Uid:\s+65534\s+65534\s+65534\s+65534$", status), status
    assert re.search(r"(?m)^CapEff:\s+0+$", status) and re.search(r"(?m)^CapBnd:\s+0+$", status), status
    assert re.search(r"(?m)^NoNewPrivs:\s+1$", status), status


def test_the_agent_is_nobody(rack):
    nobody(rack)


KUBECONFIGS = {
    "missing": (None, r"No such file"),
    "empty": ("", r"is empty: expected a kubeconfig"),
    "no mapping": ("- a\n- b\n", r":1: "),
    "no context": ("apiVersion: v1\nkind: Config\n", r"no current-context: write one"),
    "unknown context": ("current-context: x\ncontexts: []\n", r'no entry "x" in contexts'),
    "no server": ("current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\nclusters:\n- name: c\n"
                  "  cluster:\n    server: 5\n", r":\d+: the cluster needs a server like https://HOST:6443"),
    "exec": ("current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nclusters: [{name: c, "
             "cluster: {server: 'https://h:1'}}]\nusers: [{name: u, user: {exec: {command: aws}}}]\n",
             r"exec and auth-provider are not supported: use a token, a tokenFile or a client certificate"),
    "bad base64": ("current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\nclusters:\n- name: c\n"
                   "  cluster:\n    server: https://h:1\n    certificate-authority-data: '*'\n",
                   r":7: certificate-authority-data is no base64"),
    "no such token file": ("current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nclusters: "
                           "[{name: c, cluster: {server: 'https://h:1'}}]\nusers: [{name: u, user: {tokenFile: "
                           "/nonexistent/token}}]\n", r"/nonexistent/token: No such file"),
}


@pytest.mark.parametrize("name", KUBECONFIGS)
def test_a_kubeconfig_that_cannot_be_used_ends_it(name, tmp_path):
    text, expected = KUBECONFIGS[name]
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    done = run([vipd.program(), "speaker", "--node", "n1", "--kubeconfig", path, "--runtime-dir", tmp_path / "run",
                "--state-dir", tmp_path / "state"], check=False, timeout=20)
    assert done.returncode == 1, done
    assert re.search(expected, done.stderr), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
