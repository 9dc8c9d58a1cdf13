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
from cluster import Cluster
from controllers import POOLS, SPEAKERS, VIPS, World
from create_test import SERVICES, Line, Statuses
from lab import wait_for

EXISTING = [int(text) for text in os.environ.get("VIPD_BENCH_SERVICES", "10,1000").split(",")]
SAMPLES = 100


class Clients:
    """Eight people at once, each on a connection of his own."""

    def __init__(self, api):
        self.api, self.lines = api, threading.local()
        self.pool = concurrent.futures.ThreadPoolExecutor(8)

    def _create(self, name):
        if not hasattr(self.lines, "line"):
            self.lines.line = Line(self.api)
        self.lines.line.create(SERVICES, manifests.service(name, [], allocateLoadBalancerNodePorts=False))

    def create(self, names):
        list(self.pool.map(self._create, names))


def served(api):
    return sum(bool(thing["status"]["loadBalancer"].get("ingress")) for thing in api.list(SERVICES))


def versions(api):
    return {(path, thing["metadata"]["name"]): thing["metadata"]["resourceVersion"]
            for path in (SERVICES, VIPS, POOLS, SPEAKERS) for thing in api.list(path)}


def one_by_one(api, prefix):
    statuses, line, waits = Statuses(api), Line(api), []
    time.sleep(1)  # all that is there already is shown first
    for number in range(SAMPLES):
        name = f"{prefix}-{number}"
        start = time.monotonic()
        line.create(SERVICES, manifests.service(name, [], allocateLoadBalancerNodePorts=False))
        waits.append((statuses.wait(name)[1] - start) * 1000)
    for number in range(SAMPLES):
        api.delete(f"{SERVICES}/{prefix}-{number}")
    wait_for("them to go", lambda: not any(thing["metadata"]["name"].startswith(prefix + "-")
                                           for thing in api.list(SERVICES)), 60, 0.3)
    return sorted(waits)


def test_allocation_with_many_services(table):
    latency = table(f"address in the status: {SAMPLES} Services one by one, milliseconds after the POST was sent",
                    ["Services there", "median", "p99", "max"])
    filling = table("services created by eight clients at once: all have their addresses",
                    ["Services", "there before", "POSTs took s", "last address after s", "controller CPU s"])
    memory = table("controller with many Services: MiB", ["Services", "RSS", "PSS", "private"])
    restart = table("controller restarted: until it has looked at everything",
                    ["Services", "listed after s", "CPU s", "objects written"])
    with Cluster() as api:
        api.install()
        world = World(api)
        for number in range(1, 6):
            world.node(f"n{number}", number)
            world.segments(f"n{number}", [("eth1", "10.64.0.0/10", f"10.64.0.{number}")])
        api.pool(addresses=["10.64.1.0-10.64.80.255"])
        process = world.start()
        clients, there = Clients(api), 0
        for wanted in EXISTING:
            pid = processes.ours(process)["controller"]
            cpu, start = processes.cpu_seconds(pid), time.monotonic()
            clients.create([f"s{number}" for number in range(there, wanted)])
            posted = time.monotonic() - start
            wait_for("everybody to be served", lambda: served(api) == wanted, 600, 0.5)
            filling.row(wanted - there, there, posted, time.monotonic() - start, processes.cpu_seconds(pid) - cpu)
            there = wanted
            time.sleep(3)
            memory.row(wanted, *(kib / 1024 for kib in processes.memory_kib(pid)))
            waits = one_by_one(api, f"one{wanted}")
            latency.row(wanted, waits[len(waits) // 2], waits[int(len(waits) * 0.99)], waits[-1])
            time.sleep(3)
            before = versions(api)
            world.stop()
            start = time.monotonic()
            process = world.start()
            listed = time.monotonic() - start
            time.sleep(10)
            pid = processes.ours(process)["controller"]
            after = versions(api)
            changed = [thing for thing in after if after[thing] != before.get(thing)]
            restart.row(wanted, listed, processes.cpu_seconds(pid), len(changed))
            assert set(after) == set(before) and changed in ([], [(POOLS, "lab")]), changed[:10]
        world.kill()
