"""What the layers of pytest share: one API server for a session, sessions that share the files of a layer between them
(test/tools/lanes), and that a test which passes only at its second try says what the first one met."""
import fcntl
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lab"))

from cluster import Cluster  # noqa: E402
from lab import sweep  # noqa: E402


@pytest.fixture(scope="session")
def api():
    """A real one (lab/cluster.py), up and with deploy/ installed."""
    sweep()
    with Cluster() as cluster:
        cluster.install()
        yield cluster


CLAIMS = os.environ.get("VIPD_CLAIMS")
# What takes longest begins first: nobody is left with it when the others have ended. Seconds, alone; others take less than 50.
LONG = {"kubernetes/controller": 340, "kubernetes/drill": 310, "kubernetes/speaker": 305, "kubernetes/trouble": 180,
        "kubernetes/main_path": 80, "kubernetes/two_clusters": 65, "kubernetes/kubectl_vip": 55,
        "system/dataplane_modes": 100, "system/failure": 145, "system/monitoring": 60, "system/change": 60,
        "system/dataplane_survival": 55, "interop/virtual_mac_modes": 85, "interop/strangers": 60}
taken = {}


def is_ours(path):
    """Whether this session runs the tests of a file: who comes to it first does."""
    if path not in taken:
        try:
            os.close(os.open(pathlib.Path(CLAIMS) / path.replace("/", "-"), os.O_CREAT | os.O_EXCL))
            taken[path] = True
        except FileExistsError:
            taken[path] = False
    return taken[path]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    if CLAIMS:
        items.sort(key=lambda item: -LONG.get(item.nodeid.partition("_test.py::")[0], 0))  # stable: a file stays together


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    """True: it has been dealt with; by another lane."""
    return True if CLAIMS and not is_ours(item.nodeid.partition("::")[0]) else None


def hold(name, how):
    """A lock that all lanes see, until the file is closed; whoever ends lets it go."""
    file = open(pathlib.Path(CLAIMS) / name, "w")  # noqa: SIM115
    fcntl.flock(file, how)
    return file


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Beside a test that is marked `alone`, because it takes a whole processor from everybody, no other lane runs one."""
    if CLAIMS:
        with hold("next.lock", fcntl.LOCK_EX):  # who waits to be alone is next
            item.beside = hold("beside.lock", fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    yield
    beside = item.__dict__.pop("beside", None)
    if beside:
        beside.close()


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("rerun", []):
        crash = getattr(report.longrepr, "reprcrash", None)
        said = crash.message.splitlines()[0] if crash and crash.message else str(report.longrepr).splitlines()[-1]
        terminalreporter.write_line(f"first try of {report.nodeid} ({report.when}): {said}")
        for name, text in report.sections:
            if name.startswith("Captured"):
                continue
            terminalreporter.write_line(f"  {name}:")
            for line in text.splitlines()[-25:]:
                terminalreporter.write_line(f"    {line[:300]}")
