"""How each fault of plan.py is done to a lab, and undone."""
import os
import signal
import time

from lab import LabError, ip_batch
from plan import KINDS

SLOW_S = 0.3
HOUR_S = 3600
CLOCK_STEPS = [0, 2 * HOUR_S, 25 * HOUR_S, HOUR_S]

# What the switch does not pass on from or to port a.
PATHS = {
    "pair": lambda a, b: [f"iifname {a} oifname {b} drop", f"iifname {b} oifname {a} drop"],
    "oneway": lambda a, b: [f"iifname {a} oifname {b} drop"],
    "deaf": lambda a, b: [f'iifname "lan-n*" oifname {a} drop'],
    "mute": lambda a, b: [f'iifname {a} oifname "lan-n*" drop'],
    "adverts": lambda a, b: [f"iifname {a} ip protocol 112 drop", f"iifname {a} ip6 nexthdr 112 drop"],
}


class Faults:
    """begin() and end() of every kind; a pulse has no end."""

    def __init__(self, rack):
        self.rack = rack
        self.drops = {}  # rules of the switch: {(kind, node, other): rules}
        self.clocks = {}  # {node: by how much its wall clock is wrong}

    def begin(self, kind, node, other):
        if kind in PATHS:
            self.drops[kind, node, other] = PATHS[kind](f'"lan-{node}"', f'"lan-{other}"')
            self._load()
        else:
            getattr(self, "begin_" + kind.replace("-", "_"))(node)

    def end(self, kind, node, other):
        if kind in PATHS:
            del self.drops[kind, node, other]
            self._load()
        else:
            getattr(self, "end_" + kind.replace("-", "_"))(node)

    def _load(self):
        """What the switch does not pass on, all of it at once."""
        rules = "\n".join(rule for rules in self.drops.values() for rule in rules)
        self.rack.lab.switch.run(["nft", "-f", "-"], text="table bridge chaos\ndelete table bridge chaos\n"
                                 "table bridge chaos {\n chain forward {\n"
                                 f" type filter hook forward priority 0; policy accept;\n{rules}\n }}\n}}\n")

    def begin_clock(self, node):
        """Forth and back, by whole hours; not behind the API server's certificate: that would cut it off, as api-cut does."""
        wrong = self.clocks.get(node, 0)
        self.clocks[node] = CLOCK_STEPS[(CLOCK_STEPS.index(wrong) + 1) % len(CLOCK_STEPS)]
        self.rack.speakers[node].step_clock(self.clocks[node])

    # --- processes

    def begin_kill(self, node):
        self.rack.speakers[node].kill()

    def end_kill(self, node):
        self.rack.speakers[node].start()

    def begin_hang(self, node):
        self.rack.speakers[node].hang()

    def end_hang(self, node):
        self.rack.speakers[node].wake()

    def begin_term(self, node):
        self.rack.speakers[node].process.popen.send_signal(signal.SIGTERM)

    def end_term(self, node):
        """It has handed everything over, which takes as long as it takes, and starts again."""
        code = self.rack.speakers[node].process.popen.wait(20)
        if code != 0:
            raise LabError(f"vipd on {node} ended with {code} after SIGTERM")
        self.rack.speakers[node].start()

    def begin_agent(self, node):
        for pid in self.rack.speakers[node].feeders():
            os.kill(pid, signal.SIGKILL)

    def begin_controller(self, _):
        self.rack.speakers.kill_controllers()

    def end_controller(self, _):
        self.rack.start_controller()

    # --- links

    def begin_isolate(self, node):
        self.rack.lab[node].cut(carrier=False)

    def begin_unplug(self, node):
        self.rack.lab[node].cut()

    def end_isolate(self, node):
        self.rack.lab[node].heal()

    end_unplug = end_isolate

    def begin_down(self, node):
        self.rack.lab[node].run(["ip", "link", "set", "eth1", "down"])

    def end_down(self, node):
        ip_batch(self.rack.lab[node].namespace, "link set eth1 up", *self.rack.lab[node].lan_lines())

    def begin_mac(self, node):
        """To another one and back, as a bond does it."""
        target = self.rack.lab[node]
        macs = [target.mac, self.rack.other_mac(node)]
        now = target.ip("link", "show", "dev", "eth1")[0]["address"]
        ip_batch(target.namespace, f"link set eth1 address {macs[now == macs[0]]}")

    # --- what somebody does by hand

    def begin_address(self, node):
        for address in self.rack.addresses:
            length = 128 if ":" in address else 32
            self.rack.lab[node].run(["ip", "address", "delete", f"{address}/{length}", "dev", "eth1"], check=False)

    def begin_flush(self, node):
        self.rack.lab[node].run(["nft", "flush", "ruleset"])

    # --- the API server

    def begin_api_cut(self, node):
        self.rack.lab[node].cut("mgt")

    def end_api_cut(self, node):
        self.rack.lab[node].heal("mgt")

    def begin_api_refused(self, _):
        self.rack.proxy.refuse()

    def begin_api_frozen(self, _):
        self.rack.proxy.freeze()

    def begin_api_slow(self, _):
        self.rack.proxy.delay = SLOW_S

    def end_api_refused(self, _):
        self.rack.proxy.heal()

    end_api_frozen = end_api_slow = end_api_refused

    def begin_server_hang(self, _):
        self.rack.api.freeze_server()

    def end_server_hang(self, _):
        self.rack.api.thaw_server()

    def begin_lease(self, _):
        for path in self.rack.leases():
            self.rack.api.delete(path)


class Happened:
    """One fault as it came about: when its order was given, and when the healing was done."""

    def __init__(self, fault, node, other, episode):
        self.kind, self.node, self.episode = fault.kind, node, episode
        self.everybody = KINDS[fault.kind].group == "all"
        self.other = other if fault.kind in ("pair", "oneway") else None
        self.owner_of = []  # addresses that the node had in that moment
        self.begin = self.end = None

    @property
    def whom(self):
        """As a person reads it."""
        return "everybody" if self.everybody else f"{self.node} {self.other}" if self.other else self.node

    def mark_begin(self):
        self.begin = time.monotonic()

    def mark_end(self):
        self.end = time.monotonic()
