"""deploy/ on real kubelets: one rack for all tests of the session, installed once (test/lab/kubelets.py).

    site      Site: the lab, the API server, vipd in pods; an address pool, nothing exposed
    The log of every speaker and controller goes with a failure.
"""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

import vipd  # noqa: E402
from cluster import SYSTEM  # noqa: E402
from kubelets import KubeletCluster  # noqa: E402
from lab import ROOT, Lab, run, sweep, wait_for  # noqa: E402

DEPLOY = ROOT / "deploy"
SERVICES = "/api/v1/namespaces/vms/services"


class Site(vipd.Cluster):
    """vipd as `kubectl apply -k deploy` runs it."""

    def __init__(self, lab, api):
        super().__init__(lab)
        self.api = api
        self.daemons = dict.fromkeys(lab.nodes)

    def install(self):
        self.api.kubectl("apply", "--server-side", "--validate=strict", "-k", DEPLOY, timeout=60)
        self.rolled_out()
        return self

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


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    archive = tmp_path_factory.mktemp("image") / "vipd.tar"
    run([DEPLOY / "image/build", "-o", archive], timeout=120)
    return archive


@pytest.fixture(scope="session")
def installed(image):
    sweep()
    with Lab(management=True) as lab, KubeletCluster() as api:
        api.load(image)
        api.attach(lab)
        api.ready()
        api.install_kubevirt()
        site = Site(lab, api).install()
        api.pool()
        for number in (1, 2):
            api.add_pod_vm(f"test-vm-{number}", f"n{number + 1}")
        yield site


@pytest.fixture
def site(installed):
    yield installed
    installed.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    site = getattr(item, "funcargs", {}).get("installed")
    if not site or not report.failed:
        return
    for pod in site.api.pods("app.kubernetes.io/part-of=vipd"):
        name = pod["metadata"]["name"]
        said = site.api.kubectl("logs", name, "--tail=20", namespace=SYSTEM, check=False)
        report.sections.append((f"{name} on {pod['spec'].get('nodeName')}", said.stdout + said.stderr))
