"""Random faults on a real cluster, as many as the seed says; what the environment may say is in README.md."""
import os
import subprocess

import pytest

from lab import ROOT
from story import play


def seeds():
    """The one that is asked for, or words from the commit: new ones with each, and the same again for the same."""
    count = int(os.environ.get("VIPD_SEEDS", "1"))
    word = os.environ.get("VIPD_SEED")
    if not word:
        done = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        word = done.stdout.strip() or "no-commit"
    return [word if number == 0 else f"{word}.{number}" for number in range(count)]


@pytest.mark.parametrize("nodes", [int(word) for word in os.environ.get("VIPD_NODES", "3 5").split()])
@pytest.mark.parametrize("seed", seeds())
def test_one_owner_through_all_of_it(api, nodes, seed, record_property):
    only = [word for word in os.environ.get("VIPD_FAULTS", "").split(",") if word]
    seconds = float(os.environ.get("VIPD_SECONDS", "90"))
    figures, complaints = play(api, nodes, seed, seconds, only, bool(os.environ.get("VIPD_DRAW")))
    for name, value in figures.items():
        record_property(name, value)
    assert not complaints, complaints
    if figures["unjudged"]:
        pytest.skip(f"{figures['unjudged']} times too slow on a machine that ran nobody for {figures['machine_stalled_ms']} ms")
