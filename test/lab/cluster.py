"""A real API server for a lab: etcd, kube-apiserver and kube-controller-manager in a namespace of their own.

The server listens on 10.98.0.254:6443 of the lab's management network and is cut off from a node by
node.cut("mgt"). Clients verify it against a CA of its own. One cluster serves many labs, one after another:
attach(lab), use, reset(); two of them share one lab if each has an address and nodes of its own. Programs come
from test/cluster/build.
"""
import base64
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import sys
import threading
import time

import yaml

import manifests
from lab import ROOT, Host, LabError, Place, ip_batch, run, wait_for

sys.path.insert(0, str(ROOT / "test/tools"))
from fault_proxy import FaultProxy  # noqa: E402

ADDRESS, PORT = "10.98.0.254", 6443
ADMIN = "lab-admin-token"
SYSTEM = "vipd-system"
GROUP = "/apis/vipd.dev/v1alpha1"
# API server and Kubernetes' controllers of the oldest version that vipd supports; what talks to them is as new as ever.
OLDEST = os.environ.get("VIPD_SERVER") == "oldest"
FIRST_SERVICE = "IP:10.96.0.1,IP:fd00:96::1"  # the Service `kubernetes`, as pods find the server


def cache():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "vipd-test"


def module_version(module, wanted):
    text = (ROOT / "test" / module / "go.mod").read_text()
    return re.search(rf"(?m)^\s*(?:require )?{re.escape(wanted)} (v\S+)", text).group(1)


def program(name):
    """A program of the test cluster; `server` is etcd."""
    oldest = OLDEST and name in ("kube-apiserver", "kube-controller-manager")
    folder = (f"virtctl-{module_version('virtctl', 'kubevirt.io/kubevirt')}" if name == "virtctl"
              else module_version("oldest" if oldest else "cluster", "k8s.io/kubernetes"))
    path = cache() / folder / name
    if not path.exists():
        raise LabError(f"{name} is not built; run test/cluster/build{' oldest' if oldest else ''}")
    return path


class ApiError(LabError):
    def __init__(self, status, document):
        self.status, self.document = status, document
        self.reason = document.get("reason") if isinstance(document, dict) else None
        super().__init__(f"API server: {status} {self.reason}: "
                         f"{document.get('message') if isinstance(document, dict) else document}")


def custom_resource(plural, kind, short):
    """A CustomResourceDefinition of KubeVirt's, as much of it as virtctl looks at."""
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.kubevirt.io"},
            "spec": {"group": "kubevirt.io", "scope": "Namespaced",
                     "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "shortNames": short},
                     "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                                   "schema": {"openAPIV3Schema": {
                                       "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}


class Cluster(Place):
    # What a cluster whose pods exist only on paper does without.
    server_options = ["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"]
    manager_options = ["--controllers=endpointslice,garbagecollector,namespace,serviceaccount,serviceaccount-token"]

    def __init__(self, directory=None, address=ADDRESS):
        """`address` is of the management network, and so is the one below it."""
        super().__init__(directory)
        self.address = address
        self.host = Host(self, "api")
        self.lab = None
        self.proxies = []
        self.tls = None
        self.etcd = self.server = self.manager = None
        self.admin = self.dir / "admin.kubeconfig"

    # --- up and down

    def up(self):
        for name in ("server", "kube-apiserver", "kube-controller-manager", "kubectl", "virtctl"):
            program(name)
        self.host.create()
        ip_batch(self.host.namespace, f"address add {self.address}/32 dev lo")
        self._certificates()
        self._write_kubeconfig(self.admin, ADMIN)
        self.start_etcd()
        self.start_server()
        self.start_manager()
        return self

    def down(self):
        for proxy in self.proxies:
            proxy.close()
        self.proxies = []
        if not self.keep:
            # The server first: without its etcd it would not end on SIGTERM.
            for process in (self.manager, self.server, self.etcd):
                if process and process.alive():
                    try:
                        process.stop(3) # requests of a node without power never end
                    except LabError:
                        pass
        super().down()

    def people(self):
        """(token, user, group) of everybody who is no ServiceAccount."""
        return [(ADMIN, "admin", "system:masters")]

    def _certificates(self):
        folder = self.dir / "pki"
        folder.mkdir()
        names = f"subjectAltName=IP:{self.address},IP:127.0.0.1,{FIRST_SERVICE},DNS:kubernetes.default.svc"
        authority, key = folder / "ca.crt", folder / "ca.key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=lab CA", "-keyout", key, "-out", authority])
        run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
             "/CN=kube-apiserver", "-keyout", folder / "server.key", "-out", folder / "server.csr"])
        run(["openssl", "x509", "-req", "-days", "2", "-in", folder / "server.csr", "-CA", authority, "-CAkey", key,
             "-CAcreateserial", "-out", folder / "server.crt", "-extfile", "/dev/stdin"], text=names)
        run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"])
        (folder / "tokens.csv").write_text("".join(
            f'{token},{user},{user},"{group}"\n' for token, user, group in self.people()))
        self.authority = authority
        self.tls = (folder / "server.crt", folder / "server.key", authority)
        self.context = ssl.create_default_context(cafile=str(authority))

    def start_etcd(self):
        local = "http://127.0.0.1"
        self.etcd = self.host.start("etcd", [
            program("server"), "--data-dir", self.dir / "etcd", "--unsafe-no-fsync", "--logger=zap",
            "--log-level=warn", "--listen-client-urls", f"{local}:2379", "--advertise-client-urls", f"{local}:2379",
            "--listen-peer-urls", f"{local}:2380", "--initial-advertise-peer-urls", f"{local}:2380",
            "--initial-cluster", f"default={local}:2380"])

    def start_server(self, *options, seconds=120):
        pki = self.dir / "pki"
        self.server = self.host.start("kube-apiserver", [
            program("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379", f"--bind-address={self.address}",
            f"--secure-port={PORT}", f"--advertise-address={self.address}", f"--cert-dir={self.dir / 'certs'}",
            f"--tls-cert-file={pki / 'server.crt'}", f"--tls-private-key-file={pki / 'server.key'}",
            f"--client-ca-file={pki / 'ca.crt'}", "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
            f"--service-account-key-file={pki / 'sa.key'}", f"--service-account-signing-key-file={pki / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--api-audiences=https://kubernetes.default.svc", f"--token-auth-file={pki / 'tokens.csv'}",
            "--allow-privileged=true", "--event-ttl=10m", *self.server_options, *options])
        wait_for("the API server to be ready", self._ready, seconds, 0.1)
        if self.manager: # what was cut off from a server backs off: EndpointSlices came up to 90 s later
            self.start_manager()

    def _ready(self):
        if not self.server.alive():
            raise LabError(f"kube-apiserver ended: {self.server.output()[-2000:]}")
        try:
            return self.request("GET", "/readyz", text=True) == "ok"
        except (OSError, LabError, http.client.HTTPException):
            return False

    def stop_server(self, timeout=3):
        """Ends it, watches and all; SIGKILL if it takes too long, which is an API server's failure, too."""
        try:
            self.server.stop(timeout)
        except LabError:
            pass

    def kill_server(self):
        self.server.kill()

    def freeze_server(self):
        self.server.signal(signal.SIGSTOP)

    def thaw_server(self):
        self.server.signal(signal.SIGCONT)

    def restart_server(self, *options):
        """With these options beside its own; without any as it was."""
        self.stop_server()
        self.start_server(*options)

    def _with_etcd_down(self, act):
        self.stop_server()
        self.etcd.stop()
        act(self.dir / "etcd", self.dir / "etcd-backup")
        self.start_etcd()
        self.start_server()

    def back_up(self):
        def act(data, backup):
            shutil.rmtree(backup, ignore_errors=True)
            shutil.copytree(data, backup)
        self._with_etcd_down(act)

    def set_back(self):
        """To what back_up() kept: what happened since is unknown to the server, and so are its versions. Kubernetes'
        own controllers have to be started anew then (Kubernetes' documentation of etcd), and are."""
        def act(data, backup):
            shutil.rmtree(data)
            shutil.copytree(backup, data)
        self.manager.stop()
        self._with_etcd_down(act)

    def start_manager(self):
        """Also in place of one that runs."""
        if self.manager and self.manager.alive():
            self.manager.stop()
        self.manager = self.host.start("kube-controller-manager", [
            program("kube-controller-manager"), f"--kubeconfig={self.admin}", "--leader-elect=false",
            f"--service-account-private-key-file={self.dir / 'pki/sa.key'}",
            f"--root-ca-file={self.authority}", "--bind-address=127.0.0.1", f"--cert-dir={self.dir / 'certs'}",
            *self.manager_options])

    # --- asking it

    def request(self, method, path, body=None, kind="application/json", token=ADMIN, text=False, timeout=10):
        """One request; a server that says "later" (429, while it prepares a new kind) is asked again."""
        end = time.monotonic() + timeout
        while True:
            try:
                return self._request(method, path, body, kind, token, text, timeout)
            except ApiError as error:
                if error.status != 429 or time.monotonic() > end:
                    raise
            time.sleep(0.1)

    def _request(self, method, path, body, kind, token, text, timeout):
        connection = http.client.HTTPSConnection(self.address, PORT, timeout=timeout, context=self.context)
        raw = self.host.connect(self.address, PORT, timeout)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # http.client sends head and body apart
        connection.sock = self.context.wrap_socket(raw, server_hostname=self.address)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Authorization": f"Bearer {token}", "Content-Type": kind, "Accept": "application/json"})
            answer = connection.getresponse()
            data = answer.read().decode()
        finally:
            connection.close()
        document = data
        if not text:
            try:
                document = json.loads(data) if data else {}
            except ValueError:
                pass
        if answer.status >= 400:
            raise ApiError(answer.status, document)
        return document

    def get(self, path):
        """The object, or None if there is none."""
        try:
            return self.request("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, path):
        return self.request("GET", path)["items"]

    def create(self, path, thing):
        return self.request("POST", path, thing)

    def patch(self, path, patch):
        return self.request("PATCH", path, patch, "application/merge-patch+json")

    def delete(self, path):
        try:
            return self.request("DELETE", path, {"propagationPolicy": "Background"})
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def kubectl(self, *words, text=None, check=True, timeout=30, name="kubectl", namespace=None, folder=None):
        done = self.host.run([*(["env", f"--chdir={folder}"] if folder else []), program(name), "--kubeconfig", self.admin,
                              *(["-n", namespace] if namespace else []), *words], timeout, check, text)
        return done.stdout if check else done

    def virtctl(self, *words, namespace="vms", check=True):
        return self.kubectl(*words, name="virtctl", namespace=namespace, check=check)

    # --- what has to be in it

    def install(self):
        """The CustomResourceDefinitions, namespace and RBAC of deploy/, and what install_kubevirt() brings."""
        for name in ("crds.yaml", "namespace.yaml", "rbac.yaml"):
            if not (ROOT / "deploy" / name).exists():
                raise LabError(f"deploy/{name} is missing")
            self.kubectl("apply", "-f", ROOT / "deploy" / name)
        ours = [document["metadata"]["name"] for document in
                yaml.safe_load_all((ROOT / "deploy/crds.yaml").read_text()) if document]
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", *[f"crd/{name}" for name in ours], timeout=40)
        return self.install_kubevirt()

    def install_kubevirt(self):
        """KubeVirt's definitions, as far as virtctl looks at them, and the namespace of the VMs."""
        definitions = [custom_resource("virtualmachines", "VirtualMachine", ["vm"]),
                    custom_resource("virtualmachineinstances", "VirtualMachineInstance", ["vmi"])]
        self.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(definitions))
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s",
                     *[f"crd/{definition['metadata']['name']}" for definition in definitions], timeout=40)
        self.make_namespace("vms")
        return self

    def make_namespace(self, name):
        if not self.get(f"/api/v1/namespaces/{name}"):
            self.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def service_account(self, role):
        """The name of the ServiceAccount of "speaker" or "controller" in deploy/rbac.yaml."""
        for document in yaml.safe_load_all((ROOT / "deploy/rbac.yaml").read_text()):
            if document and document["kind"] == "ServiceAccount" and role in document["metadata"]["name"]:
                return document["metadata"]["name"]
        raise LabError(f"deploy/rbac.yaml has no ServiceAccount for the {role}")

    def token(self, account, node=None, seconds=3600):
        spec = {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": seconds}
        if node and not OLDEST:  # tokens are bound to nodes since 1.30
            found = self.request("GET", f"/api/v1/nodes/{node}")
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Node", "name": node,
                                      "uid": found["metadata"]["uid"]}
        return self.create(f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{account}/token", {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})["status"]["token"]

    def _write_kubeconfig(self, path, token, server=None, authority=None):
        data = base64.b64encode(pathlib.Path(authority or self.authority).read_bytes()).decode()
        path.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": server or f"https://{self.address}:{PORT}",
                                                     "certificate-authority-data": data}}],
            "users": [{"name": "lab", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab", "namespace": "default"}}]}))
        return path

    def kubeconfig(self, role, node=None, port=PORT, token=None, authority=None):
        """For the speaker of a node or the controller: their own ServiceAccount, RBAC of deploy/, nothing more."""
        token = token or self.token(self.service_account(role), node)
        # The speaker's unprivileged half reads it, too: a lab has no secrets.
        path = self._write_kubeconfig(self.dir / f"{role}{f'-{node}' if node else ''}.kubeconfig", token,
                                      f"https://{self.address}:{port}", authority)
        path.chmod(0o644)
        return path

    def proxy(self, port, tls=False):
        """A misbehaving way to the server on the server's address (test/tools/fault_proxy.py)."""
        made = FaultProxy(self.host, port, (self.address, PORT), self.address, self.tls if tls else None)
        self.proxies.append(made)
        return made

    # --- a lab in it

    def attach(self, lab, nodes=None):
        """Puts the server on the lab's management network, and the lab's nodes (these, by name) and their VMs into the API."""
        self.lab = lab
        head, _, last = self.address.rpartition(".")
        ip_batch(lab.switch.namespace, f"link add mgt-api{last} type veth peer name mgt0 netns {self.host.namespace}",
                 f"link set mgt-api{last} master mgt up")
        ip_batch(self.host.namespace, "link set mgt0 up", f"address add {head}.{int(last) - 1}/24 dev mgt0")
        for name in nodes or lab.nodes:
            self.add_node(lab[name])
        for vm in lab.vms.values():
            if vm.node.name in (nodes or lab.nodes):
                self.add_vm(vm)

    def add_node(self, node):
        thing = manifests.node(node)
        status = {**thing.pop("status"), "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
            "lastHeartbeatTime": manifests.STAMP, "lastTransitionTime": manifests.STAMP}]}
        self.create("/api/v1/nodes", thing)
        self.patch(f"/api/v1/nodes/{node.name}/status", {"status": status})

    def add_vm(self, vm, namespace="vms"):
        """A virtual machine and its Pod, which exists only on paper."""
        self.create_vm(vm.name, vm.node.name, [{"name": "compute", "image": "virt-launcher"}], namespace)
        self.vm_ready(vm, True, namespace)

    def create_vm(self, vm, node, containers, namespace="vms"):
        """VirtualMachine, VirtualMachineInstance and the virt-launcher Pod in which it runs."""
        group = f"/apis/kubevirt.io/v1/namespaces/{namespace}"
        spec = {"domain": {"devices": {}}}
        self.create(f"{group}/virtualmachines", {
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": vm},
            "spec": {"runStrategy": "Always", "template": {"spec": spec}}})
        self.create(f"{group}/virtualmachineinstances", {
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": vm},
            "spec": spec, "status": {"phase": "Running", "nodeName": node}})
        self.create(f"/api/v1/namespaces/{namespace}/pods", {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": f"virt-launcher-{vm}", "labels": {
                "kubevirt.io": "virt-launcher", "vmi.kubevirt.io/id": vm, "vm.kubevirt.io/name": vm}},
            "spec": {"nodeName": node, "containers": containers, "terminationGracePeriodSeconds": 0}})

    def vm_ready(self, vm, ready, namespace="vms"):
        value = "True" if ready else "False"
        conditions = [{"type": name, "status": value, "lastTransitionTime": manifests.STAMP}
                      for name in ("Ready", "ContainersReady", "Initialized", "PodScheduled")]
        self.patch(f"/api/v1/namespaces/{namespace}/pods/virt-launcher-{vm.name}/status", {"status": {
            "phase": "Running", "podIP": vm.address4, "podIPs": [{"ip": vm.address4}, {"ip": vm.address6}],
            "hostIP": vm.node.address4, "conditions": conditions}})

    def pause(self, vm, paused, namespace="vms"):
        """As KubeVirt does it when a VM is paused: a readiness gate of its pod is closed. It runs on here."""
        condition = {"type": "Paused", "status": "True", "reason": "PausedByUser", "message": "VMI was paused by user"}
        self.patch(f"/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachineinstances/{vm.name}/status",
                   {"status": {"conditions": [condition] if paused else []}})
        self.vm_ready(vm, not paused, namespace)

    def pool(self, **spec):
        thing = manifests.pool(**spec)
        self.delete(f"{GROUP}/addresspools/{thing['metadata']['name']}")
        return self.create(f"{GROUP}/addresspools", thing)

    def expose(self, vm, name, port=22, *words, namespace="vms"):
        """The user's own command."""
        self.virtctl("expose", "vm", vm, "--port", port, "--name", name, "--type", "LoadBalancer", *words,
                     namespace=namespace)
        return self.service(name, namespace)

    def service(self, name, namespace="vms"):
        return self.get(f"/api/v1/namespaces/{namespace}/services/{name}")

    def ingress(self, name, namespace="vms"):
        """The addresses in a Service's status."""
        found = self.service(name, namespace) or {}
        return [entry["ip"] for entry in found.get("status", {}).get("loadBalancer", {}).get("ingress", [])]

    def external_ip(self, name, namespace="vms", seconds=15, count=1):
        """Waits until the status has `count` addresses; the first, or all if count is not 1."""
        found = wait_for(f"an address of Service {namespace}/{name}",
                         lambda: len(found := self.ingress(name, namespace)) >= count and found, seconds)
        return found[0] if count == 1 else found

    def vips(self):
        return {thing["metadata"]["name"]: thing for thing in self.list(f"{GROUP}/virtualips")}

    def leases(self, namespace=SYSTEM):
        return {thing["metadata"]["name"]: thing
                for thing in self.list(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")}

    def events(self, namespace="vms"):
        return self.list(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")

    def reset(self):
        """Nothing of the last lab is left in the API, whatever state its finalizers are in."""
        for path in ("/api/v1/namespaces/vms/services", f"{GROUP}/virtualips", f"{GROUP}/addresspools",
                     f"{GROUP}/speakers", f"{GROUP}/failoverdrills", "/api/v1/namespaces/vms/pods",
                     "/apis/discovery.k8s.io/v1/namespaces/vms/endpointslices",  # those that a test made are nobody's
                     "/apis/kubevirt.io/v1/namespaces/vms/virtualmachines",
                     "/apis/kubevirt.io/v1/namespaces/vms/virtualmachineinstances", "/api/v1/nodes",
                     f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"):
            try:
                found = self.list(path)
            except ApiError as error:
                if error.status == 404:
                    continue
                raise
            for thing in found:
                one = f"{path}/{thing['metadata']['name']}"
                try:
                    if thing["metadata"].get("finalizers"):
                        self.patch(one, {"metadata": {"finalizers": None}})
                    self.request("DELETE", one, {"gracePeriodSeconds": 0})
                except ApiError as error:
                    if error.status != 404:
                        raise
        self.delete("/apis/events.k8s.io/v1/namespaces/vms/events")
        run(["ip", "-n", self.host.namespace, "link", "delete", "mgt0"], check=False)
        self.lab = None
