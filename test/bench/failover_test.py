"""keepalived beside vipd: the same LAN, the same interval, the same probes, one after the other.

Every event is done RUNS times to each, those that last for seconds a quarter as often. The client pings the address
every 2 ms and asks for it by ARP every 5 ms; the outage is the longest time in which nobody answered the ping.
"""
import signal
import time
from typing import Callable, NamedTuple

import pytest

from conftest import RUNS, spread
from lab import Lab, LabError, wait_for
from peers import ADDRESS, INTERVAL_MS, Keepalived, Vipd, owner_of, settled

ARP_MS = 5
HANG_S = 4
APART_S = 3
PATIENCE_S = 12  # keepalived's clients were cut off for 7 s after a split


def nothing(cluster, name):
    pass


def sigkill(cluster, name):
    cluster.process(name).kill()


def power_loss(cluster, name):
    cluster.lab[name].power_off()


def power_back(cluster, name):
    cluster.lab[name].power_on()


def sigterm(cluster, name):
    cluster.process(name).signal(signal.SIGTERM, everyone=False)


def ended(cluster, name):
    cluster.process(name).popen.wait(15)


def hang(cluster, name):
    process = cluster.process(name)
    process.signal(signal.SIGSTOP)
    time.sleep(HANG_S)
    process.signal(signal.SIGCONT)


def apart(cluster, name):
    """Nothing of the owner passes the switch, its link stays: it and its successor live."""
    cluster.lab[name].cut(carrier=False)
    time.sleep(APART_S)


def together(cluster, name):
    cluster.lab[name].heal()


class Event(NamedTuple):
    name: str
    happens: Callable
    mend: Callable = nothing   # before the daemon starts again
    counts: Callable = None    # what is measured begins with this one, after what happens
    restarts: bool = True
    runs: int = RUNS


EVENTS = [
    Event("SIGKILL", sigkill),
    Event("loss of power", power_loss, power_back),
    Event("SIGTERM", sigterm, ended),
    Event(f"SIGSTOP for {HANG_S} s", hang, restarts=False, runs=max(RUNS // 4, 1)),
    Event("a split of two live ones heals", apart, counts=together, restarts=False, runs=max(RUNS // 4, 1)),
]


def mend(cluster, event, name):
    event.mend(cluster, name)
    if event.restarts:
        cluster.clear(name)
        cluster.start(name)
    wait_for(f"{cluster.name} on {name}", lambda: cluster.ready(name), 15)
    time.sleep(0.5)


def longest_ms(probe, since):
    """The longest outage of those that lasted on after this moment, and only what of it came then."""
    outages = [event for event in probe.events() if event["event"] == "outage"]
    return max((event["ms"] - 1000 * max(0.0, since - event["at"])
                for event in outages if event["at"] + event["ms"] / 1000 > since), default=0.0)


def is_dark(probe):
    told = [event["event"] for event in probe.events() if event["event"] in ("silent", "outage")]
    return told[-1:] == ["silent"]


def once(cluster, event):
    """(outage by ping, by ARP, milliseconds in which two answered)"""
    owner, client = owner_of(cluster), cluster.lab.client
    ping, arp = client.probe("ping", ADDRESS, 2), client.probe("arp", "eth1", ADDRESS, ARP_MS)
    time.sleep(0.4)
    since = time.monotonic()
    event.happens(cluster, owner)
    if event.counts:
        since = time.monotonic()
        event.counts(cluster, owner)
    time.sleep(1.6)
    wait_for("an answer", lambda: not is_dark(ping), PATIENCE_S)
    seen, asked = ping.stop(), arp.stop()
    if seen["dark"]:
        raise LabError(f"{cluster.name}: {ADDRESS} did not come back after {event.name} of {owner}")
    mend(cluster, event, owner)
    return longest_ms(ping, since), longest_ms(arp, since), asked["two"] * ARP_MS


@pytest.mark.parametrize("kind", [Vipd, Keepalived], ids=["vipd", "keepalived"])
def test_failover(kind, table):
    outcome = table(f"failover {kind.name}: adverts every {INTERVAL_MS} ms, milliseconds",
                    ["event", "times", "ping median", "p95", "max", "ARP median", "max", "two answered, median", "max"])
    with Lab(nodes=3) as lab:
        cluster = kind(lab)
        settled(cluster, lab)
        time.sleep(2)
        for event in EVENTS:
            results = [once(cluster, event) for _ in range(event.runs)]
            ping, arp, two = (spread(list(column)) for column in zip(*results))
            outcome.row(event.name, event.runs, *ping, arp[0], arp[2], two[0], two[2])
            if kind is Vipd:
                assert two[2] == 0, f"{event.name}: two nodes answered for {two[2]} ms"
