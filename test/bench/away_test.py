"""Speakers whose API server is away: what moves in five minutes, and how long a dead owner's address is dark.

keepalived has no such server: what it needs for the same loss of power is in `failover_test.py`. VIPD_BENCH_SECONDS
says how long the server is away (300). The client pings the address every 2 ms and asks for it by ARP every 5 ms.
"""
import contextlib
import os
import time

import pytest

import vipd
from cluster import Cluster
from conftest import RUNS, spread
from lab import Lab, wait_for

SECONDS = int(os.environ.get("VIPD_BENCH_SECONDS", "300"))
TIMES = max(RUNS // 4, 1)


@pytest.fixture(scope="module")
def speakers():
    with Cluster() as api:
        api.install()
        with vipd.exposed(api) as cluster:
            yield cluster


@contextlib.contextmanager
def there(api):
    yield


@contextlib.contextmanager
def hung(api):
    """Since half a second: nobody has noticed it yet."""
    api.freeze_server()
    time.sleep(0.5)
    try:
        yield
    finally:
        api.thaw_server()


@contextlib.contextmanager
def away(api):
    """Since ten seconds: everybody knows."""
    api.stop_server()
    time.sleep(10)
    try:
        yield
    finally:
        api.start_server()


def probes(cluster):
    client = cluster.lab.client
    return client.probe("ping", cluster.address, 2), client.probe("arp", "eth1", cluster.address, 5)


def confirmed(cluster):
    """The Lease names who answers, and every speaker can claim."""
    def holder():
        lease = cluster.api.leases().get(cluster.api.vips()[cluster.address]["spec"]["virtualRouter"], {})
        name = lease.get("spec", {}).get("holderIdentity")
        return name if name and name == cluster.answering(cluster.address) else None
    cluster.ready(60)
    return wait_for("the Lease to name who answers", holder, 60, 0.2)


def transitions(cluster):
    router = cluster.api.vips()[cluster.address]["spec"]["virtualRouter"]
    return cluster.api.leases()[router]["spec"].get("leaseTransitions", 0)


def test_away_alone(speakers, table):
    outcome = table(f"API server away for {SECONDS} s, nothing else",
                    ["owners seen", "transitions", "pings", "lost", "longest ms", "two answered"])
    confirmed(speakers)
    time.sleep(5)
    ping, arp = probes(speakers)
    time.sleep(1)
    before = transitions(speakers)
    speakers.api.stop_server()
    time.sleep(SECONDS)
    speakers.api.start_server()
    confirmed(speakers)
    time.sleep(5)
    seen, asked = ping.stop(), arp.stop()
    outcome.row(len(asked["answerers"]), transitions(speakers) - before, seen["questions"], seen["lost"], seen["longest_ms"], asked["two"])
    assert asked["two"] == 0


def test_away_and_the_owner_dies(speakers, table):
    outcome = table(f"API server and the owner's loss of power: outage by ping in {TIMES} times, milliseconds",
                    ["API server", "median", "p95", "max", "two answered"])
    for name, trouble in (("there", there), ("hung for 0.5 s", hung), ("away for 10 s", away)):
        results = [once(speakers, trouble) for _ in range(TIMES)]
        outcome.row(name, *spread([result[0] for result in results]), sum(result[1] for result in results))
        assert not any(result[1] for result in results)


def once(cluster, trouble):
    owner = confirmed(cluster)
    time.sleep(3)
    ping, arp = probes(cluster)
    with trouble(cluster.api):
        cluster.lab[owner].power_off()
        cluster.owner(cluster.address, other_than=owner)
        time.sleep(1)
        seen, asked = ping.stop(), arp.stop()
    cluster.mend(60)
    return seen["longest_ms"], asked["two"]
