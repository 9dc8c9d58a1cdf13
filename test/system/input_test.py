"""Bad input and trouble for a running daemon, and for one that is just being started."""
import os
import subprocess
import time

import pytest

from conftest import BOTH, V4, V6, Rack
from lab import wait_for
import manifests
import vipd


# --- a running daemon keeps its last good state -----------------------------------------------------------------

def faulty_manifests(rack):
    """name: (file, what is written into it, what the log says)"""
    other = manifests.service("other", ["192.0.2.200"], (22,))
    taken = manifests.service("taken", [V4], (99,))
    return {
        "no YAML": ("junk.yaml", "kind: [Service\n", "no valid YAML"),
        "binary": ("junk.yaml", "\x01\x02", "control characters"),
        "other kind": ("junk.yaml", "kind: Pod\n", "expected AddressPool"),
        "in no pool": ("junk.yaml", other, "the address is in no AddressPool"),
        "taken": ("junk.yaml", taken, "gives this address to others"),
        "pool's interval": ("pool.yaml", manifests.pool(vrrp={"advertisementIntervalMilliseconds": 1}), "10 to 40950"),
        "no nodes": ("nodes.yaml", "# nobody\n", "the manifests hold no Node"),
        "not this node": ("nodes.yaml", manifests.node(rack.lab["n1"]), "is none of the Nodes in the manifests"),
    }


@pytest.mark.parametrize("name", ["no YAML", "binary", "other kind", "in no pool", "taken", "pool's interval",
                                  "no nodes", "not this node"])
def test_a_running_daemon_keeps_its_last_good_state(rack, name):
    file, content, said = faulty_manifests(rack)[name]
    path = rack.cluster.folder / file
    before = path.read_text() if path.exists() else None
    # An unknown name is a fault for the node that has it; the others know what to do.
    reader = rack["n3"]
    offset = len(reader.log())
    try:
        if isinstance(content, dict):
            manifests.write(path, content)
        else:
            path.write_text(content, encoding="latin-1")
        wait_for("the fault to be said", lambda: said in reader.log()[offset:], 5)
        assert "the last good manifests stay in force" in reader.log()[offset:]
        if name != "not this node":
            assert f"{path}:" in reader.log()[offset:] or name == "no nodes"
            for address in BOTH:
                assert rack.client.reaches(address, 80) == "db"
                assert len(rack.cluster.holders(address)) == 1
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)


def test_after_faults_it_goes_on_reading(rack):
    path = rack.cluster.folder / "junk.yaml"
    path.write_text("kind: [")
    rack["n1"].process.wait_output("no valid YAML")
    path.unlink()
    rack.cluster.expose("after", ["192.0.2.40"], ["db"], candidates=["n1", "n2"])
    rack.cluster.serves("192.0.2.40")
    rack.cluster.hide("after")
    rack.cluster.gone("192.0.2.40")


def test_a_file_that_nobody_may_read(rack):
    """The reader runs without privileges; what it may not read is a fault like any other."""
    path = rack.cluster.folder / "secret.yaml"
    reader = rack["n2"]
    offset = len(reader.log())
    path.write_text("kind: [")
    path.chmod(0o600)
    try:
        wait_for("it to be said", lambda: f"{path}: Permission denied" in reader.log()[offset:], 5)
        assert rack.client.reaches(V4, 80) == "db"
    finally:
        path.unlink()


def test_the_folder_goes_and_comes_back(rack):
    """Also as another folder under the same name, which inotify says nothing about."""
    folder, aside = rack.cluster.folder, rack.lab.dir / "aside"
    watch = rack.watch()
    folder.rename(aside)
    for name in rack.cluster.daemons:
        rack[name].process.wait_output(f"{folder}: No such file or directory; the last good manifests stay")
    assert rack.client.reaches(V4, 80) == "db"
    folder.mkdir()
    for path in aside.iterdir():
        (folder / path.name).write_text(path.read_text())
        path.unlink()
    aside.rmdir()
    rack.cluster.expose("back", ["192.0.2.41"], ["db"], candidates=["n1", "n2"])
    rack.cluster.serves("192.0.2.41")
    rack.cluster.hide("back")
    rack.cluster.gone("192.0.2.41")
    for by in watch.stop().values():
        assert by["arp"]["outages"] == 0 and by["stream"]["kept"] == 5


# --- what keeps a node from owning ------------------------------------------------------------------------------

def test_a_node_that_is_not_on_the_segment(rack):
    """No address of the VIP's subnet on any interface: the node says so, and the others own it."""
    owner = rack.owner()
    node = rack.lab[owner]
    watch = rack.watch(kinds=("arp", "stream"))
    node.run(["ip", "address", "delete", f"{node.address4}/24", "dev", "eth1"])
    rack[owner].process.wait_output(rf"reason=NotOnSegment vip={V4} .*this node cannot own {V4}: ")
    assert rack.cluster.owner(V4, other_than=owner) != owner
    assert V4 not in node.addresses()
    state = {router["addresses"]: router for router in rack[owner].status()["routers"]}[V4]
    assert not state["eligible"] and state["notEligible"] == "NotOnSegment"
    node.run(["ip", "address", "add", f"{node.address4}/24", "dev", "eth1"])
    node.run(["ip", "route", "replace", "default", "via", "192.0.2.254"])
    for other in rack.lab.nodes.values():
        if other.index != node.index:
            node.run(["ip", "route", "replace", f"10.244.{other.index}.0/24", "via", other.address4])
    rack[owner].process.wait_output(f"this node may own {V4} again")
    by = watch.stop()[V4]
    assert by["arp"]["two"] == 0 and by["stream"]["kept"] == 5


# --- starting ---------------------------------------------------------------------------------------------------

def standalone(node, *words, wrap=(), env=None, timeout=20):
    """`vipd standalone` as somebody types it; answers the finished process."""
    command = node.command([*wrap, vipd.program(), "standalone", *words])
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False,
                          env={**os.environ, **vipd.environment(), **(env or {})})


def test_a_second_one_on_the_node(rack):
    """Whatever folders it is given: there is one vipd for a network."""
    pid = rack["n1"].process.pid
    done = standalone(rack.lab["n1"], "--node", "n1", "--manifests", rack.cluster.folder,
                      "--runtime-dir", rack.lab.dir / "second.run", "--state-dir", rack.lab.dir / "second.state")
    assert done.returncode == 1
    assert f"another vipd runs on this node already (pid {pid}): stop it first" in done.stderr
    assert rack["n1"].running() and rack["n1"].status()["ready"]


@pytest.mark.parametrize("name, words, code, said", [
    ("no node", ["--manifests", "{folder}"], 2, "Say --node NAME"),
    ("bad node", ["--node", "N_1", "--manifests", "{folder}"], 2, "--node N_1 is no node name"),
    ("no manifests", ["--node", "n1"], 2, "Say --manifests DIR"),
    ("no folder", ["--node", "n1", "--manifests", "{folder}/x"], 1, "/x: No such file or directory"),
    ("a file", ["--node", "n1", "--manifests", "{folder}/pool.yaml"], 1, "is no folder"),
    ("no such option", ["--nodes", "n1"], 2, "unknown option --nodes; try --help"),
    ("no value", ["--node"], 2, "option --node wants NAME"),
    ("no such fence", ["--node", "n1", "--manifests", "{folder}", "--fence", "high"], 2,
     "--fence high: say auto, egress or loopback"),
    ("runtime folder", ["--node", "n1", "--manifests", "{folder}", "--runtime-dir", "/proc/x"], 1,
     "cannot make --runtime-dir /proc/x"),
], ids=lambda value: value if isinstance(value, str) and " " in value else "")
def test_a_command_line_that_cannot_work(rack, name, words, code, said):
    done = standalone(rack.lab["n1"], *[word.format(folder=rack.cluster.folder) for word in words])
    assert done.returncode == code
    assert said in done.stderr and len(done.stderr.splitlines()) == 1, name


@pytest.mark.parametrize("missing", ["net_admin", "net_raw"])
def test_a_missing_capability(rack, missing):
    """One line with its name, and the end."""
    rack["n3"].kill()
    done = standalone(rack.lab["n3"], "--node", "n3", "--manifests", rack.cluster.folder,
                      "--runtime-dir", rack["n3"].runtime, "--state-dir", rack["n3"].state,
                      wrap=["setpriv", f"--bounding-set=-{missing}", f"--inh-caps=-{missing}"])
    assert done.returncode == 1
    assert f"CAP_{missing.upper()} is missing: run as root, or give it to the service or container" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_node_serves_nothing_until_it_is_known(rack):
    """The manifests may be mended while it runs, so it says what is wrong and waits for that."""
    rack["n3"].stop()
    words = ["standalone", "--node", "n9", "--manifests", rack.cluster.folder]
    daemon = vipd.Daemon(rack.lab["n3"], words).start()
    try:
        daemon.process.wait_output("--node n9 is none of the Nodes in the manifests; "
                                   "nothing is served until it is mended")
        time.sleep(0.5)
        assert not daemon.status()["ready"] and daemon.status()["routers"] == []
        node = manifests.node(rack.lab["n3"])
        node["metadata"]["name"] = "n9"
        held = (rack.cluster.folder / "nodes.yaml").read_text()
        # n9 in n3's place: the VM's node keeps its address and gets another name.
        manifests.write(rack.cluster.folder / "nodes.yaml", node,
                        *[manifests.node(rack.lab[name]) for name in ("n1", "n2")])
        rack.cluster.expose("ssh", BOTH, ["db"], rack.ports, candidates=["n1", "n2"])
        daemon.process.wait_output("ready:")
    finally:
        daemon.kill()
        (rack.cluster.folder / "nodes.yaml").write_text(held)
        rack.cluster.expose("ssh", BOTH, ["db"], rack.ports, candidates=["n1", "n2", "n3"])
        rack["n3"].forget()
    rack["n3"].start()


def test_status_without_a_daemon(rack):
    rack["n3"].stop()
    done = rack.lab["n3"].run([vipd.program(), "status", "--runtime-dir", rack["n3"].runtime], check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert f"no vipd answers at {rack['n3'].runtime}/status.sock" in done.stderr
    assert "is it running? is --runtime-dir right?" in done.stderr


def test_status_of_a_daemon_that_hangs(rack):
    rack["n3"].hang()
    done = rack.lab["n3"].run([vipd.program(), "status", "--runtime-dir", rack["n3"].runtime], check=False)
    assert done.returncode == 1 and "did not answer within 5 s: is it stopped?" in done.stderr


# --- a kernel without the egress hook ---------------------------------------------------------------------------

@pytest.fixture
def loopback():
    os.environ["VIPD_FENCE"] = "loopback"  # every option is an environment variable as well
    try:
        with Rack() as rack:
            yield rack
    finally:
        os.environ.pop("VIPD_FENCE")


def test_the_loopback_fence(loopback, record_property):
    """The fallback for older kernels, said loudly: SIGKILL, SIGSTOP and SIGTERM with it, never two answering."""
    rack = loopback
    for daemon in rack.cluster.daemons.values():
        assert daemon.status()["fence"] == "loopback"
        assert "reason=UnsupportedFeature" in daemon.log() and "over loopback" in daemon.log()
    for name in rack.lab.nodes:
        assert "hook egress" not in rack.lab[name].ruleset()
    for how in ("kill", "hang", "stop"):
        lost, watch = rack.settle(), rack.watch()
        if how == "kill":
            rack[lost].kill()
        elif how == "hang":
            rack[lost].hang()
            time.sleep(2)
            rack[lost].wake()
        else:
            rack[lost].stop()
        time.sleep(1.5)
        seen = watch.stop()
        for address, by in seen.items():
            record_property(f"{how}_{address}_arp_longest_ms", by["arp"]["longest_ms"])
            assert by["arp"]["two"] <= (how == "stop") and not by["arp"]["dark"], how
            assert by["arp"]["longest_ms"] < 1000
            assert by["stream"]["kept"] == 5 and by["stream"]["lost"] == 0, how
        assert rack.cluster.owner(V4) == rack.cluster.owner(V6) != lost
    assert rack.lab.sanitizer_reports() == []
