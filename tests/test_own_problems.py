"""What is wrong with the agent itself is said once, answered for as long as it is so, and said again when it comes back."""

from __future__ import annotations

from clovisor_py.own_problems import SETTINGS_REFUSED, UNKNOWN_NODE, OwnProblems
from tests.support.fake_cluster import Notes

ODD, ODDER = "settings.yaml line 1: no.", "settings.yaml line 2: no."


def test_a_problem_comes_stays_changes_and_goes():
    notes = Notes()
    own = OwnProblems("n1", notes)
    assert own.look({SETTINGS_REFUSED: "", UNKNOWN_NODE: ""}) == () and notes.said == []
    for sentence in (ODD, ODD, ODDER, ODD, "", ODD):
        assert own.look({SETTINGS_REFUSED: sentence, UNKNOWN_NODE: ""}) == ((sentence,) if sentence else ())
    assert notes.said == [("n1", SETTINGS_REFUSED, sentence) for sentence in (ODD, ODDER, ODD, ODD)]


def test_two_at_once():
    notes = Notes()
    assert OwnProblems("n1", notes).look({SETTINGS_REFUSED: ODD, UNKNOWN_NODE: "who?"}) == (ODD, "who?")
    assert [reason for _, reason, _ in notes.said] == [SETTINGS_REFUSED, UNKNOWN_NODE]
