"""Memory and CPU of speaker (engine and agent) and controller with 1, 100 and 500 Services, and what they
ask of the API server at rest."""
import time

import manifests
import vipd
from cluster import GROUP, Cluster
from lab import Lab, wait_for
from processes import cpu_percent, memory_kib, ours

SERVICES = "/api/v1/namespaces/vms/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/vms/endpointslices"
REST_SECONDS = 20
REST_WRITES = 5  # a second, the whole cluster: Events of hundreds of new addresses have all been written
# An API server, its etcd and three nodes share this machine: one of a thousand requests may take long.
PATIENCE = 60


def resource_version(api):
    """Moves with every write to the API server, whoever wrote."""
    return int(api.request("GET", "/api/v1/namespaces?limit=1", timeout=PATIENCE)["metadata"]["resourceVersion"])


def writes_per_second(api, seconds):
    version = resource_version(api)
    time.sleep(seconds)
    return (resource_version(api) - version) / seconds


def expose(api, lab, first, last):
    vm = lab.vms["test-vm-1"]
    for number in range(first, last):
        service = manifests.service(f"many-{number}", [], selector={"nobody": "x"})
        del service["spec"]["selector"]  # no controller makes slices of its own then
        api.request("POST", SERVICES, service, timeout=PATIENCE)
        api.request("POST", SLICES, manifests.endpoint_slice(service, [vm]), timeout=PATIENCE)


def count_of(api, path, true):
    return sum(bool(true(thing)) for thing in api.request("GET", path, timeout=PATIENCE)["items"])


def has_address(service):
    return service.get("status", {}).get("loadBalancer", {}).get("ingress")


def on_nodes(api, lab):
    """On how many nodes each virtual address is."""
    held = [address for node in lab.nodes.values() for address in node.addresses("eth1")]
    return [held.count(thing["spec"]["address"])
            for thing in api.request("GET", f"{GROUP}/virtualips", timeout=PATIENCE)["items"]]


def has_owner(virtual_ip):
    return virtual_ip.get("status", {}).get("owner")


def start_with_room(api, lab):
    """Speakers and a controller, and a pool of a second prefix on the LAN for 1,500 addresses."""
    api.install().attach(lab)
    api.pool(addresses=["203.0.112.1-203.0.117.254"])
    for node in lab.nodes.values():
        node.run(["ip", "address", "add", f"203.0.118.{node.index}/21", "dev", "eth1"])
    cluster = vipd.Speakers(lab, api)
    cluster.start_controller()
    cluster.start()
    return cluster.ready(60)


def expose_to_the_end(api, lab, first, last):
    """All that are there then have an address and an owner, and nobody has anything left to write."""
    expose(api, lab, first, last)
    wait_for("the addresses", lambda: count_of(api, SERVICES, has_address) == last, 300, 1)
    wait_for("the owners", lambda: count_of(api, f"{GROUP}/virtualips", has_owner) == last, 300, 1)
    wait_for("rest", lambda: writes_per_second(api, 5) < REST_WRITES, 300, 1)


def test_memory(table):
    outcome = table("memory: release build, KiB",
                    ["who", "Services", "RSS", "PSS", "private", "CPU % at rest", "API writes/s at rest"])
    with Cluster() as api, Lab(vms=[("test-vm-1", "n2")], management=True) as lab:
        api.install().attach(lab)
        api.pool(addresses=["192.0.2.0/25", "192.0.2.160/27", "203.0.113.0/24", "203.0.114.0/23"])
        for name in lab.nodes:  # a second and third prefix on the LAN, so that 500 addresses fit
            lab[name].run(["ip", "address", "add", f"203.0.113.{250 + lab[name].index}/24", "dev", "eth1"])
            lab[name].run(["ip", "address", "add", f"203.0.115.{250 + lab[name].index}/23", "dev", "eth1"])
        cluster = vipd.Speakers(lab, api)
        controller = cluster.start_controller()
        cluster.start()
        cluster.ready()
        done = 0
        for count in (1, 100, 500):
            expose_to_the_end(api, lab, done, count)
            done = count
            wait_for(f"each of {count} addresses on one node", lambda: on_nodes(api, lab) == [1] * count, 60, 0.5)
            who = {**{f"n1 {name}": pid for name, pid in ours(cluster["n1"].process).items()}, **ours(controller)}
            version = resource_version(api)
            cpu = cpu_percent(who.values(), REST_SECONDS)
            writes = (resource_version(api) - version) / REST_SECONDS
            for name, pid in who.items():
                outcome.row(name, count, *memory_kib(pid), cpu[pid], writes if name == "controller" else "")
            speaker = [memory_kib(pid) for name, pid in who.items() if name != "controller"]
            outcome.row("n1 together", count, *map(sum, zip(*speaker)), "", "")
