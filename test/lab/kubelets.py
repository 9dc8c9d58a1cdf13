"""Real kubelets for a lab: what is applied to the API server runs, in containers, on the lab's nodes.

Each node has containerd, kubelet and kube-proxy in its network namespace and in mount and process namespaces of its
own: ending the first process there ends everything on the node and unmounts everything, and /run, /var/lib/vipd and
the like are the node's own. Kubelets are who they are on a real cluster (Node authorizer, NodeRestriction).

    with Lab(management=True) as lab, KubeletCluster() as api:
        api.attach(lab)
        api.load(archive)                       an image to every node
        api.kubectl("apply", ...)

Needs Debian's containerd, runc and containernetworking-plugins, and `test/cluster/build node`.
"""
import json
import os
import pathlib
import re

import yaml

from audit import Audit
from cgroups import hierarchies, make_cgroup, remove_cgroups, sweep_cgroups
from cluster import ADDRESS, Cluster, program
from kube_proxy import LIMITS, PODS
from lab import ROOT, LabError, Process, ip_batch, run, wait_for
from names import Names

PAUSE = "registry.k8s.io/pause:3.10.1"
SERVER = "lab/vm:1"  # what VMs run: test/vm/guest_server.c
BINARIES = ("/usr/bin/containerd", "/usr/sbin/runc", "/usr/lib/cni/bridge")
# Folders that programs know by name alone; each node has its own.
OWN = ["/run", "/var/lib/cni", "/var/lib/kubelet", "/var/lib/vipd", "/var/log/containers", "/var/log/pods"]

FIRST = """
mount --make-rshared /
for folder in "$@"; do mkdir -p "$OWN$folder" "$folder" && mount --bind "$OWN$folder" "$folder" || exit 1; done
touch "$OWN/up"
while :; do sleep 3600 & wait; done
"""


# --- images

def build_image(folder, name, *words, packages=()):
    """An OCI archive of these packages and programs (deploy/image/build)."""
    listed = folder / "packages"
    listed.write_text("\n".join(packages))
    archive = folder / f"{re.sub('[^a-z0-9]', '-', name)}.tar"
    run([ROOT / "deploy/image/build", "--name", name, "--packages", listed, "-o", archive, *words], timeout=120)
    return archive


def compile_static(folder, source, text=None):
    built = folder / pathlib.Path(source).stem
    run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static", "-o", built, *(["-x", "c", "-"] if text else [source])],
        timeout=60, text=text)
    return built


def pause_image(folder):
    built = compile_static(folder, "pause", """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int number) { _exit(0 * number); }
static void reap(int number) { (void)number; while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void)
{
	signal(SIGINT, end);
	signal(SIGTERM, end);
	signal(SIGCHLD, reap);
	for (;;)
		pause();
}
""")
    return build_image(folder, PAUSE, "--program", f"{built}=/pause", "--entrypoint", "/pause")


def server_image(folder):
    built = compile_static(folder, ROOT / "test/vm/guest_server.c")
    return build_image(folder, SERVER, "--program", f"{built}=/server", "--entrypoint", "/server")


# --- a node

class Kubelet:
    """What runs on one node of the lab."""

    def __init__(self, api, node):
        self.api, self.node = api, node
        self.dir = api.dir / node.name
        self.cgroup = f"{api.prefix}{node.name}"
        self.first = self.containerd = self.kubelet = self.proxy = None

    def _start(self, name, *words):
        """A program in the namespaces of the node; not by `ip netns exec`, which hides the cgroups."""
        return self.api.spawn(f"{self.node.name}.{name}", ["nsenter", "-t", self.inside, "-m", "-p", "-n", *words])

    def start(self):
        self.dir.mkdir(exist_ok=True)
        make_cgroup(self.cgroup)
        self.first = self.api.spawn(f"{self.node.name}.first", [
            "nsenter", f"--net=/run/netns/{self.node.namespace}", "env", f"OWN={self.dir}/own", "unshare", "--mount",
            "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", FIRST, "first", *OWN])
        wait_for(f"the namespaces of {self.node.name}", (self.dir / "own/up").exists, 20)
        self.inside = self.first.children()[0]
        self.start_containerd()
        for archive in self.api.archives:
            self.load(archive)
        self.start_kubelet()
        self.start_proxy()

    def start_containerd(self):
        network, config = self.dir / "cni", self.dir / "containerd.toml"
        network.mkdir(exist_ok=True)
        i = self.node.index
        (network / "10-pods.conflist").write_text(json.dumps({
            "cniVersion": "0.4.0", "name": "pods", "plugins": [{
                "type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": {
                    "type": "host-local", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}], "ranges": [
                        [{"subnet": f"10.244.{i}.0/24", "rangeStart": f"10.244.{i}.32"}],
                        [{"subnet": f"fd00:10:244:{i:x}::/64", "rangeStart": f"fd00:10:244:{i:x}::32"}]]}}]}))
        config.write_text(f"""
version = 2
root = "{self.dir}/containerd"
state = "/run/containerd"
[grpc]
  address = "{self.dir}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{network}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
""")
        self.containerd = self._start("containerd", "containerd", "-c", config)
        wait_for("containerd", lambda: self.ctr("version", check=False).returncode == 0, 30, 0.1)

    def ctr(self, *words, check=True, timeout=120):
        return run(["ctr", "-a", self.dir / "containerd.sock", "-n", "k8s.io", *words], timeout, check)

    def load(self, archive):
        self.ctr("images", "import", archive)

    def start_kubelet(self):
        config, names = self.dir / "kubelet.yaml", self.dir / "resolv.conf"
        names.touch()
        config.write_text(yaml.safe_dump({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "failCgroupV1": False, "failSwapOn": False, "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{self.cgroup}",
            "containerRuntimeEndpoint": f"unix://{self.dir}/containerd.sock", "enforceNodeAllocatable": [],
            "evictionHard": {}, "imageGCHighThresholdPercent": 100, "resolvConf": str(names),
            "clusterDNS": [ADDRESS], "clusterDomain": "cluster.local", "nodeStatusUpdateFrequency": "5s", "syncFrequency": "10s",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"}}))
        self.kubelet = self._start(
            "kubelet", program("kubelet"), f"--config={config}", f"--hostname-override={self.node.name}",
            f"--kubeconfig={self.api.person(f'system:node:{self.node.name}')}",
            f"--node-ip={','.join(self.api.families(self.node))}", "--v=1")

    def start_proxy(self):
        self.proxy = self._start(
            "kube-proxy", program("kube-proxy"), "--proxy-mode=nftables", f"--hostname-override={self.node.name}",
            f"--kubeconfig={self.api.person('system:kube-proxy')}", f"--cluster-cidr={PODS}", *LIMITS,
            f"--healthz-bind-address={self.node.address4}:10256")

    def kill(self):
        """Everything on the node at once, as when its power fails; its network stays as it is."""
        self.first.kill()

    def kill_kubelet_and_pods(self):
        """SIGKILL to the kubelet and to everything in containers; the kernel's state stays."""
        self.kubelet.kill()
        self.containerd.kill()
        for pid in self.container_pids():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass

    def container_pids(self):
        """Whoever is in a cgroup of the node, and the shims that would tell of their end."""
        found = set()
        for folder, _, files in os.walk(hierarchies()[0] / self.cgroup):
            if "cgroup.procs" in files:
                found.update(map(int, (pathlib.Path(folder) / "cgroup.procs").read_text().split()))
        shims = [pid for pid in self.first.children() if "containerd-shim" in command_of(pid)]
        return [*shims, *found]

    def revive(self):
        self.start_containerd()
        self.start_kubelet()


def command_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


# --- the cluster

class KubeletCluster(Cluster):
    server_options = ["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
                      "--kubelet-preferred-address-types=InternalIP"]
    manager_options = ["--allocate-node-cidrs=false", "--node-monitor-grace-period=20s"]

    def __init__(self, nodes=3, six=True):
        """Without `six` a Node has an IPv4 address alone."""
        missing = [path for path in BINARIES if not os.path.exists(path)]
        if missing:
            raise LabError(f"{missing[0]} is missing: test/tools/install kubelet")
        super().__init__()
        self.nodes, self.six = [f"n{i}" for i in range(1, nodes + 1)], six
        self.kubelets, self.archives, self.names = {}, [], None
        self.audit = Audit(self.dir)
        self.server_options = [*self.server_options, *self.audit.options]

    def __getitem__(self, name):
        return self.kubelets[name]

    def families(self, node):
        return [node.address4, node.address6] if self.six else [node.address4]

    def people(self):
        return [*super().people(), ("kube-proxy-token", "system:kube-proxy", "lab"),
                ("kube-scheduler-token", "system:kube-scheduler", "lab"),
                *[(f"system-node-{name}-token", f"system:node:{name}", "system:nodes") for name in self.nodes]]

    def person(self, user):
        """A kubeconfig for one of people()."""
        token = next(token for token, name, _ in self.people() if name == user)
        return self._write_kubeconfig(self.dir / f"{user.replace(':', '-')}.kubeconfig", token)

    def spawn(self, name, words):
        """A process that no namespace of ours is entered for; it ends with the cluster."""
        process = Process(name, words, self.dir / f"{name}.log")
        self.processes.append(process)
        return process

    def up(self):
        for name in ("kubelet", "kube-proxy", "kube-scheduler"):
            program(name)
        sweep_cgroups()
        super().up()
        self.host.start("kube-scheduler", [
            program("kube-scheduler"), f"--kubeconfig={self.person('system:kube-scheduler')}", "--leader-elect=false",
            "--bind-address=127.0.0.1", f"--cert-dir={self.dir / 'certs'}"])
        self.names = Names(self, ADDRESS)
        self.archives = [pause_image(self.dir), server_image(self.dir)]
        return self

    def down(self):
        for kubelet in self.kubelets.values():
            if kubelet.first and kubelet.first.alive():
                kubelet.kill()
        if self.names:
            self.names.close()
        super().down()
        if self.kubelets:
            wait_for("the cgroups to be empty", lambda: not remove_cgroups(self.prefix), 15)

    def load(self, archive):
        """To every node, also to those that come later."""
        self.archives.append(archive)
        for kubelet in self.kubelets.values():
            kubelet.load(archive)

    def add_node(self, node):
        # It answers where its InternalIP is, and not on the LAN, which the server is not on.
        ip_batch(self.host.namespace, f"route add {node.address4}/32 via {node.management}")
        self.kubelets[node.name] = Kubelet(self, node)
        self.kubelets[node.name].start()

    def ready(self, seconds=60):
        def look():
            found = {thing["metadata"]["name"]: any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in thing["status"].get("conditions", [])) for thing in self.list("/api/v1/nodes")}
            return all(found.get(name) for name in self.kubelets)
        wait_for("every node to be Ready", look, seconds, 0.2)
        return self

    def add_pod_vm(self, name, node):
        """A VM whose virt-launcher Pod answers on port 22 as test/vm/guest_server.c does."""
        self.create_vm(name, node, [{"name": "compute", "image": SERVER, "imagePullPolicy": "IfNotPresent",
                                     "args": [name, "22"]}])
        self.kubectl("wait", "-n", "vms", "--for=condition=Ready", f"pod/virt-launcher-{name}", "--timeout=60s",
                     timeout=70)

    def pods(self, selector, namespace="vipd-system"):
        return self.list(f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")
