"""Pipeline: conversations in, sessions out, and every segment accounted for."""

from __future__ import annotations

from collections import Counter

import pytest

from clovisor_py.errors import UsageError
from clovisor_py.flows.connection import Counted
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.segment import ACK, CONTINUED, RETRANSMITTED
from clovisor_py.model.session import Outcome, Part
from tests.support.segments import MS, SECOND, Conversation, recut
from tests.support.toy_protocol import LINES, TOYS


def pipeline(**settings):
    return Pipeline(protocols=settings.pop("protocols", TOYS), **settings)


def balanced(engine):
    book = engine.ledger
    held = sum(p.weight for flow in engine._table.flows.values() for stream in flow.streams for p in stream.held)
    return book.payload == book.parsed + book.duplicates + book.opaque + book.late + held


def run(talk, *, until=0, **settings):
    engine = pipeline(**settings)
    sessions = engine.feed(talk.segments) + engine.close(talk.now + until)
    assert balanced(engine)
    return sessions, engine.ledger


def said(sessions):
    return [(s.operation, s.resource, s.status, s.outcome.value) for s in sessions]


# ---- the ordinary case ----


def test_one_session_in_full():
    talk = Conversation(client_seq=77).handshake().client("ask x\n").server("ok y 20\n" + "b" * 20, chunks=[8, 10]).close()
    (session,), ledger = run(talk)
    assert said([session]) == [("ask", "x", "ok", "ok")]
    assert (session.protocol, session.side.value, session.interface, session.transport) == ("lines", "server", 7, "tcp")
    assert (str(session.client), str(session.server)) == ("10.0.0.1:40000", "10.0.0.2:8080")
    assert (session.duration_ns, session.ttfb_ns) == (3 * MS, MS)
    assert session.request == Part(session.start_ns, 6) and session.response == Part(session.start_ns + MS, 28)
    assert (session.seq, session.head) == (78, b"ask x\n")
    assert session.attributes == {"toy.question": "x", "toy.answer": "y"}
    assert not (session.truncated or session.gap_bytes or session.mid_stream)
    assert (ledger.messages, ledger.sessions, ledger.flows_closed, ledger.controls) == (2, 1, 1, 4)


def test_a_session_comes_out_with_the_last_byte_of_its_response():
    engine = pipeline()
    talk = Conversation().handshake().client("ask x\n").server("ok y 4\nabcd", chunks=[9])
    assert engine.feed(talk.segments[:-1]) == []
    assert len(engine.feed(talk.segments[-1:])) == 1


def test_the_pod_as_client():
    (session,), _ = run(Conversation(pod_is_client=True).handshake().client("ask x\n").server("no y\n"))
    assert (session.side.value, session.outcome, session.failed) == ("client", Outcome.ERROR, True)
    assert (str(session.client), str(session.server)) == ("10.0.0.2:40000", "10.0.0.1:8080")


def test_pipelined_requests_pair_in_order():
    sessions, _ = run(Conversation().handshake().client("ask a\nask b\nask c\n").server("ok 1\nwait\nno 2\n").server("ok 3\n"))
    assert [(s.resource, s.attributes["toy.answer"], s.outcome.value) for s in sessions] == [
        ("a", "1", "ok"), ("b", "2", "error"), ("c", "3", "ok"),
    ]  # fmt: skip
    assert [s.seq for s in sessions] == [1001, 1007, 1013]


def test_by_id_pairs_in_any_order():
    sessions, ledger = run(Conversation().handshake().client("#1 ask a\n#2 ask b\n").server("#2 ok\n#9 ok\n").server("#1 ok\n"))
    assert [s.resource for s in sessions] == ["b", "a"]
    assert (sessions[0].protocol, ledger.orphan_responses) == ("ids", 1)


def test_one_way_messages_are_sessions():
    sessions, _ = run(Conversation().handshake().client("note a\n").server("note b\n"))
    assert said(sessions) == [("note", "a", "", "one_way"), ("note", "b", "", "one_way")]
    assert [(s.request is None, s.response is None) for s in sessions] == [(False, True), (True, False)]


def test_head_is_the_same_however_the_bytes_were_cut():
    body = "ask x 100\n" + "0123456789" * 10
    whole, _ = run(Conversation().handshake().client(body).server("ok\n"))
    parts, _ = run(Conversation().handshake().client(body, chunks=[3, 9, 1, 30]).server("ok\n"))
    assert whole[0].head == parts[0].head == body.encode()[:64]
    assert whole[0].request.bytes == parts[0].request.bytes == 110


# ---- hints ----


def test_a_hint_that_the_bytes_deny_is_given_up_and_the_bytes_decide():
    talk = Conversation().handshake().client("ask a\n").server("ok a\n").client("ask b\n").server("ok b\n").close()
    sessions, ledger = run(talk, hints={8080: "ids"})
    assert [(s.protocol, s.resource) for s in sessions] == [("lines", "a"), ("lines", "b")]
    assert (ledger.hints_refuted, ledger.violations) == (1, 0)


def test_a_hint_that_is_wrong_about_what_nobody_can_read_leaves_a_session():
    talk = Conversation().handshake().client(b"\x00" * 9).server(b"\x01" * 7).close()
    (whole,), ledger = run(talk, hints={8080: "ids"})
    assert (whole.protocol, whole.resource) == ("tcp", "hinted ids, but its bytes are not")
    assert (whole.request.bytes, whole.response.bytes) == (9, 7)
    assert ledger.unparsed == {(8080, "hinted ids, but its bytes are not"): 1}


def test_a_hint_that_was_wrong_in_the_middle_leaves_a_session_too():
    talk = Conversation().client("ask a\n").server("ok a\n").client("ask b\n").server("ok bcd\n").close()
    (whole,), ledger = run(talk, hints={8080: "whole"})
    assert ledger.unparsed == {(8080, "not what it was taken for"): 1}
    assert (whole.protocol, whole.resource, whole.status) == ("tcp", "not what it was taken for", "closed")
    assert (whole.request.bytes, whole.response.bytes) == (12, 12)
    assert whole.mid_stream and whole.duration_ns == talk.now - talk.segments[0].time_ns


# ---- what networks do ----


def test_retransmissions_change_nothing():
    talk = Conversation().handshake().client("ask x\n").server("ok y\n")
    again = [s._replace(time_ns=s.time_ns + SECOND, flags=RETRANSMITTED) for s in talk.segments[2:]]
    talk.segments += again
    (session,), ledger = run(talk)
    assert session.duration_ns == MS and ledger.duplicates == 2


def test_a_lost_response_is_said_to_be_unseen_and_the_next_one_pairs():
    talk = Conversation().handshake().client("ask a\n").server("ok a\n", lost=True).client("ask b\n").server("ok b\n").close()
    (first, second), ledger = run(talk)
    assert said([first, second]) == [("ask", "a", "", "ok"), ("ask", "b", "ok", "ok")]
    assert first.truncated and first.gap_bytes == 5 and first.attributes["clovisor.response"] == "not seen"
    assert second.mid_stream and second.attributes["toy.answer"] == "b"
    assert (ledger.unseen_responses, ledger.gap_bytes) == (1, 5)


def test_a_lost_request_leaves_an_orphan():
    talk = Conversation().handshake().client("ask a\n").server("ok a\n").client("ask b\n", lost=True).server("ok b\n")
    sessions, ledger = run(talk.client("ask c\n").server("ok c\n"))
    assert [s.attributes["toy.answer"] for s in sessions] == ["a", "c"]
    assert ledger.orphan_responses == 1


def test_lost_bytes_inside_a_body_are_its_gap():
    talk = (
        Conversation().handshake().client("ask a\n").server("ok a 30\n" + "x" * 10).server("x" * 10, lost=True).server("x" * 10)
    )
    session = run(talk.client("ask b\n"))[0][0]
    assert session.gap_bytes == 10 and session.response.bytes == 38 and session.outcome is Outcome.OK


def test_cut_bytes_inside_a_body_are_no_loss():
    (session,), ledger = run(Conversation().handshake().client("ask a\n").server("ok a 30\n" + "x" * 30, captured=10))
    assert (session.gap_bytes, session.response.bytes, session.truncated) == (0, 38, False)
    assert ledger.cut_bytes == 28 and ledger.gap_bytes == 0


def test_a_response_cut_before_its_end_is_known_ends_with_the_turn():
    talk = Conversation().handshake().client("ask a\n").server("ok a 5\nhellook b 9", captured=3)
    talk.client("ask b\n").server("no b\n")
    sessions, _ = run(talk)
    assert [s.attributes.get("toy.answer") for s in sessions] == [None, "b"]
    assert sessions[0].truncated and sessions[0].gap_bytes == 0


def test_a_body_to_the_end_of_the_connection_may_have_holes():
    talk = Conversation().handshake().client("ask a\n").server("ok a *\nabc").server("def", lost=True).server("ghi").fin(1)
    (session,), _ = run(talk)
    assert (session.outcome, session.response.bytes, session.gap_bytes, session.truncated) == (Outcome.OK, 16, 3, False)


def test_a_long_body_is_skipped_without_a_copy_and_the_kernel_is_told():
    told = []

    class Kernel:
        def capture(self, flow_id, mode):
            told.append(mode)

        def skip_until(self, flow_id, direction, seq):
            told.append((direction, seq))

    talk = Conversation().handshake().client("ask a\n").server("ok a 100000\n" + "x" * 100000, chunks=[1448] * 69)
    (session,), _ = run(talk, control=Kernel())
    assert session.response.bytes == 100012
    assert told == ["head", (0, 5001 + 100012)]


def test_a_segment_in_several_pieces_counts_once():
    talk = Conversation().handshake().client("ask a 10\n0123456789").server("ok\n")
    first, rest = recut(talk.segments.pop(2), 12)
    talk.segments[2:2] = [first, rest._replace(flags=CONTINUED)]
    (session,), ledger = run(talk)
    assert session.request.bytes == 19 and (ledger.payload, ledger.pieces) == (2, 1)


# ---- ends and times ----


@pytest.mark.parametrize(("ending", "outcome"), [("close", "closed"), ("rst", "reset"), ("none", "closed")])
def test_a_request_that_the_connection_does_not_survive(ending, outcome):
    talk = Conversation().handshake().client("ask a\n")
    {"close": lambda: talk.fin(1), "rst": lambda: talk.rst(1), "none": lambda: None}[ending]()
    (session,), _ = run(talk)
    assert said([session]) == [("ask", "a", "", outcome)]
    assert session.attributes.get("clovisor.end") == ("still open when tracing ended" if ending == "none" else None)


@pytest.mark.parametrize(("ending", "outcome"), [("close", "closed"), ("rst", "reset")])
def test_a_response_that_is_cut_short(ending, outcome):
    talk = Conversation().handshake().client("ask a\n").server("ok a 100\nabc")
    talk.rst(1) if ending == "rst" else talk.close()
    (session,), _ = run(talk)
    assert said([session]) == [("ask", "a", "ok", outcome)] and session.truncated


def test_a_client_may_close_its_half_before_the_answer():
    sessions, _ = run(Conversation().handshake().client("ask a\n").fin(0).server("ok a\n").fin(1))
    assert said(sessions) == [("ask", "a", "ok", "ok")]


def test_a_timeout_is_told_once_and_its_late_response_goes_to_nobody():
    engine = pipeline(request_timeout_s=30)
    talk = Conversation().handshake().client("ask a\n")
    engine.feed(talk.segments)
    assert engine.tick(talk.now + 29 * SECOND) == []
    (session,) = engine.tick(talk.now + 31 * SECOND)
    assert session.outcome is Outcome.TIMEOUT and session.duration_ns == 31 * SECOND
    late = talk.wait(32 * SECOND).client("ask b\n").server("ok a\nok b\n").segments[3:]
    assert [(s.resource, s.attributes["toy.answer"]) for s in engine.feed(late)] == [("b", "b")]
    assert engine.ledger.late_responses == 1


def test_a_response_on_its_way_is_no_timeout():
    engine = pipeline(request_timeout_s=10)
    talk = Conversation(step_ns=4 * SECOND).handshake().client("ask a\n").server("ok a 50\n" + "x" * 50, chunks=[18] + [10] * 4)
    out = []
    for segment in talk.segments:
        out += engine.feed([segment]) + engine.tick(segment.time_ns)
    assert said(out) == [("ask", "a", "ok", "ok")] and out[0].duration_ns == 20 * SECOND


def test_close_reports_old_requests_as_timeouts():
    assert run(Conversation().handshake().client("ask a\n"), until=31 * SECOND)[0][0].outcome is Outcome.TIMEOUT


def test_holes_expire_at_a_tick():
    engine = pipeline()
    talk = Conversation().handshake().client("ask a 20\n0123456789").client("01234", lost=True).client("56789")
    engine.feed(talk.segments)
    assert engine.tick(talk.now + SECOND // 2) == [] and engine.ledger.gaps == 0
    engine.tick(talk.now + SECOND)
    assert engine.ledger.gap_bytes == 5 and engine.ledger.messages == 1


def test_an_unseen_end_is_reported_when_it_falls_silent():
    engine = pipeline(protocols={"lines": LINES})
    talk = Conversation().handshake().client("ask a\n").server("ok a 9\nabcdefghiok b", captured=2)
    assert engine.feed(talk.segments) == [] == engine.tick(talk.now + 1 * SECOND)
    (session,) = engine.tick(talk.now + 5 * SECOND)
    assert session.truncated


def test_idle_flows_are_forgotten_and_come_back_in_their_middle():
    engine = pipeline(flow_idle_s=60)
    talk = Conversation().handshake().client("ask a\n").server("ok a\n")
    engine.feed(talk.segments)
    engine.tick(talk.now + 59 * SECOND)
    assert engine.flows == 1
    engine.tick(talk.now + 61 * SECOND)
    assert engine.flows == 0 and engine.ledger.flows_expired == 1
    back = talk.wait(70 * SECOND).client("ask b\n").server("ok b\n").segments[4:]
    (session,) = engine.feed(back)
    assert session.mid_stream and engine.ledger.flows_mid_stream == 1


def test_the_flow_silent_longest_is_evicted():
    engine = pipeline(max_flows=2)
    talks = [Conversation(flow_id=i, start_ns=i * SECOND + SECOND).handshake().client("ask a\n") for i in range(3)]
    sessions = [s for talk in talks for s in engine.feed(talk.segments)]
    assert engine.flows == 2 and engine.ledger.flows_evicted == 1
    assert said(sessions) == [("ask", "a", "", "closed")] and "too many" in sessions[0].attributes["clovisor.end"]


def test_late_segments_do_not_reopen_a_closed_flow():
    engine = pipeline()
    talk = Conversation().handshake().client("ask a\n").server("ok a\n").close()
    engine.feed(talk.segments)
    engine.feed([talk.segments[3]])
    assert (engine.flows, engine.ledger.late) == (0, 1)
    assert balanced(engine)
    engine.tick(talk.now + 3 * SECOND)
    engine.feed([talk.segments[3]])
    assert engine.flows == 1


# ---- beginnings in the middle ----


def test_a_response_whose_request_was_before_us():
    talk = Conversation().server("ok a\n", turn_age_ns=5 * MS).client("ask b\n").server("ok b\n")
    (first, second), ledger = run(talk)
    assert (first.operation, first.resource, first.request) == ("unknown", "", None)
    assert (first.start_ns, first.ttfb_ns) == (first.response.time_ns - 5 * MS, 5 * MS)
    assert first.mid_stream and first.attributes["clovisor.request"] == "not seen"
    assert said([second]) == [("ask", "b", "ok", "ok")] and ledger.orphan_responses == 0


def test_without_the_kernels_memory_it_is_an_orphan():
    (session,), ledger = run(Conversation().server("ok a\n"))
    assert (session.operation, session.status, session.request) == ("unknown", "ok", None)
    assert session.mid_stream and ledger.orphan_responses == 1


def test_attached_in_the_middle_of_a_body():
    talk = Conversation().server("middle of some body").server("and its end").client("ask b\n").server("ok b\n")
    session = run(talk.client("ask c\n").server("ok c\n"))[0][0]
    assert said([session]) == [("ask", "b", "ok", "ok")] and session.mid_stream and session.side.value == "server"


def test_a_flow_of_which_one_direction_passes_here_says_so():
    talk = Conversation().handshake().client("ask a\n").client("ask b\n")
    talk.segments = [s for s in talk.segments if s.direction == talk.directions[0]]
    sessions, ledger = run(talk, until=31 * SECOND)
    assert said(sessions) == [("ask", "a", "", "one_way"), ("ask", "b", "", "one_way")]
    assert sessions[0].attributes["clovisor.seen"] == "one direction" and ledger.flows_one_direction == 1


# ---- datagrams ----


def test_datagrams_are_messages_of_their_own():
    talk = Conversation(udp=True).client("#1 ask a\n").client("#1 ask a\n").client("#2 ask b 99\nxx").server("#1 ok\n")
    sessions, ledger = run(talk)
    assert said(sessions[:2]) == [("ask", "a", "", "one_way"), ("ask", "a", "ok", "ok")] and sessions[1].duration_ns == 3 * MS
    assert sessions[0].attributes["clovisor.repeated"] is True
    assert (sessions[1].transport, sessions[1].seq, ledger.repeated_requests) == ("udp", 0, 1)
    assert sessions[2].resource == "b" and sessions[2].truncated


def test_datagram_flows_end_by_themselves():
    engine = pipeline(request_timeout_s=2)
    talk = Conversation(udp=True).client("#1 ask a\n").server("#1 ok\n")
    engine.feed(talk.segments)
    engine.tick(talk.now + 3 * SECOND)
    assert engine.flows == 0


# ---- what is not understood ----


def test_unknown_bytes_make_an_opaque_flow_that_is_only_counted():
    told = []

    class Kernel:
        def capture(self, flow_id, mode):
            told.append((flow_id, mode))

        def counted(self, connection):
            return (Counted(7, 2, 2, 1, 0, 0, 0), Counted(3, 1, 1, 0, 4, 500, 1)) if connection.flow_id == "flow" else None

    engine = pipeline(control=Kernel())
    talk = Conversation(server_port=443).handshake().client(b"\x16\x03\x01hello").server(b"\x16\x03\x03").client(b"x").close()
    (whole,) = engine.feed(talk.segments) + engine.close(talk.now)
    assert (whole.protocol, whole.resource, whole.status, whole.outcome.value) == ("tcp", "unknown protocol", "closed", "ok")
    assert whole.connection and (whole.request.bytes, whole.response.bytes) == (3, 7), "the kernel saw more than came up"
    assert whole.attributes["clovisor.client.zero_windows"] == 4
    assert told == [("flow", "none")] and balanced(engine)
    assert engine.unparsed() == [(443, "unknown protocol", 1)] and engine.ledger.opaque == 2
    assert engine.ledger.as_dict()["unparsed"] == {"443 unknown protocol": 1}


def test_hints_come_before_bytes():
    sessions, _ = run(Conversation(server_port=9).handshake().client("note x\n").server("ok\n"), hints={9: "by-line"})
    assert sessions[0].protocol == "lines"
    with pytest.raises(UsageError, match="known here: lines, ids, whole"):
        pipeline(hints={9: "nothing"})


def test_a_violation_loses_the_turn_not_the_flow():
    talk = Conversation().handshake().client("ask a\n").server("rubbish\n").client("ask b\n").server("ok b\n")
    sessions, ledger = run(talk)
    assert [s.attributes.get("toy.answer") for s in sessions] == [None, "b"]
    assert (ledger.violations, ledger.resyncs) == (1, 1)


def test_by_id_reading_goes_on_in_the_same_bytes():
    talk = Conversation().handshake().client("#1 ask a\n#2 ask b\n").server("#1 ok\nrubbish\n#2 ok\n")
    sessions, ledger = run(talk)
    assert [s.resource for s in sessions] == ["a", "b"] and ledger.violations == 1


def test_too_many_violations_give_the_flow_up():
    talk = Conversation().handshake().client("ask a\n").server("ok a\n")
    for _ in range(20):
        talk.client("rubbish\n").server("rubbish\n")
    sessions, ledger = run(talk)
    assert [s.protocol for s in sessions] == ["lines", "tcp"] and ledger.flows_unparsed == 1 and ledger.opaque
    assert sessions[1].resource == "no message begins where one should"


class Broken:
    """Does what no parser may, when told to."""

    def __init__(self, how):
        self.how = how

    def parse(self, sender, cursor):
        return self.how(cursor)

    def gap(self, sender, size):
        raise KeyError("gap")

    def end(self, sender):
        raise KeyError("end")

    def resync(self, sender, data):
        raise KeyError("resync")


def backwards(cursor):
    cursor.pos -= 1


def endless(cursor):
    from clovisor_py.model.message import Kind, Message

    return Message(Kind.ONE_WAY)


def crash(cursor):
    raise ZeroDivisionError


@pytest.mark.parametrize("how", [backwards, endless, crash, lambda cursor: None])
def test_a_broken_parser_ends_with_its_flow(how):
    from dataclasses import replace

    broken = replace(LINES, parser=lambda _setup: Broken(how))
    engine = pipeline(protocols={"lines": broken})
    engine.feed(Conversation().handshake().client("ask a\n").server("ok a\n").client("x" * 10, captured=3).close().segments)
    assert engine.ledger.parser_crashes == 1 and balanced(engine)
    assert engine.flows == 0
    engine.feed(Conversation(flow_id=2).handshake().client("ask a\n").segments)
    engine.close(0)
    assert engine.ledger.flows_opened == 2


def test_unread_bytes_are_bounded():
    talk = Conversation().handshake().client("ask a\n").server("ok a\n")
    greedy = Broken(lambda cursor: None)
    greedy.end = lambda sender: None
    from dataclasses import replace

    for _ in range(300):
        talk.client("x" * 1000)
    _, ledger = run(talk, protocols={"lines": replace(LINES, parser=lambda _setup: greedy)})
    assert ledger.buffer_overflows == 1 == ledger.violations


def test_what_ends_in_the_middle_of_a_message_is_counted():
    talk = Conversation().handshake().client("ask a\n").server("ok a\n").client("ask b")
    sessions, ledger = run(talk.close())
    assert (len(sessions), ledger.unread_bytes) == (1, 5)


def test_tick_costs_nothing_for_flows_that_wait_for_nothing():
    engine = pipeline()
    for number in range(50):
        engine.feed(Conversation(flow_id=number).handshake().client("ask a\n").server("ok a\n").segments)
    engine.tick(Conversation().now + 40 * SECOND)
    assert len(engine._agenda) == 0 and engine.flows == 50


def test_control_packets_of_unknown_flows_open_nothing():
    engine = pipeline()
    engine.feed(Conversation().fin(0).rst(1).segments)
    assert (engine.flows, engine.ledger.controls) == (0, 2)


def test_counts_of_a_mixed_bag():
    talk = Conversation().handshake().client("ask a\n").server("ok a\n").close()
    _, ledger = run(talk)
    assert Counter(s.tcp_flags & ACK for s in talk.segments)[ACK] == 5
    assert (ledger.payload, ledger.parsed, ledger.controls) == (2, 2, 4)


@pytest.mark.parametrize("stops", ["..", "....."])
@pytest.mark.parametrize("chunks", [[5 + 2], [5 + 1], [5], None])
def test_bytes_that_belong_to_no_message_begin_none(stops, chunks):
    talk = Conversation().handshake().client("ask a\n").server("ok a\n" + stops, chunks=chunks).client(".")
    talk.wait(SECOND).client("ask b\n").server("ok b\n", chunks=[2])
    sessions, _ = run(talk.close())
    assert [(s.resource, s.status, s.request.bytes, s.response.bytes) for s in sessions] == [
        ("a", "ok", 6, 5),
        ("b", "ok", 6, 5),
    ]
    assert (sessions[1].ttfb_ns, sessions[1].duration_ns) == (MS, 2 * MS)
