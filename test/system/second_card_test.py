"""Nodes with another card on the LAN's Ethernet: nobody answers for an address by it, and nobody asks by it in its name."""
import time

import pytest

import manifests
from conftest import BOTH, V4, V6, Rack
from failure_test import KILLED_DARK_MS, check, hang
from lab import ip_batch, wait_for

CLIENT = {V4: "192.0.2.150", V6: "2001:db8::150"}
HERE = ["192.0.2.30", "2001:db8::1:30"]
OWN = "192.0.2.145"
OTHERS, OTHERS_GATEWAY = "10.98.0.100", "10.98.0.253"


class SecondCard(Rack):
    """The management network is the LAN's Ethernet. Nothing of eth0 is set, as nobody would set it."""
    management = True
    joined = False

    def settle(self):
        if not self.joined:
            ip_batch(self.lab.switch.namespace, "link add one type veth peer name other", "link set one master lan up",
                     "link set other master mgt up")
            self.joined = True
        for node in self.lab.nodes.values():
            ip_batch(node.namespace, f"address replace fd98::{node.index}/64 dev eth0 nodad")
        return super().settle()


@pytest.fixture(scope="module")
def rack_of_module():
    with SecondCard() as rack:
        yield rack


def mac(rack, name, card="eth1"):
    return rack.lab[name].ip("link", "show", "dev", card)[0]["address"]


def test_a_hanging_owner_answers_by_no_card(rack, record_property):
    """Nor does one that is well, whoever asks."""
    watch = rack.watch()
    time.sleep(1)
    seen = watch.stop()
    for address in BOTH:
        assert seen[address]["arp"]["two"] == 0
        assert set(seen[address]["arp"]["answerers"]) == {mac(rack, rack.owner())}, address
        rack.is_reached_from_everywhere(address)
    hang(rack, 4, record_property)


def known(client, address):
    """The MAC that the client sends to."""
    words = client.run(["ip", "neigh", "show", address]).stdout.split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else None


@pytest.mark.parametrize("named", [True, False], ids=["in-its-name", "in-nobodys"])
def test_a_node_does_not_ask_in_the_name_of_an_address_by_another_card(rack, record_property, named):
    """The VM is on the node, whose way to the client is the other card: while it owns the address, and while it hangs."""
    client, owner = rack.client, rack.lab["n1"]
    rack.cluster.expose("here", HERE, ["local"], rack.ports, candidates=["n1"])
    rack.cluster.serves(HERE[0])
    rack.cluster.expose("here", HERE, ["local"], rack.ports, candidates=["n1", "n2", "n3"])
    wait_for("them to know it", lambda: all(rack[name].eligible(address) for name in rack.lab.nodes for address in HERE))
    lines = [f"route add {CLIENT[V4]} dev eth0", f"route add {CLIENT[V6]} dev eth0"]
    if named:  # a subnet that the client is in, and no address of ours
        lines.append(f"address add {OWN}/28 dev eth0 noprefixroute")
    ip_batch(owner.namespace, *lines)
    if named:
        wait_for("the rules", lambda: f"arp saddr ip set {OWN}" in owner.ruleset())
    macs = {address: set() for address in HERE}

    def look(seconds):
        for seen in macs.values():
            seen.clear()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            owner.run(["sh", "-c", "ip -4 neigh flush dev eth0; ip -6 neigh flush dev eth0"])
            time.sleep(0.1)
            for address in HERE:
                macs[address].add(known(client, address))

    watch = rack.cluster.watch(*HERE, port=80)
    try:
        look(2)
        assert macs == {address: {mac(rack, "n1")} for address in HERE}
        rack["n1"].hang()
        new = {address: rack.cluster.owner(address, other_than="n1") for address in HERE}
        time.sleep(0.2)
        look(2)
        assert set(HERE) <= set(owner.addresses("eth1"))
        assert macs == {address: {mac(rack, new[address])} for address in HERE}
        assert known(client, OWN) == (mac(rack, "n1", "eth0") if named else None)
        seen = watch.stop()
    finally:
        rack["n1"].wake()
        ip_batch(owner.namespace, *[line.replace(" add ", " del ").replace(" noprefixroute", "") for line in lines])
        client.run(["ip", "neigh", "flush", "to", OWN])
        rack.cluster.hide("here")
    check(seen, record_property, KILLED_DARK_MS)


def each_has_its_card(rack, *addresses, names):
    """Of one of these nodes; and nobody takes another card for a foreign host."""
    watch = rack.watch(*addresses, kinds=("arp",))
    time.sleep(1.5)
    for address, by in watch.stop().items():
        (answerer,) = by["arp"]["answerers"]
        assert answerer in {mac(rack, name, "eth0" if address == OTHERS else "eth1") for name in names}, (address, answerer)
        assert by["arp"]["two"] == by["arp"]["outages"] == 0, by
    for name in names:
        assert not [router for router in rack[name].status()["routers"] if router["state"] == "Conflict"], name


@pytest.mark.parametrize("subnet", ["another", "the-same"])
def test_both_cards_are_segments(rack, subnet):
    """As the other card's network has addresses, too, or as it has an address of the LAN itself. Each address has one card."""
    lines = ["address replace 192.0.2.{}/24 dev eth0 noprefixroute",
             "address replace 2001:db8::{}/64 dev eth0 nodad noprefixroute"]
    if subnet == "another":
        ip_batch(rack.lab.switch.namespace, f"address replace {OTHERS_GATEWAY}/24 dev mgt")
        lines = [f"route replace default via {OTHERS_GATEWAY} dev eth0 metric 1000"]
        rack.cluster.pool(addresses=[*manifests.pool()["spec"]["addresses"], OTHERS])
        rack.cluster.expose("other", [OTHERS], ["db"], (22,), candidates=["n1"])
    for node in rack.lab.nodes.values():
        ip_batch(node.namespace, *[line.format(130 + node.index) for line in lines])
    try:
        wait_for("fences", lambda: all("chain in-eth0" in node.ruleset() for node in rack.lab.nodes.values()))
        rack.settle()
        if subnet == "another":
            rack.cluster.owner(OTHERS)
            each_has_its_card(rack, OTHERS, names=["n1"])
        each_has_its_card(rack, *BOTH, names=rack.lab.nodes)
        lost = rack.owner()
        rack[lost].hang()
        rack.cluster.owner(V4, other_than=lost)
        each_has_its_card(rack, *BOTH, names=set(rack.lab.nodes) - {lost})
    finally:
        for daemon in rack.cluster.daemons.values():
            daemon.wake()
        for node in rack.lab.nodes.values():
            ip_batch(node.namespace, *[line.format(130 + node.index).replace(" replace ", " del ").removesuffix(" noprefixroute")
                                       .removesuffix(" nodad") for line in lines])
        rack.cluster.hide("other", missing_ok=True)
        rack.cluster.gone(OTHERS)
        rack.cluster.pool()
