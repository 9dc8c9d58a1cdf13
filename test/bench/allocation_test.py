"""The controller alone on a real API server, with more and more Services: how long one waits for its address, how
long a thousand do, what memory and CPU that takes, and what a restart writes.

Nodes and Speakers are objects only; what speakers add is in create_test.py and memory_test.py.
"""
import concurrent.futures
import os
import threading
import time

import manifests
import processes
from controllers import World
from copies import Copier, JsonCluster, versions, wait_quiet
from create_test import SERVICES, Line, Statuses

EXISTING = [int(text) for text in os.environ.get("VIPD_BENCH_SERVICES", "10,1000,10000").split(",")]
BURST = int(os.environ.get("VIPD_BENCH_BURST", "1000"))
SAMPLES = 100
REST = 20  # seconds
NODES = 5


class Clients:
    """Eight people at once, each on a connection of his own."""

    def __init__(self, api):
        self.api, self.lines = api, threading.local()
        self.pool = concurrent.futures.ThreadPoolExecutor(8)

    def _line(self):
        if not hasattr(self.lines, "line"):
            self.lines.line = Line(self.api)
        return self.lines.line

    def _create(self, name):
        """A server that cannot cope answers 504, and may have made it."""
        status = 504
        while status == 504:
            answer = self._line().ask("POST", SERVICES, manifests.service(name, [], allocateLoadBalancerNodePorts=False))
            answer.read()
            status = answer.status
        assert status in (201, 409), (name, status)

    def _delete(self, name):
        self._line().ask("DELETE", f"{SERVICES}/{name}").read()

    def create(self, names):
        list(self.pool.map(self._create, names))

    def delete(self, names):
        list(self.pool.map(self._delete, names))


def one_by_one(api, statuses, prefix):
    line, waits = Line(api), []
    for number in range(SAMPLES):
        name = f"{prefix}-{number}"
        start = time.monotonic()
        line.create(SERVICES, manifests.service(name, [], allocateLoadBalancerNodePorts=False))
        waits.append((statuses.wait(name)[1] - start) * 1000)
    return sorted(waits)


def start(world):
    """(until it leads s, pid)"""
    begun = time.monotonic()
    process = world.start(wait=False)
    process.wait_output("leads: ", 120)
    return time.monotonic() - begun, processes.ours(process)["controller"]


def settle(world):
    start(world)
    wait_quiet(world.api)
    world.stop()


def changed(before, after):
    return [thing for thing in before.keys() | after.keys() if after.get(thing) != before.get(thing)]


def requests(api):
    """How many the controller sent to the API server since it was started."""
    text = api.host.run(["curl", "-sS", "-m", "10", "http://127.0.0.1:9461/metrics"]).stdout
    return sum(int(line.rpartition(" ")[2]) for line in text.splitlines()
               if line.startswith("rest_client_requests_total{"))


class Clock:
    """Seconds, and the controller's CPU."""

    def __init__(self, pid):
        self.pid, self.start, self.cpu = pid, time.monotonic(), processes.cpu_seconds(pid)

    def seconds(self):
        return time.monotonic() - self.start

    def used(self):
        return processes.cpu_seconds(self.pid) - self.cpu


def at_once(api, pid, statuses, prefix):
    """((POSTs, last address, CPU), (DELETEs, last one gone, CPU)) in seconds."""
    clients, names = Clients(api), [f"{prefix}-{number}" for number in range(BURST)]
    clock = Clock(pid)
    clients.create(names)
    posted = clock.seconds()
    statuses.wait_all(names)
    created = posted, clock.seconds(), clock.used()
    time.sleep(2)
    clock = Clock(pid)
    clients.delete(names)
    asked = clock.seconds()
    statuses.wait_gone(names)
    return created, (asked, clock.seconds(), clock.used())


def test_allocation_with_many_services(table):
    latency = table(f"address in the status: {SAMPLES} Services one by one, milliseconds after the POST was sent",
                    ["Services there", "median", "p99", "max"])
    burst = table(f"{BURST} Services created by eight clients at once, and deleted",
                  ["Services there", "POSTs took s", "last address after s", "controller CPU s",
                   "DELETEs took s", "last one gone after s", "controller CPU s "])
    memory = table("controller with many Services: MiB", ["Services", "RSS", "PSS", "private"])
    restart = table("controller restarted: until it leads, and until it has looked at everything; then at rest",
                    ["Services", "leads after s", "CPU s", "objects written", "requests/s", "CPU %"])
    with JsonCluster() as api:
        api.install()
        world = World(api)
        for number in range(1, NODES + 1):
            world.node(f"n{number}", number)
            world.segments(f"n{number}", [("eth1", "10.64.0.0/10", f"10.64.0.{number}")])
        api.pool(addresses=["10.64.1.0-10.64.255.255"], quarantineSeconds=10)
        world.start()
        world.create("first")
        api.external_ip("first")
        wait_quiet(api)
        copier = Copier(api, "first")
        api.manager.stop()  # it would make an EndpointSlice of every copy
        for wanted in EXISTING:
            world.stop()
            copier.fill(wanted, lambda: settle(world))
            before = versions(api)
            leads, pid = start(world)
            time.sleep(10)
            used = processes.cpu_seconds(pid)
            after = versions(api)
            asked, clock = requests(api), Clock(pid)
            time.sleep(REST)
            restart.row(wanted, leads, used, len(changed(before, after)), (requests(api) - asked) / clock.seconds(),
                        clock.used() * 100 / clock.seconds())
            memory.row(wanted, *(kib / 1024 for kib in processes.memory_kib(pid)))
            assert not changed(before, after)
            statuses = Statuses(api)
            time.sleep(1)  # all that is there already is shown first
            waits = one_by_one(api, statuses, f"one{wanted}")
            latency.row(wanted, waits[len(waits) // 2], waits[len(waits) * 99 // 100 - 1], waits[-1])
            burst.row(wanted, *sum(at_once(api, pid, statuses, f"burst{wanted}"), ()))
            Clients(api).delete([f"one{wanted}-{number}" for number in range(SAMPLES)])
            statuses.wait_gone([f"one{wanted}-{SAMPLES - 1}"])
        world.kill()
