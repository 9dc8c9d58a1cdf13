"""A pool with `virtualMAC: true` on the wire: tshark as judge, and other people's virtual routers beside ours."""
import time

import pytest

from conftest import V4, V6, Capture
from lab import wait_for

POOL = {"vrrp": {"virtualMAC": True}}
BOTH = [V4, V6]
WIRE = "arp or icmp6 or ip proto 112 or ip6 proto 112"
# RFC 9568 5.2.8: the message alone. Wireshark otherwise expects RFC 5798's pseudo-header over IPv4.
PLAIN = ("vrrp.v3_checksum_as_in_v2:TRUE",)


def virtual_mac(rack, address):
    return f"00:00:5e:00:0{2 if ':' in address else 1}:{rack.router_id(address):02x}"


@pytest.mark.parametrize("address", BOTH)
def test_what_says_where_an_address_is_says_and_comes_from_its_virtual_mac(rack, address):
    """RFC 9568 7.2, 7.3, 8.1.2, 8.2.2; everything sound to tshark, the checksum that the kernel corrected, too."""
    mac, six = virtual_mac(rack, address), ":" in address
    rack.lab.client.run(["ip", "neighbour", "flush", "all"])
    capture = Capture(rack.lab.client, WIRE)
    rack.cluster.serves(address)
    for _ in range(3):
        assert rack.lab.client.mac_of(address) == mac
    time.sleep(1)
    said = (f"icmpv6.nd.na.target_address == {address} or (icmpv6.type == 135 and ipv6.src == {address})" if six
            else f"arp.src.proto_ipv4 == {address}")
    frames = capture.read("eth.src", "arp.src.hw_mac", "icmpv6.type", "icmpv6.opt.linkaddr", "icmpv6.checksum.status",
                          "_ws.malformed", "_ws.expert.message", rows=said)
    adverts = capture.read("eth.src", "vrrp.checksum.status", "_ws.malformed", "_ws.expert.message",
                           rows=f"vrrp.virt_rtr_id == {rack.router_id(address)} and {'ipv6' if six else 'ip'}",
                           options=() if six else PLAIN)
    assert len(frames) >= 3 and len(adverts) >= 3
    for frame in frames + adverts:
        assert "_ws.malformed" not in frame, frame
        assert "configured" in frame.get("_ws.expert.message", "configured"), frame  # the prober's address, twice
        assert frame["eth.src"] == mac, frame
    for frame in frames:
        assert frame.get("icmpv6.opt.linkaddr", mac) == mac and frame.get("arp.src.hw_mac", mac) == mac, frame
        assert frame.get("icmpv6.checksum.status", "1") == "1", frame
    assert all(frame["vrrp.checksum.status"] == "1" for frame in adverts)


def test_keepalived_with_a_virtual_mac_on_another_id_disturbs_nobody(rack):
    other, theirs = "192.0.2.77", 201
    owner = rack.cluster.holders(V4)
    keepalived = rack.stranger.keepalived(virtual_router_id=theirs, use_vmac="", priority=250, addresses=[f"{other}/32"])
    keepalived.master()
    wait_for("keepalived's virtual MAC", lambda: rack.lab.client.mac_of(other) == f"00:00:5e:00:01:{theirs:02x}")
    time.sleep(1)
    assert rack.lab.client.mac_of(V4) == virtual_mac(rack, V4)
    assert rack.cluster.holders(V4) == owner
    keepalived.stop()
    assert rack.said("reason=ForeignAddress") == []


def test_a_stranger_with_our_id_and_so_our_virtual_mac_is_noticed_by_its_adverts(rack):
    owner = rack.cluster.holders(V4)
    keepalived = rack.stranger.keepalived(virtual_router_id=rack.router_id(V4), use_vmac="", priority=254,
                                          addresses=[f"{V4}/32"])
    keepalived.master()
    wait_for("a warning", lambda: rack.said("reason=ForeignVirtualRouter"))
    keepalived.stop()
    assert rack.cluster.holders(V4) == owner
    assert rack.lab.client.mac_of(V4) == virtual_mac(rack, V4)
    rack.cluster.serves(V4)
