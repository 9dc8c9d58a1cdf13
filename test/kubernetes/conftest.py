"""One real API server for all tests of the session, and what the controller's tests do with it.

    api     see test/conftest.py
    fresh   the same, with nothing left in it of the test before; what the sanitizers found fails the test
    world   World (test/lab/controllers.py): `fresh` with three nodes and the pool `lab`, no controller yet
    running the same with a controller that leads
"""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

from controllers import World  # noqa: E402


@pytest.fixture
def fresh(api):
    for proxy in api.proxies:
        proxy.close()
    api.proxies = []
    api.reset()
    known, api.first_of_test = len(api.sanitizer_reports()), len(api.processes)
    yield api
    if api.lab is None:
        api.reset()
    assert api.sanitizer_reports()[known:] == []


@pytest.fixture
def world(fresh):
    world = World(fresh)
    for number in (1, 2, 3):
        world.node(f"n{number}", number)
    fresh.pool()
    yield world
    for process in world.controllers:
        if process.alive():
            assert process.stop() == 0, process.output()[-3000:]


@pytest.fixture
def running(world):
    world.start()
    return world


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """The last lines of every vipd that the test started beside the API server go with a failure."""
    report = (yield).get_result()
    cluster = getattr(item, "funcargs", {}).get("api")
    if not cluster or not report.failed:
        return
    rack = getattr(item, "funcargs", {}).get("rack")
    beside = cluster.processes[getattr(cluster, "first_of_test", 0):]
    for process in [*beside, *(rack.lab.processes if rack else [])]:
        if process.name.startswith("api/controller") or process.name.endswith("/vipd"):
            report.sections.append((process.name, "\n".join(process.output().splitlines()[-60:])))
