"""A pool with `vrrp: {version: 2}`: keepalived's version 2 takes our adverts for what they are."""
import time

from conftest import V4, Capture

POOL = {"vrrp": {"version": 2, "advertisementIntervalMilliseconds": 1000}}


def test_keepalived_as_a_backup_of_version_2_believes_us(rack):
    identity = rack.router_id(V4)
    keepalived = rack.stranger.keepalived(version=2, virtual_router_id=identity, priority=50, advert_int=1,
                                          addresses=[f"{V4}/32"])
    keepalived.says("Entering BACKUP STATE")
    time.sleep(5)  # it would take over after 3.8 s of silence
    counted = keepalived.statistics()
    keepalived.stop()
    assert "MASTER" not in keepalived.process.output()
    assert counted["Advertisements"]["Received"] >= 4 and counted["Advertisements"]["Sent"] == 0
    assert not any(counted["Packet Errors"].values()), counted
    assert not any(counted["Authentication Errors"].values()), counted
    assert "nvalid" not in keepalived.process.output()


def test_tshark_finds_nothing_wrong_with_version_2(rack):
    capture = Capture(rack.lab.client)
    time.sleep(3.2)
    frames = capture.read("ip.ttl", "vrrp.version", "vrrp.adver_int", "vrrp.auth_type", "vrrp.checksum.status",
                          "vrrp.ip_addr", "_ws.malformed", "_ws.expert.message")
    assert 2 <= len(frames) <= 4
    for frame in frames:
        assert "_ws.malformed" not in frame and "_ws.expert.message" not in frame
        assert frame["ip.ttl"] == "255" and frame["vrrp.version"] == "2"
        assert frame["vrrp.adver_int"] == "1" and frame["vrrp.auth_type"] == "0"
        assert frame["vrrp.checksum.status"] == "1" and frame["vrrp.ip_addr"] == V4


def test_the_fence_knows_version_2(rack):
    owner = rack.cluster.owner(V4)
    rack.cluster.serves(V4)
    rack.cluster[owner].process.signal(19)  # SIGSTOP: no advert leaves any more
    try:
        time.sleep(2.7)
        rack.lab.client.run(["ip", "neighbour", "flush", "all"])
        assert rack.cluster.answering(V4) != owner
        assert rack.cluster.owner(V4, 10, other_than=owner)
    finally:
        rack.cluster[owner].process.signal(18)
    rack.cluster.serves(V4)
