"""Nodes whose LAN interface is a Linux bridge while br_netfilter is on: the kernel translates before the bridge takes the
packet, so fence and director stand at the bridge's ports, too."""
import contextlib
import re
import time

import pytest

from change_test import call_netfilter, made_anew
import manifests
from conftest import BOTH, Rack, interfaces_of_kind
from lab import Host, ip_batch, wait_for
from tunnel import tunnel
from virtual_mac_test import VIRTUAL
from virtual_mac_test import Rack as VirtualRack

OFF = ["192.0.2.31", "2001:db8::1:31"]
HERE = ["192.0.2.30", "2001:db8::1:30"]  # a VM on the owner itself
NAMES = ("n1", "n3")  # the owner, and the node of the VM


def bridge(rack, kind="bridge", called=1):
    if rack.lab["n1"].run(["sysctl", "net.bridge.bridge-nf-call-iptables"], check=False).returncode != 0:
        pytest.skip("br_netfilter is not loaded")
    for name in NAMES:
        call_netfilter(rack.lab[name], called)
        with interfaces_of_kind("vlan"):
            list(made_anew(rack.lab[name], kind))
    rack.cluster.expose("here", HERE, ["local"], ("80", "80/UDP"), candidates=["n1"])


@pytest.fixture(scope="module")
def rack_of_bridges():
    with Rack() as rack:
        bridge(rack)
        yield rack


def have_n1_own(rack):
    rack["n2"].stop()
    if any("n3" in rack.cluster.holders(address) for address in BOTH):
        wait_for("n1 to be eligible", lambda: all(rack["n1"].eligible(address) for address in BOTH), 15)
        rack["n3"].stop()
        rack["n3"].start()
        rack["n3"].process.wait_output("ready:")
    for address in [*BOTH, *HERE]:
        wait_for("n1 to own", lambda: rack.cluster.holders(address) == ["n1"], 15)
        wait_for("n1 to answer", lambda: rack.client.mac_of(address), 15)


@pytest.fixture
def rack(rack_of_bridges):
    """n1 owns everything."""
    rack = rack_of_bridges
    rack.cluster.mend()
    have_n1_own(rack)
    yield rack
    assert rack.lab.sanitizer_reports() == []


@contextlib.contextmanager
def frozen(rack, *addresses):
    """The client goes on sending to n1, whoever answers."""
    client, mac = rack.client, rack.lab["n1"].mac
    ip_batch(client.namespace, *[f"neighbour replace {address} lladdr {mac} dev eth1 nud permanent" for address in addresses])
    try:
        yield
    finally:
        ip_batch(client.namespace, *[f"neighbour delete {address} dev eth1" for address in addresses])


def counted(node, name, address):
    """Packets of UDP port 80."""
    found = re.search(rf"{address} \. udp \. 80 counter packets (\d+)",
                      node.run(["nft", "list", "set" if name.startswith("here") else "map", "netdev", "vipd", name]).stdout)
    return int(found[1])


def port_rules(node, port="trunk"):
    return node.run(["nft", "list", "chain", "netdev", "vipd", f"port-{port}"], check=False).stdout


def passes_on_and_serves(rack):
    """To a VM on another node with a bridge, and to its own: fragments, a smaller path's ICMP errors, closed ports."""
    text = "y" * 30000
    for address in BOTH:
        rack.cluster.serves(address, vm="db")
        assert rack.client.ask_udp(address, 80, "x" * 4000) == ("db", "x" * 4000)
        with pytest.raises(ConnectionRefusedError):
            rack.client.connect(address, 23)
        assert rack.client.pings(address)
    for address in HERE:
        rack.cluster.serves(address, 80, vm="local")
        assert rack.client.ask_udp(address, 80, "x" * 4000) == ("local", "x" * 4000)
    with rack.smaller_path():
        for address in BOTH:
            assert rack.lab.far.ask(address, 22, text, timeout=3) == ("db", f"db {text}"), address
        for address in HERE:
            assert rack.lab.far.ask(address, 80, text, timeout=3) == ("local", f"local {text}"), address
    assert said(rack) == said(rack, "n3") == ""


def test_an_owner_passes_on_and_serves(rack):
    passes_on_and_serves(rack)


def counts_once(rack):
    node = rack.lab["n1"]
    for addresses, name, vm in ((HERE, "here", "local"), (BOTH, "node", "db")):
        for address, family in zip(addresses, "46"):
            before = counted(node, name + family, address)
            for _ in range(5):
                assert rack.client.ask_udp(address, 80, "x") == (vm, "x")
            assert counted(node, name + family, address) == before + 5, address


def test_a_packet_counts_once(rack):
    counts_once(rack)


def test_a_hanging_owner_lets_no_data_through(rack):
    a_hanging_owner_lets_no_data_through(rack)


def a_hanging_owner_lets_no_data_through(rack):
    """Whoever sends to it still, because nobody else owns the address or because its neighbour table is frozen."""
    with frozen(rack, *BOTH, *HERE):
        for address in BOTH:
            assert rack.client.reaches(address, 22) == "db"
        for address in HERE:
            assert rack.client.reaches(address, 80) == "local"
        rack["n1"].hang()
        alive = lambda: rack.lab["n1"].run(["nft", "list", "table", "netdev", "vipd"]).stdout  # noqa: E731
        try:
            wait_for("its fence to fall", lambda: "expires" not in alive(), 5)
            for address in BOTH:
                assert rack.client.reaches(address, 22, 0.5) is None
            for address in HERE:
                assert rack.client.reaches(address, 80, 0.5) is None
                with pytest.raises(TimeoutError):
                    rack.client.ask_udp(address, 80, "x", timeout=0.5)
        finally:
            rack["n1"].wake()
        for address in HERE:
            rack.cluster.serves(address, 80, vm="local")


def test_a_handover(rack):
    """From one bridge to the other one; who has not heard of it yet is served by the old owner."""
    watch = rack.watch(*BOTH)
    rack["n1"].stop()
    for address in BOTH:
        wait_for("n3 to own", lambda: rack.cluster.holders(address) == ["n3"], 15)
    time.sleep(2)
    for by in watch.stop().values():
        assert (by["stream"]["kept"], by["stream"]["lost"], by["arp"]["two"]) == (5, 0, 0)
        assert by["connect"]["lost"] <= 2 and not by["connect"]["dark"]


def test_ports_come_and_go(rack):
    """A VM's on the same bridge, and the card itself; who is connected goes on."""
    node = rack.lab["n1"]
    watch = rack.watch(*BOTH, kinds=("stream",))
    ip_batch(node.namespace, "link add tap0 type veth peer name inside", "link set tap0 master eth1 up", "link set inside up")
    wait_for("rules at the new port", lambda: "alive4" in port_rules(node, "tap0"), 5)
    ip_batch(node.namespace, "link set tap0 nomaster")
    wait_for("no rules where no port is", lambda: "alive4" not in port_rules(node, "tap0"), 5)
    ip_batch(node.namespace, "link delete tap0")
    for by in watch.stop().values():
        assert (by["stream"]["kept"], by["stream"]["lost"]) == (5, 0)
    switch = rack.lab.switch
    node.run(["ip", "link", "delete", "trunk"])
    switch.run(["ip", "link", "delete", "lan-n1"], check=False)
    for address in BOTH:
        wait_for("n3 to take over", lambda: rack.cluster.holders(address) == ["n3"], 15)
    ip_batch(switch.namespace, f"link add lan-n1 type veth peer name trunk netns {node.namespace}")
    ip_batch(node.namespace, "link set trunk master eth1 up")
    ip_batch(switch.namespace, "link set lan-n1 master lan up")
    have_n1_own(rack)
    for address in BOTH:
        rack.cluster.serves(address, vm="db")
    wait_for("rules at the same port, made anew", lambda: 'device "trunk"' in port_rules(node), 5)


@pytest.mark.parametrize("where", NAMES)
def test_a_client_on_the_same_bridge(rack, where):
    """A VM at a port of the owner's bridge, or of one that its packets only pass through."""
    node, guest = rack.lab[where], Host(rack.lab, "guest")
    guest.create()
    try:
        ip_batch(node.namespace, f"link add tap0 type veth peer name eth1 netns {guest.namespace}", "link set tap0 master eth1 up")
        ip_batch(guest.namespace, "link set eth1 up", f"address add 192.0.2.9{node.index}/24 dev eth1",
                 f"address add 2001:db8::9{node.index}/64 dev eth1 nodad")
        wait_for("rules at its port", lambda: "alive4" in port_rules(node, "tap0"), 5)
        for address in BOTH:
            wait_for("db to answer", lambda: guest.reaches(address, 22) == "db")
            assert guest.ask_udp(address, 80, "x" * 4000) == ("db", "x" * 4000)
        for address in HERE:
            wait_for("local to answer", lambda: guest.reaches(address, 80) == "local")
            assert guest.ask_udp(address, 80, "x" * 4000) == ("local", "x" * 4000)
    finally:
        rack.lab.destroy([guest])


def test_the_setting_changes(rack):
    node, said = rack.lab["n1"], len(rack["n1"].log())
    call_netfilter(node, 0)
    try:
        wait_for("the log", lambda: "br_netfilter leaves the frames of eth1 alone" in rack["n1"].log()[said:], 15)
        wait_for("no rules at the port", lambda: "alive4" not in port_rules(node), 5)
        for address in BOTH:
            rack.cluster.serves(address, vm="db")
    finally:
        call_netfilter(node, 1)
    wait_for("rules at the port", lambda: "alive4" in port_rules(node) and "alive6" in port_rules(node), 15)
    for address in BOTH:
        rack.cluster.serves(address, vm="db")


def test_an_address_with_a_virtual_mac():
    """Its frames pass through other nodes' bridges, too, and are taken in where it is owned."""
    with VirtualRack(vrrp=VIRTUAL) as rack:
        bridge(rack)
        have_n1_own(rack)
        for address in BOTH:
            wait_for("the virtual MAC", lambda: rack.client.mac_of(address) == rack.virtual_mac(address))
            rack.cluster.serves(address, vm="db")
            assert rack.neighbour(address) == rack.virtual_mac(address)
            assert rack.client.ask_udp(address, 80, "x" * 4000) == ("db", "x" * 4000)
        for address in HERE:
            rack.cluster.serves(address, 80, vm="local")
        counts_once(rack)
        for address in BOTH:
            assert rack.lab.vms["local"].reaches(address, 22) == "db"
        watch = rack.watch(kinds=("stream",))
        rack["n1"].stop()
        for address in BOTH:
            wait_for("n3 to own", lambda: rack.cluster.holders(address) == ["n3"], 15)
        time.sleep(2)
        for by in watch.stop().values():
            assert (by["stream"]["kept"], by["stream"]["lost"]) == (5, 0)
        assert rack.lab.sanitizer_reports() == []


CURE = "sysctl net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0"


def said(rack, name="n1"):
    return rack[name].status()["bridgeInTheWay"]


def test_nat_through_the_bridge_is_told_to_be_impossible():
    """The owner's own VM is reached; what it would send on to another node the bridge does not give back. What is said helps."""
    with Rack(dataplane="nat") as rack:
        bridge(rack)
        have_n1_own(rack)
        for address in HERE:
            rack.cluster.serves(address, 80, vm="local")
        wait_for("it to be said", lambda: CURE in said(rack), 15)
        assert "is not served by this node: as the owner it asks" in said(rack) and "reason=BridgeInTheWay" in rack["n1"].log()
        assert said(rack, "n3") == ""  # the VM's own node
        assert not any(rack.client.reaches(address, 22) for address in BOTH)
        # The other cure: a pod network that leads there by another interface.
        with tunnel(rack.lab):
            wait_for("all clear", lambda: said(rack) == "", 10)
            for address in BOTH:
                rack.cluster.serves(address, vm="db")
        wait_for("it to be said again", lambda: CURE in said(rack), 10)
        rack.lab["n1"].run(CURE.replace("sysctl", "sysctl -w").split())
        for address in BOTH:
            rack.cluster.serves(address, vm="db")
        wait_for("all clear", lambda: "br_netfilter leaves the frames of eth1 alone" in rack["n1"].log(), 15)
        assert said(rack) == ""
        assert rack.lab.sanitizer_reports() == []


def test_an_endpoint_off_the_segment_through_the_bridge_is_told():
    """Data plane director: whose node has no address on the LAN the owner asks itself."""
    with Rack() as rack:
        bridge(rack)
        have_n1_own(rack)
        assert said(rack) == ""
        service = manifests.service("off", OFF, (22, 80))
        service_slices = manifests.slices(service, [rack.lab.vms["db"]])
        for each in service_slices:
            for endpoint in each["endpoints"]:
                endpoint["nodeName"] = "elsewhere"
        manifests.write(rack.cluster.folder / "service-off.yaml", service, *service_slices,
                        *[manifests.virtual_ip(address, service, ["n1"]) for address in OFF])
        wait_for("it to be said", lambda: CURE in said(rack) and any(address in said(rack) for address in OFF), 20)
        assert not any(rack.client.reaches(address, 22) for address in OFF)
        for address in BOTH:
            rack.cluster.serves(address, vm="db")
        rack.cluster.hide("off")
        wait_for("all clear", lambda: said(rack) == "", 15)
        assert rack.lab.sanitizer_reports() == []
