"""The rack under the whole-system tests: one a module, made whole again before each test."""
import contextlib
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

import vipd  # noqa: E402
from lab import Lab, LabError, sweep, wait_for  # noqa: E402

V4, V6 = "192.0.2.10", "2001:db8::1:10"
BOTH = [V4, V6]


class Rack:
    """Three nodes with vipd standalone and a VM each: `local` on n1, `near` on n2, `db` on n3.

    The Service `ssh` has an address of each family and the VM `db` behind it. Its candidates are n1, n2,
    n3 in this order, so that what hits an owner leaves the VM's node alone.
    """
    vms = [("local", "n1", [22, 80]), ("near", "n2", [22, 80]), ("db", "n3", [22, 80])]
    ports = (22, "80", "80/UDP")
    management = False

    def __init__(self, **pool):
        self.lab = Lab(nodes=3, vms=self.vms, management=self.management)
        self.pool = pool
        self.cluster = None

    def __enter__(self):
        self.lab.__enter__()
        try:
            self.cluster = vipd.Standalone(self.lab, **self.pool)
            self.cluster.expose("ssh", BOTH, ["db"], self.ports, candidates=["n1", "n2", "n3"])
            self.cluster.start()
            self.settle()
        except BaseException:
            self.lab.down()
            raise
        return self

    def __exit__(self, *_):
        self.lab.down()

    def __getitem__(self, name):
        return self.cluster[name]

    @property
    def client(self):
        return self.lab.client

    def settle(self):
        """Everything whole: power, cables, daemons; one owner of both addresses, and not the VM's node."""
        self.cluster.mend()
        for _ in range(4):
            owners = {self.cluster.owner(address) for address in BOTH}
            if len(owners) == 1 and "n3" not in owners:
                break
            name = "n3" if "n3" in owners else max(owners)
            self.cluster[name].stop()
            self.cluster[name].start()
            self.cluster.mend()
        for address in BOTH:
            wait_for(f"one node to have {address}", lambda: len(self.cluster.holders(address)) == 1)
        return owners.pop()

    def owner(self):
        return self.cluster.owner(V4)

    def watch(self, *addresses, **more):
        return self.cluster.watch(*(addresses or BOTH), port=80, **more)

    @property
    def hosts(self):
        """Everybody who may ask for an address: on the LAN and beyond it, nodes, VMs."""
        return [self.client, self.lab.far, *self.lab.nodes.values(), *self.lab.vms.values()]

    def is_reached_from_everywhere(self, address):
        for host in self.hosts:
            assert host.reaches(address, 22) == "db", (host.name, address)
            assert host.ask_udp(address, 80, "x") == ("db", "x"), (host.name, address)
        with pytest.raises(ConnectionRefusedError):
            self.client.connect(address, 23)

    @contextlib.contextmanager
    def smaller_path(self, mtu=1280):
        """Between the gateway and `far` frames are smaller than anywhere else."""
        self.lab.gateway.run(["ip", "link", "set", "eth2", "mtu", mtu])
        try:
            yield
        finally:
            self.lab.gateway.run(["ip", "link", "set", "eth2", "mtu", "1500"])
            for vm in self.lab.vms.values():
                vm.run(["ip", "route", "flush", "cache"])

    def logs(self, lines=25):
        for name, daemon in self.cluster.daemons.items() if self.cluster else ():
            yield name, "\n".join(daemon.log().splitlines()[-lines:])


@contextlib.contextmanager
def interfaces_of_kind(kind):
    """Within it they are made, if the kernel has such."""
    try:
        yield
    except LabError as error:
        if "Unknown device type" not in str(error):
            raise
        pytest.skip(f"this kernel has no interfaces of kind {kind}; test/run kernel has one that does")


@pytest.fixture(scope="session", autouse=True)
def swept():
    sweep()


@pytest.fixture(scope="module")
def rack_of_module():
    with Rack() as rack:
        yield rack


@pytest.fixture
def rack(rack_of_module):
    """The module's rack, whole at the start; what the sanitizers found meanwhile fails the test."""
    rack_of_module.settle()
    yield rack_of_module
    assert rack_of_module.lab.sanitizer_reports() == []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if report.failed:
        for rack in getattr(item, "funcargs", {}).values():
            for name, lines in rack.logs() if isinstance(rack, Rack) else ():
                report.sections.append((f"vipd on {name}", lines))
