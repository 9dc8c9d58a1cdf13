"""CPU and memory of the engine by the number of virtual routers: one node owns them all, two are backups.

Standalone mode, adverts every 100 ms, one Service with one endpoint behind each address, no traffic.
"""
import ctypes
import fcntl
import socket
import struct
import time

import pytest

import manifests
import vipd
from lab import Lab, wait_for
from processes import cpu_percent, memory_kib, ours

REST_SECONDS = 20
SIOCETHTOOL, ETHTOOL_SET_TSO, ETHTOOL_SET_GRO = 0x8946, 0x1f, 0x2c


def addresses(count):
    """Of two prefixes, the nodes' own addresses left out; each of the first 255 has a last byte of its own."""
    return [f"203.0.{113 + n // 245}.{n % 245 + 1}" for n in range(count)]


def own_addresses(node):
    return [f"203.0.{third}.{250 + node.index}" for third in (113, 114, 115)]


def manifest_of(node):
    thing = manifests.node(node)
    thing["status"]["addresses"] += [{"type": "InternalIP", "address": address} for address in own_addresses(node)]
    return thing


def fill(cluster, lab, count):
    objects = []
    for number, address in enumerate(addresses(count)):
        service = manifests.service(f"many-{number}", [address])
        objects += [service, *manifests.slices(service, [lab.vms["test-vm-1"]])]
    manifests.write(cluster.folder / "services.yaml", *objects)


def routers(cluster, name):
    return (cluster[name].status() or {}).get("routers", [])


def offload(host, device, feature, on):
    def body():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            value = ctypes.create_string_buffer(struct.pack("II", feature, on))
            fcntl.ioctl(any_socket, SIOCETHTOOL, struct.pack("16sP8x", device.encode(), ctypes.addressof(value)))
    host.inside(body)


def receive_by_a_thread(lab, name, on):
    """What leaves a node is taken in by a thread of the kernel's at the other end of its cable, not by the sender. A
    veth does that (it has a NAPI) for a sender without TSO only."""
    steps = [lambda: offload(lab[name], "eth1", ETHTOOL_SET_TSO, not on),
             lambda: offload(lab.switch, f"lan-{name}", ETHTOOL_SET_GRO, on),
             lambda: lab.switch.run(["sh", "-c", f"echo {int(on)} >/sys/class/net/lan-{name}/threaded"])]
    for step in steps if on else reversed(steps):  # without GRO there is no NAPI that could have a thread
        step()


@pytest.mark.parametrize("count", [1, 100, 250, 500])
def test_engine(table, count):
    outcome = table(f"engine with {count} addresses, adverts every 100 ms",
                    ["who", "virtual routers", "owned", "CPU % of a core", "RSS KiB", "PSS KiB", "private KiB",
                     "seconds until owned"])
    with Lab(vms=[("test-vm-1", "n2")]) as lab:
        for node in lab.nodes.values():
            for address in own_addresses(node):
                node.run(["ip", "address", "add", f"{address}/24", "dev", "eth1"])
        cluster = vipd.Standalone(lab, addresses=["203.0.112.0/22"])
        manifests.write(cluster.folder / "nodes.yaml", *[manifest_of(node) for node in lab.nodes.values()])
        fill(cluster, lab, count)
        start = time.monotonic()
        cluster.start("n1")
        wait_for(f"n1 to own {count}", lambda: (found := routers(cluster, "n1")) and all(
            router["state"] == "Active" for router in found), 60, 0.1)
        seconds = time.monotonic() - start
        # What namespaces receive is done by the processor, and at the cost, of who sends: with as few as can be.
        for name in ("n2", "n3"):
            lab[name].cut(carrier=False)
        time.sleep(8)
        engine = ours(cluster["n1"].process)["engine"]
        alone = cpu_percent([engine], REST_SECONDS)[engine]
        receive_by_a_thread(lab, "n1", True)
        own = cpu_percent([engine], REST_SECONDS)[engine]
        receive_by_a_thread(lab, "n1", False)
        for name in ("n2", "n3"):
            lab[name].heal()
        cluster.start("n2", "n3")
        for name in ("n2", "n3"):
            wait_for(f"{name} to follow", lambda: (found := routers(cluster, name)) and all(
                router["state"] == "Backup" for router in found), 60, 0.1)
        time.sleep(8)
        engines = {name: ours(cluster[name].process)["engine"] for name in ("n1", "n2")}
        cpu = cpu_percent(engines.values(), REST_SECONDS)
        held = set(lab["n1"].addresses("eth1"))
        assert set(addresses(count)) <= held
        outcome.row("n1, the sender's own", *2 * [len(routers(cluster, "n1"))], own, *memory_kib(engines["n1"]), seconds)
        outcome.row("n1, two hosts on its LAN", *2 * [len(routers(cluster, "n1"))], alone, *memory_kib(engines["n1"]), seconds)
        for name, pid in engines.items():
            found = routers(cluster, name)
            owned = sum(router["state"] == "Active" for router in found)
            outcome.row(name, len(found), owned, cpu[pid], *memory_kib(pid), seconds if owned else "")
