"""What the layers of pytest share: one API server for a session, and that a test which passes only at its second try
says what the first one met."""
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
