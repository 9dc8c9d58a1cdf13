"""Strangers on the wire: they are reported and defended against, and never move an address of ours."""
import pathlib
import re
import shutil
import statistics
import time

import pytest

from conftest import STRANGER4, V4, V6, Capture, Stranger
from lab import ip_batch, wait_for

BOTH = [V4, V6]
# RFC 9568 5.2.8: the message alone. Wireshark otherwise expects RFC 5798's pseudo-header over IPv4.
PLAIN = ("vrrp.v3_checksum_as_in_v2:TRUE",)


@pytest.mark.parametrize("address", BOTH)
def test_our_adverts_are_sound_to_tshark(rack, address):
    owner = rack.lab[rack.cluster.owner(address)]
    identity, six = rack.router_id(address), ":" in address
    rows = f"vrrp.virt_rtr_id == {identity} and {'ipv6' if six else 'ip'}"
    capture = Capture(rack.lab.client)
    capture.wait(10, rows)
    frames = capture.read("frame.time_epoch", "ip.ttl", "ip.src", "ip.dst", "ip.dsfield.dscp", "ipv6.hlim", "ipv6.src", "ipv6.dst",
                          "eth.dst", "vrrp.version", "vrrp.type", "vrrp.prio", "vrrp.addr_count",
                          "vrrp.short_adver_int", "vrrp.checksum.status", "vrrp.ip_addr", "vrrp.ipv6_addr",
                          "_ws.malformed", "_ws.expert.message",
                          rows=rows, options=() if six else PLAIN)
    times = [float(frame["frame.time_epoch"]) for frame in frames]
    gaps = [after - before for before, after in zip(times, times[1:])]
    assert 0.09 < statistics.median(gaps) < 0.11, gaps  # one advert every 100 ms
    for frame in frames:
        assert "_ws.malformed" not in frame and "_ws.expert.message" not in frame
        assert frame["vrrp.version"] == "3" and frame["vrrp.type"] == "1"
        assert frame["vrrp.checksum.status"] == "1"  # good
        assert frame["vrrp.short_adver_int"] == "10"
        assert 1 <= int(frame["vrrp.prio"]) <= 254
        if six:
            assert frame["ipv6.hlim"] == "255" and frame["ipv6.dst"] == "ff02::12"
            assert frame["ipv6.src"].startswith("fe80::") and frame["eth.dst"] == "33:33:00:00:00:12"
            assert frame["vrrp.addr_count"] == "2" and frame["vrrp.ipv6_addr"].startswith("fe80::")
        else:
            assert frame["ip.ttl"] == "255" and frame["ip.dst"] == "224.0.0.18"
            assert frame["ip.src"] == owner.address4 and frame["eth.dst"] == "01:00:5e:00:00:12"
            assert frame["vrrp.addr_count"] == "1" and frame["vrrp.ip_addr"] == address
            assert frame["ip.dsfield.dscp"] == "48"  # CS6


@pytest.fixture
def stranger(rack):
    """Whatever a test starts on it is gone afterwards, and our addresses are as they were."""
    rack.lab.client.run(["ip", "neighbour", "flush", "all"])
    owners = {address: rack.cluster.owner(address) for address in BOTH}
    yield rack.stranger
    for process in rack.lab.processes:
        if process.alive() and process.name.startswith("stranger/"):
            process.stop()
    rack.stranger.clear(f"{V4}/32", f"{V6}/128", "192.0.2.77/32", "2001:db8::77/128", "fe80::77/64")
    for address, owner in owners.items():
        assert rack.cluster.owner(address) == owner
        assert rack.cluster.holders(address) == [owner]
        rack.cluster.serves(address)


def undisturbed(seen):
    """What a client saw of our address: nothing at all of the stranger."""
    for kind in ("arp", "connect"):
        assert seen[kind]["outages"] == 0, f"{kind}: {seen[kind]}"
    assert seen["arp"]["two"] == 0
    assert seen["stream"]["lost"] == 0 and seen["stream"]["stuck"] == 0, seen["stream"]


@pytest.mark.parametrize("address", BOTH)
@pytest.mark.parametrize("priority", [1, 254, 255])
def test_a_keepalived_with_our_virtual_router_id_moves_nothing(rack, stranger, address, priority):
    """Another address, the same VRID: the usual accident on a shared LAN, and what OpenShift users meet."""
    six = ":" in address
    owner, identity = rack.cluster.owner(address), rack.router_id(address)
    watch = rack.cluster.watch(address, port=22)
    time.sleep(0.3)
    intruder = stranger.keepalived(
        virtual_router_id=identity, priority=priority, state="MASTER" if priority == 255 else "BACKUP",
        addresses=["fe80::77/64", "2001:db8::77/128"] if six else ["192.0.2.77/32"])
    intruder.master()  # it does not believe us, either
    time.sleep(1.5)
    assert rack.cluster.holders(address) == [owner]
    intruder.stop()  # with priority 0: "I give up what you have", which is not his to say
    time.sleep(1)
    seen = watch.stop()[address]
    assert rack.cluster.owner(address) == owner
    undisturbed(seen)
    assert len(seen["arp"]["answerers"]) == 1
    source = r"fe80::ff:fe00:201" if six else STRANGER4
    reports = rack.said(rf"reason=ForeignVirtualRouter .*peer={source}")
    assert reports, "nobody reported the stranger"


@pytest.mark.parametrize("address", BOTH)
def test_a_keepalived_that_takes_our_address_is_reported_and_outlived(rack, stranger, address):
    """The same VRID and the same address: two answer while it lasts, and ours is the one that stays."""
    six = ":" in address
    owner, identity = rack.cluster.owner(address), rack.router_id(address)
    intruder = stranger.keepalived(
        virtual_router_id=identity, priority=254,
        addresses=["fe80::77/64", f"{V6}/128"] if six else [f"{V4}/32"])
    intruder.master()
    time.sleep(1)
    assert rack.cluster.holders(address) == [owner]
    reports = wait_for("a report of the address's double", lambda: rack.said(
        rf"reason=ForeignAddress .*{address if not six else ''}.*{Stranger.mac}"), 5)
    assert reports
    intruder.stop()
    stranger.clear(f"{address}/{128 if six else 32}")
    # The client had learnt the intruder's MAC; our defence or the next refresh corrects it.
    rack.cluster.serves(address, seconds=10)
    assert rack.cluster.owner(address) == owner


@pytest.mark.parametrize("address", BOTH)
def test_keepalived_on_another_virtual_router_lives_beside_us(rack, stranger, address):
    six = ":" in address
    before = len(rack.said("ForeignVirtualRouter|ForeignAddress"))
    watch = rack.cluster.watch(address, port=22)
    time.sleep(0.2)
    neighbour = stranger.keepalived(
        virtual_router_id=251, priority=100,
        addresses=["fe80::77/64", "2001:db8::77/128"] if six else ["192.0.2.77/32"])
    neighbour.master()
    own = rack.lab.client.probe("arp", "eth1", "2001:db8::77" if six else "192.0.2.77", 5)
    time.sleep(1.5)
    seen, own = watch.stop()[address], own.stop()
    undisturbed(seen)
    assert own["answerers"] == [Stranger.mac] and own["two"] == 0
    assert len(rack.said("ForeignVirtualRouter|ForeignAddress")) == before
    errors = neighbour.statistics()["Packet Errors"]
    assert not any(errors.values()), errors


class Frr:
    """FRRouting's vrrpd (and the zebra it needs) on the stranger, with a VMAC interface as its manual says."""

    def __init__(self, host):
        self.host = host
        self.folder = host.lab.dir / f"frr{next(host.lab.numbers)}"
        self.folder.mkdir()
        shutil.chown(self.folder, "frr", "frr")

    def start(self, identity, priority):
        ip_batch(self.host.namespace,
                 f"link add vrrp4 link eth1 address 00:00:5e:00:01:{identity:02x} type macvlan mode bridge",
                 "address add 192.0.2.77/32 dev vrrp4", "link set vrrp4 up")
        configs = {"zebra": "", "vrrpd": f"interface eth1\n vrrp {identity} version 3\n"
                   f" vrrp {identity} priority {priority}\n vrrp {identity} advertisement-interval 100\n"
                   f" vrrp {identity} ip 192.0.2.77\n"}
        for program, text in configs.items():
            config = self.folder / f"{program}.conf"
            config.write_text(text)
            self.host.start(program, [f"/usr/lib/frr/{program}", "-u", "frr", "-g", "frr",
                                      "-z", self.folder / "zserv.api", "-i", self.folder / f"{program}.pid",
                                      "--vty_socket", self.folder, "-P", "0", "-f", config, "--log", "stdout"])
            wait_for(f"{program} of FRR", lambda: (self.folder / f"{program}.vty").exists(), 10)
        wait_for("FRR to become the active router", lambda: re.search(r"Status \(v4\) +Master", self.show()), 10)

    def show(self):
        return self.host.run(["vtysh", "--vty_socket", self.folder, "-d", "vrrpd", "-c", "show vrrp"],
                             check=False).stdout

    def close(self):
        for process in self.host.lab.processes:
            if process.alive() and process.name in ("stranger/zebra", "stranger/vrrpd"):
                process.stop()
        self.host.run(["ip", "link", "delete", "vrrp4"], check=False)


@pytest.mark.parametrize("same", [False, True], ids=["beside-us", "with-our-virtual-router-id"])
def test_frr_moves_nothing(rack, stranger, same):
    if not pathlib.Path("/usr/lib/frr/vrrpd").exists():
        pytest.skip("FRR's vrrpd is not installed: apt-get install frr")
    identity = rack.router_id(V4) if same else 252
    owner, before = rack.cluster.owner(V4), len(rack.said("ForeignVirtualRouter"))
    watch = rack.cluster.watch(V4, port=22)
    time.sleep(0.2)
    frr = Frr(stranger)
    try:
        frr.start(identity, 200)
        own = rack.lab.client.probe("arp", "eth1", "192.0.2.77", 5)
        time.sleep(1.5)
        own = own.stop()
    finally:
        frr.close()
    time.sleep(0.5)
    seen = watch.stop()[V4]
    assert own["answered"] > 0, "FRR does not answer for its own address"
    assert rack.cluster.owner(V4) == owner and rack.cluster.holders(V4) == [owner]
    undisturbed(seen)
    reported = [line for line in rack.said("ForeignVirtualRouter")[before:] if f"peer={STRANGER4}" in line]
    assert bool(reported) == same
