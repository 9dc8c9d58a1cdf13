"""An address up in both families: who answers, who is reached, what is refused, from near and from far."""
import socket
import sys
import time

import pytest

from conftest import BOTH
from lab import ROOT, wait_for
import manifests

SERVICES = {  # addresses, VM, on which node
    "ssh": (BOTH, "db"),
    "same": (["192.0.2.11", "2001:db8::1:11"], "local"),
    "next": (["192.0.2.12", "2001:db8::1:12"], "near"),
}


@pytest.fixture(scope="module")
def exposed(rack_of_module):
    """Beside `ssh`: a Service whose VM is on the owner's own node, one on the next, one with three VMs."""
    cluster = rack_of_module.cluster
    for name, (addresses, vm) in SERVICES.items():
        if name != "ssh":
            cluster.expose(name, addresses, [vm], (22, "8022:22", "80/UDP"), candidates=["n1"])
    cluster.expose("many", ["192.0.2.13", "2001:db8::1:13"], ["local", "near", "db"])
    cluster.expose("sticky", ["192.0.2.14"], ["local", "near", "db"], sessionAffinity="ClientIP")
    cluster.expose("fenced", ["192.0.2.15"], ["db"], loadBalancerSourceRanges=["198.51.100.0/24"])
    cluster.expose("empty", ["192.0.2.16"], [])
    for address in ["192.0.2.11", "2001:db8::1:12", "192.0.2.13", "192.0.2.14"]:
        cluster.serves(address)
    cluster.owner("192.0.2.15")
    cluster.owner("192.0.2.16")


@pytest.mark.parametrize("address", BOTH)
def test_one_node_answers_and_has_it(rack, address):
    owner = rack.cluster.owner(address)
    probe = rack.client.probe("arp", "eth1", address, 2)
    time.sleep(0.6)
    seen = probe.stop()
    assert seen["answerers"] == [rack.lab[owner].mac]
    assert seen["two"] == 0 and seen["lost"] == 0
    assert rack.cluster.holders(address) == [owner]


@pytest.mark.parametrize("place", ["client", "far"])
@pytest.mark.parametrize("name", SERVICES)
def test_tcp_and_udp_reach_the_vm_and_the_client_keeps_its_address(rack, exposed, name, place):
    host = getattr(rack.lab, place)
    own = {"client": ("192.0.2.150", "2001:db8::150"), "far": ("198.51.100.2", "2001:db8:f::2")}[place]
    addresses, vm = SERVICES[name]
    for address in addresses:
        mine = own[":" in address]
        for port in (22, 80) if name == "ssh" else (22, 8022):
            assert host.ask(address, port, "whoami") == (vm, f"{vm} {mine}")
        assert host.ask_udp(address, 80, "whoami") == (vm, mine)


def test_reached_from_every_node_and_from_every_vm(rack, exposed):
    for host in [*rack.lab.nodes.values(), *rack.lab.vms.values()]:
        for name, (addresses, vm) in SERVICES.items():
            for address in addresses:
                assert host.reaches(address, 22) == vm, (host.name, name, address)


def test_a_pod_keeps_its_address_also_where_no_node_names_its_range(rack, exposed):
    vm, nodes = rack.lab.vms["near"], [manifests.node(node) for node in rack.lab.nodes.values()]

    def named():
        return "10.244." in vm.node.run(["nft", "list", "chain", "inet", "vipd", "reply4"]).stdout

    try:
        manifests.write(rack.cluster.folder / "nodes.yaml", *({**node, "spec": {}} for node in nodes))
        wait_for("the ranges to go", lambda: not named())
        for address, mine in zip(BOTH, (vm.address4, vm.address6)):
            assert vm.ask(address, 22, "whoami") == ("db", f"db {mine}")
    finally:
        manifests.write(rack.cluster.folder / "nodes.yaml", *nodes)
        wait_for("the ranges to be back", named)
    assert vm.ask(BOTH[0], 22, "whoami") == ("db", f"db {vm.address4}")


def test_datagrams_larger_than_a_frame(rack, exposed):
    text = "x" * 4000
    for addresses, vm in SERVICES.values():
        for address in addresses:
            assert rack.client.ask_udp(address, 80, text) == (vm, text), address


@pytest.mark.parametrize("address", BOTH)
def test_ping_is_answered_from_near_and_far(rack, address):
    assert rack.client.pings(address)
    assert rack.lab.far.pings(address)


@pytest.fixture(scope="module")
def daemons_of_nodes(rack_of_module):
    """On the owner and on the VM's node something listens on all addresses, as sshd does."""
    for name in ("n1", "n3"):
        listener = rack_of_module.lab[name].start("sshd", [
            sys.executable, ROOT / "test/tools/vm_server.py", f"daemon-{name}", "2222"])
        listener.wait_output("ready")


@pytest.mark.parametrize("place", ["client", "far"])
@pytest.mark.parametrize("address", BOTH)
def test_a_port_that_is_not_exposed_is_refused(rack, daemons_of_nodes, address, place):
    host = getattr(rack.lab, place)
    for name in ("n1", "n3"):
        assert host.reaches(rack.lab[name].address4, 2222) == f"daemon-{name}"
    for port in (2222, 443):
        with pytest.raises(ConnectionRefusedError):
            host.connect(address, port)
        with pytest.raises(ConnectionRefusedError):
            host.ask_udp(address, port)


def test_a_service_without_a_vm_is_refused(rack, exposed):
    with pytest.raises(ConnectionRefusedError):
        rack.client.connect("192.0.2.16", 22)


def test_source_ranges(rack, exposed):
    assert rack.lab.far.reaches("192.0.2.15", 22) == "db"
    assert rack.client.reaches("192.0.2.15", 22) is None


def test_several_vms_share_the_connections(rack, exposed):
    for address in ("192.0.2.13", "2001:db8::1:13"):
        assert {rack.client.reaches(address, 22) for _ in range(40)} == {"local", "near", "db"}


def test_client_affinity_keeps_the_vm(rack, exposed):
    assert len({rack.client.reaches("192.0.2.14", 22) for _ in range(20)}) == 1


def test_one_connection_stays_with_one_vm(rack, exposed):
    """A client's flow through a Service of three VMs says a thousand lines to the same one."""
    def talk():
        with socket.create_connection(("192.0.2.13", 22), 2) as connection:
            stream = connection.makefile("rw", newline="\n")
            name = stream.readline().split()[0]
            for number in range(1000):
                stream.write(f"{number}\n")
            stream.flush()
            return name, [stream.readline() for _ in range(1000)]
    name, answers = rack.client.inside(talk)
    assert answers == [f"{name} {number}\n" for number in range(1000)]
