"""tracing/joining.py: a call made for a request that carried the same context is its child; anything else is unlinked."""

from __future__ import annotations

import pytest

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.message import Kind, Message
from clovisor_py.model.session import Side, TraceContext
from clovisor_py.model.workload import Endpoint
from clovisor_py.outlet import Outlet
from clovisor_py.tracing import ids
from clovisor_py.tracing.joining import KEEP_NS, NONE, OPEN_NS, SAME, SEVERAL, TOO_OLD, Joining
from clovisor_py.tracing.spans import span_of
from tests.support.segments import MS, Conversation
from tests.support.sessions import START, session

TRACE, PARENT = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7
HEADERS = {"traceparent": f"00-{TRACE:032x}-{PARENT:016x}-01"}
CONTEXT = TraceContext(TRACE, PARENT, "traceparent", True)
HEAD = b"GET / HTTP/1.1\r\n"
SECOND = 1_000_000_000
CALLER = Endpoint("10.0.0.9", 41122)


POD = Endpoint("10.0.0.2", 80)


def begin(join, at=START, seq=1000, interface=7, client=CALLER, headers=HEADERS, server=POD, transport="tcp"):
    message = Message(Kind.REQUEST, propagation=dict(headers), start_ns=at, seq=seq, head=HEAD)
    join.begun(interface, client, server, transport, message)


def served(join, at=START, seq=1000, lasted=100 * MS, **changes):
    """The request of `begin` is answered."""
    fields = {"start_ns": at, "duration_ns": lasted, "seq": seq, "head": HEAD, "trace": CONTEXT}
    one = session(**(fields | changes))
    join.take(one)
    return one


def called(join, at=START + 10 * MS, trace=CONTEXT, **changes):
    """The pod has made a call of its own."""
    fields = {"client": Endpoint("10.0.0.2", 50000), "server": Endpoint("10.0.0.3", 80), "start_ns": at, "trace": trace}
    one = session(side=Side.CLIENT, **(fields | changes))
    join.take(one)
    return one


def test_a_call_with_the_context_of_the_request_being_served_is_its_child():
    join = Joining()
    begin(join)
    call = called(join)
    request = served(join)
    assert call.caller_span == ids.span_id(request, Side.SERVER)
    assert span_of(call).parent_id == span_of(request).span_id
    assert "clovisor.unlinked" not in span_of(call).attributes
    assert (join.joined, join.unlinked) == (1, {})


def test_it_may_end_after_the_request_that_it_was_made_for():
    join = Joining()
    begin(join)
    request = served(join)
    assert called(join).caller_span == ids.span_id(request, Side.SERVER)


@pytest.mark.parametrize("at", [START - 1, START + 100 * MS + 1])
def test_a_request_that_was_not_being_served_then_is_no_parent(at):
    join = Joining()
    begin(join)
    served(join)
    call = called(join, at=at)
    assert (call.caller_span, call.unlinked) == (0, NONE)
    assert span_of(call).parent_id == PARENT
    assert span_of(call).attributes["clovisor.unlinked"] == NONE


def test_two_candidates_are_none():
    join = Joining()
    begin(join)
    begin(join, seq=2000)
    call = called(join)
    assert (call.caller_span, call.unlinked) == (0, SEVERAL)
    served(join)
    assert called(join, at=START + 200 * MS).caller_span  # only one of them is still being served
    assert join.unlinked == {SEVERAL: 1}


@pytest.mark.parametrize(
    "changes",
    [{"trace": TraceContext(TRACE, PARENT + 1, "b3")}, {"trace": TraceContext(TRACE + 1, PARENT, "b3")}, {"interface": 8}],
)
def test_another_context_or_another_pod_is_unlinked(changes):
    join = Joining()
    begin(join)
    assert called(join, **changes).unlinked == NONE


def test_the_same_context_may_be_written_otherwise():
    join = Joining()
    begin(join, headers={"b3": f"{TRACE:032x}-{PARENT:016x}-1"})
    assert called(join).caller_span


def test_without_a_context_nothing_is_joined_or_said():
    join = Joining()
    begin(join, headers={"traceparent": "void"})
    call = called(join, trace=None)
    assert (call.caller_span, call.unlinked, join.unlinked) == (0, "", {})


def test_who_is_asked_is_not_a_caller():
    join = Joining()
    begin(join)
    assert (served(join).caller_span, served(join).unlinked) == (0, "")


def test_a_request_that_is_told_twice_counts_once():
    join = Joining()
    begin(join)
    begin(join)
    assert called(join).caller_span


def test_requests_are_forgotten_a_while_after_their_answer_and_then_nobody_pretends_to_know():
    join = Joining()
    begin(join)
    served(join)
    begin(join, at=START + SECOND + KEEP_NS, seq=5000, headers={"b3": f"{5:032x}-{6:016x}-1"})
    assert called(join).unlinked == TOO_OLD
    assert called(join, at=START + SECOND + KEEP_NS).unlinked == NONE


def test_it_is_bounded_and_counts_what_it_forgets():
    join = Joining(most=100)
    for number in range(1, 1001):
        begin(join, at=START + number, seq=number, headers={"b3": f"{number:032x}-{number:016x}-1"})
    assert (join.forgotten, join._count, len(join._requests)) == (900, 100, 100)
    for number in range(1, 1001):
        served(join, at=START + number, seq=number, trace=TraceContext(number, number, "b3"))
    begin(join, at=START + 2 * KEEP_NS, seq=7)
    assert (join.forgotten, join._count, len(join._requests)) == (900, 1, 1)


def other(number):
    """A context that nobody else has."""
    return {"b3": f"{number:032x}-{number:016x}-1"}


def test_an_answered_request_is_forgotten_before_one_that_is_served():
    join = Joining(most=2)
    begin(join, seq=1)
    for number in range(2, 100):
        begin(join, at=START + number, seq=number, headers=other(number))
        served(join, at=START + number, seq=number, lasted=1, trace=TraceContext(number, number, "b3"))
    assert join.forgotten == 97
    assert called(join).caller_span  # the first, which is still being served


def test_a_call_that_a_forgotten_request_may_have_made_is_joined_to_no_other():
    join = Joining(most=2)
    for number in range(1, 4):
        begin(join, seq=number, headers=HEADERS if number == 1 else other(number))
    begin(join, seq=4)
    call = called(join)
    assert (join.forgotten, call.caller_span, call.unlinked) == (2, 0, TOO_OLD)
    begin(join, seq=5, interface=8)
    assert called(join, interface=8).caller_span  # another pod's requests are its own


def test_requests_forgotten_unanswered_are_over_some_time():
    join = Joining(most=2)
    for number in range(1, 4):
        begin(join, seq=number, headers=other(number))
    later = START + OPEN_NS + SECOND
    begin(join, at=later, seq=9)
    assert called(join, at=later + OPEN_NS + 1).caller_span
    assert called(join, at=later).unlinked == TOO_OLD
    for number in (1, 2, 3):
        served(join, seq=number, trace=TraceContext(number, number, "b3"))
    begin(join, at=later + OPEN_NS + KEEP_NS + SECOND, seq=10, headers=other(10))
    assert not join._horizons
    assert called(join, at=later + OPEN_NS).unlinked == TOO_OLD  # what was so stays so


SIX = "fd00::2"


def test_a_call_from_another_address_behind_the_interface_is_unlinked():
    join = Joining()
    begin(join)
    for ip in ("10.0.0.77", SIX):
        assert called(join, client=Endpoint(ip, 50000)).unlinked == NONE
    assert called(join).caller_span


def test_all_addresses_of_a_pod_are_that_pod():
    join = Joining()
    join.know(7, ["10.0.0.2", SIX])
    begin(join)
    assert called(join, client=Endpoint(SIX, 50000)).caller_span
    assert called(join, client=Endpoint("10.0.0.77", 50000)).unlinked == NONE
    join.forget(7)
    assert called(join, client=Endpoint(SIX, 50000)).unlinked == NONE


def test_the_span_of_a_request_in_a_datagram_is_the_one_that_its_session_becomes():
    join = Joining()
    begin(join, seq=0, transport="udp")
    call = called(join)
    assert call.caller_span == ids.span_id(served(join, seq=0, transport="udp"), Side.SERVER)


def test_one_that_lasts_does_not_keep_the_others():
    join = Joining()
    begin(join)
    for number in range(2, 1000):
        begin(join, at=START + number, seq=number, headers={"b3": f"{number:032x}-{number:016x}-1"})
        served(join, at=START + number, seq=number, trace=TraceContext(number, number, "b3"))
    begin(join, at=START + 2 * KEEP_NS, seq=7, headers={"b3": f"{1:032x}-{1:016x}-1"})
    assert join._count == 2
    assert called(join, at=START + 2 * KEEP_NS + 1).caller_span  # which is still being served


def test_a_context_that_everybody_sends_costs_little_and_joins_nothing():
    join = Joining()
    for number in range(5000):
        begin(join, at=START + number, seq=number)
        served(join, at=START + number, seq=number, lasted=1)
    assert join._count == SAME + 1
    assert called(join, at=START).unlinked == SEVERAL
    begin(join, at=START + 2 * KEEP_NS, seq=7)
    assert called(join, at=START + 2 * KEEP_NS + 1).caller_span


def test_another_capture_is_another_world():
    join = Joining()
    begin(join)
    join.clear()
    assert called(join).unlinked == NONE


# ---- with the engine ----


def through(*talks):
    """The sessions of these connections on one veth, by side."""
    return {one.side: one for one in told_of(*talks)}


def told_of(*talks):
    """All of them, as their segments passed in time."""
    told = []
    outlet = Outlet(told.extend)
    engine = Pipeline(begun=outlet.joining.begun)
    segments = sorted((one for talk in talks for one in talk.segments), key=lambda one: one.time_ns)
    for segment in segments:
        outlet.take(engine.feed([segment]))
    outlet.take(engine.close(segments[-1].time_ns))
    return told


def http(talk, headers, wait=0):
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    talk.handshake().client(f"GET /x HTTP/1.1\r\nHost: x\r\n{head}\r\n").wait(wait)
    return talk.server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").close()


def test_in_and_out_of_one_pod_by_the_engine():
    into = http(Conversation(flow_id="in"), HEADERS, wait=100 * MS)
    out = http(
        Conversation(flow_id="out", pod_is_client=True, client_port=50000, start_ns=into.segments[2].time_ns + MS), HEADERS
    )
    found = through(into, out)
    request, call = span_of(found[Side.SERVER]), span_of(found[Side.CLIENT])
    assert request.trace_id == call.trace_id == TRACE
    assert (request.parent_id, call.parent_id) == (PARENT, request.span_id)


def test_a_call_before_the_request_is_unlinked_by_the_engine_too():
    out = http(Conversation(flow_id="out", pod_is_client=True, client_port=50000), HEADERS)
    into = http(Conversation(flow_id="in", start_ns=out.now), HEADERS)
    assert through(into, out)[Side.CLIENT].unlinked == NONE


def upload(flow_id, port, at, answered=500 * MS):
    """A request whose head comes at once, and whose body takes as long as its answer."""
    head = f"POST /up HTTP/1.1\r\nHost: x\r\ntraceparent: {HEADERS['traceparent']}\r\nTransfer-Encoding: chunked\r\n\r\n"
    talk = Conversation(flow_id=flow_id, start_ns=at, client_port=port).handshake().client(head + "5\r\nhello\r\n")
    return talk.wait(answered)


DONE = "5\r\nhello\r\n0\r\n\r\n"
ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def call_at(at):
    return http(Conversation(flow_id="out", pod_is_client=True, client_port=50000, start_ns=at), HEADERS)


def test_a_request_is_served_from_its_head_on():
    into = upload("in", 40001, START).client(DONE).server(ANSWER)
    found = through(into, call_at(START + 50 * MS))
    assert span_of(found[Side.CLIENT]).parent_id == span_of(found[Side.SERVER]).span_id


def test_a_head_in_pieces_and_a_body_of_known_length():
    head = f"POST /up HTTP/1.1\r\nContent-Length: 6\r\ntraceparent: {HEADERS['traceparent']}\r\n\r\nabc"
    into = Conversation(start_ns=START).handshake().client(head, chunks=[1] * len(head)).wait(500 * MS)
    found = through(into.client("def").server(ANSWER), call_at(START + 300 * MS))
    assert span_of(found[Side.CLIENT]).parent_id == span_of(found[Side.SERVER]).span_id


def test_one_that_is_still_being_sent_is_a_candidate_like_any_other():
    one = upload("in", 40001, START).client(DONE).server(ANSWER)
    two = http(Conversation(flow_id="two", client_port=40002, start_ns=START + 10 * MS), HEADERS, wait=200 * MS)
    assert through(one, two, call_at(START + 50 * MS))[Side.CLIENT].unlinked == SEVERAL


@pytest.mark.parametrize("rest", [["zz\r\n"] * 20, []])
def test_one_whose_end_never_came_is_served_no_more(rest):
    """Broken off, or no HTTP any more: a session says so, and nothing waits for it."""
    one = upload("in", 40001, START)
    for piece in rest:
        one.client(piece).server("?\r\n")
    two = http(Conversation(flow_id="two", client_port=40002, start_ns=one.now + 2 * SECOND), HEADERS, wait=200 * MS)
    out = call_at(two.segments[2].time_ns + MS)
    found = through(one.close(), two, out)
    assert found[Side.CLIENT].caller_span == ids.span_id(found[Side.SERVER], Side.SERVER)
    assert found[Side.SERVER].client.port == 40002


@pytest.mark.parametrize("protocol", ["h2c", "toy"])
def test_an_upload_whose_connection_changed_its_protocol_is_told(protocol):
    head = f"POST /up HTTP/1.1\r\nUpgrade: {protocol}\r\nContent-Length: 9\r\ntraceparent: {HEADERS['traceparent']}\r\n\r\n"
    talk = Conversation(start_ns=START).handshake().client(head + "abc")
    talk.server(f"HTTP/1.1 101 Go\r\nUpgrade: {protocol}\r\n\r\n").client("other").server("things")
    assert [one.truncated for one in told_of(talk.close()) if one.resource == "/up"] == [True]
