"""_outages.py: what is wrong with all watches together is said once, and so is that it is over."""

from __future__ import annotations

import logging

from clovisor_py.kube._outages import Outages

AWAY = "the API server does not answer: check that it runs."


def test_the_same_for_all_is_said_once(caplog):
    caplog.set_level(logging.INFO)
    outages = Outages()
    for name in ("pods", "nodes", "jobs"):
        outages.begin(name, AWAY)
    outages.begin("jobs", "jobs may not be watched: grant it.")
    for name in ("pods", "jobs", "nodes", "services"):
        outages.end(name)
    assert caplog.messages == [
        f"watching pods: {AWAY}",
        "watching jobs: jobs may not be watched: grant it.",
        "watching jobs works again",
        "watching nodes works again",
    ]


def test_the_next_outage_is_said_again(caplog):
    outages = Outages()
    for _ in range(2):
        outages.begin("pods", AWAY)
        outages.end("pods")
    assert caplog.messages.count(f"watching pods: {AWAY}") == 2
