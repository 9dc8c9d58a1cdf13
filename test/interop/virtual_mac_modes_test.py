"""A virtual MAC where adverts go to each candidate alone, and with version 2: two vipd, and keepalived in n1's place."""
import re

import pytest

from conftest import V4, V6, Capture, Keepalived, Rack
from lab import wait_for

VERSION2 = {"version": 2, "advertisementIntervalMilliseconds": 1000}
MODES = {"unicast": {"mode": "unicast"}, "version 2": VERSION2, "version 2, unicast": {"mode": "unicast", **VERSION2}}
GROUP_MACS = {4: "01:00:5e:00:00:12", 6: "33:33:00:00:00:12"}
# RFC 9568 5.2.8: the message alone. Wireshark otherwise expects RFC 5798's pseudo-header over IPv4.
PLAIN = ("vrrp.v3_checksum_as_in_v2:TRUE",)


class Modes(Rack):
    def __init__(self, mode):
        super().__init__(vrrp={"virtualMAC": True, **MODES[mode]})
        self.unicast, self.version = "unicast" in mode, 2 if "version 2" in mode else 3

    def __enter__(self):
        super().__enter__()
        for address in self.addresses():
            self.at_virtual_mac(address)
        return self

    def virtual_mac(self, address):
        return f"00:00:5e:00:0{2 if ':' in address else 1}:{self.router_id(address):02x}"

    def at_virtual_mac(self, address):
        wait_for(f"{address} at its virtual MAC", lambda: self.lab.client.mac_of(address) == self.virtual_mac(address))

    def belongs_to(self, name, address, seconds=15):
        wait_for(f"{name} alone to have {address}", lambda: self.cluster.holders(address) == [name], seconds)
        self.at_virtual_mac(address)

    def owner(self, address):
        return wait_for(f"one owner of {address}", lambda: len(found := self.cluster.holders(address)) == 1 and found[0])

    def adverts(self, address, count, host):
        """Those of the address's virtual router, as `host` hears them."""
        six = ":" in address
        capture, rows = Capture(host), f"vrrp.virt_rtr_id == {self.router_id(address)} and {'ipv6' if six else 'ip'}"
        capture.wait(count, rows)
        return capture.read("eth.src", "eth.dst", "ip.src", "ip.dst", "ip.ttl", "ipv6.hlim", "vrrp.version", "vrrp.prio",
                            "vrrp.checksum.status", "_ws.malformed", "_ws.expert.message", rows=rows,
                            options=() if six else PLAIN)


class Neighbours:
    """Every MAC that the client's kernel believes of the addresses while something happens: the virtual one only."""

    def __init__(self, rack, *addresses):
        self.rack, self.client, self.addresses = rack, rack.lab.client, addresses
        for address in addresses:
            rack.cluster.serves(address)
        self.monitor = self.client.start("neighbours", ["ip", "monitor", "neigh", "dev", "eth1"])

    def stop(self):
        for address in self.addresses:
            said = self.client.run(["ip", "neigh", "show", "to", address, "dev", "eth1"]).stdout
            macs = re.findall(r"lladdr (\S+)", said) + re.findall(
                rf"^{re.escape(address)} .*lladdr (\S+)", self.monitor.output(), re.M)
            assert set(macs) == {self.rack.virtual_mac(address)}, self.monitor.output()
        self.monitor.stop()


@pytest.fixture(scope="module", params=MODES)
def rack_of_module(request):
    with Modes(request.param) as rack:
        yield rack


def test_adverts_come_from_it_and_go_to_the_other_candidate(rack):
    for address in rack.addresses():
        owner = rack.owner(address)
        other = rack.lab["n2" if owner == "n1" else "n1"]
        frames = rack.adverts(address, 3, other)
        for frame in frames:
            assert "_ws.malformed" not in frame and "_ws.expert.message" not in frame, frame
            assert frame["vrrp.checksum.status"] == "1" and frame["vrrp.version"] == str(rack.version), frame
            assert frame["eth.src"] == rack.virtual_mac(address), frame
            assert frame["eth.dst"] == (other.mac if rack.unicast else GROUP_MACS[6 if ":" in address else 4]), frame
            assert frame.get("ip.ttl", "255") == frame.get("ipv6.hlim", "255") == "255", frame
        assert rack.lab.client.mac_of(address) == rack.virtual_mac(address)
    assert rack.said("ForeignVirtualRouter|ForeignAddress") == []


@pytest.mark.parametrize("end", ["is killed", "stops"])
def test_no_client_hears_of_another_mac_when_the_owner(rack, end):
    address = rack.addresses()[0]
    old, neighbours = rack.owner(address), Neighbours(rack, *rack.addresses())
    watch = rack.cluster.watch(*rack.addresses(), kinds=("arp",))
    if end == "stops":
        rack.cluster[old].stop()
    else:
        rack.cluster[old].kill()
    new = wait_for("the other node to have it", lambda: [name for name in rack.cluster.holders(address) if name != old])
    rack.cluster.serves(address)
    neighbours.stop()
    for by in watch.stop().values():
        assert by["arp"]["two"] == 0
        assert end == "is killed" or by["arp"]["lost"] <= 20, by  # of one question each 5 ms
    rack.cluster.mend()
    for address in rack.addresses():
        wait_for("one owner again", lambda: len(rack.cluster.holders(address)) == 1)
        rack.at_virtual_mac(address)
    assert new and rack.said("ForeignVirtualRouter|ForeignAddress") == []


class Peer:
    """keepalived with use_vmac in n1's place: it has n1's address, and vipd on n2 takes it for a candidate."""

    def __init__(self, rack):
        # keepalived's version 3 over IPv4 takes our checksum for damaged; its version 2 is IPv4 alone.
        self.rack, self.node, self.address = rack, rack.lab["n1"], V4 if rack.version == 2 else V6
        rack.cluster["n1"].stop()
        rack.belongs_to("n2", self.address)
        self.node.run(["nft", "delete", "table", "netdev", "vipd"])

    def start(self, **settings):
        six, n2 = ":" in self.address, self.rack.lab["n2"]
        ours = self.rack.adverts(self.address, 1, self.node)[0]
        if self.rack.unicast:
            if six:  # keepalived 2.2.7 leaves the hop limit of these as it is, and 64 is nobody's on the same link
                self.node.run(["sysctl", "-q", "-w", "net.ipv6.conf.eth1.hop_limit=255"])
            # What comes for the node's own MAC is not for keepalived's macvlan; what comes from the virtual MAC for
            # the group is for nobody else. So the one or the other.
            settings |= {"vmac_xmit_base": "", "unicast_src_ip": self.node.address6 if six else self.node.address4,
                         "unicast_peer": f"{{\n        {n2.address6 if six else n2.address4}\n    }}"}
        addresses = [f"fe80::200:5eff:fe00:2{self.rack.router_id(self.address):02x}/64", f"{V6}/128"] if six else [f"{V4}/32"]
        above = settings.pop("above")
        return Keepalived(self.node, {
            "virtual_router_id": self.rack.router_id(self.address), "use_vmac": "",
            "version": self.rack.version, "advert_int": 1 if self.rack.version == 2 else 0.1,
            "priority": int(ours["vrrp.prio"]) + above, "addresses": addresses, **settings})


@pytest.fixture
def peer(rack):
    yield Peer(rack)
    for process in rack.lab.processes:
        if process.alive() and process.name == "n1/keepalived":
            process.stop()
    rack.cluster.mend()
    for address in rack.addresses():
        wait_for(f"one owner of {address}", lambda: len(rack.cluster.holders(address)) == 1)


def test_a_keepalived_with_a_virtual_mac_backs_us_up(rack, peer):
    keepalived = peer.start(above=-1)
    keepalived.says("Entering BACKUP STATE")
    counted = wait_for("five adverts heard", lambda: (found := keepalived.statistics())["Advertisements"]["Received"] >= 5
                       and found, 10, 0.2)
    assert "Entering MASTER" not in keepalived.process.output() and rack.cluster.holders(peer.address) == ["n2"]
    assert counted["Advertisements"]["Sent"] == 0 and not any(counted["Packet Errors"].values()), counted


def test_to_a_better_keepalived_with_a_virtual_mac_and_back_no_client_hears_of_another_mac(rack, peer):
    neighbours = Neighbours(rack, peer.address)
    keepalived = peer.start(above=50)
    keepalived.master()
    rack.belongs_to("n1", peer.address)
    for frame in rack.adverts(peer.address, 3, rack.lab["n2"]):
        assert frame["eth.src"] == (peer.node.mac if rack.unicast else rack.virtual_mac(peer.address)), frame
    keepalived.stop()
    rack.belongs_to("n2", peer.address)
    rack.cluster.serves(peer.address)
    neighbours.stop()
