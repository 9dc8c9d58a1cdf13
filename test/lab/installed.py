"""vipd as an administrator installs it: the image of deploy/image/build on real kubelets, by `kubectl apply -k deploy`."""
import contextlib
import pathlib
import re
import shlex

import vipd
from cluster import SYSTEM
from kubelets import KubeletCluster, command_of
from lab import ROOT, Lab, run, sweep, wait_for

DEPLOY = ROOT / "deploy"
SERVICES = "/api/v1/namespaces/vms/services"


def guide(title):
    """The words of every kubectl command in a section of the administrator's guide."""
    text = (DEPLOY / "docs/administrator.md").read_text()
    section = re.search(rf"(?ms)^## {title}$(.*?)(?=^## |\Z)", text).group(1)
    return [shlex.split(line, comments=True)[1:] for line in re.findall(r"(?m)^    (kubectl .*)$", section)]


class Site(vipd.Cluster):
    """What the tests ask of vipd in pods, as of vipd in processes (vipd.Cluster)."""

    def __init__(self, lab, api):
        super().__init__(lab)
        self.api = api
        self.daemons = dict.fromkeys(lab.nodes)

    def install(self):
        self.follow("Install")
        self.rolled_out()
        return self

    def follow(self, title):
        """What the administrator's guide says under a title, as it is; what the commands said."""
        return [self.api.kubectl(*words, timeout=180, folder=ROOT) for words in guide(title)]

    def rolled_out(self, seconds=150):
        for what in ("daemonset/vipd-speaker", "deployment/vipd-controller"):
            self.api.kubectl("rollout", "status", what, f"--timeout={seconds}s", namespace=SYSTEM, timeout=seconds + 5)
        wait_for("every speaker to be ready", lambda: len(found := self.speakers()) == len(self.daemons) and all(
            condition(thing, "Ready") == "True" for thing in found.values()), seconds)

    def speakers(self):
        return {thing["metadata"]["name"]: thing for thing in self.api.list("/apis/vipd.dev/v1alpha1/speakers")}

    def speaker_pod(self, node):
        """The name of the pod on a node, or None while there is none that lives."""
        return next((pod["metadata"]["name"] for pod in self.api.pods("app.kubernetes.io/name=vipd-speaker")
                     if pod["spec"].get("nodeName") == node and "deletionTimestamp" not in pod["metadata"]), None)

    def processes(self, node):
        """What runs of vipd on a node: its first two words -> PID."""
        found = {}
        for pid in self.api[node].container_pids():
            program, *words = command_of(pid).split() or [""]
            if program.rpartition("/")[2] == "vipd":
                found[f"vipd {words[0]}"] = pid
        return found

    def speaker_token(self, node):
        """Of the ServiceAccount, as the kubelet gave it to the pod on a node: bound to pod and node."""
        pid = self.processes(node)["vipd speaker"]
        return pathlib.Path(f"/proc/{pid}/root/var/run/secrets/kubernetes.io/serviceaccount/token").read_text()

    def revive(self, node):
        """After kill_kubelet_and_pods(): as if it had never been, with new pods for those that were killed."""
        self.api[node].revive()
        self.rolled_out()
        for pod in self.api.pods("app.kubernetes.io/part-of=vipd"):
            if any(container["restartCount"] for container in pod["status"]["containerStatuses"]):
                self.api.kubectl("delete", "pod", pod["metadata"]["name"], namespace=SYSTEM, timeout=60)
        self.rolled_out()

    def exec(self, node, *words):
        return self.api.kubectl("exec", self.speaker_pod(node), "--", *words, namespace=SYSTEM)

    def clear(self):
        """No Service, no address, no trace of one on any node."""
        names = [thing["metadata"]["name"] for thing in self.api.list(SERVICES)]
        addresses = [address for name in names for address in self.api.ingress(name)]
        for name in names:
            self.api.delete(f"{SERVICES}/{name}")
        wait_for("the Services to go", lambda: not self.api.list(SERVICES), 30)
        wait_for("the VirtualIPs to go", lambda: not self.api.vips(), 30)
        self.gone(*addresses, seconds=30)


def condition(thing, kind):
    return next((entry["status"] for entry in thing.get("status", {}).get("conditions", []) if entry["type"] == kind), None)


def build_vipd_image(folder):
    archive = folder / "vipd.tar"
    run([DEPLOY / "image/build", "-o", archive], timeout=120)
    return archive


@contextlib.contextmanager
def site(image, six=True):
    """Three nodes with everything up, nothing exposed, no pool."""
    sweep()
    with Lab(management=True) as lab, KubeletCluster(six=six) as api:
        api.load(image)
        api.attach(lab)
        api.ready()
        api.install_kubevirt()
        yield Site(lab, api).install()
