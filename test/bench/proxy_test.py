"""What a packet pays through kube-proxy itself, and through vipd's rules: the same Services, one DNAT rule between.

kube-proxy makes its rules from a real API server and is ended then, so that only what a packet pays is measured.
VIPD_BENCH_SERVICES says how many Services there are, VIPD_BENCH_MODES what kube-proxy makes.
"""
import json
import os
import re
import threading
import time
import uuid

import manifests
from copies import Etcd, JsonCluster, everything
from dataplane_test import COLUMNS, PAIRS, VIP, Rack, Way, compare, report, vipd
from kube_proxy import KubeProxy
from lab import ROOT, Lab
from programs import LabError

SERVICES = "/api/v1/namespaces/vms/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/vms/endpointslices"
MODES = os.environ.get("VIPD_BENCH_MODES", "nftables,iptables").split(",")
SIZES = [int(n) for n in os.environ.get("VIPD_BENCH_SERVICES", "1000").split(",")]


def endpoint(number):
    return f"10.{128 + number // 65536}.{number // 256 % 256}.{number % 256}"


class Others:
    """Services with an endpoint each, which nobody asks: copies of the first one, put into etcd."""

    def __init__(self, api):
        self.api, self.etcd = api, Etcd(api)
        thing = manifests.service("s0", [], ["80"], type="ClusterIP")
        del thing["spec"]["selector"]
        self.address = api.create(SERVICES, thing)["spec"]["clusterIP"]
        api.create(SLICES, {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "s0", "labels": {"kubernetes.io/service-name": "s0"}},
            "endpoints": [{"addresses": [endpoint(0)], "conditions": {"ready": True}}],
            "ports": [{"name": "port-80", "port": 80, "protocol": "TCP"}]})
        self.texts = {key: self.etcd.get(key + name) for key, name in (
            ("/registry/services/specs/vms/", "s0"), ("/registry/endpointslices/vms/", "s0"),
            ("/registry/ipaddresses/", self.address))}
        self.uids = [json.loads(text)["metadata"]["uid"] for text in self.texts.values()]
        taken = {one["spec"]["clusterIP"] for one in everything(api, "/api/v1/services")}
        self.free = (address for n in range(2, 65000) if (address := f"10.96.{n // 250}.{1 + n % 250}") not in taken)
        self.there = 1

    def fill(self, count):
        made = {}
        for number in range(self.there, count):
            address = next(self.free)
            for key, text in self.texts.items():
                for old, new in ((self.address, address), ('"s0"', f'"s{number}"'), ("vms/s0", f"vms/s{number}"),
                                 (f'"{endpoint(0)}"', f'"{endpoint(number)}"'),
                                 *[(uid, str(uuid.uuid5(uuid.UUID(uid), str(number)))) for uid in self.uids]):
                    text = text.replace(old, new)
                made[key + (address if "ipaddresses" in key else f"s{number}")] = text
        self.etcd.put(made)
        self.there = count


def measured(api, vm):
    """The Service at VIP: nobody allocates here, its status says what a controller would."""
    api.create(SERVICES, manifests.service("measured", [], ["80", "81", "80/UDP"],
                                           selector={"vmi.kubevirt.io/id": vm}))
    api.patch(f"{SERVICES}/measured/status", {"status": {"loadBalancer": {"ingress": [{"ip": VIP, "ipMode": "VIP"}]}}})


def test_beside_kube_proxy_itself(table):
    vms = [("here", "n1", [22])]
    with JsonCluster() as api, Lab(vms=vms, management=True, masquerade=False) as lab, Lab(vms=vms, masquerade=False) as one:
        api.install()
        api.attach(lab)
        racks, seconds, others = [Rack(lab, "here"), Rack(one, "here")], {}, Others(api)
        measured(api, "here")
        for size in SIZES:
            others.fill(size)

            def kube_proxy(mode, size=size):
                def put(rack):
                    start = time.monotonic()
                    proxy = KubeProxy(rack.owner, api, mode).start()
                    try:
                        proxy.wait_rules(VIP, endpoint(size - 1), seconds=600)
                        seconds.setdefault(mode, {})[size] = f"{time.monotonic() - start:.1f}"
                    finally:
                        proxy.process.kill()
                return put
            base = Way("one DNAT rule", Rack.one_rule)
            ways = [base, Way(f"vipd, {size} Services", vipd(size)),
                    *[Way(f"kube-proxy, {mode}, {size} Services", kube_proxy(mode)) for mode in MODES]]
            made = table(f"kube-proxy itself, {size} Services: {PAIRS} pairs of windows; x: of one DNAT rule", COLUMNS)
            for way in ways:
                try:
                    compare([way], base, racks, swap=False)  # only one of them has an API server
                    report(made, [way])
                except LabError as error:
                    made.row(way.name, str(error))  # iptables with 50,000 takes longer than that
        made = table("kube-proxy's start until its rules stand: seconds", ["mode", *map(str, SIZES)])
        for mode, took in seconds.items():
            made.row(mode, *[took.get(size, "-") for size in SIZES])


def test_one_change_beside_a_busy_kube_proxy(table):
    """kube-proxy's Services change all the time, so that it writes as often as it does (once a second at most)."""
    made = table("one Service among 50,000 of vipd changes, a change every 10 ms, beside kube-proxy's nftables mode: us",
                 ["kube-proxy's Services", "", "its changes", "p50", "p99", "max"])
    with JsonCluster() as api, Lab(management=True, masquerade=False) as lab:
        api.install()
        api.attach(lab)
        node, others = lab["n1"], Others(api)
        for size in SIZES:
            others.fill(size)
            for busy in (False, True):
                proxy = KubeProxy(node, api, "nftables").start()
                proxy.wait_rules(endpoint(size - 1), seconds=600)
                stop, changes = threading.Event(), [0]

                def change(size=size, stop=stop, changes=changes):
                    while not stop.wait(0.01):
                        number = changes[0] % size
                        changes[0] += 1
                        api.patch(f"{SLICES}/s{number}", {"endpoints": [{
                            "addresses": [f"10.{246 + changes[0] // size % 2}.{number // 256 % 256}.{number % 256}"],
                            "conditions": {"ready": True}}]})
                writer = threading.Thread(target=change)
                if busy:
                    writer.start()
                try:
                    said = node.run(["chrt", "--rr", 20, ROOT / "build/release/test/nft_bench", 50_000, "here"],
                                    timeout=200).stdout
                finally:
                    stop.set()
                    if busy:
                        writer.join()
                    proxy.stop()
                    node.run(["nft", "flush", "ruleset"], timeout=300)
                for what, *figures in re.findall(r"(?m)^(one Service.*?|it moves.*?|two elements.*?) +p50 ([\d.]+) us, p99 ([\d.]+) us, max "
                                                 r"([\d.]+) us", said):
                    made.row(f"{size}, {'changing' if busy else 'at rest'}", what, changes[0], *figures)
