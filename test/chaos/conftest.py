"""One API server for all runs of the session."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

from cluster import Cluster  # noqa: E402
from lab import sweep  # noqa: E402


@pytest.fixture(scope="session")
def api():
    sweep()
    with Cluster() as cluster:
        cluster.install()
        yield cluster
