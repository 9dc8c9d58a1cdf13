"""A real guest behind a Service is migrated to another node and pod; its connections go on."""
import itertools
import pathlib
import sys
import time

import pytest

TEST = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TEST / "lab"), str(TEST / "vm")]

import manifests  # noqa: E402
import vipd  # noqa: E402
from lab import Lab, sweep, wait_for  # noqa: E402
from machine import Machine, kernel, packages  # noqa: E402
from pods import Place, Pod  # noqa: E402

VIP = "192.0.2.40"
LATE = [0.0, 0.2, 0.2]
TRIES = itertools.count(1)  # a test tried again has pods of its own


@pytest.fixture(scope="module")
def rack():
    packages()
    kernel()
    sweep()
    with Lab(nodes=3) as lab:
        cluster = vipd.Standalone(lab)
        cluster.start()
        yield cluster
        assert lab.sanitizer_reports() == []


@pytest.mark.parametrize("number", range(len(LATE)))
def test_a_connection_follows_a_real_guest(rack, number, record_property):
    """One line every 10 ms throughout; the slice changes when qemu says so, or 200 ms later."""
    lab = rack.lab
    # The port of the migration stays the pod's own.
    index = next(TRIES)
    pods = [Pod(lab, f"launcher{index}-{node}", lab[node], 70 + index).build() for node in ("n3", "n2")]
    name = f"guest{index}"

    places = [Place(name, pod) for pod in pods]

    def publish(place, *preparing):
        service = manifests.service("vm", [VIP], (22,))
        manifests.write(rack.folder / "service-vm.yaml", service, *manifests.slices(service, [place], preparing))

    source = Machine(pods[0], name).booted()
    publish(places[0])
    rack.serves(VIP, vm=name, seconds=20)
    target = Machine(pods[1], name, incoming=True)
    publish(*places)  # its pod waits for the VM: it has an address and is not ready
    wait_for("the target's node to know of it", lambda: f"{pods[1].address4} . tcp . 22" in pods[1].node.ruleset())
    boot = lab.client.inside(greeting, VIP)
    stream = lab.client.probe("stream", VIP, 22, 10, 5)
    wait_for("5 connections", lambda: sum(event["event"] == "connected" for event in stream.events()) == 5)
    time.sleep(0.5)
    seen = source.migrate(target)
    time.sleep(LATE[number])
    publish(places[1])
    target.running()
    source.process.kill()
    time.sleep(4)
    result = stream.stop()
    record_property("longest gap ms", result["longest_ms"])
    record_property("guest downtime ms", seen.get("downtime"))
    assert (result["kept"], result["lost"], result["corrupt"]) == (5, 0, 0), result
    assert result["longest_ms"] < 3000
    assert lab.client.inside(greeting, VIP) == boot
    assert pods[1].pids(), "the guest runs in the target's pod"
    target.process.kill()


def greeting(address):
    import socket
    with socket.create_connection((address, 22), 5) as connection:
        return connection.makefile().readline()
