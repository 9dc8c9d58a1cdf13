"""What a packet pays: through a VIP of vipd, and through what others would put in its place.

One after the other on the same rack, the same client, server and kernel; each figure is divided by that of one
plain DNAT rule of the same round. vipd's rules are put there by nft/io, as the engine does. "Shape" is what it
says: the rules that kube-proxy makes for Services of one endpoint (KEP-3866; iptables mode: a list of Services,
two chains each), made here, without kube-proxy. The measured Service is the last one of the list.
"""
import json
import statistics

import pytest

from conftest import ROOT, RUNS
from lab import Lab

VIP = "192.0.2.10"
SIZES = [10, 1000, 10_000, 50_000]
ROUNDS = min(RUNS, 3)
FIRST = ["chrt", "--rr", 20]  # what else runs on the machine shall not count
SLOW_TO_LOAD = 10_000  # so many of kube-proxy's nftables shape take half a minute, more take many


def nft(node, text):
    node.run(["nft", "-f", "-"], text=text, timeout=300)


def others(count):
    return ((f"198.18.{i // 256}.{i % 256}", f"10.245.{i // 256}.{i % 256}") for i in range(count - 1))


class Way:
    """How packets get to the VM: set up on the owner (and where the VM is), measured, taken away."""

    def __init__(self, name, put, address=VIP):
        self.name, self.put, self.address = name, put, address
        self.figures = {}

    def note(self, **more):
        for name, value in more.items():
            self.figures.setdefault(name, []).append(value)

    def median(self, name):
        return statistics.median(self.figures[name])


class Bench:
    def __init__(self, lab, vm):
        self.lab, self.vm = lab, lab.vms[vm]
        self.owner, self.home = lab["n1"], self.vm.node
        self.load = ROOT / "build/release/test/load"
        self.fill = ROOT / "build/release/test/nft_fill"
        server = self.vm.start("load", [*FIRST, self.load, "serve", 80])
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

    def vipd(self, count):
        def put():
            for node in {self.owner.name: self.owner, self.home.name: self.home}.values():
                node.run([self.fill, count, VIP, self.vm.address4, "-" if node is self.home else self.home.address4,
                          "eth1"], timeout=120)
            nft(self.owner, f"add element netdev vipd alive4 {{ {VIP} timeout 1h }}")
            nft(self.home, f"add element netdev vipd peers {{ {self.owner.mac} }}\n"
                           f"add element inet vipd members {{ {self.owner.mac} }}" if self.home is not self.owner else "")
        return put

    def nftables_shape(self, count):
        def put():
            chains, elements = [], []
            for i, (vip, endpoint) in enumerate([*others(count), (VIP, self.vm.address4)]):
                for port in (80, 81) if vip == VIP else (80,):
                    chains.append(f"chain endpoint-{i}-{port} {{ meta l4proto tcp dnat to {endpoint}:{port}; }}\n"
                                  f"chain service-{i}-{port} {{ ip daddr {vip} tcp dport {port} ip saddr != 10.244.0.0/16 "
                                  f"jump mark-it; numgen random mod 1 vmap {{ 0 : goto endpoint-{i}-{port} }}; }}\n")
                    elements.append(f"{vip} . tcp . {port} : goto service-{i}-{port}")
            nft(self.owner, "table ip kube-proxy {\n chain mark-it { meta mark set meta mark or 0x4000; }\n" + "".join(chains) +
                " map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { " +
                ", ".join(elements) + " } }\n chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }\n"
                " chain prerouting { type nat hook prerouting priority dstnat; jump services; }\n}\n")
        return put

    def iptables_shape(self, count):
        def put():
            chains, rules = ["*nat", ":KUBE-SERVICES - [0:0]"], ["-A PREROUTING -j KUBE-SERVICES"]
            for i, (vip, endpoint) in enumerate([*others(count), (VIP, self.vm.address4)]):
                for port in (80, 81) if vip == VIP else (80,):
                    chains += [f":KUBE-SVC-{i}-{port} - [0:0]", f":KUBE-SEP-{i}-{port} - [0:0]"]
                    rules += [f"-A KUBE-SERVICES -d {vip}/32 -p tcp -m tcp --dport {port} -j KUBE-SVC-{i}-{port}",
                              f"-A KUBE-SVC-{i}-{port} -j KUBE-SEP-{i}-{port}",
                              f"-A KUBE-SEP-{i}-{port} -p tcp -m tcp -j DNAT --to-destination {endpoint}:{port}"]
            self.owner.run(["iptables-legacy-restore"], text="\n".join([*chains, *rules, "COMMIT", ""]), timeout=120)
        return put

    def clear(self):
        for node in self.lab.nodes.values():
            node.run(["nft", "flush", "ruleset"], timeout=300)
            node.run(["conntrack", "-F"], check=False)
        self.owner.run(["iptables-legacy", "-t", "nat", "-F"], timeout=120)
        self.owner.run(["iptables-legacy", "-t", "nat", "-X"], timeout=120)

    # --- measured

    def ask(self, *words):
        return json.loads(self.lab.client.run([*FIRST, self.load, *words], timeout=60).stdout)

    def measure(self, way, udp=False):
        way.put()
        try:
            # What was in flight when the rules before went is known to the kernel as nobody's connection.
            for node in self.lab.nodes.values():
                node.run(["conntrack", "-F"], check=False)
            self.ask("connect", way.address, 80, 0.2, 32)  # neighbours and caches are warm
            many = self.ask("connect", way.address, 80, 1.5, 32)
            one = self.ask("connect", way.address, 80, 1, 1)
            assert many["failed"] + one["failed"] == 0, way.name
            way.note(rate=many["per_second"], p50=one["p50_us"], p99=one["p99_us"],
                     mbit=self.ask("download", way.address, 81, 1)["mbit"])
            if udp:
                way.note(udp=self.ask("udp", way.address, 80, 1)["arrived_per_second"])
        finally:
            self.clear()


def report(made, ways, base, udp=False):
    by = {way.name: way for way in ways}[base]
    for way in ways:
        cells = [way.name]
        for name in ("rate", "mbit", "p50", "p99", *(["udp"] if udp else [])):
            ratios = [a / b for a, b in zip(way.figures[name], by.figures[name])]
            cells += [f"{way.median(name):.0f}", f"{statistics.median(ratios):.2f}"]
        made.row(*cells)


COLUMNS = ["way", "new connections/s", "x", "download Mbit/s", "x", "p50 us", "x", "p99 us", "x"]


@pytest.fixture
def bench():
    made = []

    def start(vm):
        lab = Lab(nodes=3, vms=[("here", "n1", [22]), ("there", "n2", [22])], masquerade=False)
        lab.__enter__()
        made.append(lab)
        return Bench(lab, vm)
    yield start
    for lab in made:
        lab.down()


def test_the_vm_is_on_the_owner(bench, table):
    bench = bench("here")
    ways = [Way("direct, no address of a Service", bench.direct, bench.vm.address4), Way("one DNAT rule", bench.one_rule)]
    ways += [Way(f"vipd, {count} Services", bench.vipd(count)) for count in SIZES]
    ways += [Way(f"kube-proxy nftables shape, {count}", bench.nftables_shape(count)) for count in SIZES
             if count < SLOW_TO_LOAD]
    ways += [Way(f"kube-proxy iptables shape, {count}", bench.iptables_shape(count)) for count in SIZES]
    for _ in range(ROUNDS):
        for way in ways:
            bench.measure(way)
    report(table(f"data plane: the VM is on the owner ({ROUNDS} rounds; x: of one DNAT rule)", COLUMNS), ways,
           "one DNAT rule")


def test_the_vm_is_on_another_node(bench, table):
    bench = bench("there")
    ways = [Way("direct, no address of a Service", bench.direct, bench.vm.address4),
            Way("DNAT and masquerade on the owner", bench.one_rule_masquerade)]
    ways += [Way(f"vipd, {count} Services", bench.vipd(count)) for count in SIZES]
    for _ in range(ROUNDS):
        for way in ways:
            bench.measure(way, udp=True)
    report(table(f"data plane: the VM is on another node ({ROUNDS} rounds; x: of DNAT and masquerade)",
                 [*COLUMNS, "UDP packets/s", "x"]), ways, "DNAT and masquerade on the owner", udp=True)
