"""What is told: key=value lines, a real journal, `vipd status`; every change of ownership says why."""
import json
import os
import re
import shlex
import signal
import subprocess
import time

import pytest

from conftest import BOTH, V4, V6
from lab import LabError, Process, wait_for
import vipd

JOURNALD = "/lib/systemd/systemd-journald"


def fields(line):
    """One line of the log as a dictionary; fails if it is anything else than key=value words."""
    words = shlex.split(line)
    assert all(re.match(r"[a-z_0-9]+=", word) for word in words), line
    return dict(word.split("=", 1) for word in words)


def changes(daemon, since=0):
    return [line for line in map(fields, daemon.log()[since:].splitlines())
            if "vip" in line and ("old_owner" in line or "new_owner" in line)]


def test_every_line_is_key_value(rack):
    rack[rack.owner()].stop()
    for daemon in rack.cluster.daemons.values():
        for line in map(fields, daemon.log().splitlines()):
            assert {"time", "level", "program", "node", "msg"} <= set(line)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
            assert line["level"] in ("error", "warning", "notice", "info") and line["node"] == daemon.node.name


@pytest.mark.parametrize("how, there, here", [
    ("kill", None, "OwnerLost"),
    ("stop", "Handover", "OwnerResigned"),
    ("cut", "LinkDown", "OwnerLost"),
    ("hang", "Overslept", "OwnerLost"),
])
def test_a_change_of_owner_says_why(rack, how, there, here):
    """The node that lost it and the one that took it both say so, with both names, and how long it was dark."""
    old = rack.owner()
    since = {name: len(daemon.log()) for name, daemon in rack.cluster.daemons.items()}
    if how == "cut":
        rack.lab[old].cut()
    else:
        getattr(rack[old], how)()
    new = rack.cluster.owner(V4, other_than=old)
    rack.cluster.owner(V6, other_than=old)
    if how == "hang":
        rack[old].wake()
        rack[old].process.wait_output("reason=Overslept")
    third = next(name for name in rack.cluster.daemons if name not in (old, new))
    for address in BOTH:
        took = [line for line in changes(rack[new], since[new]) if line["vip"] == address]
        assert [line["reason"] for line in took] == [here]
        assert took[0]["new_owner"] == new and took[0]["new_state"] == "Active"
        assert took[0]["old_owner"] == old and took[0]["interface"] == "eth1" and took[0]["service"] == "vms/ssh"
        assert {"vrid", "lease", "term", "pool"} <= set(took[0])
        if here == "OwnerLost":
            # Whose node answers nothing is gone; else its fence is waited for, which lasts 2.5 intervals.
            gone = how == "cut"
            assert took[0]["msg"].endswith("and its node answered nothing") == gone, took[0]["msg"]
            assert (210_000 if gone else 250_000) < int(took[0]["outage_usec"]) < 2_000_000
        saw = [line for line in changes(rack[third], since[third]) if line["vip"] == address]
        assert [(line["reason"], line["new_owner"]) for line in saw] == [("OwnerObserved", new)]
    gave = [line["reason"] for line in changes(rack[old], since[old]) if line.get("old_owner") == old]
    assert gave == ([there] * 2 if there else [])


def test_the_status_an_engineer_needs(rack):
    old = rack.owner()
    rack[old].stop()
    new = rack.cluster.owner(V4, other_than=old)
    rack.cluster.owner(V6, other_than=old)
    time.sleep(0.5)
    status = rack[new].status()
    assert status["node"] == new and status["ready"] and status["fence"] == "egress"
    assert status["feeder"] == "running" and status["rules"] == "present" and status["message"] == ""
    for router in status["routers"]:
        assert router["state"] == "Active" and router["owner"] == new and router["eligible"]
        assert router["addressesPresent"] and router["fenceOpen"]
        assert router["services"] == "vms/ssh" and router["interface"] == "eth1" and 0 < router["sinceSeconds"] < 10
        assert 0 <= router["fenceRefreshedSecondsAgo"] < 1 and router["witnesses"] == 2
        assert router["witnessesAnswering"] == 2, "a node whose vipd is stopped still answers for itself"
    peers = {peer["address"]: peer for peer in status["peers"]}
    gateway = peers["192.0.2.254"]
    assert gateway["mac"] == "02:00:00:00:01:fe" and 0 <= gateway["heardSecondsAgo"] < 3
    assert {peer["node"] for peer in peers.values()} >= {"n3"} and new not in {p["node"] for p in peers.values()}
    last = {transition["router"]: transition for transition in reversed(status["transitions"])}
    for router in status["routers"]:
        assert last[router["name"]]["to"] == new and last[router["name"]]["reason"] == "OwnerResigned"
    third = next(name for name in rack.cluster.daemons if name not in (old, new))
    for router in rack[third].status()["routers"]:
        assert router["state"] == "Backup" and router["owner"] == new
        assert not router["addressesPresent"] and not router["fenceOpen"] and "witnesses" not in router

    table = rack.lab[new].run([vipd.program(), "status", "--runtime-dir", rack[new].runtime]).stdout
    lines = table.splitlines()
    assert lines[0].startswith(f"node {new}   fence egress   feeder running   rules present")
    verified = rack.lab[new].run([vipd.program(), "status", "--verify", "--runtime-dir", rack[new].runtime]).stdout
    assert re.search(r"rules present, verified [0-2]s ago: as wanted$", verified.splitlines()[0]), verified
    assert re.search(r"^ROUTER +ADDRESS +STATE +OWNER +SINCE +TERM +DATAPLANE +REASON$", table, re.M)
    assert re.search(rf"^lab\.ipv4\.10 +192\.0\.2\.10 +Active +{new} +\d+s +0 +[a-z]+ +OwnerResigned$", table, re.M)
    assert re.search(rf"^lab\.ipv6\.16 +2001:db8::1:10 +Active +{new} ", table, re.M)
    assert re.search(r"^owned here: 2; oldest fence refreshed \d\.\d\ds ago; 2 of 2 witnesses answer$", table, re.M)
    assert re.search(r"^n3 +192\.0\.2\.3 +02:00:00:00:00:03 +\d+\.\ds ago$", table, re.M)
    assert re.search(rf"ago  lab\.ipv4\.10 +{old} -> {new}  OwnerResigned: {new} took over ", table)
    assert all(len(line) <= 110 for line in lines if " ago  " not in line)
    for word in ("-o", "--o=yaml"):
        assert rack.lab[new].run([vipd.program(), "status", word, *(["yaml"] if word == "-o" else [])],
                                 check=False).returncode == 2


class Journal:
    """A real systemd-journald in a mount namespace of its own; what runs in there sees only it."""

    def __init__(self, lab):
        self.holder = Process("journald", ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f"""
            mount -t tmpfs tmpfs /run
            mount -t tmpfs tmpfs /var/log
            mount -t tmpfs tmpfs /var/lib/systemd
            mount -t tmpfs tmpfs /usr/local/lib
            mkdir -p /run/systemd/journal /run/log/journal /usr/local/lib/systemd/catalog
            exec {JOURNALD}
        """], lab.dir / "journald.log")
        lab.processes.append(self.holder)
        wait_for("journald's socket", self.listens, 30)

    def listens(self):
        if not self.holder.alive():
            raise LabError(f"journald ended with {self.holder.popen.returncode}: {self.holder.output()}")
        return self.inside("test", "-S", "/run/systemd/journal/socket").returncode == 0

    def words(self, *words):
        return ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", *map(str, words)]

    def inside(self, *words):
        return subprocess.run(self.words(*words), capture_output=True, text=True, timeout=60, check=False)

    def find(self, *matches):
        done = self.inside("journalctl", "-o", "json", "--no-pager", *matches)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def close(self):
        self.holder.signal(signal.SIGTERM)
        self.holder.popen.wait(30)


def reasons(*words):
    return subprocess.run([vipd.program(), "reasons", *words], capture_output=True, text=True, timeout=20, check=False)


def test_every_reason_can_be_looked_up():
    source = (vipd.ROOT / "base/reason.h").read_text()
    words = re.findall(r'^\tX\(\w+, "(\w+)"', source, re.M)
    assert re.findall(r"^(\w+)(?: \(warning\))?$", reasons().stdout, re.M) == words
    assert re.findall(r"^Subject: (\w+)$", reasons("-o", "catalog").stdout, re.M) == words
    page = reasons("-o", "markdown").stdout
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == words
    assert page == (vipd.ROOT / "deploy/docs/reasons.md").read_text(), "vipd reasons -o markdown >deploy/docs/reasons.md"
    one = reasons("overslept").stdout.splitlines()
    assert one[0] == "Overslept (warning)" and len(one) == 4
    for wrong in (["Nonsense"], ["-o", "yaml"]):
        said = reasons(*wrong)
        assert said.returncode == 2 and len(said.stderr.splitlines()) == 1


@pytest.mark.skipif(not os.path.exists(JOURNALD), reason="no systemd-journald here: apt-get install systemd")
def test_a_real_journal_finds_it(rack):
    """Native fields: journalctl VIP=... and MESSAGE_ID=... find what happened to an address, with its REASON."""
    owner = rack.owner()
    heir = "n1" if owner == "n2" else "n2"
    rack.cluster.expose("ssh", BOTH, ["db"], rack.ports, candidates=[owner, heir])  # n3 is not quicker
    rack[heir].stop()
    journal = Journal(rack.lab)
    try:
        # ip netns exec, which the lab starts programs with, would mount another /run: nsenter both ways.
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{rack.lab[heir].namespace}", f"--mount=/proc/{journal.holder.pid}/ns/mnt",
             str(vipd.program()), "standalone", "--node", heir, "--manifests", str(rack.cluster.folder),
             "--state-dir", str(rack[heir].state), "--runtime-dir", str(rack[heir].runtime)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **vipd.environment(), "VIPD_LOG": "journal"})
        try:
            wait_for("it to be ready and to have heard of the owner, or it would be the first it knows of", lambda: (
                status := rack[heir].status() or {}).get("ready") and all(
                    router["owner"] == owner for router in status["routers"]), 30)
            rack[owner].kill()
            rack.cluster.owner(V4, 30, other_than=owner)
            found = wait_for("the journal to have it", lambda: journal.find(f"VIP={V4}", "REASON=OwnerLost"), 30)
            entry = found[-1]
            assert entry["NODE"] == heir and entry["NEW_OWNER"] == heir and entry["OLD_OWNER"] == owner
            assert entry["MESSAGE_ID"] == "bbeeb6361d33bc6d96f0da847a2a3b87" and entry["PRIORITY"] == "4"
            assert entry["SYSLOG_IDENTIFIER"] == "vipd-engine" and entry["VRID"] == "10"
            assert entry["LEASE"] == "lab.ipv4.10" and entry["SERVICE"] == "vms/ssh" and entry["INTERFACE"] == "eth1"
            assert 100_000 < int(entry["OUTAGE_USEC"]) < 30_000_000  # microseconds
            assert f"{heir} took over lab.ipv4.10: {owner} was silent for" in entry["MESSAGE"]
            assert entry["_PID"] == str(process.pid) or entry["_PID"] in map(str, rack.lab[heir].pids())
            # The catalog: journalctl -x explains what happened and what to do.
            catalog = reasons("-o", "catalog").stdout
            written = subprocess.run(journal.words("sh", "-c", "cat >/usr/local/lib/systemd/catalog/vipd.catalog"), input=catalog,
                                     text=True, timeout=20, check=True)
            updated = journal.inside("journalctl", "--update-catalog")
            assert written.returncode == updated.returncode == 0 and "vipd" not in updated.stderr, updated.stderr
            said = journal.inside("journalctl", "-x", "--no-pager", "-n", "1", f"VIP={V4}", "REASON=OwnerLost").stdout
            assert "Subject: OwnerLost" in said and "Defined-By: vipd" in said, said
            assert "The former owner fell silent and this node took over." in said
            assert "What to do: Look at the former owner" in said and f"On node {heir}." in said
            known = journal.inside("journalctl", "--list-catalog", "--no-pager").stdout
            assert all(id in known for id in re.findall(r"^-- ([0-9a-f]{32})$", catalog, re.M))
            again = wait_for("the other family", lambda: journal.find(f"MESSAGE_ID={entry['MESSAGE_ID']}", f"VIP={V6}"), 30)
            assert again[-1]["NEW_OWNER"] == heir
            assert journal.find("SYSLOG_IDENTIFIER=vipd-feeder") or journal.find("REASON=Started")
            rack.cluster.expose("ssh", BOTH, ["db"], rack.ports, candidates=["n1", "n2", "n3"])
            wait_for("n3 to be a candidate again", lambda: [
                router["eligible"] for router in (rack["n3"].status() or {}).get("routers", [])] == [True, True], 30)
        finally:
            process.terminate()
            output = process.communicate(timeout=60)[0]
        assert process.returncode == 0 and output == "", "with a journal nothing goes to stderr"
        assert journal.find("REASON=Handover", f"VIP={V4}")[-1]["OLD_OWNER"] == heir
    finally:
        rack.cluster.expose("ssh", BOTH, ["db"], rack.ports, candidates=["n1", "n2", "n3"])
        journal.close()
