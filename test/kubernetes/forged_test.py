"""Adverts of somebody else that bear a member's address: with a Lease as second witness they move nothing."""
import socket
import struct
import time

import pytest

from lab import wait_for
from speaker_test import ROUTERS, V4, rack, seen, watched  # noqa: F401  (rack: a fixture)
from stranger import GROUP4, Stranger, advert, checksum

VRID4 = 10
STRANGER = "sender is no candidate, or nothing else confirms what it says"


def forged(member, priority):
    """An Ethernet frame from nobody's MAC with an advert that `member` seems to have sent."""
    body = advert(VRID4, (V4,), priority=priority)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0xc0, 20 + len(body), 0, 0, 255, 112, 0,
                       socket.inet_aton(member), socket.inet_aton(GROUP4))
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return bytes.fromhex("01005e000012" "0200000000ee" "0800") + head + body


def told(rack, node):
    return [line for line in rack[node].log().splitlines() if "reason=ForeignVirtualRouter" in line]


@pytest.mark.parametrize("who, priority", [("owner", 0), ("backup", 255), ("backup", 50)])
def test_an_advert_in_a_members_name_moves_nothing(rack, who, priority):  # noqa: F811
    """For three seconds, twice an interval: as the owner that resigns, as a confirmed one, as a deaf weak one."""
    rack.expose(V4)
    owner = rack.speakers.owner(V4)
    rack.recorded(V4, owner)
    backups = sorted({"n1", "n2", "n3"} - {owner})
    named = owner if who == "owner" else backups[0]
    judges = backups if who == "owner" else [owner, backups[1]]
    before = rack.lease(), rack.status()["transitions"]
    probes = watched(rack, V4)
    for _ in range(60):
        Stranger(rack.client).frames(forged(f"192.0.2.{named[1:]}", priority))
        time.sleep(0.05)
    found = seen(probes)[V4]
    assert found["arp"]["outages"] == 0 and found["arp"]["two"] == 0, found
    assert found["arp"]["answerers"] == [rack.lab[owner].mac]
    lease = rack.lease()
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == (
        before[0]["spec"]["holderIdentity"], before[0]["spec"]["leaseTransitions"]), ROUTERS[V4]
    assert rack.status()["transitions"] == before[1]
    wait_for("it to be reported", lambda: any(told(rack, node) for node in judges), 3)
    assert any(rack[node].status()["adverts"][STRANGER] > 0 for node in judges)
    assert all(named in line for node in judges for line in told(rack, node))


def test_adverts_in_the_name_of_an_owner_that_hangs_do_not_hide_it(rack):  # noqa: F811
    """Its kernel answers for its own address, not for the VIP: three questions tell before its Lease (30 s) does."""
    rack.expose(V4)
    owner = rack.speakers.owner(V4)
    rack.recorded(V4, owner)
    began = time.monotonic()
    hung = None
    frame = forged(f"192.0.2.{owner[1:]}", 228)

    def goes_on():
        nonlocal hung
        Stranger(rack.client).frames(frame)
        if not hung and time.monotonic() - began > 3:
            rack[owner].hang()
            hung = time.monotonic()
        return hung and rack.speakers.answering(V4, timeout=0.05) not in (owner, None)

    try:
        wait_for("another owner, in spite of the adverts", goes_on, 22, every=0.03)
    finally:
        rack[owner].wake()
    rack.speakers.owner(V4, other_than=owner)
