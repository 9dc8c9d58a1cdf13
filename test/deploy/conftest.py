"""deploy/ on real kubelets: one rack for all tests of the session, installed once (test/lab/installed.py).

    site      Site: the lab, the API server, vipd in pods; an address pool, nothing exposed
    The log of every speaker and controller goes with a failure.
"""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

import installed  # noqa: E402
from cluster import SYSTEM  # noqa: E402


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    return installed.build_vipd_image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="session")
def place(image):
    with installed.site(image) as site:
        site.api.pool()
        for number in (1, 2):
            site.api.add_pod_vm(f"test-vm-{number}", f"n{number + 1}")
        yield site


@pytest.fixture
def site(place):
    yield place
    place.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    site = getattr(item, "funcargs", {}).get("place")
    if not site or not report.failed:
        return
    for pod in site.api.pods("app.kubernetes.io/part-of=vipd"):
        name = pod["metadata"]["name"]
        said = site.api.kubectl("logs", name, "--tail=20", namespace=SYSTEM, check=False)
        report.sections.append((f"{name} on {pod['spec'].get('nodeName')}", said.stdout + said.stderr))
