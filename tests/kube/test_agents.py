"""kube/agents.py: where one is ready."""

from __future__ import annotations

import pytest

from clovisor_py.kube.agents import Agents, tells_calls
from clovisor_py.kube.changes import Change
from clovisor_py.kube.objects import Owner, Pod, Ref
from clovisor_py.kube.policy import Decision


def agent(name: str, node: str = "n2", ready: bool = True) -> Pod:
    return Pod(Ref("Pod", "clovisor", name), f"uid-{name}", node, host_network=True, agent=ready)


def change(old: object, new: object) -> Change:
    return Change("pods", (new or old).ref, old, new)


def test_it_comes_and_goes_with_its_pod():
    agents, old = Agents(), agent("a")
    agents.apply(change(None, agent("b", ready=False)))
    assert not agents.on("n2")
    agents.apply(change(None, old))
    assert agents.on("n2") and not agents.on("n1")
    agents.apply(change(old, None))
    assert not agents.on("n2")


def test_one_replaces_another():
    agents, old, new = Agents(), agent("a"), agent("b")
    agents.apply(change(None, old))
    agents.apply(change(None, new))
    agents.apply(change(old, agent("a", ready=False)))
    assert agents.on("n2")
    agents.apply(change(new, None))
    assert not agents.on("n2")


def test_what_is_no_agent_changes_nothing():
    agents = Agents()
    agents.apply(change(None, Pod(Ref("Pod", "shop", "web"), "u", "n2")))
    agents.apply(change(None, Owner(Ref("Node", "", "n2"))))
    assert not agents.on("n2") and not agents.on("")


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (Decision(True, ""), True),
        (Decision(True, "", capture="head"), True),
        (Decision(False, ""), False),
        (Decision(True, "", capture="none"), False),
        (Decision(True, "", egress=()), False),
    ],
)
def test_whose_calls_are_all_told_of(decision, expected):
    assert tells_calls(decision) is expected
