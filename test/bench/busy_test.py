"""keepalived beside vipd: adverts every 10 ms while every core is busy, and nothing else is wrong.

Each takeover is a false one. Every core has two processes that never sleep; the client asks by ARP every 5 ms.
"""
import time

import pytest

from lab import Lab
from peers import ADDRESS, Keepalived, Vipd, settled
from programs import busy_processors

INTERVAL_MS = 10
SECONDS = 60


@pytest.mark.parametrize("kind", [Vipd, Keepalived], ids=["vipd", "keepalived"])
def test_busy(kind, table):
    outcome = table(f"busy {kind.name}: adverts every {INTERVAL_MS} ms, both cores busy for {SECONDS} s",
                    ["who", "false takeovers", "ARP: longest without answer, ms", "asked", "and two answered",
                     "prober late, ms"])
    with Lab(nodes=3) as lab:
        cluster = kind(lab, INTERVAL_MS)
        settled(cluster, lab)
        time.sleep(2)
        before, arp = cluster.takeovers(), lab.client.probe("arp", "eth1", ADDRESS, 5)
        with busy_processors():
            time.sleep(SECONDS)
        seen = arp.stop()
        outcome.row(kind.name, cluster.takeovers() - before, seen["longest_ms"], seen["questions"], seen["two"],
                    seen["late_ms"])
