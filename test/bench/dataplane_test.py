"""What a packet pays: through a VIP of vipd, and through what others would put in its place.

One after the other on the same rack, the same client, server and kernel, client and server on a processor each.
Before and after each way the one that it is compared with is measured again, and its figure divided by the mean of
the two: what a machine shared with others gives changes by half within a minute. vipd's rules are put there by nft/io, as the engine does. "Shape" is what it
says: the rules that kube-proxy makes for Services of one endpoint (KEP-3866; iptables mode: a list of Services,
two chains each), made here, without kube-proxy. The measured Service is the last one of the list.
"""
import json
import statistics

import pytest

from conftest import ROOT, RUNS
from lab import Lab

VIP, CLIENT_ADDRESS = "192.0.2.10", "192.0.2.150"
PORTS = [("tcp", 80), ("tcp", 81), ("udp", 80)]  # of the measured Service
SIZES = [10, 1000, 10_000, 50_000]
ROUNDS = min(RUNS, 5)
CLIENT, SERVER = (["taskset", "-c", cpu, "chrt", "--rr", 20] for cpu in (0, 1))  # what else runs shall not count
SLOW_TO_LOAD = 10_000  # so many of kube-proxy's nftables shape take half a minute, more take many


def nft(node, text):
    node.run(["nft", "-f", "-"], text=text, timeout=300)


def others(count):
    return ((f"198.18.{i // 256}.{i % 256}", f"10.245.{i // 256}.{i % 256}") for i in range(count - 1))


class Way:
    """How packets get to the VM: set up on the owner (and where the VM is), measured, taken away."""

    def __init__(self, name, put, address=VIP):
        self.name, self.put, self.address = name, put, address
        self.figures, self.ratios = {}, {}

    def note(self, figures, before, after):
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)
            self.ratios.setdefault(name, []).append(2 * value / (before[name] + after[name]))

    def cells(self, name):
        """Median, median of the ratios, and between what half of those are."""
        low, middle, high = statistics.quantiles(self.ratios[name], n=4, method="inclusive") \
            if len(self.ratios[name]) > 1 else self.ratios[name] * 3
        return [f"{statistics.median(self.figures[name]):.0f}", f"{middle:.2f} ({low:.2f}-{high:.2f})"]


class Bench:
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
                for protocol, port in PORTS if vip == VIP else PORTS[:1]:
                    name = f"{i}-{protocol}-{port}"
                    chains.append(f"chain endpoint-{name} {{ meta l4proto {protocol} dnat to {endpoint}:{port}; }}\n"
                                  f"chain service-{name} {{ ip daddr {vip} {protocol} dport {port} ip saddr != 10.244.0.0/16 "
                                  f"jump mark-it; numgen random mod 1 vmap {{ 0 : goto endpoint-{name} }}; }}\n")
                    elements.append(f"{vip} . {protocol} . {port} : goto service-{name}")
            nft(self.owner, "table ip kube-proxy {\n chain mark-it { meta mark set meta mark or 0x4000; }\n" + "".join(chains) +
                " map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { " +
                ", ".join(elements) + " } }\n chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }\n"
                " chain prerouting { type nat hook prerouting priority dstnat; jump services; }\n}\n")
        return put

    def iptables_shape(self, count):
        def put():
            chains, rules = ["*nat", ":KUBE-SERVICES - [0:0]"], ["-A PREROUTING -j KUBE-SERVICES"]
            for i, (vip, endpoint) in enumerate([*others(count), (VIP, self.vm.address4)]):
                for protocol, port in PORTS if vip == VIP else PORTS[:1]:
                    name = f"{i}-{protocol}-{port}"
                    chains += [f":KUBE-SVC-{name} - [0:0]", f":KUBE-SEP-{name} - [0:0]"]
                    rules += [f"-A KUBE-SERVICES -d {vip}/32 -p {protocol} --dport {port} -j KUBE-SVC-{name}",
                              f"-A KUBE-SVC-{name} -j KUBE-SEP-{name}",
                              f"-A KUBE-SEP-{name} -p {protocol} -j DNAT --to-destination {endpoint}:{port}"]
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
        return json.loads(self.lab.client.run([*CLIENT, self.load, *words], timeout=60).stdout)

    def measure(self, way):
        way.put()
        try:
            # What was in flight when the rules before went is known to the kernel as nobody's connection.
            for node in self.lab.nodes.values():
                node.run(["conntrack", "-F"], check=False)
            self.ask("connect", way.address, 80, 0.2, 32)  # neighbours and caches are warm
            many = self.ask("connect", way.address, 80, 0.6, 32)
            one = self.ask("connect", way.address, 80, 0.4, 1)
            assert many["failed"] + one["failed"] == 0, way.name
            return {"rate": many["per_second"], "p50": one["p50_us"], "p99": one["p99_us"],
                    "mbit": self.ask("download", way.address, 81, 0.4)["mbit"],
                    "udp": self.ask("udp", way.address, 80, 0.4)["arrived_per_second"], **self.frames(way)}
        finally:
            self.clear()

    def frames(self, way):
        """From the client's network card to the VM's, no socket at either end; a flow is asked for by one byte first."""
        first = self.owner if way.address == VIP else self.home
        nft(self.vm, "table netdev end { chain in { type filter hook ingress device eth0 priority 0; udp length 72 drop\n}\n}")
        try:
            return self.ask("frames", "eth1", first.mac, CLIENT_ADDRESS, way.address, 80)
        finally:
            nft(self.vm, "delete table netdev end")

    def compare(self, ways, base):
        before = self.measure(base)
        for _ in range(ROUNDS):
            for way in ways:
                figures, after = self.measure(way), self.measure(base)
                way.note(figures, before, after)
                before = after


FIGURES = {"rate": "new connections/s", "mbit": "download Mbit/s", "p50": "p50 us", "p99": "p99 us", "udp": "UDP packets/s",
           "same_ns": "a packet ns", "new_ns": "of a new flow ns"}
COLUMNS = ["way", *[word for title in FIGURES.values() for word in (title, "x")]]


def report(made, ways):
    for way in ways:
        made.row(way.name, *[cell for name in FIGURES for cell in way.cells(name)])


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
    base = Way("one DNAT rule", bench.one_rule)
    ways = [Way("direct, no address of a Service", bench.direct, bench.vm.address4), base]
    ways += [Way(f"vipd, {count} Services", bench.vipd(count)) for count in SIZES]
    ways += [Way(f"kube-proxy nftables shape, {count}", bench.nftables_shape(count)) for count in SIZES
             if count < SLOW_TO_LOAD]
    ways += [Way(f"kube-proxy iptables shape, {count}", bench.iptables_shape(count)) for count in SIZES]
    bench.compare(ways, base)
    report(table(f"data plane, the VM on the owner: {ROUNDS} rounds; x: of one DNAT rule (half of the rounds)", COLUMNS), ways)


def test_the_vm_is_on_another_node(bench, table):
    bench = bench("there")
    base = Way("DNAT and masquerade on the owner", bench.one_rule_masquerade)
    ways = [Way("direct, no address of a Service", bench.direct, bench.vm.address4), base]
    ways += [Way(f"vipd, {count} Services", bench.vipd(count)) for count in SIZES]
    bench.compare(ways, base)
    report(table(f"data plane, the VM on another node: {ROUNDS} rounds; x: of DNAT and masquerade (half of the rounds)", COLUMNS), ways)
