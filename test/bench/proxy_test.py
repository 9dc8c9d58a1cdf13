"""What a packet pays through kube-proxy itself, and through vipd's rules: the same Services, one DNAT rule between.

kube-proxy makes its rules from a real API server and is ended then, so that only what a packet pays is measured.
VIPD_BENCH_SERVICES says how many Services there are.
"""
import os
import re
import threading
import time

import manifests
from cluster import Cluster
from dataplane_test import COLUMNS, VIP, Bench, Way, report
from kube_proxy import KubeProxy
from lab import ROOT, Lab

SERVICES = "/api/v1/namespaces/vms/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/vms/endpointslices"
SIZES = [int(n) for n in os.environ.get("VIPD_BENCH_SERVICES", "1000").split(",")]


def others(api, first, count):
    """Services with an endpoint each, which nobody asks."""
    for number in range(first, first + count):
        name, address = f"s{number}", f"10.245.{number // 256}.{number % 256}"
        thing = manifests.service(name, [], ["80"], type="ClusterIP")
        del thing["spec"]["selector"]
        api.create(SERVICES, thing)
        api.create(SLICES, {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [{"name": "port-80", "port": 80, "protocol": "TCP"}]})


def measured(api, vm):
    """The Service at VIP: nobody allocates here, its status says what a controller would."""
    api.create(SERVICES, manifests.service("measured", [], ["80", "81", "80/UDP"],
                                           selector={"vmi.kubevirt.io/id": vm}))
    api.patch(f"{SERVICES}/measured/status", {"status": {"loadBalancer": {"ingress": [{"ip": VIP, "ipMode": "VIP"}]}}})


def test_beside_kube_proxy_itself(table):
    with Cluster() as api, Lab(vms=[("here", "n1", [22])], management=True, masquerade=False) as lab:
        api.install()
        api.attach(lab)
        bench, seconds, count = Bench(lab, "here"), {}, 1
        measured(api, "here")
        for size in SIZES:
            others(api, count, size - count)
            count = size

            def kube_proxy(mode, size=size):
                def put():
                    start = time.monotonic()
                    proxy = KubeProxy(bench.owner, api, mode).start()
                    proxy.wait_rules(VIP, f"10.245.{(size - 1) // 256}.{(size - 1) % 256}", seconds=600)
                    seconds.setdefault(mode, []).append(time.monotonic() - start)
                    proxy.process.kill()
                return put
            base = Way("one DNAT rule", bench.one_rule)
            ways = [base, Way(f"vipd, {size} Services", bench.vipd(size)),
                    *[Way(f"kube-proxy, {mode}, {size} Services", kube_proxy(mode)) for mode in ("nftables", "iptables")]]
            bench.compare(ways, base)
            report(table(f"kube-proxy itself, {size} Services: x: of one DNAT rule (half of the rounds)", COLUMNS), ways)
        made = table("kube-proxy's start until its rules stand: seconds", ["mode", *map(str, SIZES)])
        for mode, took in seconds.items():
            each = len(took) // len(SIZES)
            made.row(mode, *[f"{min(took[i * each:(i + 1) * each]):.1f}" for i in range(len(SIZES))])


def test_one_change_beside_a_busy_kube_proxy(table):
    """kube-proxy's Services change all the time, so that it writes as often as it does (once a second at most)."""
    made = table("one Service among 50,000 of vipd changes, a change every 10 ms, beside kube-proxy's nftables mode: us",
                 ["kube-proxy's Services", "", "its changes", "p50", "p99", "max"])
    with Cluster() as api, Lab(management=True, masquerade=False) as lab:
        api.install()
        api.attach(lab)
        node, count = lab["n1"], 0
        for size in SIZES:
            others(api, count, size - count)
            count = size
            for busy in (False, True):
                proxy = KubeProxy(node, api, "nftables").start()
                proxy.wait_rules(f"10.245.{(size - 1) // 256}.{(size - 1) % 256}", seconds=600)
                stop, changes = threading.Event(), [0]

                def change(size=size, stop=stop, changes=changes):
                    while not stop.wait(0.01):
                        number = changes[0] % size
                        changes[0] += 1
                        api.patch(f"{SLICES}/s{number}", {"endpoints": [{
                            "addresses": [f"10.{246 + changes[0] // size % 2}.{number // 256}.{number % 256}"],
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
                for what, *figures in re.findall(r"(?m)^(one Service.*?|two elements.*?) +p50 ([\d.]+) us, p99 ([\d.]+) us, max "
                                                 r"([\d.]+) us", said):
                    made.row(f"{size}, {'changing' if busy else 'at rest'}", what, changes[0], *figures)
