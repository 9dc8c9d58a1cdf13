"""keepalived in a candidate's place, where there is no Lease: plain VRRP is spoken between it and us.

keepalived has n1's address, vipd runs on n2. IPv6, because keepalived's version 3 over IPv4 takes our checksum for
damaged (`version2_test.py` has IPv4).
"""
import time

import pytest

from conftest import V4, V6, Capture, Keepalived, Rack
from lab import wait_for


class Peers(Rack):
    def __enter__(self):
        super().__enter__()
        self.cluster["n1"].stop()
        # What vipd leaves for established connections has the fence in it, made for the interval of vipd's adverts.
        self.lab["n1"].run(["nft", "delete", "table", "netdev", "vipd"])
        wait_for("n2 to serve", lambda: self.cluster.answering(V6) == "n2", 10)
        self.identity = self.router_id(V6)
        capture, rows = Capture(self.lab.client), f"ipv6 and vrrp.virt_rtr_id == {self.identity}"
        capture.wait(1, rows)
        ours = capture.read("vrrp.prio", "vrrp.ipv6_addr", rows=rows)[0]
        self.priority, self.link_local = int(ours["vrrp.prio"]), ours["vrrp.ipv6_addr"]
        return self

    def peer(self, **settings):
        return Keepalived(self.lab["n1"], {"virtual_router_id": self.identity, **settings,
                                           "addresses": [f"{self.link_local}/64", f"{V6}/128"]})

    def owners(self):
        """Who has the address; both, while one of them takes it over."""
        return self.cluster.holders(V6)

    def belongs_to(self, name, seconds=10):
        wait_for(f"{name} alone to have {V6}", lambda: self.owners() == [name], seconds)
        wait_for(f"{name} to answer for {V6}", lambda: self.cluster.answering(V6) == name, seconds)


@pytest.fixture(scope="module")
def rack_of_module():
    with Peers() as rack:
        yield rack


@pytest.fixture(name="peers")
def peers_of(rack):
    yield rack
    for process in rack.lab.processes:
        if process.alive() and process.name == "n1/keepalived":
            process.stop()
    rack.belongs_to("n2")


@pytest.mark.parametrize("above, settings", [(-1, {}), (0, {}), (100, {"nopreempt": ""})],
                         ids=["lower", "equal", "higher, but nopreempt"])
def test_a_backup_that_hears_us_stays_one(peers, above, settings):
    peer = peers.peer(priority=peers.priority + above, **settings)
    peer.says("Entering BACKUP STATE")
    counted = wait_for("ten adverts heard", lambda: (found := peer.statistics())["Advertisements"]["Received"] >= 10
                       and found, 10, 0.2)
    assert "Entering MASTER" not in peer.process.output() and peers.owners() == ["n2"]
    assert counted["Advertisements"]["Sent"] == 0
    assert not any(counted["Packet Errors"].values()), counted


@pytest.mark.parametrize("interval_s", [0.1, 0.4])
@pytest.mark.parametrize("end", ["resigns", "is killed"])
def test_a_better_one_preempts_us_and_we_back_it_up(peers, end, interval_s):
    peer = peers.peer(priority=peers.priority + 100, advert_int=interval_s)
    peer.master()
    peers.belongs_to("n1")
    time.sleep(2)
    assert peers.owners() == ["n1"] and peer.process.output().count("Entering MASTER STATE") == 1
    if end == "resigns":
        peer.stop()
    else:
        peer.process.kill()
        for address in (f"{V6}/128", f"{peers.link_local}/64"):
            peers.lab["n1"].run(["ip", "address", "del", address, "dev", "eth1"], check=False)
    peers.belongs_to("n2")


def test_unicast_adverts_reach_candidates_alone_and_keep_the_fence_open():
    """Two vipd: nothing goes to the group, and an owner that dies is replaced all the same."""
    with Rack(vrrp={"mode": "unicast"}) as rack:
        owners = {address: rack.cluster.owner(address) for address in (V4, V6)}
        group, here = (Capture(rack.lab.client, "ip host 224.0.0.18 or ip6 host ff02::12"),
                       Capture(rack.lab["n2" if owners[V4] == "n1" else "n1"]))
        watch = rack.cluster.watch(V4, V6, kinds=("arp",))
        for hops in ("ip.ttl == 255", "ipv6.hlim == 255"):
            here.wait(10, f"vrrp and {hops}")
        for by in watch.stop().values():
            assert by["arp"]["outages"] == 0 and by["arp"]["two"] == 0
        assert group.read("vrrp.prio") == []
        rack.cluster[owners[V4]].kill()
        for address in (V4, V6):
            assert rack.cluster.owner(address, other_than=owners[V4])
        assert rack.lab.sanitizer_reports() == []
