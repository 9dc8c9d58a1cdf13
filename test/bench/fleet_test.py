"""Ten thousand Services, two speakers and the controller, all ended at once and started anew: how soon all is as it
was, what memory that takes, and every single write that it causes. One that changes nothing fails the run.

The Services are copies (copies.py) that come up as if they had been there; each has an EndpointSlice, all of one VM.
"""
import collections
import contextlib
import datetime
import hashlib
import json
import os
import time

import manifests
import processes
import vipd
from audit import Audit
from controllers import LEASES, POOLS, SERVICES, SPEAKERS, VIPS
from copies import Copier, JsonCluster, everything
from lab import Lab, wait_for
from memory_test import PATIENCE, SLICES

COUNT = int(os.environ.get("VIPD_BENCH_SERVICES", "10000").split(",")[-1])
NODES, SAMPLES = int(os.environ.get("VIPD_BENCH_NODES", "2")), 20
REST = 10  # seconds without a write
LONG = max(3 * PATIENCE, COUNT // 50)  # seconds for all of them
TOLD = "everything the API server knows has been told to the engine"
# Once a second: three engines with realtime priority and the API server share two cores here.
POOL = {"addresses": ["10.64.1.0-10.65.127.255"], "vrrp": {"advertisementIntervalMilliseconds": 1000}}
ALIVE = ("vipd-controller", *(f"speaker-n{number}" for number in range(1, NODES + 1)))  # Leases: signs of life


class FleetCluster(JsonCluster):
    def __init__(self):
        super().__init__()
        self.audit = Audit(self.dir, "RequestResponse", ("create", "update", "patch", "delete"))
        self.server_options = [*self.server_options, *self.audit.options]


def expose(api, lab, name):
    service = manifests.service(name, [], selector={"nobody": "x"})
    del service["spec"]["selector"]  # no controller makes slices of its own then
    service["spec"]["clusterIP"] = "10.96.127.254"  # none of the copies' (copies.py)
    service["spec"]["allocateLoadBalancerNodePorts"] = False
    api.create(SERVICES, service)
    made = api.create(SLICES, manifests.endpoint_slice(service, [lab.vms["test-vm-1"]]))
    return made["metadata"]["name"]


def on_nodes(lab):
    """{address: nodes} of those that are no node's own."""
    return collections.Counter(
        address for node in lab.nodes.values() for address in node.addresses("eth1")
        if address.startswith(("10.64.", "10.65.")) and not address.startswith("10.64.0."))


def rules_of(node):
    """For how many ports of Services the kernel has an endpoint."""
    return node.run(["nft", "list", "map", "inet", "vipd", "service4"], check=False).stdout.count(" . tcp . ")


def join(node):
    node.run(["ip", "address", "add", f"10.64.0.{getattr(node, 'index', 100)}/10", "dev", "eth1"])


def told_after(daemon, started):
    """Seconds (wall clock) after which the agent knew everything; None: not yet."""
    for line in daemon.process.output().splitlines():
        if TOLD in line:
            when = datetime.datetime.fromisoformat(line.partition("time=")[2].split(" ")[0].replace("Z", "+00:00"))
            return when.timestamp() - started
    return None


# --- what was written


def contents(api):
    """{(resource, name): (version, digest of all that anybody said)}"""
    found = {}
    for path in (SERVICES, VIPS, POOLS, SPEAKERS, LEASES):
        for thing in everything(api, path):
            version = thing["metadata"].pop("resourceVersion")
            thing["metadata"].pop("managedFields", None)
            text = json.dumps(thing, sort_keys=True).encode()
            found[path.rpartition("/")[2], thing["metadata"]["name"]] = version, hashlib.sha1(text).digest()
    return found


class Write:
    def __init__(self, event):
        what, answer = event["objectRef"], event.get("responseObject") or {}
        self.thing = what["resource"], what.get("name") or answer.get("metadata", {}).get("name")
        self.kind = "/".join(filter(None, (what["resource"], what.get("subresource"))))
        self.code = event.get("responseStatus", {}).get("code", 0)
        self.version = answer.get("metadata", {}).get("resourceVersion")
        self.said = event.get("requestObject")
        self.verb, self.who = event["verb"], event["user"]["username"].rpartition("-")[2]
        self.alive = self.thing[0] == "leases" and self.thing[1] in ALIVE
        self.at = datetime.datetime.fromisoformat(event["stageTimestamp"].replace("Z", "+00:00")).timestamp()

    def __repr__(self):
        return f"{self.who}: {self.verb} {self.kind} {self.thing[1]}: {self.code} {json.dumps(self.said)}"


class Ledger:
    """Every write of vipd's but the signs of life."""

    def __init__(self, api):
        self.audit, self.writes = api.audit, []

    def follow(self):
        found = [write for write in map(Write, self.audit.fresh()) if not write.alive]
        self.writes += found
        return found

    def settle(self, seconds=600):
        """Waits until there was none for a while."""
        last = end = time.monotonic()
        while time.monotonic() - last < REST:
            if self.follow():
                last = time.monotonic()
            assert time.monotonic() - end < seconds, self.writes[-10:]
            time.sleep(0.5)

    def begin(self):
        self.follow()
        self.writes = []

    def idle(self, before):
        """Those whose answer is a version that there was already: they changed nothing."""
        known = {thing: {version} for thing, (version, _) in before.items()}
        found = []
        for write in self.writes:
            if write.code in (200, 201) and write.version:
                versions = known.setdefault(write.thing, set())
                if write.version in versions:
                    found.append(write)
                versions.add(write.version)
        return found

    def kinds(self):
        counts = collections.Counter(write.kind if write.code < 300 else f"{write.kind} ({write.code})"
                                     for write in self.writes)
        return ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "none"


# --- the two ways to start anew


def programs_killed(cluster):
    for daemon in cluster.daemons.values():
        daemon.kill()


def power_lost(cluster):
    for daemon in cluster.daemons.values():
        daemon.node.power_off()
        daemon.forget()
    for daemon in cluster.daemons.values():
        daemon.node.power_on()
        join(daemon.node)


class Fleet:
    """Speakers on `nodes`. They own every address, or, without `owners`, those in the first one's virtual router: all others belong
    to a node that is not here, as for most nodes of a large cluster, and no controller runs, which would miss that node."""

    def __init__(self, api, lab, nodes=None, owners=True, apart=False):
        self.api, self.lab, self.owners, self.apart = api, lab, owners, apart
        self.cluster, self.ledger, self.grown = vipd.Speakers(lab, api, nodes), Ledger(api), False

    @contextlib.contextmanager
    def away(self):
        """Neither the server nor anybody who asks it."""
        programs_killed(self.cluster)
        self.api.kill_server()
        yield
        self.api.start_server(seconds=300)
        contents(self.api)  # it has everything in its caches,
        server = self.api.server.pid  # and has looked at it
        wait_for("the API server to rest", lambda: processes.cpu_percent([server], 3)[server] < 20, 240, 0)
        self.speak()

    def speak(self):
        """{node: (all is known, all rules are there) in seconds after its start}

        One after the other: three speakers that ask for everything at once leave a server on two cores no time for
        Leases, and a speaker that gets no answer about them takes what nobody else announces."""
        nodes = {}
        for name, daemon in self.cluster.daemons.items():
            begun, started = time.monotonic(), time.time()
            daemon.start()
            told = wait_for(f"{name} to know all", lambda: told_after(daemon, started), LONG, 0.1)
            if self.grown:
                wait_for(f"{name} to have all rules", lambda: rules_of(self.lab[name]) >= COUNT, LONG, 0.1)
            nodes[name] = told, time.monotonic() - begun
        return nodes

    def settle(self):
        """With a controller for a while."""
        self.cluster.start_controller().wait_output("leads: ", 120)
        self.ledger.settle()
        self.cluster.stop_controllers()

    def grow(self):
        api, cluster = self.api, self.cluster
        cluster.start_controller()
        cluster.start()
        cluster.ready(60)
        self.endpoints = expose(api, self.lab, "first")
        cluster.serves(api.external_ip("first"), vm="test-vm-1")
        self.ledger.settle()
        cluster.stop_controllers()
        api.manager.stop()  # what it would do about objects that nobody made is no part of this
        api.manager = None
        lease = self.owners and api.vips()[api.ingress("first")[0]]["spec"]["virtualRouter"]
        Copier(api, "first", self.endpoints, lease, self.away, self.apart, None if self.owners else "elsewhere").fill(
            COUNT, self.settle if self.owners else lambda: None)
        self.grown = True
        if self.owners:
            self.controller = cluster.start_controller()
        self.everywhere()
        self.ledger.settle()

    def everywhere(self):
        if not self.owners:
            wait_for("every node to have all rules", lambda: all(
                rules_of(self.lab[name]) >= COUNT for name in self.cluster.daemons), LONG, 1)
            return
        wait_for("every address to be on one node", lambda: sorted(on_nodes(self.lab).values()) == [1] * COUNT, 300 + LONG, 0.2)

    def restart(self, act):
        """(speak(); held, served: seconds after all were ended)"""
        self.cluster.kill_controllers()
        act(self.cluster)
        begun = time.monotonic()
        nodes = self.speak()
        self.controller = self.cluster.start_controller()
        self.everywhere()
        held = time.monotonic() - begun
        for address in sorted(on_nodes(self.lab))[::COUNT // SAMPLES][:SAMPLES]:
            self.cluster.serves(address, vm="test-vm-1", seconds=60)
        served = time.monotonic() - begun
        self.controller.wait_output("leads: ", PATIENCE)
        return nodes, held, served

    def weigh(self, memory):
        who = {**{f"n1 {name}": pid for name, pid in processes.ours(self.cluster["n1"].process).items()},
               **processes.ours(self.controller)}
        cpu = processes.cpu_percent(who.values(), 20)
        for name, pid in who.items():
            memory.row(name, *processes.memory_kib(pid), cpu[pid])


def test_ten_thousand_services(table):
    start = table(f"{COUNT} Services, {NODES} speakers and the controller started anew: seconds",
                  ["after", "node", "all is known from the API server", "all rules in the kernel"])
    whole = table("the same, all nodes",
                  ["after", "every address on one node", f"{SAMPLES} of them answer", "writes", "they change nothing",
                   "objects", "they are as they were"])
    memory = table(f"{COUNT} Services, {NODES} nodes, at rest: KiB", ["who", "RSS", "PSS", "private", "CPU %"])
    written = table("what was written", ["after", "writes"])
    with FleetCluster() as api, Lab(nodes=NODES, vms=[("test-vm-1", "n2")], management=True) as lab:
        api.install().attach(lab)
        api.pool(**POOL)
        for host in (*lab.nodes.values(), lab.client):
            join(host)
        fleet = Fleet(api, lab)
        fleet.grow()
        fleet.weigh(memory)
        for name, act in (("SIGKILL of all", programs_killed), ("loss of power of all nodes", power_lost)):
            before = contents(api)
            fleet.ledger.begin()
            nodes, held, served = fleet.restart(act)
            for node, seconds in nodes.items():
                start.row(name, node, *seconds)
            fleet.ledger.settle()
            after = contents(api)
            changed = [thing for thing in after if after[thing][0] != before.get(thing, ("",))[0]
                       and thing[1] not in ALIVE]
            same = [thing for thing in changed if thing in before and after[thing][1] == before[thing][1]]
            idle = fleet.ledger.idle(before)
            whole.row(name, held, served, len(fleet.ledger.writes), len(idle), len(changed), len(same))
            written.row(name, fleet.ledger.kinds())
            assert not idle, (len(idle), idle[:10])
            assert not same, (len(same), same[:10])
            assert before.keys() == after.keys()


def busiest(writes):
    """How many there were in one second, at the most."""
    times = sorted(write.at for write in writes)
    return max(sum(begin <= at < begin + 1 for at in times[number:]) for number, begin in enumerate(times))


def test_told_of_what_moved(table):
    """A node dies: how long kubectl goes on naming it as owner, and what the API server has to bear meanwhile."""
    told = table(f"SIGKILL of one of {NODES} speakers with {COUNT} Services: seconds until VirtualIP.status names the heir",
                 ["moved", "all on a node again", "told of the first", "half", "95 %", "last", "writes", "most in a second"])
    written = table("what was written then", ["writes"])
    with FleetCluster() as api, Lab(nodes=NODES, vms=[("test-vm-1", "n2")], management=True) as lab:
        api.install().attach(lab)
        api.pool(**POOL)
        for host in (*lab.nodes.values(), lab.client):
            join(host)
        fleet = Fleet(api, lab)
        fleet.grow()
        held = {name: [address for address in node.addresses("eth1") if address.startswith(("10.64.", "10.65."))
                       and not address.startswith("10.64.0.")] for name, node in lab.nodes.items()}
        victim = max(held, key=lambda name: len(held[name]))
        fleet.ledger.begin()
        begun, since = time.monotonic(), time.time()
        fleet.cluster[victim].kill()
        heirs = [node for name, node in lab.nodes.items() if name != victim]
        wait_for("all to be on another node", lambda: len(
            {address for node in heirs for address in node.addresses("eth1")} & set(held[victim])) == len(held[victim]),
            120, 0.1)
        moved = time.monotonic() - begun
        fleet.ledger.settle()
        when = {}
        for write in fleet.ledger.writes:
            owner = write.kind == "virtualips/status" and write.code == 200 and (write.said.get("status") or {}).get("owner")
            if owner and owner != victim:
                when.setdefault(write.thing[1], write.at - since)
        assert set(held[victim]) <= set(when), (len(held[victim]), len(when))
        times = sorted(when[address] for address in held[victim])
        told.row(len(times), moved, times[0], times[len(times) // 2], times[len(times) * 95 // 100], times[-1],
                 len(fleet.ledger.writes), busiest(fleet.ledger.writes))
        written.row(fleet.ledger.kinds())
