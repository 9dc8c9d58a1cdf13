"""What a packet pays: through a VIP of vipd, and through what others would put in its place.

Two racks at once, the same client, server and kernel: one has the rules that are measured, the other those that they
are compared with. Windows of a tenth of a second, now on one and now on the other; each pair of them gives a ratio, and
the figure is their median: what a machine shared with others gives changes by half within a minute, and both windows
of a pair have had the same of it. Then the racks change roles, so that what one has and the other has not goes out.
vipd's rules are put there by nft/io, as the engine does. "Shape" is what it says: the rules that kube-proxy makes for
Services of one endpoint (KEP-3866; iptables mode: a list of Services, two chains each), made here, without kube-proxy.
The measured Service is the last one of the list.
"""
import json
import math
import statistics

import pytest

from conftest import ROOT, RUNS
from lab import Lab
from programs import LabError

VIP, CLIENT_ADDRESS = "192.0.2.10", "192.0.2.150"
PORTS = [("tcp", 80), ("tcp", 81), ("udp", 80)]  # of the measured Service
SIZES = [10, 1000, 10_000, 50_000]
PAIRS = max(RUNS // 2, 2)  # of windows, and as many with the racks' roles changed
WINDOW_S = 0.1
CLIENT, SERVER = (["taskset", "-c", cpu, "chrt", "--rr", 20] for cpu in (0, 1))  # what else runs shall not count
SLOW_TO_LOAD = 10_000  # so many of kube-proxy's nftables shape take half a minute, more take many


def nft(node, text):
    node.run(["nft", "-f", "-"], text=text, timeout=300)


def others(count):
    return ((f"198.18.{i // 256}.{i % 256}", f"10.245.{i // 256}.{i % 256}") for i in range(count - 1))


def middle(values):
    """(median, how far off it may be: the notch of a box plot, 1.57 quartile distances over the root of the count)"""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, 1.57 * (high - low) / math.sqrt(len(values))


class Way:
    """How packets get to the VM. `put` sets it up on a rack, which takes it away again."""

    def __init__(self, name, put, address=None):
        self.name, self.put, self.address = name, put, address
        self.figures, self.ratios, self.lost = {}, {}, 0  # of each figure; its ratios: a list for each role of the racks

    def cells(self, name):
        """Median, and that of the ratios; both roles weigh the same."""
        both = [middle(ratios) for ratios in self.ratios[name]]
        ratio = math.prod(median for median, _ in both) ** (1 / len(both))
        return [f"{statistics.median(self.figures[name]):.0f}",
                f"{ratio:.3f} ±{math.hypot(*(off for _, off in both)) / len(both):.3f}"]


class Rack:
    def __init__(self, lab, vm):
        self.lab, self.vm = lab, lab.vms[vm]
        self.owner, self.home = lab["n1"], self.vm.node
        self.load = ROOT / "build/release/test/load"
        self.fill = ROOT / "build/release/test/nft_fill"
        server = self.vm.start("load", [*SERVER, self.load, "serve", 80])
        server.wait_output("ready")
        self.owner.run(["ip", "address", "add", f"{VIP}/32", "dev", "eth1"])
        lab.client.run(["ip", "route", "add", f"{self.vm.address4}/32", "via", self.home.address4])

    # --- ways

    def direct(self):
        pass

    def one_rule(self):
        nft(self.owner, f"""table ip one {{ chain prerouting {{ type nat hook prerouting priority dstnat;
            ip daddr {VIP} meta l4proto {{ tcp, udp }} dnat to {self.vm.address4}; }}
}}""")

    def one_rule_masquerade(self):
        self.one_rule()
        nft(self.owner, f"""table ip one {{ chain postrouting {{ type nat hook postrouting priority srcnat;
            ct original ip daddr {VIP} masquerade; }}
}}""")

    def one_rule_masquerade_tracked(self):
        """Every node of a cluster knows of connections, for kube-proxy and the CNI have it so."""
        self.one_rule_masquerade()
        nft(self.home, "table ip one { chain forward { type filter hook forward priority 0; ct state invalid drop\n}\n}")

    def clear(self):
        for node in self.lab.nodes.values():
            node.run(["nft", "flush", "ruleset"], timeout=300)
        self.forget()
        self.owner.run(["iptables-legacy", "-t", "nat", "-F"], timeout=120)
        self.owner.run(["iptables-legacy", "-t", "nat", "-X"], timeout=120)

    # --- measured

    def ask(self, *words):
        return json.loads(self.lab.client.run([*CLIENT, self.load, *words], timeout=60).stdout)

    def forget(self):
        """What was in flight when the rules before went is known to the kernel as nobody's connection."""
        for node in self.lab.nodes.values():
            node.run(["conntrack", "-F"], check=False)

    def begin(self, way):
        self.address = way.address(self) if way.address else VIP
        way.put(self)
        self.forget()
        self.ask("connect", self.address, 80, 0.2, 32)  # neighbours and caches are warm

    def connections(self):
        said = self.ask("connect", self.address, 80, WINDOW_S, 32)
        assert said["failed"] == 0
        return {"rate": said["per_second"]}

    def latency(self):
        said = self.ask("connect", self.address, 80, WINDOW_S, 1)
        assert said["failed"] == 0
        return {"p50": said["p50_us"], "p99": said["p99_us"]}

    def download(self):
        return self.ask("download", self.address, 81, WINDOW_S)

    def datagrams(self):
        return {"udp": self.ask("udp", self.address, 80, WINDOW_S)["arrived_per_second"]}

    def frames(self):
        """From the client's network card to the VM's, no socket at either end; a flow is asked for by one byte first."""
        first = self.owner if self.address == VIP else self.home
        nft(self.vm, "table netdev end { chain in { type filter hook ingress device eth0 priority 0; udp length 72 drop\n}\n}")
        try:
            return self.ask("frames", "eth1", first.mac, CLIENT_ADDRESS, self.address, 80)
        finally:
            nft(self.vm, "delete table netdev end")
            self.forget()

    WINDOWS = [connections, latency, download, datagrams, frames]


def vipd(count):
    def put(rack):
        for node in {rack.owner.name: rack.owner, rack.home.name: rack.home}.values():
            node.run([rack.fill, count, VIP, rack.vm.address4, "-" if node is rack.home else rack.home.address4,
                      "eth1"], timeout=120)
        nft(rack.owner, f"add element netdev vipd alive4 {{ {VIP} timeout 1h }}")
        nft(rack.home, f"add element netdev vipd peers {{ {rack.owner.mac} }}\n"
                       f"add element inet vipd members {{ {rack.owner.mac} }}" if rack.home is not rack.owner else "")
    return put


def nftables_shape(count):
    def put(rack):
        chains, elements = [], []
        for i, (vip, endpoint) in enumerate([*others(count), (VIP, rack.vm.address4)]):
            for protocol, port in PORTS if vip == VIP else PORTS[:1]:
                name = f"{i}-{protocol}-{port}"
                chains.append(f"chain endpoint-{name} {{ meta l4proto {protocol} dnat to {endpoint}:{port}; }}\n"
                              f"chain service-{name} {{ ip daddr {vip} {protocol} dport {port} ip saddr != 10.244.0.0/16 "
                              f"jump mark-it; numgen random mod 1 vmap {{ 0 : goto endpoint-{name} }}; }}\n")
                elements.append(f"{vip} . {protocol} . {port} : goto service-{name}")
        nft(rack.owner, "table ip kube-proxy {\n chain mark-it { meta mark set meta mark or 0x4000; }\n" + "".join(chains) +
            " map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { " +
            ", ".join(elements) + " } }\n chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }\n"
            " chain prerouting { type nat hook prerouting priority dstnat; jump services; }\n}\n")
    return put


def iptables_shape(count):
    def put(rack):
        chains, rules = ["*nat", ":KUBE-SERVICES - [0:0]"], ["-A PREROUTING -j KUBE-SERVICES"]
        for i, (vip, endpoint) in enumerate([*others(count), (VIP, rack.vm.address4)]):
            for protocol, port in PORTS if vip == VIP else PORTS[:1]:
                name = f"{i}-{protocol}-{port}"
                chains += [f":KUBE-SVC-{name} - [0:0]", f":KUBE-SEP-{name} - [0:0]"]
                rules += [f"-A KUBE-SERVICES -d {vip}/32 -p {protocol} --dport {port} -j KUBE-SVC-{name}",
                          f"-A KUBE-SVC-{name} -j KUBE-SEP-{name}",
                          f"-A KUBE-SEP-{name} -p {protocol} -j DNAT --to-destination {endpoint}:{port}"]
        rack.owner.run(["iptables-legacy-restore"], text="\n".join([*chains, *rules, "COMMIT", ""]), timeout=120)
    return put


def halves(way, base, measured, other):
    """Pairs of windows with these roles: of each figure the ratios, in order."""
    ratios = {}
    try:
        measured.begin(way)
        other.begin(base)
        for pair in range(PAIRS):
            for window in Rack.WINDOWS:
                order = [measured, other] if pair % 2 == 0 else [other, measured]
                try:
                    said = {rack: window(rack) for rack in order}
                except LabError:  # on a busy machine a lost SYN outlasts a window
                    way.lost += 1
                    assert way.lost <= PAIRS // 4, f"{way.name}: nothing came through in {way.lost} windows"
                    continue
                for name, value in said[measured].items():
                    way.figures.setdefault(name, []).append(value)
                    ratios.setdefault(name, []).append(value / said[other][name])
    finally:
        measured.clear()
        other.clear()
    for name, values in ratios.items():
        way.ratios.setdefault(name, []).append(values)


def compare(ways, base, racks, swap=True):
    for way in ways:
        halves(way, base, *racks)
        if swap:
            halves(way, base, *reversed(racks))


FIGURES = {"rate": "new connections/s", "mbit": "download Mbit/s", "p50": "p50 us", "p99": "p99 us", "udp": "UDP packets/s",
           "same_ns": "a packet ns", "new_ns": "of a new flow ns"}
COLUMNS = ["way", *[word for title in FIGURES.values() for word in (title, "x")]]


def report(made, ways):
    for way in ways:
        made.row(way.name, *[cell for name in FIGURES for cell in way.cells(name)])


@pytest.fixture
def racks():
    made = []

    def start(vm):
        for _ in range(2):
            lab = Lab(nodes=3, vms=[("here", "n1", [22]), ("there", "n2", [22])], masquerade=False)
            made.append(lab)
            lab.__enter__()
        return [Rack(lab, vm) for lab in made]
    yield start
    for lab in made:
        lab.down()


TITLE = f"{PAIRS} pairs of windows in each role; x: of"


def test_the_vm_is_on_the_owner(racks, table):
    base = Way("one DNAT rule", Rack.one_rule)
    ways = [Way("direct, no address of a Service", Rack.direct, lambda rack: rack.vm.address4), base]
    ways += [Way(f"vipd, {count} Services", vipd(count)) for count in SIZES]
    ways += [Way(f"kube-proxy nftables shape, {count}", nftables_shape(count)) for count in SIZES
             if count < SLOW_TO_LOAD]
    ways += [Way(f"kube-proxy iptables shape, {count}", iptables_shape(count)) for count in SIZES]
    compare(ways, base, racks("here"))
    report(table(f"data plane, the VM on the owner: {TITLE} one DNAT rule", COLUMNS), ways)


def test_the_vm_is_on_another_node(racks, table):
    base = Way("DNAT and masquerade on the owner", Rack.one_rule_masquerade)
    ways = [Way("direct, no address of a Service", Rack.direct, lambda rack: rack.vm.address4), base,
            Way("the same, the VM's node knows of connections", Rack.one_rule_masquerade_tracked)]
    ways += [Way(f"vipd, {count} Services", vipd(count)) for count in SIZES]
    compare(ways, base, racks("there"))
    report(table(f"data plane, the VM on another node: {TITLE} DNAT and masquerade", COLUMNS), ways)
