"""How long a VM owner waits: Service created, address in its status, first byte through the address.

What the bench itself costs is kept out: the POST goes over a connection that is open already, and the status
comes from one watch, as `kubectl get --watch` would show it. The second table starts the clock when kubectl is
started, which is what a person at a terminal waits for.
"""
import http.client
import json
import queue
import socket
import threading
import time

import pytest

import manifests
import vipd
from cluster import ADDRESS, ADMIN, PORT, Cluster, program
from conftest import RUNS, spread
from lab import Lab, LabError, wait_for

SERVICES = "/api/v1/namespaces/vms/services"
LIMIT = 60.0  # seconds; an API server with thousands of Services on a busy machine may take long


def first_byte(address, port, limit):
    """Connects again and again, each try shorter than TCP's own retransmission."""
    while time.monotonic() < limit:
        try:
            with socket.create_connection((address, port), 0.03) as connection:
                if connection.recv(1):
                    return time.monotonic()
        except OSError:
            time.sleep(0.001)
    raise LabError(f"no byte from {address} port {port}")


class Line:
    """One connection to the API server that stays open."""

    def __init__(self, api):
        raw = api.host.connect(ADDRESS, PORT, LIMIT)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = http.client.HTTPSConnection(ADDRESS, PORT, timeout=LIMIT)
        self.connection.sock = api.context.wrap_socket(raw, server_hostname=ADDRESS)

    def ask(self, method, path, body=None, kind="application/json"):
        self.connection.request(method, path, None if body is None else json.dumps(body), {
            "Authorization": f"Bearer {ADMIN}", "Content-Type": kind, "Accept": "application/json"})
        return self.connection.getresponse()

    def create(self, path, thing):
        answer = self.ask("POST", path, thing)
        data = answer.read()
        if answer.status != 201:
            raise LabError(f"POST {path}: {answer.status} {data[:300]}")


class Statuses:
    """(name, addresses, when) of every change of a Service, by a watch; None for addresses: it is gone."""

    def __init__(self, api):
        self.api, self.version = api, 0
        self.changes = queue.Queue()
        self.stream = self._open()
        threading.Thread(target=self._read, daemon=True).start()

    def _open(self):
        """From what was seen last on; at first everything that is there."""
        version = f"&resourceVersion={self.version}" if self.version else ""
        return Line(self.api).ask("GET", f"{SERVICES}?watch=true{version}")

    def _read(self):
        """An API server ends the watch of a client that falls behind, which this one does when thousands change."""
        try:
            while self.stream.status == 200:
                self._follow()
                self.stream = self._open()
        except (OSError, ValueError, LabError):
            pass  # the server is stopped at the end

    def _follow(self):
        try:
            for line in self.stream:
                self._take(json.loads(line), time.monotonic())
        except TimeoutError:
            pass  # nothing changed for as long as a Line waits

    def _take(self, event, seen):
        metadata = event["object"]["metadata"]
        ingress = event["object"].get("status", {}).get("loadBalancer", {}).get("ingress", [])
        self.version = max(self.version, int(metadata["resourceVersion"]))
        self.changes.put((metadata["name"], None if event["type"] == "DELETED" else
                          [entry["ip"] for entry in ingress], seen))

    def _next(self, what):
        try:
            return self.changes.get(timeout=LIMIT)
        except queue.Empty:
            raise LabError(f"{what}, and nothing happened for {LIMIT:g} s") from None

    def wait(self, name):
        while True:
            who, addresses, seen = self._next(f"Service {name} got no address")
            if who == name and addresses:
                return addresses[0], seen

    def wait_all(self, names):
        left = set(names)
        while left:
            who, addresses, _ = self._next(f"{len(left)} Services got no address")
            if addresses:
                left.discard(who)

    def wait_gone(self, names):
        left = set(names)
        while left:
            who, addresses, _ = self._next(f"{len(left)} Services are still there")
            if addresses is None:
                left.discard(who)


class Bench:
    def __init__(self, api, lab):
        self.api, self.lab = api, lab
        self.line, self.statuses = Line(api), Statuses(api)

    def post(self, service):
        self.line.create(SERVICES, service)

    def kubectl(self, service):
        """Started, not waited for: the address may be there before it says so and ends."""
        path = self.lab.dir / "service.json"
        path.write_text(json.dumps(service))
        return self.api.host.start("kubectl", [program("kubectl"), "--kubeconfig", self.api.admin, "create", "-f", path])

    def once(self, create, name):
        service = manifests.service(name, [], selector={"vmi.kubevirt.io/id": "test-vm-1"})
        start = time.monotonic()
        process = create(service)
        address, status = self.statuses.wait(name)
        byte = self.lab.client.inside(first_byte, address, 22, start + LIMIT)
        if process:
            process.popen.wait(LIMIT)
        self.api.delete(f"{SERVICES}/{name}")
        wait_for("the Service to go", lambda: self.api.service(name) is None, LIMIT)
        time.sleep(0.3)  # its Lease and Events, too
        return (status - start) * 1000, (byte - start) * 1000


@pytest.fixture(scope="module")
def bench():
    with Cluster() as api, Lab(vms=[("test-vm-1", "n2")], management=True) as lab:
        api.install().attach(lab)
        api.pool()
        cluster = vipd.Speakers(lab, api)
        cluster.start_controller()
        cluster.start()
        cluster.ready()
        made = Bench(api, lab)
        # One address stays for the whole run: the rules and the connections of everybody are there.
        api.create(SERVICES, manifests.service("stays", [], selector={"vmi.kubevirt.io/id": "test-vm-1"}))
        made.lab.client.inside(first_byte, made.statuses.wait("stays")[0], 22, time.monotonic() + LIMIT)
        made.once(made.post, "warm-up")
        yield made


@pytest.mark.parametrize("way", ["post", "kubectl"])
def test_service_created(bench, table, way):
    since = "the POST was sent" if way == "post" else "kubectl create was started"
    outcome = table(f"service created by {way}: {RUNS} times, milliseconds after {since}",
                    ["until", "median", "p95", "max"])
    results = [bench.once(getattr(bench, way), f"{way}-{number}") for number in range(RUNS)]
    outcome.row("status.loadBalancer.ingress", *spread([r[0] for r in results]))
    outcome.row("first byte from the VM", *spread([r[1] for r in results]))
