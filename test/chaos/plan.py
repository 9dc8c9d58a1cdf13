"""What goes wrong in a run and when, all of it drawn from one seed.

Who is hit is a rank: 0 is whoever owns the IPv4 address when the episode begins, the others follow. So the same seed
hits the same roles, whoever has them.
"""
import random
from typing import NamedTuple


class Kind(NamedTuple):
    group: str           # a node is hit once in an episode by each group; a group "all" once altogether
    weight: int = 2
    pulse: bool = False  # over as soon as it is done
    pair: bool = False   # between two nodes
    moves: str = ""      # whose fault may move an address: "owner", "any", ""; nobody else's may


KINDS = {
    "kill": Kind("process", 3, moves="owner"),       # SIGKILL to engine and agent, started again later
    "hang": Kind("process", 3, moves="owner"),       # SIGSTOP to both
    "term": Kind("process", 2, moves="owner"),       # SIGTERM: a handover
    "agent": Kind("process", 1, pulse=True),         # SIGKILL to the agent alone
    "isolate": Kind("link", 3, moves="owner"),       # nothing passes, the carrier stays
    "unplug": Kind("link", 2, moves="owner"),        # carrier lost
    "down": Kind("link", 2, moves="owner"),          # `ip link set eth1 down` on the node
    "mac": Kind("link", 2, pulse=True),
    "clock": Kind("clock", 2, pulse=True),           # the wall clock is stepped by hours
    "address": Kind("rules", 2, pulse=True),         # the address taken off the owner by hand
    "flush": Kind("rules", 2, pulse=True),           # `nft flush ruleset`
    "pair": Kind("path", 2, pair=True, moves="any"),     # two nodes do not hear each other, all others hear both
    "oneway": Kind("path", 2, pair=True, moves="any"),
    "deaf": Kind("path", 1, moves="any"),            # nothing of the other nodes arrives
    "mute": Kind("path", 1, moves="owner"),          # nothing arrives at the other nodes
    "adverts": Kind("path", 2, moves="owner"),       # multicast does not pass, unicast does
    "api-cut": Kind("api", 2),                       # one node does not reach the API server
    "api-refused": Kind("all", 2),                   # nobody does
    "api-frozen": Kind("all", 2),                    # half-open: nothing passes, nothing is closed
    "api-slow": Kind("all", 2),                      # 300 ms more each way
    "server-hang": Kind("all", 1),                   # SIGSTOP to kube-apiserver
    "controller": Kind("all", 1),                    # SIGKILL, another one starts later
    "lease": Kind("all", 1, pulse=True),             # the virtual routers' Leases deleted by hand
}
CUTS = {"pair", "oneway", "deaf", "mute"}
LINKS = {"isolate", "unplug", "down"}

# How many faults an episode has and how often it is drawn. One alone is promised more than several.
REGIMES = {"single": (5, 1, 1), "double": (4, 2, 2), "storm": (1, 3, 6)}
QUIET_S = 2.0     # after everything is whole again and has settled
OVERHEAD_S = 3.5  # of an episode: daemons get ready, it settles, Leases are looked at


class Fault(NamedTuple):
    kind: str
    rank: int
    other: int       # of a pair
    begin: float     # seconds after the episode's begin
    end: float


class Episode(NamedTuple):
    regime: str
    faults: list

    @property
    def seconds(self):
        return max(fault.end for fault in self.faults)


def draw_fault(rng, kinds, nodes):
    kind = rng.choices(kinds, [KINDS[name].weight for name in kinds])[0]
    rank = 0 if rng.random() < 0.6 else rng.randrange(nodes)
    other = (rank + rng.randrange(1, nodes)) % nodes
    # From what is over before anybody notices to several times of what everybody waits for.
    length = rng.choice([rng.uniform(0.05, 0.4), rng.uniform(0.4, 1.5), rng.uniform(1.5, 4)])
    if kind == "hang" and rng.random() < 0.15:
        length = rng.uniform(10, 13)  # addresses of a daemon that hangs expire after 10 s
    return kind, rank, other, 0.0 if KINDS[kind].pulse else length


def draw_episode(rng, kinds, nodes):
    regime = rng.choices(list(REGIMES), [weight for weight, *_ in REGIMES.values()])[0]
    count = rng.randint(*REGIMES[regime][1:])
    faults, taken, begin = [], set(), 0.0
    for _ in range(8 * count):
        kind, rank, other, length = draw_fault(rng, kinds, nodes)
        group = KINDS[kind].group
        key = group if group == "all" else (group, rank)
        if key in taken:
            continue
        taken.add(key)
        faults.append(Fault(kind, rank, other, begin, begin + length))
        if len(faults) == count:
            break
        begin += rng.choice([0.0, rng.uniform(0.0, 0.3), rng.uniform(0.3, 2)])
        if regime == "double":
            begin = min(begin, faults[0].end)  # they overlap
    return Episode(regime, faults)


def draw(seed, nodes, seconds, only=None):
    """Episodes that take about `seconds` altogether, healing and quiet included."""
    rng = random.Random(f"{seed} {nodes}")
    kinds = [name for name in KINDS if not only or name in only]
    episodes, spent = [], 0.0
    while not episodes or spent < seconds:
        episodes.append(draw_episode(rng, kinds, nodes))
        spent += episodes[-1].seconds + QUIET_S + OVERHEAD_S
    return episodes
