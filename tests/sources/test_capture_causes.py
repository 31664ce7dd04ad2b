"""Answers that stand before their questions: put right where TCP proves it, left alone where it does not."""

from __future__ import annotations

import pytest

from clovisor_py.sources._capture_causes import SKEW_NS, in_causal_order
from tests.sources.test_capture_packets import decode
from tests.support.captures import REQUEST, RESPONSE, conversation
from tests.support.disorder import engine
from tests.support.segments import EPOCH, MS

ASKED, ANSWERED = 1001, 5001
HALF = 20
QUESTION = (0, "PA", ASKED, ANSWERED, REQUEST)
ANSWER = (1, "PA", ANSWERED, ASKED + len(REQUEST), RESPONSE)
END = (1, "FA", ANSWERED + len(RESPONSE), ASKED + len(REQUEST), b"")


def taken(*steps, at=None):
    """Segments of a capture with these packets in this order, a millisecond apart."""
    packets = conversation(steps=steps)
    if at is not None:
        packets = [(EPOCH + time_ns, data, wire) for time_ns, (_, data, wire) in zip(at, packets, strict=True)]
    return decode(packets)[0]


@pytest.mark.parametrize(
    "steps",
    [
        (ANSWER, QUESTION),
        (ANSWER, END, QUESTION),
        (ANSWER, (*QUESTION[:4], REQUEST[:HALF]), (0, "PA", ASKED + HALF, ANSWERED, REQUEST[HALF:])),
        (ANSWER, QUESTION, (0, "PA", ASKED + len(REQUEST), ANSWERED + len(RESPONSE), b"")),
    ],
)
def test_an_answer_before_its_question_is_put_behind_it(steps):
    segments = taken(*steps)
    assert [segment.direction for segment in segments if segment.length][-1] == 0  # the server is the pod
    assert [segment.time_ns for segment in segments] == sorted(segment.time_ns for segment in segments)
    (session,), _ = engine(segments)
    assert (session.operation, session.resource, session.status) == ("GET", "/greet", "200")
    assert session.response.time_ns == session.request.time_ns + session.duration_ns
    assert str(session.server) == "10.0.0.2:8080" and session.request.time_ns >= EPOCH + 2 * MS


def test_where_the_question_is_never_whole_nothing_is_lost():
    segments = taken(ANSWER, (*QUESTION[:4], REQUEST[:HALF]))
    assert [segment.length for segment in segments] == [HALF, len(RESPONSE)]
    assert segments[1].time_ns == segments[0].time_ns


@pytest.mark.parametrize(
    "steps",
    [
        (QUESTION, ANSWER),
        (ANSWER, (0, "PA", ASKED + len(REQUEST), ANSWERED + len(RESPONSE), REQUEST)),
        (ANSWER, (0, "PA", ASKED + (1 << 31), ANSWERED, REQUEST)),
        (ANSWER,),
        ((*ANSWER[:1], "P", *ANSWER[2:]), QUESTION),
    ],
)
def test_the_order_of_the_file_holds_where_nothing_speaks_against_it(steps):
    segments = taken(*steps)
    assert [segment.time_ns for segment in segments] == [EPOCH + (1 + index) * MS for index in range(len(steps))]


def test_a_question_that_is_sent_again_does_come_after_its_answer():
    segments = taken(ANSWER, QUESTION, at=(0, SKEW_NS + 1))
    assert [segment.direction for segment in segments] == [0, 1]


def test_connections_seen_from_their_beginning_are_left_alone():
    segments = taken(ANSWER, QUESTION)
    again = [segment._replace(time_ns=segment.time_ns) for segment in reversed(segments)]
    assert in_causal_order(again, set()) is again
