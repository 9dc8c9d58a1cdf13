"""Established connections survive: two hundred TCP connections with data flowing, and what uses UDP.

100 to an IPv4 and 100 to an IPv6 address of one VM, and 30 to an address with three VMs behind it, for each event;
`record_property` makes the table.
"""
import contextlib
import time

import pytest

import manifests
from conftest import BOTH, V4, Rack
from lab import wait_for

SEVERAL = "192.0.2.40"
ONE = dict.fromkeys(BOTH, 100)
EACH = {**ONE, SEVERAL: 30}


@pytest.fixture(scope="module")
def rack_of_module():
    """Adverts every 300 ms, so that a restart in place is in time for the fence on a busy machine."""
    with Rack(vrrp={"advertisementIntervalMilliseconds": 300}) as rack:
        service = manifests.service("several", [SEVERAL], [80, "80/UDP"])
        manifests.write(rack.cluster.folder / "service-several.yaml", service,
                        *manifests.slices(service, list(rack.lab.vms.values())),
                        manifests.virtual_ip(SEVERAL, service, ["n1", "n2", "n3"]))
        rack.cluster.serves(SEVERAL, 80, seconds=20)
        yield rack


class Table:
    """Everything that is to survive, and the row of it."""

    def __init__(self, rack, record_property, each):
        self.record, self.each = record_property, each
        self.streams = {address: rack.client.probe("stream", address, 80, 50, count)
                        for address, count in each.items()}
        self.datagrams = {address: rack.client.probe("udp", address, 80, 10) for address in each}
        for address, probe in self.streams.items():
            wait_for(f"{each[address]} connections to {address}", lambda: sum(
                event["event"] == "connected" for event in probe.events()) == each[address], 20)
        time.sleep(0.3)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for probe in [*self.streams.values(), *self.datagrams.values()]:
            probe.end()
        seen = {address: probe.stop() for address, probe in self.streams.items()}
        udp = {address: probe.stop() for address, probe in self.datagrams.items()}
        if kind:
            return
        self.record("tcp_kept", f"{sum(by['kept'] for by in seen.values())} of {sum(self.each.values())}")
        self.record("tcp_longest_gap_ms", max(by["longest_ms"] for by in seen.values()))
        self.record("udp_longest_gap_ms", max(by["longest_ms"] for by in udp.values()))
        for address, by in seen.items():
            assert (by["kept"], by["lost"], by["corrupt"], by["stuck"]) == (self.each[address], 0, 0, 0), address
        for address, by in udp.items():
            assert not by["dark"], f"UDP to {address} never came back"


@pytest.fixture
def table(rack, record_property):
    return lambda each=EACH: Table(rack, record_property, each)


def heir(rack, lost):
    for address in EACH:
        rack.cluster.owner(address, other_than=lost)


def test_owner_killed(rack, table):
    lost = rack.owner()
    with table():
        rack[lost].kill()
        heir(rack, lost)
        time.sleep(2)


def test_owner_loses_power(rack, table):
    """Of the address with several VMs the connections of one end with the node that it ran on."""
    lost = rack.owner()
    with table(ONE):
        rack.lab[lost].power_off()
        heir(rack, lost)
        time.sleep(2)


@pytest.mark.parametrize("carrier", [True, False], ids=["carrier-lost", "carrier-stays"])
def test_owner_loses_its_link(rack, table, carrier):
    lost = rack.owner()
    with table(ONE):
        rack.lab[lost].cut(carrier=carrier)
        heir(rack, lost)
        time.sleep(1)
        rack.lab[lost].heal()
        time.sleep(2)


def test_planned_handover_and_back(rack, table):
    """What a drain, an upgrade and a deleted pod do: SIGTERM."""
    with table():
        for _ in range(2):
            lost = rack.owner()
            rack[lost].stop()
            heir(rack, lost)
            rack[lost].start()
            rack.cluster.mend()
            time.sleep(0.5)


def test_restart_in_place(rack, table):
    owner = rack.owner()
    with table():
        for _ in range(2):
            rack[owner].restart()
            rack[owner].process.wait_output("ready:")
            time.sleep(2)


def test_every_vipd_restarts_at_once(rack, table):
    with table():
        for daemon in rack.cluster.daemons.values():
            daemon.restart()
        rack.cluster.mend()
        for address in EACH:
            rack.cluster.owner(address)
        time.sleep(2)


def test_ruleset_flushed_on_every_node(rack, table):
    with table():
        for _ in range(3):
            for node in rack.lab.nodes.values():
                node.run(["nft", "flush", "ruleset"])
            time.sleep(1.5)


OTHERS = """
table ip kube-proxy { chain prerouting { type nat hook prerouting priority dstnat; policy accept; }; }
delete table ip kube-proxy
table ip kube-proxy {
  chain prerouting { type nat hook prerouting priority dstnat; policy accept; fib daddr type local tcp dport 30080 dnat to 10.244.1.11:80; }
  chain postrouting { type nat hook postrouting priority srcnat; policy accept; meta mark & 0x4000 == 0x4000 masquerade; }
  chain forward { type filter hook forward priority filter; policy accept; ct state invalid drop; }
}
"""


def test_tables_of_others_are_reloaded(rack, table):
    """kube-proxy's and the CNI's, again and again, as both do at each change."""
    try:
        with table():
            for _ in range(10):
                for node in rack.lab.nodes.values():
                    node.run(["nft", "-f", "-"], text=OTHERS)
                time.sleep(0.2)
    finally:
        for node in rack.lab.nodes.values():
            node.run(["nft", "delete", "table", "ip", "kube-proxy"], check=False)


@contextlib.contextmanager
def deaf(rack):
    """Nodes hear nothing of each other, everything else passes."""
    rack.lab.switch.run(["nft", "-f", "-"], text="""table bridge split {
 chain forward {
  type filter hook forward priority 0; policy accept;
  ip protocol 112 drop
  ip6 nexthdr 112 drop
  iifname "lan-n*" oifname "lan-n*" ether type arp drop
  iifname "lan-n*" oifname "lan-n*" icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } drop
 }
}
""")
    try:
        yield
    finally:
        rack.lab.switch.run(["nft", "delete", "table", "bridge", "split"])


def test_split_brain(rack, table):
    with table():
        with deaf(rack):
            wait_for("two owners", lambda: len(rack.cluster.holders(V4)) >= 2, 10)
            time.sleep(2)
        wait_for("one owner", lambda: len(rack.cluster.holders(V4)) == 1, 10)
        time.sleep(2)
