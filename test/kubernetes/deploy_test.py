"""deploy/ on a real API server: every manifest with strict validation, what is refused, and who may do what."""
import copy
import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

import manifests
import vipd
from cluster import ADDRESS, GROUP, OLDEST, PORT, SYSTEM, ApiError, program
from lab import ROOT, wait_for

DEPLOY = ROOT / "deploy"
FILES = ["namespace.yaml", "crds.yaml", "rbac.yaml", "admission.yaml", "flowschema.yaml", "daemonset.yaml", "deployment.yaml"]
# What the oldest server does not know; both files say to leave them out of kustomization.yaml there.
NEWER = {"admission.yaml": "1.30", "flowschema.yaml": "1.29"} if OLDEST else {}


def needs(name):
    return pytest.mark.skipif(name in NEWER, reason=f"{name} needs Kubernetes {NEWER.get(name)}")


def documents(name):
    return [document for document in yaml.safe_load_all((DEPLOY / name).read_text()) if document]


def one(name, kind):
    return next(document for document in documents(name) if document["kind"] == kind)


def copied(folder):
    """deploy/ in `folder`, without what this server does not know."""
    shutil.copytree(DEPLOY, folder / "deploy")
    file = folder / "deploy/kustomization.yaml"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if line[2:].strip() not in NEWER))
    return folder / "deploy"


@pytest.fixture
def whole(api, tmp_path_factory):
    """deploy/ installed whole, and taken out again where it could disturb other tests."""
    folder = copied(tmp_path_factory.mktemp("whole"))
    api.kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", folder)
    yield api
    for name in {"daemonset.yaml", "deployment.yaml", "flowschema.yaml", "admission.yaml"} - NEWER.keys():
        api.kubectl("delete", "--ignore-not-found", "-f", DEPLOY / name)


# --- the manifests

@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in FILES])
def test_a_manifest_is_taken_with_strict_validation(api, name):
    said = api.kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "--dry-run=server",
                       "-f", DEPLOY / name)
    assert len(said.splitlines()) >= len(documents(name))


def test_kustomization_holds_every_manifest(api):
    listed = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(FILES)
    built = list(yaml.safe_load_all(api.kubectl("kustomize", DEPLOY)))
    wanted = [document for name in FILES for document in documents(name)]

    def names(documents):
        return sorted((document["kind"], document["metadata"]["name"]) for document in documents)

    assert names(built) == names(wanted)


def with_components(api, folder, *components):
    """A copy of deploy/ in `folder` with these components, and what it makes: (kind, name) -> object."""
    whole = copied(folder)
    with open(whole / "kustomization.yaml", "a", encoding="utf-8") as text:
        text.write(f"components: {json.dumps(components)}\n")
    return whole, {(document["kind"], document["metadata"]["name"]): document
                   for document in yaml.safe_load_all(api.kubectl("kustomize", whole))}


def test_with_monitoring_speakers_listen_where_prometheus_can_reach_them(api, tmp_path):
    _, built = with_components(api, tmp_path, "monitoring")
    assert {("PodMonitor", "vipd"), ("PrometheusRule", "vipd"), ("Deployment", "vipd-controller")} <= built.keys()
    for kind, name in (("DaemonSet", "vipd-speaker"), ("Deployment", "vipd-controller")):
        pod = built[kind, name]["spec"]["template"]
        [container] = pod["spec"]["containers"]
        listens = [entry["value"] for entry in container["env"] if entry["name"] == "VIPD_METRICS_LISTEN"]
        [port] = container["ports"]
        assert listens == [f":{port['containerPort']}"] and port["name"] == "metrics"
        wanted = built["PodMonitor", "vipd"]["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= pod["metadata"]["labels"].items()
    [plain] = one("daemonset.yaml", "DaemonSet")["spec"]["template"]["spec"]["containers"]
    assert {"name": "VIPD_METRICS_LISTEN", "value": "127.0.0.1:9461"} in plain["env"]


# Of OpenShift's definition as much as is needed to refuse a misspelt field and one that is missing.
CONSTRAINTS = {
    **{name: {"type": "boolean"} for name in (
        "allowHostDirVolumePlugin", "allowHostIPC", "allowHostNetwork", "allowHostPID", "allowHostPorts",
        "allowPrivilegedContainer", "readOnlyRootFilesystem", "allowPrivilegeEscalation",
        "defaultAllowPrivilegeEscalation")},
    **{name: {"type": "array", "items": {"type": "string"}, "nullable": True} for name in (
        "allowedCapabilities", "defaultAddCapabilities", "requiredDropCapabilities", "volumes", "users", "groups",
        "seccompProfiles")},
    **{name: {"type": "object", "properties": {"type": {"type": "string"}}} for name in (
        "runAsUser", "seLinuxContext", "fsGroup", "supplementalGroups")},
    "priority": {"type": "integer", "format": "int32", "nullable": True}}
OPENSHIFT = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "securitycontextconstraints.security.openshift.io"},
    "spec": {"group": "security.openshift.io", "scope": "Cluster", "names": {
        "plural": "securitycontextconstraints", "singular": "securitycontextconstraints",
        "kind": "SecurityContextConstraints", "listKind": "SecurityContextConstraintsList"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
            "type": "object", "required": [
                "allowHostDirVolumePlugin", "allowHostIPC", "allowHostNetwork", "allowHostPID", "allowHostPorts",
                "allowPrivilegedContainer", "readOnlyRootFilesystem"],
            "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
                           **CONSTRAINTS}}}}]}}


def test_openshift_lets_a_speaker_have_what_its_daemonset_asks_for_and_no_more(api, tmp_path):
    folder, built = with_components(api, tmp_path, "openshift", "kubevirt")
    api.kubectl("apply", "-f", "-", text=json.dumps(OPENSHIFT))
    try:
        api.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{OPENSHIFT['metadata']['name']}", timeout=40)
        api.kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "--dry-run=server", "-k", folder)
    finally:
        api.kubectl("delete", "crd", OPENSHIFT["metadata"]["name"])
    allowed = built["SecurityContextConstraints", "vipd-speaker"]
    speaker = built["DaemonSet", "vipd-speaker"]["spec"]["template"]
    [container] = speaker["spec"]["containers"]
    assert allowed["users"] == [f"system:serviceaccount:{SYSTEM}:{speaker['spec']['serviceAccountName']}"]
    assert speaker["metadata"]["annotations"]["openshift.io/required-scc"] == allowed["metadata"]["name"]
    assert sorted(container["securityContext"]["capabilities"]["add"]) == sorted(allowed["allowedCapabilities"])
    assert container["securityContext"]["capabilities"]["drop"] == allowed["requiredDropCapabilities"]
    assert {kind for volume in speaker["spec"]["volumes"] for kind in volume if kind != "name"} <= set(allowed["volumes"])
    assert [name for name, value in allowed.items() if value is True] == [
        "allowHostDirVolumePlugin", "allowHostNetwork", "allowHostPorts", "readOnlyRootFilesystem"]
    controller = built["Deployment", "vipd-controller"]["spec"]["template"]["spec"]
    assert controller["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["resources"]["requests"]["cpu"] == "250m"


def test_probes_ask_nobody_but_the_process():
    """Neither an API server that is away nor a stranger on the port of the metrics must restart anybody."""
    [speaker] = one("daemonset.yaml", "DaemonSet")["spec"]["template"]["spec"]["containers"]
    for probe, option in (("startup", "healthz"), ("liveness", "healthz"), ("readiness", "readyz")):
        assert speaker[f"{probe}Probe"]["exec"]["command"] == ["/usr/bin/vipd", "status", f"--{option}"]
    [controller] = one("deployment.yaml", "Deployment")["spec"]["template"]["spec"]["containers"]
    for probe, path in (("liveness", "/healthz"), ("readiness", "/readyz")):
        asked = controller[f"{probe}Probe"]["httpGet"]
        assert asked["path"] == path and asked["port"] == "metrics" and "host" not in asked


@pytest.mark.parametrize("name,kind", [("daemonset.yaml", "DaemonSet"), ("deployment.yaml", "Deployment")])
def test_pods_of_the_template_are_admitted(whole, name, kind):
    """Pod security, priority class and everything that is only looked at when a Pod is made."""
    template = one(name, kind)["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod",
           "metadata": {**template["metadata"], "name": "sample", "namespace": SYSTEM}, "spec": template["spec"]}
    said = whole.kubectl("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-",
                         text=json.dumps(pod))
    made = json.loads(said)["spec"]
    assert made["priority"] >= 2000000000
    account = one("rbac.yaml", "ServiceAccount")["metadata"]["namespace"]
    assert account == SYSTEM and made["serviceAccountName"] in [
        document["metadata"]["name"] for document in documents("rbac.yaml") if document["kind"] == "ServiceAccount"]


def test_containers_have_no_more_than_they_need():
    for name, kind in (("daemonset.yaml", "DaemonSet"), ("deployment.yaml", "Deployment")):
        spec = one(name, kind)["spec"]["template"]["spec"]
        [container] = spec["containers"]
        context = container["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"] and context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"] and not context.get("privileged")
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    # With runAsUser kubelet makes the token readable for that user alone, and the agent is another one.
    speaker = one("daemonset.yaml", "DaemonSet")["spec"]["template"]["spec"]
    assert "runAsUser" not in json.dumps(speaker)


def test_the_programs_know_the_arguments_of_the_manifests():
    for name, kind in (("daemonset.yaml", "DaemonSet"), ("deployment.yaml", "Deployment")):
        [container] = one(name, kind)["spec"]["template"]["spec"]["containers"]
        command, *options = container["args"]
        done = subprocess.run([vipd.program(), command, "--help"], capture_output=True, text=True, timeout=30,
                              check=False)
        assert done.returncode == 0, f"vipd {command}: {done.stderr}"
        for option in options:
            assert not option.startswith("--") or option.split("=")[0] in done.stdout


@needs("flowschema.yaml")
def test_lease_requests_do_not_queue_with_everybody_elses(whole):
    schemas = {found["metadata"]["name"]: found["metadata"]["uid"] for found in
               whole.list("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas")}
    token = whole.token("vipd-speaker")
    for path, schema in ((f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/none", "vipd-leases"),
                         (f"{GROUP}/virtualips", "vipd")):
        done = whole.host.run(["curl", "-sk", "-D", "-", "-o", "/dev/null", "-H", f"Authorization: Bearer {token}",
                               f"https://{ADDRESS}:{PORT}{path}"], check=False) if shutil.which("curl") else None
        headers = done.stdout if done else whole.host.run(
            ["openssl", "s_client", "-quiet", "-connect", f"{ADDRESS}:{PORT}"], check=False,
            text=f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n").stdout
        found = re.search(r"(?i)x-kubernetes-pf-flowschema-uid: (\S+)", headers)
        assert found and found.group(1) == schemas[schema], headers[:500]


POLICIES = ["/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"]
FLOWS = ["/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
         "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"]


def test_uninstalling_leaves_nothing(whole, tmp_path):
    installed = {document["metadata"]["name"] for name in FILES for document in documents(name)}
    try:
        whole.kubectl("delete", "--ignore-not-found", "-k", copied(tmp_path), timeout=90)
        for path in ("/api/v1/namespaces", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                     "/apis/rbac.authorization.k8s.io/v1/clusterroles",
                     "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
                     *([] if "admission.yaml" in NEWER else POLICIES), *([] if "flowschema.yaml" in NEWER else FLOWS)):
            assert installed & {found["metadata"]["name"] for found in whole.list(path)} == set()
    finally:
        whole.install()


# --- the objects

FULL_POOL = {
    "addresses": ["192.0.2.0/26", "192.0.2.100-192.0.2.120", "192.0.2.130", "2001:db8::100/120"],
    "exclude": ["192.0.2.13", "192.0.2.32/29"], "avoidFirstLast": True, "autoAssign": True, "priority": 0,
    "disabled": False, "namespaces": ["vms"], "namespaceSelector": {"matchLabels": {"tier": "lab"}},
    "serviceSelector": {"matchLabels": {"kind": "vm"}}, "maxPerNamespace": 5,
    "reservations": [{"address": "192.0.2.5", "service": {"namespace": "dns", "name": "resolver"}}],
    "externalIPs": False, "quarantineSeconds": 60,
    "nodes": {"selector": {"matchLabels": {"node-role.kubernetes.io/worker": ""}},
              "preferred": [{"weight": 50, "selector": {"matchLabels": {"rack": "a"}}}]},
    "interfaces": ["eth1", "vlan*"], "dataplane": "auto", "preemption": "sticky",
    "vrrp": {"advertisementIntervalMilliseconds": 100, "virtualRouterIDs": ["1-255"],
             "excludeVirtualRouterIDs": [51], "mode": "multicast", "virtualMAC": False, "version": 3}}
FULL_VIP = {
    "address": "192.0.2.10", "pool": "lab", "virtualRouter": "lab.ipv4.10", "virtualRouterID": 10,
    "services": [{"namespace": "vms", "name": "myvm-ssh"}], "candidates": [{"node": "n1", "priority": 150}],
    "vrrp": {"advertisementIntervalMilliseconds": 100, "version": 3, "mode": "multicast"}, "dataplane": "auto",
    "interfaces": ["eth1"]}
FULL_DRILL = {
    "target": {"virtualIP": "192.0.2.10"}, "action": "Hang", "holdSeconds": 5, "schedule": "0 3 * * 6",
    "timeZone": "Etc/UTC", "suspend": False, "probe": {"protocol": "TCP", "port": 22, "intervalMilliseconds": 5},
    "budget": {"outageMilliseconds": 500, "lostConnections": 0}}
KINDS = {"addresspools": ("AddressPool", "sample", FULL_POOL), "virtualips": ("VirtualIP", "192.0.2.10", FULL_VIP),
         "speakers": ("Speaker", "n1", {"maintenance": False, "excluded": False}),
         "failoverdrills": ("FailoverDrill", "nightly-ssh", FULL_DRILL)}


def try_out(api, plural, change=None, name=None):
    """Asks the server to take an object (and not to keep it); the object as it would be kept."""
    kind, usual, spec = KINDS[plural]
    thing = {"apiVersion": "vipd.dev/v1alpha1", "kind": kind, "metadata": {"name": name or usual},
             "spec": copy.deepcopy(spec)}
    for path, value in (change or {}).items():
        *parents, last = path.split(".")
        place = thing["spec"]
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return api.request("POST", f"{GROUP}/{plural}?fieldValidation=Strict&dryRun=All", thing)


@pytest.mark.parametrize("plural", KINDS)
def test_an_object_with_every_field_is_kept_as_it_is(api, plural):
    assert try_out(api, plural)["spec"] == KINDS[plural][2] | {}


def test_a_pool_of_one_line_gets_the_documented_defaults(api):
    made = api.request("POST", f"{GROUP}/addresspools?dryRun=All", manifests.pool("small", ["192.0.2.1"]))["spec"]
    assert made == {"addresses": ["192.0.2.1"], "avoidFirstLast": True, "autoAssign": True, "priority": 0,
                    "disabled": False, "externalIPs": False, "quarantineSeconds": 60, "dataplane": "auto",
                    "preemption": "sticky", "vrrp": {"advertisementIntervalMilliseconds": 100, "mode": "multicast",
                                                     "virtualMAC": False, "version": 3}}


ADDRESSES = ["0.0.0.0/0", "255.255.255.255", "10.0.0.0/8", "192.0.2.1-192.0.2.9", "::", "::1", "1::", "fe80::1-fe80::9",
             "1:2:3:4:5:6:7:8", "1::8", "1:2:3:4:5:6::8", "::2:3:4:5:6:7:8", "2001:DB8::/32", "::/0", "2001:db8::1/128"]
NO_ADDRESSES = ["", "192.0.2", "192.0.2.256", "192.0.2.01", "192.0.2.0/33", "192.0.2.1-", "192.0.2.1-::1", "1:2:3:4:5:6:7",
                "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", ":::", "2001:db8::/129", "fe80::1%eth0", "::ffff:192.0.2.1",
                "example.com", "192.0.2.1 ", "192.0.2.1,192.0.2.2", "192.0.2.1/24-192.0.2.9"]


def test_addresses_that_are_some(api):
    try_out(api, "addresspools", {"addresses": ADDRESSES, "exclude": ADDRESSES})


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_addresses_that_are_none(api, text):
    for field in ("addresses", "exclude"):
        with pytest.raises(ApiError) as refused:
            try_out(api, "addresspools", {field: ["192.0.2.1", text]})
        assert refused.value.status == 422 and f"spec.{field}[1]" in str(refused.value)
        assert "neither an address, nor a range FIRST-LAST, nor a CIDR" in str(refused.value)


@pytest.mark.parametrize("plural,change,words", [
    ("addresspools", {"addresses": []}, "at least 1"),
    ("addresspools", {"addresses": None}, "Required"),
    ("addresspools", {"dataplan": "auto"}, 'unknown field "spec.dataplan"'),
    ("addresspools", {"dataplane": "fast"}, 'supported values: "auto"'),
    ("addresspools", {"maxPerNamespace": 0}, "maxPerNamespace"),
    ("addresspools", {"quarantineSeconds": -1}, "quarantineSeconds"),
    ("addresspools", {"interfaces": ["a-name-that-is-too-long"]}, "interfaces[0]"),
    ("addresspools", {"reservations": [{"address": "192.0.2.0/24", "service": {"namespace": "a", "name": "b"}}]},
     "no IPv4 or IPv6 address"),
    ("addresspools", {"vrrp.advertisementIntervalMilliseconds": 15}, "multiple of 10"),
    ("addresspools", {"vrrp.advertisementIntervalMilliseconds": 0}, "greater than or equal to 10"),
    ("addresspools", {"vrrp.advertisementIntervalMilliseconds": 40960}, "less than or equal to 40950"),
    ("addresspools", {"vrrp.version": 4}, "version"),
    ("addresspools", {"vrrp.version": 2, "vrrp.advertisementIntervalMilliseconds": 100}, "counts in whole seconds"),
    ("addresspools", {"vrrp.virtualRouterIDs": ["0"]}, "virtualRouterIDs[0]"),
    ("addresspools", {"vrrp.virtualRouterIDs": [256]}, "virtualRouterIDs[0]"),
    ("addresspools", {"vrrp.excludeVirtualRouterIDs": [1, "300"]}, "excludeVirtualRouterIDs[1]"),
    ("virtualips", {"address": "192.0.2.0/24"}, "no IPv4 or IPv6 address"),
    ("virtualips", {"address": "192.0.2.11"}, "the name is the IPv4 address itself"),
    ("virtualips", {"virtualRouter": "lab.ipv6.10"}, "of the family of the address"),
    ("virtualips", {"virtualRouterID": 256}, "less than or equal to 255"),
    ("virtualips", {"candidates": [{"node": "n1", "priority": 255}]}, "less than or equal to 254"),
    ("virtualips", {"candidates": [{"node": "n1", "priority": 9}, {"node": "n1", "priority": 8}]}, "Duplicate"),
    ("speakers", {"maintainance": True}, "unknown field"),
    ("failoverdrills", {"target": {"virtualIP": "192.0.2.10", "node": "n1"}}, "at most 1"),
    ("failoverdrills", {"target": {}}, "at least 1"),
    ("failoverdrills", {"action": "Reboot"}, "supported values"),
    ("failoverdrills", {"action": "Crash"}, "holdSeconds goes with the actions Hang and Isolate"),
    ("failoverdrills", {"schedule": None}, "timeZone goes with schedule"),
    ("failoverdrills", {"schedule": "every day"}, "schedule"),
    ("failoverdrills", {"probe.protocol": "ICMP"}, "ICMP and ARP have no port"),
    ("failoverdrills", {"budget.outageMilliseconds": -1}, "greater than or equal to 0"),
    ("failoverdrills", {"budget.outageMilliseconds": "soon"}, "budget.outageMilliseconds"),
    ("failoverdrills", {"budget.lostConnections": 0.5}, "budget.lostConnections"),
    ("failoverdrills", {"budget.lostPackets": 3}, 'unknown field "spec.budget.lostPackets"'),
])
def test_what_cannot_be_is_refused_in_words(api, plural, change, words):
    with pytest.raises(ApiError) as refused:
        try_out(api, plural, change)
    assert refused.value.status in (400, 422) and words in str(refused.value)


def test_names_and_addresses_of_virtual_ips_belong_together(fresh):
    six = {"address": "2001:db8::1:10", "virtualRouter": "lab.ipv6.16", "virtualRouterID": 16}
    try_out(fresh, "virtualips", six, "2001-0db8-0000-0000-0000-0000-0001-0010")
    with pytest.raises(ApiError, match="written out"):
        try_out(fresh, "virtualips", six, "2001-db8--1-10")
    fresh.create(f"{GROUP}/virtualips", {"apiVersion": "vipd.dev/v1alpha1", "kind": "VirtualIP",
                                         "metadata": {"name": "192.0.2.10"}, "spec": FULL_VIP})
    with pytest.raises(ApiError, match="an address is not changed"):
        fresh.patch(f"{GROUP}/virtualips/192.0.2.10", {"spec": {"address": "192.0.2.11"}})


@pytest.mark.parametrize("short,columns", [
    ("pool", "NAME ADDRESSES ASSIGNED AVAILABLE ASSIGNED6 AVAILABLE6 DATAPLANE ACCEPTED AGE"),
    ("vip", "NAME OWNER STATE SINCE SERVICES POOL AGE"),
    ("spk", "NAME READY OWNED ELIGIBLE MAINTENANCE FENCE DATAPLANE API VERSION AGE"),
    ("drill", "NAME TARGET ACTION PHASE OUTAGE BUDGET KEPT LAST AGE"),
])
def test_columns_of_kubectl_get(fresh, short, columns):
    for plural, (kind, name, spec) in KINDS.items():
        fresh.create(f"{GROUP}/{plural}", {"apiVersion": "vipd.dev/v1alpha1", "kind": kind,
                                           "metadata": {"name": name}, "spec": spec})
    assert fresh.kubectl("get", short).splitlines()[0].split() == columns.split()


# --- who may do what

SEE = {"list", "watch"}
SPEAKER = {
    ("", "services"): SEE, ("", "nodes"): SEE, ("discovery.k8s.io", "endpointslices"): SEE,
    ("vipd.dev", "virtualips"): SEE | {"get"}, ("vipd.dev", "virtualips/status"): {"patch"},
    ("vipd.dev", "speakers"): SEE | {"create"}, ("vipd.dev", "speakers/status"): {"patch"},
    ("kubevirt.io", "virtualmachineinstances"): SEE,
    ("events.k8s.io", "events"): {"create", "patch"},
    ("coordination.k8s.io", "leases"): SEE | {"get", "create", "update"}}
CONTROLLER = {
    ("", "namespaces"): SEE, ("", "nodes"): SEE, ("", "services"): SEE | {"get", "patch"}, ("", "services/status"): {"patch"},
    ("discovery.k8s.io", "endpointslices"): SEE,
    ("config.openshift.io", "infrastructures"): SEE, ("config.openshift.io", "networks"): SEE,
    ("vipd.dev", "addresspools"): SEE | {"get"}, ("vipd.dev", "addresspools/status"): {"patch"},
    ("vipd.dev", "virtualips"): SEE | {"get", "create", "patch", "delete"}, ("vipd.dev", "virtualips/status"): {"patch"},
    ("vipd.dev", "speakers"): SEE | {"get"}, ("vipd.dev", "speakers/status"): {"patch"},
    ("vipd.dev", "failoverdrills"): SEE, ("vipd.dev", "failoverdrills/status"): {"patch"},
    ("events.k8s.io", "events"): {"create", "patch"},
    ("coordination.k8s.io", "leases"): SEE | {"get", "create", "update", "delete"}}


def granted(api, account, namespace):
    """(group, resource) -> verbs, less what every authenticated user may do anyway."""
    def rules(token):
        review = api.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace}}, token=token)
        found = {}
        for rule in review["status"]["resourceRules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    found.setdefault((group, resource), set()).update(rule["verbs"])
        return found

    if not api.get(f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/nothing-granted"):
        api.create(f"/api/v1/namespaces/{SYSTEM}/serviceaccounts", {
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nothing-granted"}})
    everybody = rules(api.token("nothing-granted"))
    mine = {key: verbs - everybody.get(key, set()) for key, verbs in rules(api.token(account)).items()}
    return {key: verbs for key, verbs in mine.items() if verbs}


@pytest.mark.parametrize("account,wanted", [("vipd-speaker", SPEAKER), ("vipd-controller", CONTROLLER)])
def test_an_account_may_do_this_and_nothing_else(api, account, wanted):
    assert granted(api, account, SYSTEM) == wanted
    elsewhere = {key: verbs for key, verbs in wanted.items() if key[0] != "coordination.k8s.io"}
    assert granted(api, account, "default") == elsewhere


def can(api, account, *words):
    done = api.kubectl("auth", "can-i", *words, f"--as=system:serviceaccount:{SYSTEM}:{account}", check=False)
    assert done.stdout.strip() in ("yes", "no"), done.stderr
    return done.stdout.strip() == "yes"


@pytest.mark.parametrize("words", [
    "patch services -n vms", "update services -n vms", "create services -n vms", "delete services -n vms",
    "patch services/status -n vms", "update services --subresource=status -n vms", "get secrets -n vipd-system",
    "list secrets -A", "get configmaps -n vipd-system", "create pods -n vipd-system", "get pods -A",
    "create pods/exec -n vipd-system", "patch nodes", "update nodes/status", "get addresspools", "patch addresspools",
    "create virtualips", "patch virtualips", "update virtualips", "delete virtualips", "patch speakers",
    "delete speakers", "create failoverdrills", "delete leases -n vipd-system", "patch leases -n vipd-system",
    "get leases -n kube-node-lease", "update leases -n kube-system", "create serviceaccounts/token -n vipd-system",
    "impersonate users", "create clusterrolebindings", "get customresourcedefinitions"])
def test_a_speaker_may_not(api, words):
    assert not can(api, "vipd-speaker", *words.split())


@pytest.mark.parametrize("words", [
    "delete services -n vms", "create services -n vms", "get secrets -A", "get pods -A", "patch nodes",
    "create addresspools", "patch addresspools", "delete addresspools", "create speakers", "patch speakers",
    "delete speakers", "get leases -n kube-system", "delete leases -n kube-node-lease",
    "create serviceaccounts/token -n vipd-system", "impersonate users", "create clusterrolebindings"])
def test_a_controller_may_not(api, words):
    assert not can(api, "vipd-controller", *words.split())


# --- what a speaker may write, whoever it is

LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"


@pytest.fixture
def nodes(fresh, whole):
    """Tokens of the speakers of n1 and n2, bound to their nodes, and one that is bound to none."""
    for name in ("n1", "n2"):
        whole.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        whole.create(f"{GROUP}/speakers", {"apiVersion": "vipd.dev/v1alpha1", "kind": "Speaker", "metadata": {"name": name},
                                           "spec": {}})
    whole.create(f"{GROUP}/virtualips", {"apiVersion": "vipd.dev/v1alpha1", "kind": "VirtualIP",
                                         "metadata": {"name": "192.0.2.10"}, "spec": FULL_VIP})
    tokens = {name: whole.token("vipd-speaker", name) for name in ("n1", "n2")}
    tokens["nobody"] = whole.token("vipd-speaker")
    # Policies take effect a moment after they were made.
    wait_for("the policies to be enforced", lambda: refused(whole, tokens["nobody"], "POST", LEASES, lease("probe", "x")), 30)
    return tokens


def refused(api, token, method, path, body=None, kind="application/json"):
    """The message with which it is denied, or None."""
    try:
        api.request(method, f"{path}{'&' if '?' in path else '?'}dryRun=All", body, kind, token)
    except ApiError as error:
        assert error.status in (403, 422), error
        return str(error)
    return None


def lease(name, holder, version=None):
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": SYSTEM, **({"resourceVersion": version} if version else {})},
            "spec": {"holderIdentity": holder, "leaseTransitions": 1}}


@needs("admission.yaml")
def test_a_speaker_renews_and_claims_for_its_own_node_only(whole, nodes):
    one = nodes["n1"]
    assert not refused(whole, one, "POST", LEASES, lease("speaker-n1", "n1"))
    assert "sign of life for another node" in refused(whole, one, "POST", LEASES, lease("speaker-n2", "n2"))
    assert not refused(whole, one, "POST", LEASES, lease("lab.ipv4.10", "n1"))
    assert "may not make n2 the holder" in refused(whole, one, "POST", LEASES, lease("lab.ipv4.10", "n2"))
    assert "is the controller's" in refused(whole, one, "POST", LEASES, lease("vipd-controller", "n1"))
    assert "is bound to no node" in refused(whole, nodes["nobody"], "POST", LEASES, lease("lab.ipv4.10", ""))
    made = whole.create(LEASES, lease("lab.ipv4.10", "n2"))
    version, path = made["metadata"]["resourceVersion"], f"{LEASES}/lab.ipv4.10"
    for holder in ("n1", "n2", ""):  # taken over, left alone, released because nobody renews it
        assert not refused(whole, one, "PUT", path, lease("lab.ipv4.10", holder, version))
    assert "may not make n3 the holder" in refused(whole, one, "PUT", path, lease("lab.ipv4.10", "n3", version))


@needs("admission.yaml")
def test_a_speaker_writes_the_status_of_its_own_node_only(whole, nodes):
    ready = {"status": {"owned": 1}}
    merge = "application/merge-patch+json"
    assert not refused(whole, nodes["n1"], "PATCH", f"{GROUP}/speakers/n1/status", ready, merge)
    assert "the speaker of n1 may not write about n2" in refused(
        whole, nodes["n1"], "PATCH", f"{GROUP}/speakers/n2/status", ready, merge)
    assert "may not write about n3" in refused(whole, nodes["n1"], "POST", f"{GROUP}/speakers", {
        "apiVersion": "vipd.dev/v1alpha1", "kind": "Speaker", "metadata": {"name": "n3"}, "spec": {}})


@needs("admission.yaml")
def test_a_speaker_names_only_itself_the_owner_of_an_address(whole, nodes):
    path, merge = f"{GROUP}/virtualips/192.0.2.10/status", "application/merge-patch+json"

    def tries(node, **status):
        return refused(whole, nodes[node], "PATCH", path, {"status": status}, merge)

    assert not tries("n1", owner="n1", state="Active")
    assert "may not name n2 the owner" in tries("n1", owner="n2", state="Active")
    whole.request("PATCH", path, {"status": {"owner": "n2", "notEligible": [{"node": "n2", "reason": "LinkDown"}]}}, merge)
    assert not tries("n1", owner="n1")
    assert "may not name nobody the owner" in tries("n1", owner=None)
    assert not tries("n2", owner=None, state="Unowned")
    mine = [{"node": "n1", "reason": "LinkDown"}]
    assert not tries("n1", notEligible=[{"node": "n2", "reason": "LinkDown"}, *mine])
    assert "why other nodes cannot own it" in tries("n1", notEligible=mine)
    assert "why other nodes cannot own it" in tries("n1", notEligible=[{"node": "n2", "reason": "Excluded"}])


# --- beside Kubernetes

def test_the_unit_of_standalone_hosts(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "vipd.service"
    unit.write_text((DEPLOY / "vipd.service").read_text().replace("/usr/bin/vipd", str(vipd.program())))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=40", unit],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-500:]
    settings = re.search(r"(?m)^Environment=(.*)$", unit.read_text()).group(1)
    told = subprocess.run([vipd.program(), "standalone", "--help"], capture_output=True, text=True, timeout=30,
                          check=False).stdout
    for word in settings.split():
        assert f"--{word.split('=')[0].removeprefix('VIPD_').lower()} " in told


@pytest.mark.parametrize("words,prefix,code,said", [
    (["--nonsense"], [], 2, "--nonsense is no option of mine"),
    (["--keep"], ["setpriv", "--reuid", "65534", "--clear-groups"], 1, "sudo deploy/quickstart --keep"),
    ([], ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"], 1, "not allowed to make network"),
])
def test_quickstart_says_in_one_line_why_it_does_not_start(words, prefix, code, said):
    done = subprocess.run([*prefix, DEPLOY / "quickstart", *words], capture_output=True, text=True, timeout=60,
                          check=False, cwd="/", env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == code and done.stdout == ""
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


def test_kubectl_knows_where_the_plugin_is(api):
    path = f"{vipd.program('kubectl-vip').parent}:{os.environ['PATH']}"
    done = api.host.run(["env", f"PATH={path}", program("kubectl"), "plugin", "list"])
    assert str(vipd.program("kubectl-vip")) in done.stdout


def page(name):
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", ROOT / "deploy/man" / name], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout).replace("\u2010", "-").replace("\u2212", "-")


@pytest.mark.skipif(not shutil.which("groff"), reason="no groff: install groff-base")
def test_man_pages_know_every_command_and_option():
    text = page("vipd.8")
    commands = re.findall(r"^  (\w+) ", subprocess.run([vipd.program(), "--help"], capture_output=True, text=True,
                                                       timeout=30, check=True).stdout, re.M)
    assert set(commands) >= {"speaker", "controller", "standalone", "check", "status", "reasons", "version"}
    for command in commands:
        assert f"vipd {command}" in text
        said = subprocess.run([vipd.program(), command, "--help"], capture_output=True, text=True, timeout=30,
                              check=False).stdout
        for option in re.findall(r"^  (--[a-z-]+)", said, re.M):
            assert option in text or option == "--o", f"vipd {command}: {option}"
    text = page("kubectl-vip.1")
    plugin = vipd.program("kubectl-vip")
    commands = re.findall(r"^  ([a-z]+) ", subprocess.run([plugin, "--help"], capture_output=True, text=True,
                                                           timeout=30, check=True).stdout, re.M)
    assert len(commands) >= 8
    for command in commands:
        assert re.search(rf"^ +{command}\b", text, re.M), command
        said = subprocess.run([plugin, command, "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
        for option in re.findall(r"(--[a-z-]+)", said):
            assert option in text, f"kubectl vip {command}: {option}"
