"""How long an endpoint that moved stays where it was: from the change in the API until the rules of a node say it.

Three nodes with speakers; the node that is looked at alone, and with kube-proxy itself (nftables), which changes its own
table at each change, too. "Event": a watch of the bench's own, on a connection of its own, has it. VIPD_BENCH_SERVICES
says how many Services there are: made one by one, or, by the thousand, copies (fleet_test.py) with one speaker, which
owns them all, or, of more than 10,000, hardly any: one node of many.
"""
import json
import os
import queue
import socket
import struct
import threading
import time

from cluster import Cluster
from conftest import RUNS, spread
from create_test import LIMIT, Line
from fleet_test import COUNT, POOL, Fleet, FleetCluster, join
from kube_proxy import KubeProxy
from lab import Lab, LabError
from memory_test import PATIENCE, REST_SECONDS, SERVICES, SLICES, expose_to_the_end, start_with_room
from processes import ours, scheduled

SIZES = [int(n) for n in os.environ.get("VIPD_BENCH_SERVICES", "10,1000").split(",")]
NETLINK_NETFILTER, NFTABLES_GROUP = 12, 1 << 6
NEW_ELEMENT = 10 << 8 | 12  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWSETELEM
OWNED = 10_000  # of more its one node owns hardly any
WHAT = [f"{what}: {word}" for what in ("PATCH to event", "PATCH to rules", "event to rules")
        for word in ("median", "p95", "max")]


def kernel_changes():
    """What this namespace's kernel says of changes of its tables."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    made.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE: kube-proxy changes a lot at once
    made.bind((0, NFTABLES_GROUP))
    return made


class Sightings:
    """When each of several threads saw what."""

    def __init__(self):
        self.seen = queue.Queue()

    def kernel(self, node):
        changes = node.inside(kernel_changes)
        threading.Thread(target=self._read_kernel, args=(changes,), daemon=True).start()

    def _read_kernel(self, changes):
        while True:
            data, now = changes.recv(1 << 20), time.monotonic()
            while len(data) >= 16:
                length, kind = struct.unpack_from("=IH", data)
                if kind == NEW_ELEMENT and b"service4\0" in data[:length] and b"vipd\0" in data[:length]:
                    self.seen.put(("rules", data[:length], now))
                data = data[(length + 3) & ~3:]

    def watch(self, api, moved):
        stream = Line(api).ask("GET", f"{SLICES}?watch=true&fieldSelector=metadata.name={moved}")
        threading.Thread(target=self._read_watch, args=(stream,), daemon=True).start()

    def _read_watch(self, stream):
        try:
            for line in stream:
                now, thing = time.monotonic(), json.loads(line)["object"]
                self.seen.put(("event", socket.inet_aton(thing["endpoints"][0]["addresses"][0]), now))
        except (OSError, ValueError):
            pass  # the server is stopped at the end

    def wait(self, names, address):
        """{name: when it was there}"""
        found, wanted = {}, socket.inet_aton(address)
        while set(names) - set(found):
            try:
                name, data, now = self.seen.get(timeout=LIMIT)
            except queue.Empty:
                raise LabError(f"{address} not seen by {set(names) - set(found)} in {LIMIT:g} s") from None
            if wanted in data:
                found.setdefault(name, now)
        return found


def once(line, sightings, moved, vm):
    """Milliseconds: (sent to the event, sent to the rules, the event to the rules)"""
    start = time.monotonic()
    answer = line.ask("PATCH", f"{SLICES}/{moved}", {"endpoints": [{
        "addresses": [vm.address4], "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": vm.node.name}]}, "application/merge-patch+json")
    assert answer.status == 200, answer.read()
    answer.read()
    seen = sightings.wait(["event", "rules"], vm.address4)
    time.sleep(0.2)
    return [1000 * took for took in (seen["event"] - start, seen["rules"] - start, seen["rules"] - seen["event"])]


def moves(api, lab, moved):
    """The figures of WHAT for so many moves of an EndpointSlice's one endpoint."""
    line, sightings = Line(api), Sightings()
    sightings.watch(api, moved)
    sightings.kernel(lab["n1"])
    results = [once(line, sightings, moved, lab.vms[f"test-vm-{2 - number % 2}"]) for number in range(RUNS)]
    return [value for column in zip(*results) for value in spread(column)]


def test_an_endpoint_moves(table):
    made = table(f"one Service's endpoint moves to another node, {RUNS} times: milliseconds",
                 ["Services, beside", *WHAT])
    with Cluster() as api, Lab(vms=[("test-vm-1", "n2"), ("test-vm-2", "n3")], management=True) as lab:
        cluster = start_with_room(api, lab)
        done = 0
        for size in SIZES:
            expose_to_the_end(api, lab, done, size)
            done = size
            last = api.request("GET", f"{SERVICES}/many-{size - 1}", timeout=PATIENCE)["spec"]["clusterIP"]
            for beside in ("nothing", "kube-proxy"):
                proxy = None
                if beside == "kube-proxy":
                    proxy = KubeProxy(lab["n1"], api, "nftables").start()
                    proxy.wait_rules(last, seconds=120)
                made.row(f"{size}, {beside}", *moves(api, lab, "many-0-ipv4"))
                if proxy:
                    proxy.stop()


def test_an_endpoint_moves_among_thousands(table):
    made = table(f"one of {COUNT} Services' endpoint moves to another node, {RUNS} times: milliseconds", ["Services", *WHAT])
    work = table("what a change costs there, beside what is done at rest: milliseconds",
                 ["program", "on a processor", "waiting for one", "% of a core at rest"])
    with FleetCluster() as api, Lab(vms=[("test-vm-1", "n2"), ("test-vm-2", "n3")], management=True) as lab:
        api.install().attach(lab, ["n1"])
        api.pool(**POOL)
        for host in (lab["n1"], lab.client):
            join(host)
        fleet = Fleet(api, lab, ["n1"], COUNT <= OWNED, apart=True)
        fleet.grow()
        who = ours(fleet.cluster["n1"].process)

        def since(then):
            return {name: [now - before for now, before in zip(scheduled(pid), then[name])] for name, pid in who.items()}
        nothing = dict.fromkeys(who, (0, 0))
        begun = since(nothing)
        time.sleep(REST_SECONDS)
        rest, begun, start = since(begun), since(nothing), time.monotonic()
        made.row(COUNT, *moves(api, lab, fleet.endpoints))
        took = since(begun)
        passed = (time.monotonic() - start) / REST_SECONDS
        for name in who:
            work.row(name, *[(busy - idle * passed) / RUNS for busy, idle in zip(took[name], rest[name])],
                     rest[name][0] / REST_SECONDS / 10)
