"""What the layers of pytest share: one API server for a session, two sessions that share the files of a layer between them
(test/tools/lanes), and that a test which passes only at its second try says what the first one met."""
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


LANE, CLAIMS = os.environ.get("VIPD_LANE"), os.environ.get("VIPD_CLAIMS")
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
    if LANE == "last":
        files = {}
        for item in items:
            files.setdefault(item.nodeid.partition("::")[0], []).append(item)
        items[:] = [item for path in reversed(list(files)) for item in files[path]]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    """True: it has been dealt with; by the other lane."""
    return True if LANE and not is_ours(item.nodeid.partition("::")[0]) else None


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
