"""A thousand addresses on five nodes: what is asked of the API server while nothing happens, and when a node dies."""
import threading
import time

from cluster import GROUP, Cluster
from lab import Lab, wait_for
from memory_test import (PATIENCE, REST_WRITES, expose_to_the_end, resource_version, start_with_room,
                         writes_per_second)

COUNT, NODES = 1000, 5
REST_SECONDS = 60
VIPS = f"{GROUP}/virtualips"


def reads(cluster):
    """Lists and watches begun by all speakers since they started."""
    return sum(value for daemon in cluster.daemons.values() if daemon.running()
               for name, value in daemon.metrics().items()
               if name.startswith("rest_client_requests_total{") and 'method="GET"' in name)


def owners(api):
    """{node: addresses} of VirtualIP.status."""
    counts = {}
    for thing in api.request("GET", VIPS, timeout=PATIENCE)["items"]:
        owner = thing.get("status", {}).get("owner")
        counts[owner] = counts.get(owner, 0) + 1
    return counts


class Meter:
    """How many writes the API server had, whoever made them, four times a second."""

    def __init__(self, api):
        self.api, self.samples, self.ended = api, [(time.monotonic(), resource_version(api))], threading.Event()
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()

    def _sample(self):
        while not self.ended.wait(0.25):
            self.samples.append((time.monotonic(), resource_version(self.api)))

    def stop(self):
        """(all of them, the most in one second)"""
        self.ended.set()
        self.thread.join()
        most = max((later - version) / (then - moment) for moment, version in self.samples
                   for then, later in self.samples if 1 <= then - moment < 1.5)
        return self.samples[-1][1] - self.samples[0][1], most


def test_a_thousand_addresses(table):
    rest = table(f"{COUNT} addresses on {NODES} nodes, at rest for {REST_SECONDS} s: requests a second",
                 ["writes, all programs", "reads, all speakers", "fewest on a node", "most on a node"])
    storm = table(f"{COUNT} addresses on {NODES} nodes: SIGKILL of one speaker",
                  ["its addresses", "all on a node again after s", "status names all heirs after s", "writes",
                   "most in one second"])
    with Cluster() as api, Lab(nodes=NODES, vms=[("test-vm-1", "n2")], management=True) as lab:
        cluster = start_with_room(api, lab)
        expose_to_the_end(api, lab, 0, COUNT)
        held = owners(api)
        read, version = reads(cluster), resource_version(api)
        time.sleep(REST_SECONDS)
        rest.row((resource_version(api) - version) / REST_SECONDS, (reads(cluster) - read) / REST_SECONDS,
                 min(held.values()), max(held.values()))

        victim = max(held, key=held.get)
        meter, start = Meter(api), time.monotonic()
        cluster[victim].kill()
        survivors = [node for name, node in lab.nodes.items() if name != victim]
        wait_for("every address to be on a node again", lambda: len(
            {address for node in survivors for address in node.addresses("eth1") if address.startswith("203.0.11")
             and not address.startswith("203.0.118.")}) == COUNT, 60, 0.1)
        moved = time.monotonic() - start
        wait_for("the status of each to say so", lambda: not owners(api).get(victim), 120, 0.5)
        told = time.monotonic() - start
        wait_for("rest", lambda: writes_per_second(api, 5) < REST_WRITES, 300, 1)
        storm.row(held[victim], moved, told, *meter.stop())
