"""Daemons end and come back in place: nothing moves, nothing breaks, only their own is cleaned up."""
import signal
import time

import pytest

from conftest import Rack
from lab import wait_for

FOREIGN = """
table inet admin {
  set held { type ipv4_addr; elements = { 192.0.2.77 } }
  chain input { type filter hook input priority 0; policy accept; }
}
table ip vipd-not-ours {
  chain c {
  }
}
"""


@pytest.fixture(scope="module")
def rack_of_module():
    """The fence lasts 1.5 to 2.5 intervals after a crash: 0.5 s, in which even a sanitizer build that
    shares two cores is up again. (A release needs about 60 ms; the default interval gives 150.)"""
    with Rack(vrrp={"advertisementIntervalMilliseconds": 330}) as rack:
        yield rack


def test_crash_of_both_processes_in_place(rack, record_property):
    owner = rack.owner()
    watch = rack.watch(arp_ms=1)
    for _ in range(2):
        rack[owner].restart()
        rack[owner].process.wait_output("ready:")
        time.sleep(2)  # the state file is written, and the next one is a crash of its own
    seen = watch.stop()
    for address, by in seen.items():
        record_property(f"{address}_arp_longest_ms", by["arp"]["longest_ms"])
        assert by["arp"]["two"] == 0
        assert by["stream"]["kept"] == 5 and by["stream"]["lost"] == 0 and by["stream"]["corrupt"] == 0
    stayed = rack[owner].process.output().count("reason=Started vip=")
    record_property("addresses_that_stayed_after_the_last_crash", stayed)
    assert rack.owner() == owner, "the address moved"
    assert stayed == 2


def test_upgrade_is_a_handover_and_a_start(rack):
    owner = rack.owner()
    watch = rack.watch()
    rack[owner].stop()
    rack[owner].start()
    rack[owner].process.wait_output("ready:")
    time.sleep(1)
    for address, by in watch.stop().items():
        assert by["arp"]["two"] == 0 and by["arp"]["longest_ms"] < 50, address
        assert by["stream"]["kept"] == 5 and by["stream"]["lost"] == 0
    assert rack.owner() != owner


@pytest.mark.parametrize("who", ["owner", "member"])
def test_over_tables_of_another_making_connections_go_on(rack, who):
    """As after an upgrade from a version one of whose sets is of another type: everything is made anew."""
    name = rack.owner() if who == "owner" else "n3"
    watch = rack.watch(kinds=("arp", "stream"), streams=50)
    rack[name].kill()
    rack.lab[name].run(["nft", "-f", "-"], text="""
flush chain inet vipd unknown4
delete set inet vipd wholedoubtful4
add set inet vipd wholedoubtful4 { type ether_addr; }
""")
    rack[name].start()
    rack[name].process.wait_output("ready:")
    time.sleep(1)
    for address, by in watch.stop().items():
        assert by["arp"]["two"] == 0
        assert (by["stream"]["kept"], by["stream"]["lost"]) == (50, 0), address
    assert "type ipv4_addr" in rack.lab[name].run(["nft", "list", "set", "inet", "vipd", "wholedoubtful4"]).stdout


def test_the_engine_alone_crashes(rack):
    """Its feeder does not outlive it, and the start after it is a restart in place."""
    owner = rack.owner()
    feeder = rack[owner].feeder()
    watch = rack.watch()
    rack[owner].process.signal(signal.SIGKILL, everyone=False)
    rack[owner].process.popen.wait(5)
    rack[owner].start()
    rack[owner].process.wait_output("ready:")
    wait_for("the old feeder to end", lambda: feeder not in rack.lab[owner].pids(), 2)
    time.sleep(1)
    for by in watch.stop().values():
        assert by["arp"]["two"] == 0
        assert by["stream"]["kept"] == 5 and by["stream"]["lost"] == 0
    assert rack.owner() == owner


def test_the_feeder_dies_again_and_again(rack):
    owner = rack.owner()
    watch = rack.watch()
    for _ in range(3):
        rack[owner].process.wait_output("feeder is there")
        feeder = wait_for("a feeder", lambda: (rack[owner].feeders() or [None])[0])
        rack.lab[owner].run(["kill", "-9", feeder])
        wait_for("another feeder", lambda: rack[owner].feeders() not in ([], [feeder]), 5)
        time.sleep(0.3)
    for by in watch.stop().values():
        assert by["arp"]["outages"] == 0 and by["arp"]["two"] == 0 and by["connect"]["lost"] == 0
        assert by["stream"]["kept"] == 5
    assert rack[owner].log().count("reason=AgentLost") >= 3
    assert rack.owner() == owner


def test_the_feeder_hangs(rack):
    """Everything goes on without it, and what changed meanwhile is done when it wakes."""
    owner = rack.owner()
    feeder = rack[owner].feeder()
    watch = rack.watch()
    rack.lab[owner].run(["kill", "-STOP", feeder])
    rack.cluster.expose("late", ["192.0.2.20"], ["db"], candidates=[owner])
    time.sleep(6)
    assert rack.cluster.holders("192.0.2.20") == []
    status = rack[owner].status()
    assert status["ready"] and {router["state"] for router in status["routers"]} == {"Active"}
    rack.lab[owner].run(["kill", "-CONT", feeder])
    rack.cluster.serves("192.0.2.20")
    for by in watch.stop().values():
        assert by["arp"]["outages"] == 0 and by["arp"]["two"] == 0 and by["connect"]["lost"] == 0
        assert by["stream"]["kept"] == 5
    rack.cluster.hide("late")
    rack.cluster.gone("192.0.2.20")


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_only_its_own_leftovers_are_removed(rack, how):
    """What an administrator has on the node stays: addresses (one in the pool even) and tables."""
    owner = rack.owner()
    node = rack.lab[owner]
    node.run(["nft", "-f", "-"], text=FOREIGN)
    node.run(["ip", "address", "add", "192.0.2.77/24", "dev", "eth1"])
    node.run(["ip", "address", "add", "192.0.2.78/32", "dev", "eth1"])
    rack.cluster.expose("gone", ["192.0.2.21", "2001:db8::1:21"], ["db"], candidates=[owner])
    rack.cluster.serves("192.0.2.21")
    wait_for("the state to be saved", lambda: b"gone" in (rack[owner].state / "engine.state").read_bytes())
    try:
        rack[owner].kill() if how == "kill" else rack[owner].stop()
        rack.cluster.hide("gone")
        rack[owner].start()
        rack[owner].process.wait_output("ready:")
        rack.cluster.gone("192.0.2.21", "2001:db8::1:21")
        assert {"192.0.2.77", "192.0.2.78"} <= set(node.addresses("eth1"))
        rules = node.ruleset()
        assert "table inet admin" in rules and "table ip vipd-not-ours" in rules and "table inet cni" in rules
    finally:
        rack.cluster.hide("gone", missing_ok=True)
        for address in ("192.0.2.77/24", "192.0.2.78/32"):
            node.run(["ip", "address", "delete", address, "dev", "eth1"], check=False)
        for table in ("inet admin", "ip vipd-not-ours"):
            node.run(["nft", "delete", "table", *table.split()], check=False)


def test_nothing_was_wanted_before_and_nothing_is_wanted_now(rack):
    """A daemon that is asked for nothing leaves nothing, although a predecessor had rules."""
    rack[rack.owner()].stop()
    name = next(name for name, daemon in rack.cluster.daemons.items() if not daemon.running())
    held = {path: path.read_text() for path in rack.cluster.folder.glob("service-*.yaml")}
    for path in held:
        path.unlink()
    try:
        rack[name].start()
        rack[name].process.wait_output("ready:")
        wait_for("the tables to go", lambda: "vipd" not in rack.lab[name].ruleset())
    finally:
        for path, text in held.items():
            path.write_text(text)
