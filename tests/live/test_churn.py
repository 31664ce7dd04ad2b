"""A few seconds of everything at once, and exactly the right pods are traced; `tools/churn` takes two minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.churn_run import Plan, run
from tests.support.control_plane import control_plane, programs
from tests.support.kernel import node
from tests.support.netns import uplink

PLAN = Plan(seconds=8, away_s=2, kills=1, seed=7, rest_s=1)


@pytest.mark.live
@pytest.mark.cluster
@pytest.mark.slow
def test_afterwards_exactly_the_right_pods_are_traced_and_nothing_is_left(tmp_path: Path) -> None:
    programs()
    with node(), uplink(), control_plane() as plane:
        accounts = run(plane, tmp_path, PLAN)
    assert not accounts.wrong, "\n".join(accounts.lines())
    assert accounts.done["created"] > 5 and accounts.done["agent killed"] == 1
    assert accounts.after.traced == accounts.after.expected > 0
