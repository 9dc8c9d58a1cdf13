"""What the client saw, held against what election/README.md promises. Times are seconds of CLOCK_MONOTONIC.

A span is (from, to, who): the nodes that answered each question of that time, nobody if the set is empty.
"""
from typing import NamedTuple

from plan import CUTS, KINDS, LINKS

ROUNDED_S = 0.00001  # an instant that is told as "at" and as "at" + "ms"
INTERVAL_S = 0.1     # the pool's default
CLAIM_S = 0.15       # rule 4: then the LAN decides
LAN_S = 0.005        # one LAN delay + 1 ms, and the distance of questions
MACHINE_S = 0.15     # a shared machine lets a process, or the Lease's watch, wait that long
SETTLE_S = 4 * INTERVAL_S + CLAIM_S + 2 * MACHINE_S + 0.5  # processes run already, agents connect again
RECENT_S = 2.0       # so long what is healed explains what is seen
DARK_S = 1.5         # one failover, on a machine that is busy
STALLED_MS = 250     # a prober that late was on a machine that ran nobody: then how long things took says nothing
STALL_S = 0.3        # what moves nothing: the prober's questions may wait that long for an answer


TIMED = {"one owner", "reached", "dark", "moved", "Lease"}  # rules that a machine which stalls breaks, too


class Complaint(NamedTuple):
    rule: str
    address: str
    begin: float
    end: float
    text: str


def spans(events, name_of, begin, end):
    """Of a probe's events (test/tools/probe.c); name_of() makes a node of an answerer."""
    points, answering = [(begin, frozenset())], frozenset()
    for event in events:
        if event["event"] == "answered":
            answering = frozenset(name_of(who) for who in event["by"])
            if event["at"] - points[-1][0] < ROUNDED_S:
                points.pop()  # the end of an outage, told just before
            points.append((event["at"], answering))
        elif event["event"] == "silent":
            points.append((event["at"], frozenset()))
        elif event["event"] == "outage":
            points.append((event["at"] + event["ms"] / 1000, answering))
    found = []
    for (at, who), (until, _) in zip(points, [*points[1:], (end, None)]):
        if until <= at:
            continue
        if found and found[-1][2] == who:
            found[-1] = (found[-1][0], until, who)
        else:
            found.append((at, until, who))
    return found


def clip(found, begin, end):
    return [(max(a, begin), min(b, end), who) for a, b, who in found if b > begin and a < end]


def two_bound(faults, nodes):
    """How long two may answer in one piece while these are in force or just healed; None: as long as they are.

    The cases of single_bound_us() and double_bound_us() in test/sim/judge.c."""
    cuts = [one for one in faults if one.kind in CUTS]
    lan = [one for one in faults if one.kind in CUTS | LINKS | {"adverts"}]
    others = nodes - 2 - (len(faults) - len(cuts))
    if any(one.kind in ("mute", "adverts") for one in faults):
        others = 0
    if len(faults) > 1 and cuts and (others <= 0 or (len(cuts) > 1 and others < 2)):
        return None
    if cuts:
        return 4 * INTERVAL_S + CLAIM_S + MACHINE_S
    if len(faults) > 1:
        return 3 * INTERVAL_S + CLAIM_S + MACHINE_S
    if lan and lan[0].kind in LINKS:
        return INTERVAL_S + MACHINE_S  # healed: until the next advert
    return LAN_S


def two_answer(address, found, faults, nodes):
    for begin, end, who in found:
        if len(who) < 2:
            continue
        near = [one for one in faults if one.begin < end and one.end + RECENT_S > begin]
        bound = two_bound(near, nodes)
        if bound is None:
            bound = max(one.end for one in near) + SETTLE_S - begin
        if end - begin > bound:
            yield Complaint("two answer", address, begin, end,
                            f"{' and '.join(sorted(who))} for {1000 * (end - begin):.0f} ms, {1000 * bound:.0f} are allowed"
                            f" under {', '.join(f'{one.kind} {one.whom}' for one in near) or 'no fault'}")


def settled(found, whole):
    """Seconds from `whole` to the beginning of what was still so at the end."""
    last = found[-1]
    return max(0.0, last[0] - whole) if len(last[2]) == 1 else None


def moves(found):
    """How often another one answered than before."""
    single = [who for _, _, who in found if len(who) == 1]
    return sum(before != after for before, after in zip(single, single[1:]))


def longest_dark(found):
    return max((end - begin for begin, end, who in found if not who), default=0.0)


def after_healing(address, answered, echoed, episode):
    """One owner soon after everything is whole, then no change, and the client reaches it."""
    late = clip(answered, episode.whole + SETTLE_S, episode.end)
    begin = f"{1000 * SETTLE_S:.0f} ms after everything was whole again"
    if len(late) != 1 or len(late[0][2]) != 1:
        told = ", ".join("+".join(sorted(who)) or "nobody" for _, _, who in late)
        yield Complaint("one owner", address, episode.whole + SETTLE_S, episode.end, f"{begin}: {told}")
    dark = longest_dark(clip(echoed, episode.whole + SETTLE_S, episode.end))
    if dark > STALL_S:
        yield Complaint("reached", address, episode.whole + SETTLE_S, episode.end,
                        f"{begin} no ping was answered for {1000 * dark:.0f} ms")


def alone(address, answered, echoed, episode):
    """One fault, healed before the next: dark for one failover at most, and nothing moves without a reason."""
    fault, owner = episode.faults[0], episode.owners[address]
    moves = KINDS[fault.kind].moves
    may_move = moves == "any" or (moves == "owner" and address in fault.owner_of)
    allowed = DARK_S if may_move or fault.kind == "address" else STALL_S
    what = f"{fault.kind} {fault.whom}"
    for who, found in (("ARP or NDP", answered), ("ping", echoed)):
        dark = longest_dark(clip(found, episode.begin, episode.end))
        if dark > allowed:
            yield Complaint("dark", address, episode.begin, episode.end,
                            f"no {who} was answered for {1000 * dark:.0f} ms, {1000 * allowed:.0f} are allowed under {what}")
    others = {name for _, _, who in clip(answered, episode.begin, episode.end) for name in who if name != owner}
    if others and not may_move:
        yield Complaint("moved", address, episode.begin, episode.end,
                        f"from {owner} to {', '.join(sorted(others))} under {what}")


def judge(address, answered, echoed, episodes, nodes):
    """Everything of one address; episodes: objects with begin, whole, end, owners, faults."""
    complaints = list(two_answer(address, answered, [fault for one in episodes for fault in one.faults], nodes))
    for episode in episodes:
        complaints += after_healing(address, answered, echoed, episode)
        if len(episode.faults) == 1:
            complaints += alone(address, answered, echoed, episode)
    return complaints
