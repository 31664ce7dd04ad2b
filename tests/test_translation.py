"""translation.py: how often the kernel is asked, and what happens when it cannot be."""

from __future__ import annotations

from itertools import count

import pytest

from clovisor_py import translation as module
from clovisor_py.errors import EnvironmentLacking, KernelRefused
from clovisor_py.kernel.conntrack import Entry
from clovisor_py.model.session import Side
from clovisor_py.model.workload import Endpoint
from clovisor_py.translation import AGAIN_S, KEEP_S, LOOK_S, Translation
from tests.support.sessions import session

ONE = session()
FOUND = Entry(ONE.client, ONE.server, ONE.server, ONE.client)


class Table:
    """Answers `answer`, or raises it."""

    def __init__(self, answer=FOUND):
        self.answer, self.asked = answer, []

    def of_client(self, *question):
        return self._say("client", *question)

    def of_server(self, *question):
        return self._say("server", *question)

    def _say(self, *question):
        self.asked.append(question)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def translation(table, addresses=lambda _: {}):
    clock = Clock()
    return Translation(table, addresses, clock), clock


@pytest.mark.parametrize("answer", [FOUND, None])
def test_one_question_a_connection_and_while(answer):
    table = Table(answer)
    one, clock = translation(table)
    for _ in range(5):
        assert one.of(ONE) is answer
    assert table.asked == [("server", ONE.client, ONE.server, "tcp")]
    clock.now += KEEP_S
    assert one.of(ONE) is answer and len(table.asked) == 2
    one.of(session(side=Side.CLIENT))
    one.of(session(client=Endpoint("10.0.0.9", 41123)))
    assert [question[0] for question in table.asked] == ["server", "server", "client", "server"]
    assert (one.asked, one.failed) == (4, 0)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MOST", 10)
    one, _ = translation(Table())
    for port in range(50):
        one.of(session(client=Endpoint("10.0.0.9", port)))
    assert len(one._kept) == 10


def test_a_kernel_that_cannot_answer_is_asked_seldom_and_it_is_said_once(caplog):
    table = Table(EnvironmentLacking("no such table; load it."))
    one, clock = translation(table)
    for port in range(5):
        assert one.of(session(client=Endpoint("10.0.0.9", port))) is None
        clock.now += AGAIN_S / 2
    assert (len(table.asked), one.failed) == (3, 3)
    clock.now += AGAIN_S
    table.answer = FOUND
    assert one.of(ONE) is FOUND  # somebody has loaded it, or permits it now
    (record,) = caplog.records
    assert record.message == "who is behind a Service's address is known less well: no such table; load it."


def test_after_another_failure_it_is_tried_again_later(caplog):
    table = Table(KernelRefused("no memory; wait."))
    one, clock = translation(table)
    for port in range(5):
        assert one.of(session(client=Endpoint("10.0.0.9", port))) is None
    assert len(table.asked) == 1
    clock.now += KEEP_S
    table.answer = FOUND
    assert one.of(ONE) is FOUND
    assert (one.failed, len(caplog.records)) == (1, 1)


def test_own_addresses_are_looked_up_now_and_then(caplog):
    here, looks = {1: ["10.1.0.1"], 2: ["10.2.0.1", "fd00::1"]}, []

    def addresses(_):
        looks.append(1)
        if here is None:
            raise KernelRefused("no; wait.")
        return here

    one, clock = translation(Table(), addresses)
    assert one.is_here("10.1.0.1") and one.is_here("fd00::1") and not one.is_here("10.3.0.1")
    assert len(looks) == 1
    here, clock.now = {3: ["10.3.0.1"]}, clock.now + LOOK_S
    assert one.is_here("10.3.0.1") and not one.is_here("10.1.0.1")
    here, clock.now = None, clock.now + LOOK_S
    assert one.is_here("10.3.0.1")
    assert (one.failed, len(caplog.records)) == (1, 1)


def answers(one, interface, number):
    """How many of so many new connections of a veth are answered."""
    new = [session(client=Endpoint("10.0.0.9", next(PORTS)), interface=interface) for _ in range(number)]
    return sum(one.of(each) is FOUND for each in new)


PORTS = count()


def test_questions_have_a_budget(monkeypatch):
    monkeypatch.setattr(module, "PER_S", 40)
    one, clock = translation(Table())
    for _ in range(3):
        assert answers(one, 1, 100) == 30  # the rest is for others, should they come
        clock.now += 1
    assert (one.asked, one.skipped) == (90, 210)


def test_one_chatty_pod_leaves_the_others_their_share(monkeypatch):
    monkeypatch.setattr(module, "PER_S", 40)
    one, clock = translation(Table())
    for _ in range(3):
        assert answers(one, 1, 100) >= 20
        assert [answers(one, interface, 3) for interface in (2, 3, 4)] == [3, 3, 3]
        clock.now += 1
    assert one.asked <= 3 * 40


def test_however_many_pods_there_are_the_budget_holds(monkeypatch):
    monkeypatch.setattr(module, "PER_S", 40)
    one, clock = translation(Table())
    for _ in range(3):
        assert sum(answers(one, interface, 3) for interface in range(100)) == 40
        clock.now += 1
