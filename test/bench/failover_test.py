"""keepalived beside vipd: the same LAN, the same interval, the same probes, one after the other.

Every event is done RUNS times to each. The client pings the address every 2 ms and asks for it by ARP every
5 ms; the outage is the longest time in which nobody answered the ping.
"""
import time

import pytest

import vipd
from conftest import RUNS, spread
from lab import Lab, LabError, wait_for

ADDRESS = "192.0.2.10"
INTERVAL_MS = 100


class Vipd(vipd.Standalone):
    name = "vipd"

    def __init__(self, lab):
        super().__init__(lab, vrrp={"advertisementIntervalMilliseconds": INTERVAL_MS})
        self.expose("bench", [ADDRESS], [])

    def ready(self, name):
        return (self.daemons[name].status() or {}).get("ready")

    def clear(self, name):
        pass  # what a killed vipd leaves behind expires and is its successor's to keep or remove


class Keepalived:
    name = "keepalived"

    def __init__(self, lab):
        self.lab = lab
        self.processes = {}
        for node in lab.nodes.values():
            (lab.dir / f"keepalived-{node.name}.conf").write_text(f"""
global_defs {{
    vrrp_version 3
    router_id {node.name}
}}
vrrp_instance vip {{
    state BACKUP
    nopreempt
    interface eth1
    virtual_router_id 10
    priority {100 + 10 * node.index}
    advert_int {INTERVAL_MS / 1000}
    virtual_ipaddress {{ {ADDRESS}/32 dev eth1 }}
}}
""")

    def start(self, *names):
        for name in names or self.lab.nodes:
            base = self.lab.dir / f"keepalived-{name}"
            self.processes[name] = self.lab[name].start("keepalived", [
                "keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={base}.conf",
                f"--pid={base}.pid", f"--vrrp_pid={base}.vrrp.pid"])

    def __getitem__(self, name):
        return self.processes[name]

    def answering(self, address):
        mac = self.lab.client.mac_of(address, timeout=0.5)
        return self.lab.node_of_mac(mac) if mac else None

    def ready(self, name):
        return "Entering BACKUP STATE" in self.processes[name].output() or ADDRESS in self.lab[name].addresses()

    def clear(self, name):
        """Nobody but a person takes the address off a node whose keepalived was killed."""
        self.lab[name].run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "eth1"], check=False)


def sigkill(cluster, lab, name):
    cluster[name].kill()


def power_loss(cluster, lab, name):
    lab[name].power_off()


def sigterm(cluster, lab, name):
    process = getattr(cluster[name], "process", cluster[name])
    process.signal(15, everyone=False)


def mend(cluster, lab, name, event):
    if event is power_loss:
        lab[name].power_on()
    if event is sigterm:
        process = getattr(cluster[name], "process", cluster[name])
        process.popen.wait(15)
    cluster.clear(name)
    cluster.start(name)
    wait_for(f"{cluster.name} on {name}", lambda: cluster.ready(name), 15)
    time.sleep(0.5)


def owner_of(cluster):
    return wait_for("an owner", lambda: cluster.answering(ADDRESS), 20)


def once(cluster, lab, event):
    owner = owner_of(cluster)
    ping = lab.client.probe("ping", ADDRESS, 2)
    arp = lab.client.probe("arp", "eth1", ADDRESS, 5)
    time.sleep(0.4)
    event(cluster, lab, owner)
    time.sleep(1.6)
    ping, arp = ping.stop(), arp.stop()
    if ping["dark"]:
        raise LabError(f"{cluster.name}: {ADDRESS} did not come back within 1.6 s after {event.__name__} of {owner}")
    mend(cluster, lab, owner, event)
    return ping["longest_ms"], arp["longest_ms"], arp["two"]


@pytest.mark.parametrize("kind", [Vipd, Keepalived], ids=["vipd", "keepalived"])
def test_failover(kind, table):
    outcome = table(f"failover {kind.name}: {RUNS} of each, adverts every {INTERVAL_MS} ms, milliseconds",
                    ["event", "ping median", "p95", "max", "ARP median", "max", "asked and two answered"])
    with Lab(nodes=3) as lab:
        cluster = kind(lab)
        cluster.start()
        owner_of(cluster)
        wait_for("all to be ready", lambda: all(cluster.ready(name) for name in lab.nodes), 20)
        time.sleep(2)
        for event in (sigkill, power_loss, sigterm):
            results = [once(cluster, lab, event) for _ in range(RUNS)]
            ping, arp = spread([r[0] for r in results]), spread([r[1] for r in results])
            two = sum(r[2] for r in results)
            outcome.row(event.__name__, *ping, arp[0], arp[2], two)
            if kind is Vipd:
                assert two == 0, f"{event.__name__}: two nodes answered {two} ARP requests"
