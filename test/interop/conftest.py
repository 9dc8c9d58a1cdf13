"""Other people's VRRP routers on the LAN of a rack whose nodes run vipd standalone."""
import json
import pathlib
import re
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

import vipd  # noqa: E402
from lab import Host, Lab, ip_batch, run, sweep, wait_for  # noqa: E402

V4, V6 = "192.0.2.10", "2001:db8::1:10"
STRANGER4, STRANGER6 = "192.0.2.201", "2001:db8::c9"


class Stranger(Host):
    """A machine on the LAN that is no member of the cluster."""
    mac = "02:00:00:00:02:01"

    def __init__(self, lab):
        super().__init__(lab, "stranger")
        self.create()
        ip_batch(lab.switch.namespace,
                 f"link add lan-stranger type veth peer name eth1 address {self.mac} netns {self.namespace}",
                 "link set lan-stranger master lan up")
        ip_batch(self.namespace, "link set eth1 up", f"address add {STRANGER4}/24 dev eth1",
                 f"address add {STRANGER6}/64 dev eth1 nodad")

    def keepalived(self, **instance):
        return Keepalived(self, instance)

    def clear(self, *addresses):
        for address in addresses:
            self.run(["ip", "address", "del", address, "dev", "eth1"], check=False)


class Keepalived:
    """Debian's keepalived with one VRRP instance on the stranger; /tmp is its own, for its statistics."""

    def __init__(self, host, instance):
        self.folder = host.lab.dir / f"keepalived{next(host.lab.numbers)}"
        self.folder.mkdir()
        settings = {"state": "BACKUP", "interface": "eth1", "priority": 100, "advert_int": 0.1, **instance}
        addresses = "\n".join(f"        {address}" for address in settings.pop("addresses"))
        lines = "\n".join(f"    {name} {value}" for name, value in settings.items())
        config = self.folder / "keepalived.conf"
        config.write_text("global_defs {\n    vrrp_version 3\n    vrrp_garp_master_repeat 1\n}\n"
                          f"vrrp_instance stranger {{\n{lines}\n    virtual_ipaddress {{\n{addresses}\n    }}\n}}\n")
        config.chmod(0o600)
        self.process = host.start("keepalived", [
            "unshare", "--mount", "sh", "-c",
            'mount --bind "$0" /tmp && exec keepalived --dont-fork --log-console --log-detail --vrrp '
            "--use-file=/tmp/keepalived.conf --pid=/tmp/pid --vrrp_pid=/tmp/vrrp.pid", self.folder])

    def says(self, pattern, seconds=10):
        return self.process.wait_output(pattern, seconds)

    def master(self):
        return self.says("Entering MASTER STATE")

    def statistics(self):
        """{"Advertisements": {"Received": 31, "Sent": 0}, "Packet Errors": {...}, ...}"""
        path = self.folder / "keepalived.stats"
        path.unlink(missing_ok=True)
        self.process.signal(signal.SIGUSR2, everyone=False)
        text = wait_for("keepalived's statistics", lambda: path.exists() and "Priority Zero" in path.read_text()
                        and path.read_text().count("Sent:") >= 2 and path.read_text(), 5)
        groups, group = {}, None
        for line in text.splitlines():
            if match := re.fullmatch(r"  (\S.*):", line):
                group = groups.setdefault(match.group(1), {})
            elif match := re.fullmatch(r"    (\S.*): (\d+)", line):
                group[match.group(1)] = int(match.group(2))
        return groups

    def stop(self):
        self.process.stop()


class Capture:
    """tcpdump of a host's LAN interface; read() gives it to tshark, the judge."""

    def __init__(self, host, what="ip proto 112 or ip6 proto 112"):
        self.path = host.lab.dir / f"capture{next(host.lab.numbers)}.pcap"
        self.process = host.start("tcpdump", ["tcpdump", "-i", "eth1", "-U", "-w", self.path, what])
        self.process.wait_output("listening on")

    def wait(self, count, rows="vrrp", seconds=20):
        """Until there are so many; tcpdump hands on once a second, and later when the machine is busy."""
        wait_for(f"{count} frames of {rows}", lambda: len(run(  # the last frame may be half written: no error
            ["tshark", "-r", self.path, "-Y", rows, "-T", "fields", "-e", "frame.number"], 60, check=False
        ).stdout.splitlines()) >= count, seconds, 0.1)

    def read(self, *fields, rows="vrrp", options=()):
        """One dictionary a frame with the first value of each field."""
        if self.process.alive():
            self.process.stop()
        words = ["tshark", "-r", self.path, "-Y", rows, "-T", "json"]
        for option in options:
            words += ["-o", option]
        for field in fields:
            words += ["-e", field]
        frames = json.loads(run(words, 60).stdout or "[]")
        return [{name: values[0] for name, values in frame["_source"].get("layers", {}).items()} for frame in frames]


class Rack:
    """Two nodes with vipd, a VM on n2, one address of each family; a stranger."""

    def __init__(self, **pool):
        self.lab, self.pool = Lab(nodes=2, vms=[("vm", "n2", [22])]), pool
        self.cluster = self.stranger = None

    def __enter__(self):
        self.lab.__enter__()
        try:
            self.stranger = Stranger(self.lab)
            self.cluster = vipd.Standalone(self.lab, **self.pool)
            self.cluster.expose("ssh", self.addresses(), ["vm"], candidates=["n1", "n2"])
            self.cluster.start()
            for address in self.addresses():
                self.cluster.serves(address)
        except BaseException:
            self.lab.down()
            raise
        return self

    def __exit__(self, *_):
        self.lab.down()

    def addresses(self):
        return [V4] if self.pool.get("vrrp", {}).get("version") == 2 else [V4, V6]

    def router_id(self, address):
        """The VRID, as the owner's log says it."""
        return int(wait_for(f"the VRID of {address} in a log", lambda: next(
            (found.group(1) for daemon in self.cluster.daemons.values()
             if (found := re.search(rf"vip={re.escape(address)} vrid=(\d+) ", daemon.log()))), None)))

    def said(self, pattern):
        return [line for daemon in self.cluster.daemons.values() for line in daemon.log().splitlines()
                if re.search(pattern, line)]


@pytest.fixture(scope="session", autouse=True)
def swept():
    sweep()


@pytest.fixture(scope="module")
def rack_of_module(request):
    with Rack(**getattr(request.module, "POOL", {})) as rack:
        yield rack


@pytest.fixture
def rack(rack_of_module):
    yield rack_of_module
    assert rack_of_module.lab.sanitizer_reports() == []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    rack = getattr(item, "funcargs", {}).get("rack")
    if rack and rack.cluster and report.failed:
        for name, daemon in rack.cluster.daemons.items():
            report.sections.append((f"vipd on {name}", "\n".join(daemon.log().splitlines()[-25:])))
