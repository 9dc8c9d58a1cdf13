"""vipd and keepalived on the nodes of a lab, so that a bench does the same to both."""
import re

import vipd
from lab import wait_for

ADDRESS = "192.0.2.10"
INTERVAL_MS = 100


class Vipd(vipd.Standalone):
    name = "vipd"

    def __init__(self, lab, interval_ms=INTERVAL_MS):
        super().__init__(lab, vrrp={"advertisementIntervalMilliseconds": interval_ms})
        self.expose("bench", [ADDRESS], [])

    def process(self, name):
        return self.daemons[name].process

    def ready(self, name):
        return (self.daemons[name].status() or {}).get("ready")

    def clear(self, name):
        pass  # what a killed vipd leaves behind expires and is its successor's to keep or remove

    def takeovers(self):
        """How often a node believed that it had to take the address."""
        return sum(len(re.findall(rf" new_owner={name} ", daemon.log())) for name, daemon in self.daemons.items())


class Keepalived:
    """Debian's, as it is: its packets have the node's own MAC, and nobody preempts."""
    name = "keepalived"

    def __init__(self, lab, interval_ms=INTERVAL_MS, addresses=(ADDRESS,)):
        self.lab, self.addresses = lab, list(addresses)
        self.processes = {}
        # An advert has room for twenty; keepalived wants the others apart.
        inside, outside = ("".join(f"        {address}/32 dev eth1\n" for address in some)
                           for some in (self.addresses[:20], self.addresses[20:]))
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
    advert_int {interval_ms / 1000}
    virtual_ipaddress {{
{inside}    }}
    virtual_ipaddress_excluded {{
{outside}    }}
}}
""")

    def start(self, *names):
        for name in names or self.lab.nodes:
            base = self.lab.dir / f"keepalived-{name}"
            self.processes[name] = self.lab[name].start("keepalived", [
                "keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={base}.conf",
                f"--pid={base}.pid", f"--vrrp_pid={base}.vrrp.pid"])

    def process(self, name):
        return self.processes[name]

    def answering(self, address):
        mac = self.lab.client.mac_of(address, timeout=0.5)
        return self.lab.node_of_mac(mac) if mac else None

    def ready(self, name):
        return "Entering BACKUP STATE" in self.processes[name].output() or ADDRESS in self.lab[name].addresses()

    def clear(self, name):
        """Nobody but a person takes the address off a node whose keepalived was killed."""
        self.lab[name].run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "eth1"], check=False)

    def takeovers(self):
        return sum(process.output().count("Entering MASTER STATE") for process in self.processes.values())


def owner_of(cluster, address=ADDRESS):
    return wait_for("an owner", lambda: cluster.answering(address), 60)


def settled(cluster, lab):
    """All of them are there and one has the address."""
    cluster.start()
    owner_of(cluster)
    wait_for("all to be ready", lambda: all(cluster.ready(name) for name in lab.nodes), 20)
