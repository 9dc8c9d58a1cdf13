"""The API server with nodes, a pool and as many controllers as a test starts: what test/kubernetes tests controllers with."""
import manifests
from cluster import GROUP, PORT, SYSTEM
from lab import LabError, wait_for
from vipd import environment, program

SERVICES = "/api/v1/namespaces/vms/services"
VIPS, POOLS, SPEAKERS = f"{GROUP}/virtualips", f"{GROUP}/addresspools", f"{GROUP}/speakers"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"


class World:
    """Nodes and Speakers are written as kubelets and speakers write them."""

    def __init__(self, api):
        self.api = api
        self.controllers = []
        self.count = 0

    # --- controllers

    def start(self, *words, port=PORT, wait=True, **more):
        self.count += 1
        config = self.api.kubeconfig("controller", port=port, **more)
        process = self.api.host.start(f"controller{self.count}", [
            program(), "controller", "--kubeconfig", config, "--namespace", SYSTEM, *words], env=environment())
        self.controllers.append(process)
        if wait:
            process.wait_output("leads: ", 15)
        return process

    def stop(self):
        for process in self.controllers:
            if process.alive():
                assert process.stop() == 0, process.output()[-3000:]
        self.controllers = []

    def kill(self):
        for process in self.controllers:
            process.kill()
        self.controllers = []
        self.forget_leader()

    def forget_leader(self):
        """As if its Lease had run out: tests need not wait for it."""
        self.api.delete(f"{LEASES}/vipd-controller")

    # --- nodes

    def node(self, name, number, labels=None):
        self.api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {
            "name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}})
        self.api.create(SPEAKERS, {"apiVersion": "vipd.dev/v1alpha1", "kind": "Speaker", "metadata": {"name": name},
                                   "spec": {}})
        self.segments(name, [("eth1", "192.0.2.0/24", f"192.0.2.{number}"),
                             ("eth1", "2001:db8::/64", f"2001:db8::{number}")])

    def segments(self, name, segments):
        self.api.patch(f"{SPEAKERS}/{name}/status", {"status": {"segments": [
            {"interface": interface, "prefix": prefix, "address": address}
            for interface, prefix, address in segments]}})

    # --- objects

    def create(self, name, addresses=(), namespace="vms", **more):
        return self.api.create(f"/api/v1/namespaces/{namespace}/services",
                               manifests.service(name, list(addresses), namespace=namespace, **more))

    def change(self, name, patch):
        return self.api.patch(f"{SERVICES}/{name}", patch)

    def delete(self, name):
        self.api.delete(f"{SERVICES}/{name}")

    def condition(self, name, kind, namespace="vms"):
        found = self.api.service(name, namespace) or {}
        for condition in found.get("status", {}).get("conditions", []):
            if condition["type"] == f"vipd.dev/{kind}":
                return condition
        return {}

    def wait_condition(self, name, kind, status, reason, text="", seconds=10):
        def look():
            found = self.condition(name, kind)
            return (found if found.get("status") == status and found.get("reason") == reason
                    and text in found.get("message", "") else None)
        try:
            return wait_for("it", look, seconds)
        except LabError:
            raise AssertionError(f"{name}: wanted {kind}={status} {reason} {text!r}, "
                                 f"have {self.condition(name, kind)}") from None

    def wait_address(self, name, wanted, seconds=10):
        wanted = [wanted] if isinstance(wanted, str) else list(wanted)
        try:
            wait_for("it", lambda: self.api.ingress(name) == wanted, seconds)
        except LabError:
            raise AssertionError(f"{name}: wanted {wanted}, have {self.api.ingress(name)}") from None
        return wanted

    def wait_gone(self, name, seconds=10):
        wait_for(f"Service {name} to be gone", lambda: self.api.service(name) is None, seconds)

    def holders(self):
        """{address: [Service names]} as the VirtualIPs say."""
        return {thing["spec"]["address"]: [service["name"] for service in thing["spec"].get("services", [])]
                for thing in self.api.list(VIPS)}

    def wait_holders(self, wanted, seconds=10):
        try:
            wait_for("it", lambda: self.holders() == wanted, seconds)
        except LabError:
            raise AssertionError(f"wanted {wanted}, have {self.holders()}") from None

    def reasons(self, name, namespace="vms"):
        return [event["reason"] for event in self.api.events(namespace) if event["regarding"]["name"] == name]

    def notes(self, name, reason):
        return [event["note"] for event in self.api.events("vms")
                if event["regarding"]["name"] == name and event["reason"] == reason]

    def wait_event(self, name, reason, text="", seconds=10):
        wait_for(f"an Event {reason} {text!r} about {name} (have {self.reasons(name)} "
                 f"{self.notes(name, reason)})", lambda: any(text in note for note in self.notes(name, reason)), seconds)

    def pool_status(self, name="lab"):
        return self.api.get(f"{POOLS}/{name}").get("status", {})

    def consistent(self):
        """No address twice, none leaked, none shown that is not recorded; and nothing moves any more."""
        vips, services = self.holders(), self.api.list("/api/v1/services")
        shown = {}
        for service in services:
            for entry in service.get("status", {}).get("loadBalancer", {}).get("ingress", []):
                shown.setdefault(entry["ip"], []).append(service["metadata"]["name"])
        assert shown == vips
        assert all(len(set(names)) == len(names) for names in vips.values())
        return shown

    def nothing_left(self, seconds=10):
        wait_for(f"nothing to be left of {self.holders()}", lambda: not self.api.list(VIPS), seconds)
        wait_for("no Lease of a virtual router to be left", lambda: not [
            name for name in self.api.leases() if name != "vipd-controller"], seconds)
