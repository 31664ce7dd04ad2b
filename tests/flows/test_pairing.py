"""Pairing: in order and by id, bounded, and never by a guess."""

from __future__ import annotations

import pytest

from clovisor_py.flows.by_id import ById
from clovisor_py.flows.in_order import InOrder
from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.pairing import MAX_PENDING
from clovisor_py.flows.sessions import NOT_SEEN, UNSEEN_RESPONSE, Facts
from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.model.session import Outcome, Side
from clovisor_py.model.workload import Endpoint

FACTS = Facts("toy", Side.SERVER, 1, Endpoint("1.1.1.1", 1), Endpoint("2.2.2.2", 2), "tcp", 0, "flow")


class Bench:
    def __init__(self, kind, **how):
        self.ledger, self.sessions, self.watched = Ledger(), [], []
        self.pairing = kind(FACTS, self.ledger, self.sessions.append, self.watch, **how)

    def watch(self, flow_id, time_ns):
        assert flow_id == "flow"
        self.watched.append(time_ns)

    def ask(self, at, key=None, what="ask", **fields):
        self._take(Message(Kind.REQUEST, what, correlation=key, start_ns=at, end_ns=at, size=1), CLIENT, fields)

    def answer(self, at, key=None, **fields):
        incomplete = fields.pop("incomplete", False)
        message = Message(Kind.RESPONSE, status="fine", correlation=key, start_ns=at, end_ns=at, incomplete=incomplete)
        self._take(message, SERVER, fields)

    def _take(self, message, sender, fields):
        self.pairing.take(message, sender, **fields)

    @property
    def told(self):
        out = [(s.start_ns, s.duration_ns, s.outcome.value) for s in self.sessions]
        self.sessions.clear()
        return out


@pytest.fixture(params=[InOrder, ById])
def bench(request):
    return Bench(request.param)


def test_a_pair(bench):
    bench.ask(10)
    bench.answer(15)
    assert bench.told == [(10, 5, "ok")] and bench.watched == [10]


def test_fresh_messages_make_mid_stream_sessions(bench):
    bench.ask(10, fresh=True)
    bench.answer(15)
    bench.ask(20)
    bench.answer(25, fresh=True)
    assert [s.mid_stream for s in bench.sessions] == [True, True]


def test_pending_requests_are_bounded(bench):
    for number in range(MAX_PENDING + 3):
        bench.ask(number + 1, key=number)
    assert bench.ledger.pending_evicted == 3
    assert [(s.start_ns, s.attributes[UNSEEN_RESPONSE]) for s in bench.sessions] == [(at, NOT_SEEN) for at in (1, 2, 3)]
    assert len(list(bench.pairing.drain())) == MAX_PENDING


def test_what_waits_behind_a_request_that_nobody_answers_is_bounded_too():
    bench = Bench(InOrder)
    bench.ask(1)
    for number in range(MAX_PENDING):
        bench.pairing.take(Message(Kind.SILENT, start_ns=number + 2, end_ns=number + 2), CLIENT)
    assert bench.ledger.pending_evicted == 1 and bench.pairing.oldest_ns == 0
    assert len(bench.sessions) == MAX_PENDING + 1
    bench.answer(MAX_PENDING + 9)
    assert bench.ledger.late_responses == 1


def test_a_request_is_told_of_at_its_head_and_becomes_a_session_whatever_comes(bench):
    heard = []
    bench = Bench(type(bench.pairing), begun=lambda *told: heard.append(told))
    requests = [Message(Kind.REQUEST, str(at), start_ns=at, end_ns=at, propagation={"b3": "0"}) for at in (10, 20, 30)]
    for request in requests:
        bench.pairing.opened(request)
    bench.pairing.take(requests[2], CLIENT)
    bench.answer(40)
    assert [told[-1] for told in heard] == [*requests, requests[2]]
    assert heard[0][:-1] == (FACTS.interface, FACTS.client, FACTS.server, FACTS.transport)
    assert [(s.operation, s.truncated) for s in bench.sessions] == [("10", True), ("20", True), ("30", False)]
    bench.pairing.opened(Message(Kind.REQUEST, "50", start_ns=50, end_ns=50))
    bench.pairing.abandon(60)
    assert [s.operation for s in bench.sessions[3:]] == ["50"]


def test_an_answer_that_came_before_the_end_of_its_request_is_one_session_with_it(bench):
    """Also where the rest of the request is never seen."""
    bench = Bench(type(bench.pairing))
    request = Message(Kind.REQUEST, "10", start_ns=10, end_ns=10)
    bench.pairing.opened(request)
    bench.answer(20)
    bench.pairing.abandon(60)
    [one] = bench.sessions
    assert (one.operation, one.outcome, one.truncated) == ("10", Outcome.OK, True)


def test_timeouts_come_once_and_late_responses_are_counted(bench):
    bench.ask(10, key=1)
    bench.ask(20, key=2)
    bench.pairing.expire(15, 50)
    assert bench.told == [(10, 40, "timeout")]
    bench.pairing.expire(15, 60)
    bench.answer(70, key=1)
    bench.answer(80, key=2)
    assert bench.told == [(20, 60, "ok")] and bench.ledger.late_responses == 1


def test_orphans(bench):
    bench.answer(10, key=9)
    bench.ask(11, key=9)
    bench.answer(12, key=9)
    bench.answer(13, key=9)
    bench.pairing.close(Outcome.CLOSED, 20)
    assert bench.sessions[0].request is None and bench.sessions[0].attributes["clovisor.request"] == "not seen"
    assert bench.told == [(10, 0, "ok"), (11, 1, "ok")] and bench.ledger.orphan_responses == 2


def test_what_was_asked_before_anybody_looked_is_told_by_its_answers(bench):
    bench.answer(1)
    bench.answer(2)
    bench.ask(10)
    assert bench.told == [(1, 0, "ok"), (2, 0, "ok")]
    bench.answer(11)
    assert bench.told == [(10, 1, "ok")]


def test_so_is_what_was_asked_before_by_other_ids():
    bench = Bench(ById)
    bench.answer(1, key=7)
    bench.ask(10, key=8)
    bench.answer(11, key=9)
    bench.pairing.close(Outcome.CLOSED, 20)
    assert bench.told == [(1, 0, "ok"), (10, 10, "closed")] and bench.ledger.orphan_responses == 2


def test_orphans_that_the_kernel_remembers(bench):
    bench.answer(10, key=9, fresh=True, turn_age_ns=4)
    assert bench.told == [(6, 4, "ok")]
    bench.ask(20, key=1)
    bench.answer(21, key=1)
    bench.answer(22, key=9, fresh=True, turn_age_ns=4)
    bench.pairing.close(Outcome.CLOSED, 30)
    assert bench.told == [(20, 1, "ok")] and bench.ledger.orphan_responses == 1


def test_an_answer_may_come_before_the_question_is_complete(bench):
    bench.answer(15)
    bench.ask(10)
    assert bench.told == [(10, 5, "ok")] and bench.ledger.orphan_responses == 0


def test_early_answers_are_bounded():
    bench = Bench(ById)
    for number in range(MAX_PENDING + 3):
        bench.answer(1, key=number)
    assert bench.ledger.orphan_responses == 3


def test_broken_responses_end_as_the_connection_did(bench):
    bench.pairing.note = "why"
    bench.ask(10)
    bench.answer(15, incomplete=True, broken=Outcome.RESET)
    assert bench.sessions[0].truncated and bench.sessions[0].attributes["clovisor.end"] == "why"
    assert bench.told == [(10, 5, "reset")]


def test_a_given_up_flow_tells_its_requests_without_blaming_the_server(bench):
    bench.ask(10)
    bench.pairing.abandon(30)
    assert bench.sessions[0].attributes["clovisor.response"] == "not seen"
    assert bench.told == [(10, 20, "ok")] and bench.ledger.unseen_responses == 1


def test_a_response_older_than_the_request_is_not_its_answer():
    bench = Bench(InOrder)
    bench.ask(10)
    bench.answer(9)
    bench.answer(11)
    bench.pairing.close(Outcome.CLOSED, 30)
    assert bench.told == [(10, 1, "ok")] and bench.ledger.orphan_responses == 1


def test_lost_responses_in_order_take_all_that_waits_with_them():
    bench = Bench(InOrder)
    bench.ask(10)
    bench.ask(11)
    bench.pairing.lose(CLIENT, 15, 20, 5)
    assert bench.told == []
    bench.pairing.lose(SERVER, 15, 20, 5)
    assert [s.gap_bytes for s in bench.sessions] == [5, 0]
    assert bench.told == [(10, 10, "ok"), (11, 9, "ok")]
    bench.ask(14)
    assert bench.sessions[0].attributes["clovisor.response"] == "not seen"


def test_lost_responses_by_id_are_no_timeouts_later():
    bench = Bench(ById)
    bench.ask(10, key=1)
    bench.pairing.lose(SERVER, 15, 15, 0)
    bench.ask(20, key=2)
    bench.pairing.expire(30, 40)
    assert bench.told == [(10, 30, "ok"), (20, 20, "timeout")]


def test_what_passed_unseen_by_id_was_not_cut_short_by_the_connection():
    bench = Bench(ById)
    bench.ask(10, key=1)
    bench.ask(11, key=2)
    bench.pairing.take(Message(Kind.PART, status="fine", correlation=2, start_ns=12, end_ns=12), SERVER)
    bench.pairing.lose(SERVER, 15, 15, 0)
    bench.ask(20, key=3)
    bench.pairing.close(Outcome.CLOSED, 30)
    assert [s.truncated for s in bench.sessions] == [True, True, False]
    assert bench.told == [(11, 1, "ok"), (10, 20, "ok"), (20, 10, "closed")]


def test_an_answer_by_id_that_does_not_end_lasts_until_somebody_gives_up():
    bench = Bench(ById)
    bench.ask(10, key=1)
    bench.pairing.take(Message(Kind.PART, status="fine", correlation=1, start_ns=12, end_ns=12), SERVER)
    bench.pairing.expire(20, 50)
    [one] = bench.sessions
    assert (one.status, one.truncated, one.ttfb_ns) == ("fine", True, 2)
    assert bench.told == [(10, 40, "timeout")]
    bench.answer(60, key=1)
    assert bench.told == [] and bench.ledger.late_responses == 1


def test_an_interim_response_keeps_its_request_alive():
    bench = Bench(InOrder)
    bench.ask(10)
    bench.pairing.take(Message(Kind.INTERIM, end_ns=50), SERVER)
    bench.pairing.expire(40, 60)
    assert bench.told == []
    bench.answer(70)
    assert bench.told == [(10, 60, "ok")]


def test_an_id_that_is_used_again_names_the_newer_request_unless_it_repeats():
    bench = Bench(ById)
    bench.ask(10, key=1)
    bench.ask(11, key=1)
    bench.answer(12, key=1)
    bench.ask(20, key=1, what="one")
    bench.ask(21, key=1, what="other")
    bench.answer(22, key=1)
    assert bench.told == [(11, 0, "one_way"), (10, 2, "ok"), (20, 1, "ok"), (21, 1, "ok")]
    assert (bench.ledger.repeated_requests, bench.ledger.pending_evicted) == (1, 1)


def test_one_direction_blames_nobody(bench):
    bench.pairing.one_direction = True
    bench.ask(10)
    bench.pairing.expire(10, 50)
    assert bench.told == [(10, 40, "one_way")]


def test_requests_that_ask_for_no_answer_keep_their_place_in_the_order():
    bench = Bench(InOrder)
    bench.ask(10)
    silent = Message(Kind.SILENT, start_ns=11, end_ns=11)
    bench.pairing.take(silent, CLIENT)
    bench.ask(12)
    assert bench.told == []
    bench.answer(20)
    assert bench.told == [(10, 10, "ok"), (11, 0, "ok")]
    bench.pairing.take(Message(Kind.SILENT, start_ns=13, end_ns=13), CLIENT)
    bench.pairing.close(Outcome.CLOSED, 30)
    assert bench.told == [(12, 18, "closed"), (13, 0, "ok")]
