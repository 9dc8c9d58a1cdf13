"""What vipd asks of the API server in a run of everything it does, compared with deploy/rbac.yaml in both directions."""
import collections
import datetime
import re

import pytest
import yaml

from cluster import GROUP, SYSTEM, ApiError
from installed import DEPLOY, SERVICES
from lab import wait_for
import manifests

DRILLS = f"{GROUP}/failoverdrills"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
# Read again when somebody else wrote at the same instant, which no run brings about at will.
AFTER_A_CONFLICT = {"vipd-controller": {("", "services", "get"), *(
                        ("vipd.dev", resource, "get") for resource in ("addresspools", "speakers", "virtualips"))},
                    "vipd-speaker": {("vipd.dev", "virtualips", "get")}}
OPENSHIFT = [{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
              "metadata": {"name": f"{plural}.config.openshift.io"},
              "spec": {"group": "config.openshift.io", "scope": "Cluster",
                       "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
                       "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                           "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}
             for plural, kind in (("infrastructures", "Infrastructure"), ("networks", "Network"))]


def granted():
    """account -> {(API group, resource, verb)} of deploy/rbac.yaml."""
    documents = [document for document in yaml.safe_load_all((DEPLOY / "rbac.yaml").read_text()) if document]
    roles = {(document["kind"], document["metadata"]["name"]): document["rules"] for document in documents
             if document["kind"] in ("ClusterRole", "Role")}
    found = collections.defaultdict(set)
    for binding in documents:
        if binding["kind"] not in ("ClusterRoleBinding", "RoleBinding"):
            continue
        for rule in roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]:
            found[binding["subjects"][0]["name"]].update(
                (group, resource, verb) for group in rule["apiGroups"] for resource in rule["resources"]
                for verb in rule["verbs"])
    return found


def requests(site, since="", beginning=()):
    """account -> {(API group, resource, verb)} that vipd asked for, and what was refused of it `since`.

    Not while a server began, which knows its roles a moment after it answers; `beginning`: (from, to) of each. An old
    server says to a question of the newer kind that it is invalid; then vipd asks for lists.
    """
    asked, refused = collections.defaultdict(set), []
    for event in site.api.audit.requests():
        if not event.get("userAgent", "").startswith("vipd-"):
            continue  # a test, with a token of vipd's
        account = event["user"]["username"].rpartition(":")[2]
        thing = event.get("objectRef")
        code = event.get("responseStatus", {}).get("code", 0)
        when, why = event["stageTimestamp"], event.get("responseStatus", {}).get("message", "")
        if code in (401, 403, 422) and when >= since and "sendInitialEvents is forbidden" not in why and not any(
                begun <= when <= ready for begun, ready in beginning):  # 422: admission.yaml
            refused.append(f"{account}: {event['verb']} {event['requestURI']}: {why}")
        if thing:
            resource = "/".join(filter(None, [thing["resource"], thing.get("subresource")]))
            asked[account].add((thing.get("apiGroup", ""), resource, event["verb"]))
    return asked, refused


def drill(site, address, runs):
    """There and back by one drill, again and again, so that the same is said twice: its Events become series."""
    path = f"{DRILLS}/there-and-back"

    def ended(count):
        return wait_for(f"the end of run {count}", lambda: len(
            found := site.api.get(path).get("status", {}).get("runs", [])) == count and found, 60)

    site.api.create(DRILLS, {"apiVersion": "vipd.dev/v1alpha1", "kind": "FailoverDrill", "metadata": {"name": "there-and-back"},
                             "spec": {"target": {"virtualIP": address}, "action": "Handover"}})
    for number in range(1, runs):
        ended(number)
        wait_for(f"{address} to be Active", lambda: site.api.vips()[address].get("status", {}).get("state") == "Active", 30)
        site.api.patch(path, {"spec": {"budget": {"outageMilliseconds": 1000 + number}}})
    found = ended(runs)
    site.api.delete(path)
    assert "Refused" not in [run["verdict"] for run in found], found  # how good it was is a matter of test/kubernetes


def service(name, nodes, **spec):
    return manifests.service(name, [], selector={"vmi.kubevirt.io/id": "test-vm-2"},
                             annotations={"vipd.dev/nodes": nodes}, **spec)


def every_day(site):
    """Both families, a drill, handovers there and back, maintenance, a pool that changes, a request that is refused."""
    api = site.api
    api.expose("test-vm-1", "both", 22, "--ip-family-policy", "RequireDualStack")
    api.external_ip("both", count=2)
    api.create(SERVICES, manifests.service("refused", ["198.51.100.7"], selector={"vmi.kubevirt.io/id": "test-vm-1"}))
    api.create(SERVICES, service("local", "n3", externalTrafficPolicy="Local"))
    api.create(SERVICES, manifests.service("attached", [], selector={"vmi.kubevirt.io/id": "test-vm-2"},
                                           annotations={"vipd.dev/network": "vms/lan"}))
    api.create(SERVICES, service("moved", "n1,n2"))
    address = api.external_ip("moved")
    site.serves(address, vm="test-vm-2")
    wait_for(f"{address} to be Active", lambda: api.vips()[address].get("status", {}).get("state") == "Active", 30)
    drill(site, address, 4)
    owner = site.owner(address)
    api.patch(f"{GROUP}/speakers/{owner}", {"spec": {"maintenance": True}})
    site.owner(address, other_than=owner, seconds=20)
    api.patch(f"{GROUP}/speakers/{owner}", {"spec": {"maintenance": False}})
    api.pool(quarantineSeconds=61)


def bad_day(site):
    """A node is gone with an address that only it may own, its Speaker is deleted; everybody begins anew."""
    api = site.api
    api.create(SERVICES, service("alone", "n1"))
    address = api.external_ip("alone")
    site.serves(address, vm="test-vm-2")
    wait_for("its owner to be told", lambda: api.vips()[address].get("status", {}).get("owner") == "n1", 20)
    api["n1"].kill_kubelet_and_pods()
    wait_for("its silence to be told", lambda: any(
        entry["type"] == "Ready" and entry["status"] != "True"
        for entry in site.speakers()["n1"]["status"]["conditions"]), 90)
    wait_for("its address to be nobody's", lambda: not api.vips()[address]["status"].get("owner"), 30)
    api.delete(f"{GROUP}/speakers/n1")
    site.revive("n1")
    api.create(LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {}, "metadata": {
        "name": "lab.ipv4.250", "namespace": SYSTEM, "labels": {"vipd.dev/virtual-router": "true"}}})
    api.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(OPENSHIFT))
    beginning = restarted(site)
    wait_for("the stray Lease to go", lambda: "lab.ipv4.250" not in api.leases(), 60)
    return beginning


def restarted(site):
    """All of vipd, while the server is as those before 1.32: it does not tell all there is as a stream, but in lists.

    Answers when servers began.
    """
    def server(*options):
        begun = now()
        site.api.restart_server(*options)
        return begun, now()

    old = server("--feature-gates=WatchList=false")
    site.api.kubectl("delete", "pod", "-l", "app.kubernetes.io/part-of=vipd", "--wait=true", namespace=SYSTEM, timeout=120)
    site.rolled_out()
    return old, server()


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_nothing_is_refused_and_nothing_is_granted_that_is_never_used(site):
    since = now()  # before it was uninstalled once, its accounts first
    every_day(site)
    beginning = bad_day(site)
    site.clear()
    wait_for("the Leases to go", lambda: not [name for name in site.api.leases() if re.search(r"\.ipv[46]\.", name)], 30)
    rules = granted()

    def rests():
        """What has not been asked for yet."""
        asked, _ = requests(site)
        return {account: sorted(allowed - asked[account] - AFTER_A_CONFLICT[account]) for account, allowed in rules.items()}

    try:
        wait_for("every grant to be used", lambda: not any(rests().values()), 20, 0.5)
    finally:
        site.api.kubectl("delete", "crd", *[definition["metadata"]["name"] for definition in OPENSHIFT])
        print("never asked for:", rests())
    asked, refused = requests(site, since, beginning)
    assert refused == []
    assert rules.keys() == {"vipd-speaker", "vipd-controller"} == asked.keys()
    for account, allowed in rules.items():
        assert not (other := sorted(asked[account] - allowed)), f"{account}: asked for, and granted by nobody here: {other}"


# --- a node that was broken into: what its speaker's own token is good for

FAULT = {"id": "d1", "action": "Crash", "virtualRouter": "", "holdMilliseconds": 0, "expires": 4102444800}
ABOUT = {"fault": {"status": {"fault": FAULT}},
         "lookout": {"status": {"lookout": {"id": "d1", "address": "192.0.2.9", "expires": 4102444800}}},
         "owned": {"status": {"owned": 7}}}
MERGE, APPLY, STEPS = (f"application/{kind}" for kind in ("merge-patch+json", "apply-patch+yaml", "json-patch+json"))


def attempt(site, node, method, path, body, kind):
    """By the token of the pod on a node; None if it was done, else with which words it was not."""
    try:
        site.api.request(method, path, body, kind, site.speaker_token(node))
    except ApiError as error:
        assert error.status in (403, 422), error
        return str(error)
    return None


@pytest.mark.parametrize("what", ABOUT)
def test_a_speaker_gives_no_order_to_and_says_nothing_about_another_node(site, what):
    """Speaker.status holds the orders of a drill: who could write it could crash any node."""
    def state(node):
        return site.speakers()[node].get("status", {}).get(what)

    path, before = f"{GROUP}/speakers/n2/status", state("n2")
    whole = {"apiVersion": "vipd.dev/v1alpha1", "kind": "Speaker", "metadata": {"name": "n2"}, **ABOUT[what]}
    steps = [{"op": "add", "path": f"/status/{what}", "value": ABOUT[what]["status"][what]}]
    assert "the speaker of n1 may not write about n2" in attempt(site, "n1", "PATCH", path, ABOUT[what], MERGE)
    assert "the speaker of n1 may not write about n2" in attempt(
        site, "n1", "PATCH", f"{path}?fieldManager=x&force=true", whole, APPLY)
    assert "the speaker of n1 may not write about n2" in attempt(site, "n1", "PATCH", path, steps, STEPS)
    version = site.speakers()["n2"]["metadata"]["resourceVersion"]
    whole["metadata"]["resourceVersion"] = version
    assert "cannot update resource" in attempt(site, "n1", "PUT", path, whole, "application/json")
    assert "cannot patch resource" in attempt(site, "n1", "PATCH", f"{GROUP}/speakers/n2", {"spec": {"maintenance": True}}, MERGE)
    assert what == "owned" or state("n2") == before
    assert attempt(site, "n2", "PATCH", path, {"status": {"version": site.speakers()["n2"]["status"]["version"]}}, MERGE) is None


def test_a_speaker_orders_no_drill_and_no_handover(site):
    made = {"apiVersion": "vipd.dev/v1alpha1", "kind": "FailoverDrill", "metadata": {"name": "mine"},
            "spec": {"target": {"node": "n2"}, "action": "Crash"}}
    assert "cannot create resource" in attempt(site, "n1", "POST", DRILLS, made, "application/json")
    order = {"metadata": {"annotations": {"vipd.dev/handover": "{}"}}}
    assert "cannot patch resource" in attempt(site, "n1", "PATCH", f"{GROUP}/virtualips/192.0.2.9", order, MERGE)
