"""Reader: what one direction's parser is asked, and when."""

from __future__ import annotations

import struct
from itertools import product

from clovisor_py.flows.open_message import CLOSED
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.flows.sessions import NOT_SEEN, UNSEEN_RESPONSE
from clovisor_py.model.session import Outcome
from tests.support.segments import SECOND, Conversation


def metadata(correlation: int, topic: bytes) -> bytes:
    """A request of Kafka's (Metadata v1), whose topic has one name."""
    body = struct.pack(">hhih", 3, 1, correlation, 2) + b"me" + struct.pack(">ih", 1, len(topic)) + topic
    return struct.pack(">i", len(body)) + body


def answer(correlation: int) -> bytes:
    """No brokers, no controller, no topics."""
    body = struct.pack(">iiii", correlation, 0, -1, 0)
    return struct.pack(">i", len(body)) + body


def test_a_message_whose_last_bytes_passed_unseen_is_over_with_them():
    """Its session comes out with the response, not with the next request."""
    engine = Pipeline(hints={9092: "kafka"})
    talk = Conversation(server_port=9092).handshake()
    talk.client(metadata(1, b"short")).server(answer(1))
    request = metadata(2, b"x" * 200)
    talk.client(request, captured=30).server(answer(2))
    sessions = engine.feed(talk.segments)
    assert [(session.operation, session.status) for session in sessions] == 2 * [("Metadata", "NONE")]
    assert {session.outcome for session in sessions} == {Outcome.OK}
    assert sessions[1].request.bytes == len(request)
    assert sessions[1].duration_ns == talk.step_ns


def test_a_connection_between_two_messages_remembers_nothing_of_any():
    """Also one that was met in its middle, and one that had a message in parts."""
    for met_late, cuts in product((True, False), ([20, 9], None)):
        engine, talk = Pipeline(hints={9092: "kafka"}), Conversation(server_port=9092)
        if not met_late:
            talk.handshake()
        for number in range(3):
            talk.client(metadata(number, b"topic"), chunks=cuts).server(answer(number), chunks=cuts)
        assert len(engine.feed(talk.segments)) == 3
        ((flow, _),) = [(flow, flow.readers) for flow in engine._table.flows.values()]
        assert [reader.open for reader in flow.readers if reader.fast] == [CLOSED, CLOSED]


def test_what_goes_on_after_it_stalled_answers_nothing_else():
    """A client that pipelines asks again meanwhile: that its answer was not seen is said, and the next one is read."""
    engine = Pipeline(hints={6379: "redis"})
    talk = Conversation(server_port=6379).handshake().client(b"MGET a b\r\n").server(b"*2\r\n$1\r\nA\r\n")
    before = len(talk.segments)
    sessions = engine.feed(talk.segments) + engine.tick(talk.now + 60 * SECOND)
    talk.client(b"GET c\r\n").server(b"$1\r\nB\r\n").server(b"-ERR c\r\n").client(b"GET d\r\n").server(b"$1\r\nD\r\n")
    sessions += engine.feed([one._replace(time_ns=one.time_ns + 61 * SECOND) for one in talk.segments[before:]])
    told = [(one.operation, one.outcome, one.attributes.get(UNSEEN_RESPONSE)) for one in sessions]
    assert told == [("MGET", Outcome.TIMEOUT, None), ("GET", Outcome.OK, NOT_SEEN), ("GET", Outcome.OK, None)]
    assert sessions[2].response is not None


def test_what_goes_on_after_it_stalled_is_over_when_it_falls_silent():
    engine = Pipeline(hints={6379: "redis"})
    talk = Conversation(server_port=6379).handshake().client(b"MGET a b\r\n").server(b"*2\r\n$1\r\nA\r\n")
    before, late = len(talk.segments), talk.now + 61 * SECOND
    engine.feed(talk.segments)
    engine.tick(late)
    talk.client(b"GET c\r\n").server(b"$1\r\nB\r\n-ERR c\r\n")
    assert engine.feed([one._replace(time_ns=one.time_ns + 61 * SECOND) for one in talk.segments[before:]]) == []
    [one] = engine.tick(late + 5 * SECOND)
    assert (one.operation, one.attributes[UNSEEN_RESPONSE]) == ("GET", NOT_SEEN)
