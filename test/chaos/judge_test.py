"""The judge on made-up histories: what is promised passes, what is not is found."""
import types

import pytest

import judge
import plan

A, B, NOBODY, BOTH = frozenset({"n1"}), frozenset({"n2"}), frozenset(), frozenset({"n1", "n2"})
V4 = "192.0.2.10"


def fault(kind, begin=1.0, end=2.0, owner=True):
    return types.SimpleNamespace(kind=kind, whom="n1", begin=begin, end=end, owner_of=[V4] if owner else [])


def rules(answered, *faults, echoed=None, nodes=3):
    """What is complained about in an episode of ten seconds, whole at three."""
    episode = types.SimpleNamespace(begin=0.5, whole=3.0, end=10.0, owners={V4: "n1"}, faults=list(faults))
    echoed = echoed or [(0.0, 10.0, frozenset({"echo"}))]
    return {one.rule for one in judge.judge(V4, answered, echoed, [episode], nodes)}


def history(*pieces):
    """((seconds, who), ...) one after the other, the last until ten."""
    found, at = [], 0.0
    for seconds, who in pieces:
        found.append((at, at + seconds, who))
        at += seconds
    return found[:-1] + [(found[-1][0], 10.0, found[-1][2])]


FAILOVER = history((1.25, A), (0.1, NOBODY), (1, B))

ROWS = [
    ("a failover", FAILOVER, [fault("kill")], set()),
    ("nobody moves", history((1, A)), [fault("api-cut")], set()),
    ("two answer after SIGKILL", history((1.25, A), (0.02, BOTH), (1, B)), [fault("kill")], {"two answer"}),
    ("two answer under no fault", history((8, A), (0.02, BOTH), (1, B)), [fault("agent")],
     {"two answer", "one owner", "moved"}),
    ("two that do not hear each other", history((1.4, A), (0.5, BOTH), (1, B)), [fault("pair")], set()),
    ("they do so for too long", history((1.4, A), (0.9, BOTH), (1, B)), [fault("pair")], {"two answer"}),
    ("a healed link", history((1.2, A), (0.2, NOBODY), (0.7, B), (0.2, BOTH), (1, B)), [fault("isolate")], set()),
    ("two cuts cannot be helped", history((1.4, A), (0.9, BOTH), (1, B)), [fault("pair"), fault("mute")], set()),
    ("but when they are over", history((1.4, A), (2.5, BOTH), (1, B)), [fault("pair"), fault("mute")],
     {"two answer"}),
    ("nobody comes back", history((1.25, A), (1, NOBODY)), [fault("kill")], {"one owner", "dark"}),
    ("dark too long", history((1.25, A), (1.7, NOBODY), (1, B)), [fault("kill")], {"dark"}),
    ("it goes on changing", history((1.25, A), (0.1, NOBODY), (5, B), (1, A)), [fault("kill")], {"one owner"}),
    ("it moves for no reason", history((1.5, A), (1, B)), [fault("api-slow")], {"moved"}),
    ("a backup's death moves it", FAILOVER, [fault("kill", owner=False)], {"moved"}),
    ("two faults may", FAILOVER, [fault("kill", owner=False), fault("agent")], set()),
]


@pytest.mark.parametrize("what, answered, faults, expected", ROWS, ids=[row[0] for row in ROWS])
def test_the_judge(what, answered, faults, expected):
    assert rules(answered, *faults) == expected


def test_an_owner_that_nobody_reaches_is_found():
    silent = [(0.0, 1.0, frozenset({"echo"})), (1.0, 10.0, NOBODY)]
    assert rules(history((1, A)), fault("mac"), echoed=silent) == {"reached", "dark"}


def test_events_of_a_probe_become_spans():
    events = [{"event": "answered", "at": 1.0, "by": ["a"]}, {"event": "silent", "at": 2.0},
              {"event": "outage", "at": 2.0, "ms": 500.0}, {"event": "silent", "at": 3.0},
              {"event": "outage", "at": 3.0, "ms": 100.0}, {"event": "answered", "at": 3.1000004, "by": ["a", "b"]},
              {"event": "summary"}]
    found = judge.spans(events, str.upper, 1.0, 4.0)
    assert [who for _, _, who in found] == [{"A"}, set(), {"A"}, set(), {"A", "B"}]
    assert found[2][:2] == (2.5, 3.0) and found[-1][1] == 4.0


def test_the_same_seed_gives_the_same_run_and_another_one_does_not():
    assert plan.draw("x", 3, 60) == plan.draw("x", 3, 60) != plan.draw("y", 3, 60)


def test_every_kind_is_drawn():
    drawn = {one.kind for seed in range(40) for episode in plan.draw(seed, 5, 60) for one in episode.faults}
    assert drawn == set(plan.KINDS)
