"""Reader: what one direction's parser is asked, and when."""

from __future__ import annotations

import struct

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.session import Outcome
from tests.support.segments import Conversation


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
