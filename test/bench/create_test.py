"""How long a VM owner waits: Service created, address in its status, first byte through the address."""
import os
import socket
import time

import pytest

import manifests
import vipd
from cluster import Cluster
from conftest import spread
from lab import Lab, LabError, wait_for

RUNS = int(os.environ.get("VIPD_BENCH_RUNS", "20"))
SERVICES = "/api/v1/namespaces/vms/services"


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


def created(api, lab, name):
    service = manifests.service(name, [], selector={"vmi.kubevirt.io/id": "test-vm-1"})
    start = time.monotonic()
    api.create(SERVICES, service)
    address = wait_for("an address", lambda: (api.ingress(name) or [None])[0], 10, 0.002)
    status = time.monotonic()
    byte = lab.client.inside(first_byte, address, 22, start + 10)
    return (status - start) * 1000, (byte - start) * 1000


def test_service_created(table):
    outcome = table(f"service created: {RUNS} times, milliseconds after the POST was sent",
                    ["until", "median", "p95", "max"])
    with Cluster() as api, Lab(vms=[("test-vm-1", "n2")], management=True) as lab:
        api.install().attach(lab)
        api.pool()
        cluster = vipd.Speakers(lab, api)
        cluster.start_controller()
        cluster.start()
        cluster.ready()
        created(api, lab, "warm-up")
        results = []
        for number in range(RUNS):
            results.append(created(api, lab, f"bench-{number}"))
            api.delete(f"{SERVICES}/bench-{number}")
            wait_for("the Service to go", lambda: api.service(f"bench-{number}") is None, 10)
        outcome.row("status.loadBalancer.ingress", *spread([r[0] for r in results]))
        outcome.row("first byte from the VM", *spread([r[1] for r in results]))
