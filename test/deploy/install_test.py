"""The DaemonSet and the Deployment of deploy/ as they are, on real kubelets, from the image that is built offline."""
import json
import pathlib
import re
import time

from cluster import SYSTEM
from installed import DEPLOY, SERVICES
from lab import wait_for
import manifests

CAPABILITIES = {"KILL": 5, "SETGID": 6, "SETUID": 7, "NET_ADMIN": 12, "NET_RAW": 13, "IPC_LOCK": 14, "SYS_NICE": 23}


def expose(site, name, vm="test-vm-1"):
    """By the user's own command; the address, once it answers."""
    site.api.expose(vm, name)
    address = site.api.external_ip(name)
    site.serves(address, vm=vm)
    return address


def steered(site, name, *nodes):
    """An address whose owner is one of these nodes; its VM is on n3."""
    site.api.create(SERVICES, manifests.service(name, [], selector={"vmi.kubevirt.io/id": "test-vm-2"},
                                                annotations={"vipd.dev/nodes": ",".join(nodes)}))
    address = site.api.external_ip(name)
    site.serves(address, vm="test-vm-2")
    return address


def field(pid, name):
    return re.search(rf"(?m)^{name}:\s*(.*)$", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)


def test_one_command_installs_it_and_it_stays_up(site):
    assert site.speakers().keys() == site.daemons.keys()
    pods = site.api.pods("app.kubernetes.io/part-of=vipd")
    assert len(pods) == 5
    for pod in pods:
        [container] = pod["status"]["containerStatuses"]
        assert container["ready"] and container["restartCount"] == 0, pod["metadata"]["name"]
    controllers = {pod["spec"]["nodeName"] for pod in pods if pod["metadata"]["name"].startswith("vipd-controller")}
    assert len(controllers) == 2
    said = site.exec("n1", "vipd", "status")
    assert "node n1" in said and "fence egress" in said and "rules present" in said, said


def test_the_engine_has_what_the_manifest_grants_and_the_agent_nothing(site):
    allowed = sum(1 << CAPABILITIES[name] for name in CAPABILITIES)
    found = site.processes("n1")
    assert {"vipd speaker", "vipd agent"} <= found.keys()
    engine, agent = found["vipd speaker"], found["vipd agent"]
    assert int(field(engine, "CapEff"), 16) & ~allowed == 0 and int(field(engine, "CapBnd"), 16) & ~allowed == 0
    assert int(field(engine, "CapEff"), 16) >> CAPABILITIES["NET_ADMIN"] & 1
    assert field(engine, "Seccomp") == "2"
    assert int(field(agent, "CapEff"), 16) == 0 and field(agent, "Uid").split()[1] == "65534"
    assert field(agent, "NoNewPrivs") == "1"


def test_virtctl_expose_gives_an_address_that_reaches_the_vm(site):
    address = expose(site, "myvm-ssh")
    owner = site.owner(address)
    assert site.holders(address) == [owner]
    wait_for("the VirtualIP to name its owner",
             lambda: site.api.vips()[address].get("status", {}).get("owner") == owner)
    assert address in site.api.kubectl("get", "svc", "-n", "vms", "myvm-ssh")
    assert site.lab.far.reaches(address, 22) == "test-vm-1"


def test_a_deleted_pod_hands_over_and_loses_nothing(site):
    address = steered(site, "deleted", "n1", "n2")
    owner = site.owner(address)
    ping, held = site.lab.client.probe("ping", address, 1), site.lab.client.probe("stream", address, 22, 10, 5)
    time.sleep(0.5)
    site.api.kubectl("delete", "pod", site.speaker_pod(owner), namespace=SYSTEM, timeout=60)
    site.owner(address, other_than=owner)
    site.rolled_out()
    time.sleep(0.5)
    seen, kept = ping.stop(), held.stop()
    assert seen["lost"] == 0 and seen["questions"] > 500, seen
    assert kept["kept"] == 5 and kept["corrupt"] == 0, kept


def test_a_node_whose_kubelet_and_pods_are_killed_is_taken_over(site):
    address = steered(site, "killed", "n1", "n2")
    owner = site.owner(address)
    arp, held = site.lab.client.probe("arp", "eth1", address, 2), site.lab.client.probe("stream", address, 22, 10, 5)
    time.sleep(0.5)
    site.api[owner].kill_kubelet_and_pods()
    heir = site.owner(address, other_than=owner)
    site.serves(address, vm="test-vm-2")
    time.sleep(1)
    seen, kept = arp.stop(), held.stop()
    assert seen["two"] == 0 and not seen["dark"], seen
    assert kept["kept"] == 5 and kept["corrupt"] == 0, kept
    wait_for("the VirtualIP to name the new owner", lambda: site.api.vips()[address]["status"].get("owner") == heir)
    site.revive(owner)
    wait_for("the node to have nothing of what it owned", lambda: site.holders(address) == [heir], 10)
    assert site.owner(address) == heir


def test_an_update_of_all_speakers_loses_nothing(site):
    addresses = [expose(site, f"update-{number}", "test-vm-2") for number in range(3)]
    before = {pod["metadata"]["name"] for pod in site.api.pods("app.kubernetes.io/name=vipd-speaker")}
    pings = [site.lab.client.probe("ping", address, 1) for address in addresses]
    held = site.lab.client.probe("stream", addresses[0], 22, 10, 5)
    time.sleep(0.5)
    site.api.kubectl("set", "env", "daemonset/vipd-speaker", f"UPDATED={time.time()}", namespace=SYSTEM)
    site.rolled_out()
    time.sleep(1)
    seen, kept = [ping.stop() for ping in pings], held.stop()
    after = {pod["metadata"]["name"] for pod in site.api.pods("app.kubernetes.io/name=vipd-speaker")}
    assert len(after) == 3 and not before & after
    assert [summary["lost"] for summary in seen] == [0, 0, 0] and min(one["questions"] for one in seen) > 3000, [
        (one["questions"], one["lost"], one["longest_ms"], one["late_ms"]) for one in seen]
    assert kept["kept"] == 5 and kept["corrupt"] == 0, kept


def test_an_update_that_cannot_run_stops_at_the_first_node_and_says_why(site):
    """A capability was taken away: the log names it, the node's Speaker is of no more worth, and nobody loses an address."""
    address = steered(site, "stopped", "n1", "n2")
    ping = site.lab.client.probe("ping", address, 1)
    capabilities = [name for name in CAPABILITIES if name != "NET_RAW"]
    site.api.kubectl("patch", "daemonset/vipd-speaker", "--type=json", "-p", json.dumps([{
        "op": "replace", "path": "/spec/template/spec/containers/0/securityContext/capabilities/add",
        "value": capabilities}]), namespace=SYSTEM)
    try:
        def fallen():
            return [pod for pod in site.api.pods("app.kubernetes.io/name=vipd-speaker")
                    for container in pod["status"].get("containerStatuses", []) if container["restartCount"] > 0]
        [pod] = wait_for("a pod that cannot run", fallen, 90, 0.2)
        node = pod["spec"]["nodeName"]
        said = site.api.kubectl("logs", pod["metadata"]["name"], namespace=SYSTEM)
        assert "CAP_NET_RAW is missing: run as root, or give it to the service or container" in said, said

        def row():
            return next(line.split()[:2] for line in site.api.kubectl("get", "speakers").splitlines() if line.startswith(node))
        wait_for("its Speaker to be of no more worth", lambda: row() == [node, "Unknown"], 120, 0.5)
        assert fallen()[0]["spec"]["nodeName"] == node and len(fallen()) == 1
        assert site.owner(address) != node
    finally:
        site.api.kubectl("rollout", "undo", "daemonset/vipd-speaker", namespace=SYSTEM)
        site.rolled_out()
    assert ping.stop()["lost"] == 0


def test_a_second_vipd_on_a_node_says_so_and_disturbs_nobody(site):
    address = steered(site, "undisturbed", "n1")
    spec = json.loads(site.api.kubectl("get", "daemonset/vipd-speaker", "-o", "json", namespace=SYSTEM))["spec"]["template"]["spec"]
    del spec["containers"][0]["ports"]
    first = site.processes("n1")["vipd speaker"]
    site.api.kubectl("create", "-f", "-", text=json.dumps({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "second", "namespace": SYSTEM},
        "spec": {**spec, "nodeName": "n1", "restartPolicy": "Never"}}))
    try:
        path = f"/api/v1/namespaces/{SYSTEM}/pods/second"
        wait_for("the second one to end", lambda: site.api.get(path)["status"].get("phase") == "Failed", 60, 0.2)
        said = site.api.kubectl("logs", "second", namespace=SYSTEM)
        assert "another vipd runs on this node already" in said and "stop it first" in said, said
        assert site.processes("n1")["vipd speaker"] == first and site.owner(address) == "n1"
    finally:
        site.api.kubectl("delete", "pod", "second", namespace=SYSTEM, timeout=60)


def traces_in_the_api(site):
    """Every object of every kind that says it is of vipd by its name, its group or its namespace; but Events, which run out."""
    kinds = site.api.kubectl("api-resources", "--verbs=list", "-o", "name", "--cached=false").split()
    said = site.api.kubectl("get", ",".join(kind for kind in kinds if not kind.startswith("events")), "-A", "-o", "name",
                            "--ignore-not-found", "--show-kind", timeout=60)
    return [name for name in [*kinds, *said.split()] if "vipd" in name]


def traces_on(site, name, *addresses):
    node, own = site.lab[name], site.api[name].dir / "own"
    return [*site.processes(name), *node.leftovers(*addresses), *re.findall(r"table .*vipd.*", node.ruleset()),
            *[link["ifname"] for link in node.ip("link", "show") if "vip" in link["ifname"]],
            *[path for part in ("run/vipd", "var/lib/vipd") for path in (own / part).iterdir()]]


def test_uninstalling_leaves_nothing_behind(site):
    """By the commands of the guide, and those alone."""
    address = expose(site, "last")
    assert all("vipd" in node.ruleset() for node in site.lab.nodes.values())
    assert len(traces_in_the_api(site)) > 15
    site.clear()
    try:
        asked = len(site.api.audit.requests())
        before = site.follow("Uninstall")
        # Its accounts go before its pods do; who is refused does not ask on and on.
        refused = [event["requestURI"] for event in site.api.audit.requests()[asked:] if event.get("responseStatus", {}).get("code") == 403]
        assert len(refused) < 20 * len(site.daemons), refused
        assert "No resources found" in before[0] or not before[0].strip()
        assert traces_in_the_api(site) == []
        assert {name: found for name in site.daemons if (found := traces_on(site, name, address))} == {}
    finally:
        site.install()
        site.api.pool()


def test_a_service_that_was_forgotten_goes_when_vipd_is_back(site):
    """Uninstalled first, the Service deleted afterwards: nodes are clean, its finalizer waits for a controller."""
    address = expose(site, "forgotten")
    try:
        site.follow("Uninstall")
        assert site.holders(address) == []
        assert {name: found for name in site.daemons if (found := traces_on(site, name))} == {}  # kube-proxy has its rules
        site.api.delete(f"{SERVICES}/forgotten")
        assert "vipd.dev/address" in site.api.service("forgotten")["metadata"]["finalizers"]
    finally:
        site.install()
        site.api.pool()
    wait_for("the Service to go", lambda: not site.api.service("forgotten"), 30)
