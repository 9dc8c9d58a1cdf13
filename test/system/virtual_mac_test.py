"""virtualMAC: clients know one MAC of an address for good, whoever has it (RFC 9568 section 7.3)."""
import re
import time

import pytest

import conftest
import vipd
from conftest import BOTH, V4
from lab import wait_for

VIRTUAL = {"virtualMAC": True}


class Rack(conftest.Rack):
    """Who has an address is asked for on the nodes: its MAC does not tell."""

    def settle(self):
        self.cluster.pool(vrrp=VIRTUAL)
        self.cluster.mend()
        for address in BOTH:
            wait_for(f"one node to have {address}", lambda: len(self.cluster.holders(address)) == 1)
            wait_for(f"{address} at its virtual MAC", lambda: self.client.mac_of(address) == self.virtual_mac(address))
        return self.owner()

    def owner(self, address=V4):
        return wait_for(f"one owner of {address}", lambda: len(found := self.cluster.holders(address)) == 1 and found[0])

    def virtual_mac(self, address):
        routers = next(status for daemon in self.cluster.daemons.values() if (status := daemon.status()))["routers"]
        identity = next(router["virtualRouterID"] for router in routers if router["addresses"] == address)
        return f"00:00:5e:00:0{2 if ':' in address else 1}:{identity:02x}"

    def neighbour(self, address, host=None):
        """The MAC that the kernel of the client, or of another host, believes in."""
        said = (host or self.client).run(["ip", "neigh", "show", "to", address, "dev", "eth1"]).stdout
        found = re.search(r"lladdr (\S+)", said)
        return found and found.group(1)


@pytest.fixture(scope="module")
def rack_of_module():
    with Rack(vrrp=VIRTUAL) as rack:
        yield rack


class Neighbours:
    """Every MAC that the client's kernel believes of the addresses while something happens."""

    def __init__(self, rack):
        self.rack = rack
        for address in BOTH:
            assert rack.client.reaches(address, 80)
            assert rack.neighbour(address) == rack.virtual_mac(address)
        self.process = rack.client.start("neighbours", ["ip", "monitor", "neigh", "dev", "eth1"])

    def macs(self, address):
        said = re.findall(rf"^{re.escape(address)} .*lladdr (\S+)", self.process.output(), re.M)
        return {self.rack.neighbour(address), *said}

    def stop(self):
        for address in BOTH:
            assert self.macs(address) == {self.rack.virtual_mac(address)}, self.process.output()
        self.process.stop()


def unhurt(seen):
    for address, by in seen.items():
        assert by["stream"]["kept"] == 5 and by["stream"]["lost"] == 0, address
        assert by["arp"]["two"] == 0, address


def test_a_crash_changes_no_clients_neighbour(rack):
    old, neighbours, watch = rack.owner(), Neighbours(rack), rack.watch()
    rack[old].kill()
    for address in BOTH:
        wait_for("a new owner", lambda: [name for name in rack.cluster.holders(address) if name != old])
        rack.cluster.serves(address, 80)
    time.sleep(2)  # the kernel asks again whether its neighbour is there, at the virtual MAC
    neighbours.stop()
    unhurt(watch.stop())


def test_a_handover_loses_nothing(rack):
    old, neighbours, watch = rack.owner(), Neighbours(rack), rack.watch(kinds=("arp", "connect", "stream"))
    rack[old].stop()
    time.sleep(2)
    neighbours.stop()
    seen = watch.stop()
    unhurt(seen)
    assert sum(by[kind]["lost"] for by in seen.values() for kind in ("arp", "connect")) <= 20
    assert rack.owner() != old


def test_members_see_who_it_is(rack):
    """They are answered with the node's own MAC, and no other one gets into the rules as a member's."""
    for address in BOTH:
        owner = rack.owner(address)
        for name, node in rack.lab.nodes.items():
            if name != owner:
                def learnt():  # unless it is announced once more in just that moment, with the virtual MAC
                    node.run(["ip", "neigh", "flush", "to", address, "dev", "eth1"])
                    node.run(["ping", "-c", 1, "-W", 5, address])
                    return rack.neighbour(address, node)
                wait_for("the owner's own MAC", lambda: learnt() == rack.lab[owner].mac, 3, 0.5)
                assert "00:00:5e" not in node.run(["nft", "list", "set", "netdev", "vipd", "peers"]).stdout
        for daemon in rack.cluster.daemons.values():
            assert not re.search("ForeignAddress|ForeignVirtualRouter", daemon.log())


def test_status_shows_it(rack):
    daemon = rack["n1"]
    table = daemon.node.run([vipd.program(), "status", "--runtime-dir", daemon.runtime]).stdout
    for address in BOTH:
        assert re.search(rf"{re.escape(address)} .*; {rack.virtual_mac(address)}$", table, re.M), table


def filters(node):
    return re.findall(r"^(00:00:5e:\S+) ", node.run(["bridge", "fdb", "show", "dev", "eth1"]).stdout, re.M)


def test_only_the_owner_takes_frames_to_it(rack):
    """RFC 9568 6.4.2-4, also of what a killed daemon left behind."""
    owner = rack.owner()
    assert rack.virtual_mac(V4) in filters(rack.lab[owner])
    for name, node in rack.lab.nodes.items():
        assert (rack.virtual_mac(V4) in filters(node)) == (name == owner)
    rack[owner].kill()
    wait_for("a new owner", lambda: [name for name in rack.cluster.holders(V4) if name != owner])
    rack.cluster.mend()
    wait_for("the rest of a killed daemon to go", lambda: rack.virtual_mac(V4) not in filters(rack.lab[owner]))
    assert rack.owner() != owner


def test_the_setting_changes_while_clients_are_connected(rack):
    """First to the nodes' own MACs, then back; nobody is left unanswered."""
    owner = {address: rack.lab[rack.owner(address)].mac for address in BOTH}
    watch = rack.watch()
    for settings, mac in (({}, owner.get), (VIRTUAL, rack.virtual_mac)):
        rack.cluster.pool(vrrp=settings)
        for address in BOTH:
            wait_for(f"{address} at {mac(address)}", lambda: rack.client.mac_of(address) == mac(address))
        time.sleep(1.5)  # what Linux ignored of the first announcements it hears now
        for address in BOTH:
            assert rack.client.reaches(address, 80)
    seen = watch.stop()
    for address, by in seen.items():
        assert by["stream"]["kept"] == 5 and by["stream"]["lost"] == 0, address
        assert by["arp"]["lost"] + by["connect"]["lost"] <= 10, address


def test_a_node_that_cannot_answers_with_its_own_mac_and_says_so(rack):
    """Without the egress hook, here by choice; whoever had resolved the virtual MAC hears of the other one."""
    n1, words = rack["n1"], rack["n1"].words
    n1.stop()
    n1.words = [*words, "--fence", "loopback"]
    n1.start()
    try:
        n1.process.wait_output("is to have a virtual MAC, which needs the fence at the netdev egress hook")
        wait_for("n1 to be a candidate", lambda: all(n1.eligible(address) for address in BOTH))
        for address in BOTH:
            assert rack.client.reaches(address, 80) and rack.neighbour(address) == rack.virtual_mac(address)
        for name in ("n2", "n3"):
            rack[name].stop()
        for address in BOTH:
            wait_for(f"{address} at n1", lambda: rack.client.mac_of(address) == rack.lab["n1"].mac)
            wait_for("the client to know", lambda: rack.neighbour(address) == rack.lab["n1"].mac)
            rack.cluster.serves(address, 80)
    finally:
        n1.stop()
        n1.words = words
        rack.cluster.mend()
