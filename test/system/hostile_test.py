"""Malformed and hostile packets, and hosts that have an address of ours: counted, reported, never obeyed."""
import functools
import random
import socket
import struct
import time

import pytest

import stranger
from conftest import V4, V6
from lab import wait_for
from stranger import GROUP4, GROUP6, Stranger, checksum, finish6

VRID4, VRID6 = 10, 16  # of V4 and V6: their last byte
advert = functools.partial(stranger.advert, vrid=VRID4, addresses=(V4,))


@pytest.fixture(name="stranger")
def stranger_of(rack):
    return Stranger(rack.client)


def counted(rack, verdict):
    return {name: daemon.status()["adverts"][verdict] for name, daemon in rack.cluster.daemons.items()}


def unmoved(rack, owner, watch):
    for address, by in watch.stop().items():
        assert by["arp"]["outages"] == 0 and by["arp"]["two"] == 0, address
        assert by["arp"]["answerers"] == [rack.lab[owner].mac], address
    assert rack.cluster.owner(V4) == rack.cluster.owner(V6) == owner


MALFORMED = {  # name: (packet, TTL, what the status calls it)
    "from afar": (advert(), 254, "ttl or hop limit is not 255"),
    "cut head": (advert()[:7], 255, "packet is incomplete"),
    "nothing": (b"", 255, "packet is incomplete"),
    "cut addresses": (advert()[:-2], 255, "packet is incomplete"),
    "promises too much": (advert(count=200), 255, "packet is incomplete"),
    "version 1": (advert(version=1), 255, "version is neither 3 nor 2"),
    "version 14": (advert(version=14, priority=0), 255, "version is neither 3 nor 2"),
    "version 15": (advert(version=15, priority=0), 255, "version is neither 3 nor 2"),
    "type 2": (advert(kind=2), 255, "type is not advertisement"),
    "router 0": (advert(vrid=0), 255, "virtual router ID is 0"),
    "no address": (advert(addresses=()), 255, "address count is 0"),
    "no interval": (advert(interval=0), 255, "advertised interval is 0"),
    "checksum": (advert(wrong=0x0101), 255, "checksum does not match"),
    "unknown router": (advert(vrid=77), 255, "virtual router ID is not configured here"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_advert_is_counted_and_ignored(rack_of_module, name):
    rack, stranger = rack_of_module, Stranger(rack_of_module.client)
    packet, ttl, said = MALFORMED[name]
    before = counted(rack, said)
    stranger.send(*[packet] * 5, ttl=ttl)
    wait_for("it to be counted", lambda: all(
        count >= before[node] + 5 for node, count in counted(rack, said).items()), 3)


def test_a_stranger_that_claims_our_virtual_router(rack, stranger):
    """Higher priority, the highest, and "I resign": for a second, ten times as often as an owner."""
    owner, watch = rack.owner(), rack.watch(kinds=("arp",))
    for _ in range(100):
        stranger.send(advert(priority=254), advert(priority=255), advert(priority=0))
        stranger.send6(*[finish6(advert(vrid=VRID6, priority=priority, addresses=("fe80::1", V6)),
                                 stranger.link_local) for priority in (254, 255, 0)])
        time.sleep(0.01)
    unmoved(rack, owner, watch)
    for name, daemon in rack.cluster.daemons.items():
        found = [line for line in daemon.log().splitlines() if "reason=ForeignVirtualRouter" in line]
        assert any("peer=192.0.2.150" in line for line in found), name
        assert len(found) <= 8, "one line at the first, then at growing intervals"


def test_a_storm_of_rubbish(rack, stranger):
    """Ten thousand packets of random bytes and bent adverts, both families, ARP and NDP too."""
    random.seed(20261125)
    owner, watch = rack.owner(), rack.watch(kinds=("arp",))
    bent = bytearray(advert())
    for _ in range(50):
        packets = []
        for _ in range(100):
            copy = bytearray(bent)
            for _ in range(random.randrange(1, 4)):
                copy[random.randrange(len(copy))] = random.randrange(256)
            packets.append(bytes(copy[:random.randrange(1, len(copy) + 1)]))
        stranger.send(*packets)
        stranger.send6(*[random.randbytes(random.randrange(1, 1400)) for _ in range(100)])
        stranger.frames(*[b"\xff" * 6 + b"\x02\0\0\0\1\x96" + kind + random.randbytes(random.randrange(20, 100))
                          for kind in (b"\x08\x06", b"\x86\xdd", b"\x08\x00") for _ in range(10)])
    unmoved(rack, owner, watch)
    for daemon in rack.cluster.daemons.values():
        assert daemon.status()["ready"]
        assert daemon.log().count("dropped: ") < 20


def test_a_stranger_that_has_our_address(rack):
    """A host gets an address that is ours already: defended, reported with its MAC, not given up."""
    owner = rack.owner()
    for address, length in ((V4, 32), (V6, 128)):
        rack.lab.gateway.run(["ip", "address", "add", f"{address}/{length}", "dev", "eth1", "nodad"])
    try:
        announce_from(rack.lab.gateway, V4)
        rack[owner].process.wait_output(rf"reason=ForeignAddress vip={V4} .*peer=02:00:00:00:01:fe "
                                        r".*announced again in defence")
        assert rack.cluster.holders(V4) == [owner] and rack.cluster.holders(V6) == [owner]
    finally:
        for address, length in ((V4, 32), (V6, 128)):
            rack.lab.gateway.run(["ip", "address", "delete", f"{address}/{length}", "dev", "eth1"])
    rack.cluster.serves(V4, 80)


def announce_from(host, address):
    """A gratuitous ARP of the host for the address."""
    mac = bytes.fromhex(host.run(["cat", "/sys/class/net/eth1/address"]).stdout.strip().replace(":", ""))
    ip = socket.inet_aton(address)
    frame = b"\xff" * 6 + mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + ip + b"\0" * 6 + ip
    Stranger.frames(argument(host), frame)


def argument(host):
    stranger = Stranger.__new__(Stranger)
    stranger.host = host
    return stranger


def test_a_stranger_that_was_there_first(rack):
    """New addresses that somebody has already: a conflict with his MAC, nobody of us takes them; until he goes."""
    taken = {"192.0.2.60": 24, "2001:db8::1:60": 64}
    for address, length in taken.items():
        rack.client.run(["ip", "address", "add", f"{address}/{length}", "dev", "eth1", "nodad"])
    try:
        rack.cluster.expose("late", list(taken), ["db"], candidates=["n1", "n2"])
        for address in taken:
            wait_for("the conflict to be reported", lambda: any(
                f"vip={address} " in line and "peer=02:00:00:00:01:96" in line and "reason=ForeignAddress" in line
                for name in ("n1", "n2") for line in rack[name].log().splitlines()), 10)
        time.sleep(2)
        for address in taken:
            assert rack.cluster.holders(address) == []
            assert {router["state"] for name in ("n1", "n2") for router in rack[name].status()["routers"]
                    if router["addresses"] == address} == {"Conflict"}
    finally:
        for address, length in taken.items():
            rack.client.run(["ip", "address", "delete", f"{address}/{length}", "dev", "eth1"])
    for address in taken:
        rack.cluster.serves(address, seconds=15)
    rack.cluster.hide("late")
    rack.cluster.gone(*taken)
