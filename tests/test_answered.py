"""answered.py: what a pod was told of addresses outside of the cluster."""

from __future__ import annotations

import pytest

from clovisor_py import answered as module
from clovisor_py.answered import HOLD_NS, Answered
from clovisor_py.model.workload import Workload
from tests.support.sessions import START, session

IP = "198.51.100.7"


def told(name, *answers, interface=7, start_ns=START):
    attributes = {"dns.question.name": name, "dns.answers": list(answers)}
    return session(protocol="dns", interface=interface, start_ns=start_ns, attributes=attributes)


def after(*sessions, at=START + 1, interface=7):
    names = Answered(lambda namespace, name: (namespace, name) == ("shop", "db"))
    for one in sessions:
        names.learn(one)
    return names.at(interface, IP, at)


def test_the_name_that_was_asked_for():
    assert after(told("API.example.", "real.example", IP)) == Workload("api.example", kind="external")
    assert after(told("api.example", IP), told("api.example", IP)) == Workload("api.example", kind="external")
    assert after(told("api.example", "198.51.100.8")) is None


@pytest.mark.parametrize("name", ["db.shop.svc.cluster.local", "db.shop.svc.cluster.local."])
def test_a_service_that_leads_outside(name):
    assert after(told(name, IP)) == Workload("db", "shop", service="db", kind="service")


@pytest.mark.parametrize("name", ["web.shop.svc.cluster.local", "db.shop.svc", "db.shop.api.example"])
def test_what_only_looks_like_one(name):
    assert after(told(name, IP)).kind == "external"


def test_two_names_are_none_for_as_long_as_both_hold():
    one, other = told("a.example", IP), told("b.example", IP)
    assert after(one, other) is None and after(one, other, one) is None
    later = told("b.example", IP, start_ns=START + HOLD_NS)
    assert after(one, later, at=START + HOLD_NS).name == "b.example"


def test_one_name_that_is_asked_for_alone_gets_the_address_when_the_other_no_longer_holds():
    names, step = Answered(), HOLD_NS // 2
    names.learn(told("a.example", IP))
    for asked in range(1, 4):
        names.learn(told("b.example", IP, start_ns=START + asked * step))
    found = [names.at(7, IP, START + 3 * step + wait) for wait in (0, step)]
    assert [one and one.name for one in found] == ["b.example", "b.example"]
    assert names.at(7, IP, START + 2 * step - 1) is None


def test_a_name_that_is_used_holds_on():
    names = Answered()
    names.learn(told("a.example", IP))
    uses = [START + number * (HOLD_NS - 1) for number in range(9)]
    assert {names.at(7, IP, use) for use in uses} == {Workload("a.example", kind="external")}
    assert names.at(7, IP, uses[0]) is not None, "a session that began earlier and is told later"
    assert names.at(7, IP, uses[-1] + HOLD_NS) is None


def test_a_name_that_is_used_is_one_of_two():
    names = Answered()
    names.learn(told("a.example", IP))
    assert names.at(7, IP, START + HOLD_NS - 1) is not None
    names.learn(told("b.example", IP, start_ns=START + HOLD_NS))
    assert names.at(7, IP, START + HOLD_NS) is None
    assert names.at(7, IP, START + 2 * HOLD_NS - 1).name == "b.example"


def test_what_was_told_again_still_holds_for_what_began_before():
    assert after(told("a.example", IP), told("a.example", IP, start_ns=START + 9), at=START + 5) is not None


def test_an_answer_holds_for_a_while_from_then_on_and_for_its_own_pod():
    one = told("a.example", IP)
    assert after(one, at=START - 1) is None and after(one, at=START + HOLD_NS) is None
    assert after(one, interface=8) is None


@pytest.mark.parametrize("attributes", [{}, {"dns.answers": [IP]}, {"dns.answers": 5, "dns.question.name": "a"}])
def test_what_is_no_answer(attributes):
    assert after(session(attributes=attributes)) is None


def test_a_veth_that_goes_is_forgotten():
    names = Answered()
    names.learn(told("a.example", IP))
    names.forget(7)
    assert names.at(7, IP, START) is None and not names._pods


def test_those_in_use_are_forgotten_last(monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)
    names = Answered()
    names.learn(told("a.example", IP, "198.51.100.1"))
    assert names.at(7, IP, START) is not None
    names.learn(told("b.example", "198.51.100.2"))
    assert list(names._pods[7]) == [IP, "198.51.100.2"]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    names = Answered()
    names.learn(told("a.example", *(f"198.51.100.{number}" for number in range(10))))
    assert (len(names._pods[7]), names.forgotten) == (3, 7)
