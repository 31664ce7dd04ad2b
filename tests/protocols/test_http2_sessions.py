"""HTTP/2 and gRPC all the way through the engine: whose time begins where, what is told when it breaks, and an Upgrade."""

from __future__ import annotations

import pytest

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.session import Outcome, Session
from clovisor_py.protocols import _http2_frames as frames
from clovisor_py.protocols import grpc, http, http2
from tests.support.segments import MS, Conversation

pytest.importorskip("h2")

from tests.support import http2 as wire
from tests.support.http2 import REQUEST_FIELDS, block

PROTOCOLS = {protocol.name: protocol for protocol in (http.PROTOCOL, http2.PROTOCOL, grpc.PROTOCOL)}
ASK = block(*REQUEST_FIELDS)
AGAIN = b"\x82\x86\xbf\xbe"
"""The same request, when all of it is in the table."""
OK = b"\x88"
CALL = block((":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), ("content-type", "application/grpc"))
STATUS = block(("grpc-status", "0"))


def opened() -> Conversation:
    talk = Conversation().handshake()
    return talk.client(frames.PREFACE + wire.settings()).server(wire.settings((3, 100)))


def sessions(talk: Conversation) -> list[Session]:
    pipeline = Pipeline(protocols=PROTOCOLS)
    done = pipeline.feed(talk.segments) + pipeline.close(talk.now)
    assert not pipeline.ledger.violations
    assert not pipeline.ledger.parser_crashes
    return done


def told(talk: Conversation) -> list[tuple[str, str, str, str, Outcome]]:
    return [(s.protocol, s.operation, s.resource, s.status, s.outcome) for s in sessions(talk)]


def test_a_session_begins_with_its_headers_not_with_what_the_connection_says() -> None:
    talk = opened().client(wire.WINDOW_UPDATE + wire.PING).wait(50 * MS)
    talk.client(wire.PING + wire.headers(1, ASK, end=True))
    asked = talk.now
    talk.server(wire.WINDOW_UPDATE).wait(50 * MS).server(wire.headers(1, OK))
    answered = talk.now
    talk.server(wire.PING).wait(5 * MS).server(wire.data(1, b"x" * 90)).server(wire.data(1, b"y", end=True))
    (session,) = sessions(talk)
    assert session.request is not None
    assert session.response is not None
    assert (session.start_ns, session.ttfb_ns, session.duration_ns) == (asked, answered - asked, talk.now - asked)
    assert (session.request.bytes, session.response.bytes) == (9 + len(ASK), 10 + 99 + 10)
    assert session.head == wire.headers(1, ASK, end=True)[:64]


def test_exchanges_interleave() -> None:
    talk = opened().client(wire.headers(1, ASK) + wire.headers(3, CALL)).client(wire.data(3, b"\0\0\0\0\1x", end=True))
    talk.server(wire.headers(3, OK)).client(wire.data(1, b"body", end=True)).server(
        wire.headers(1, b"\x8d") + wire.data(3, b"")
    )
    talk.server(wire.data(1, b"none", end=True) + wire.headers(3, STATUS, end=True))
    assert told(talk) == [
        ("http", "GET", "/items", "404", Outcome.ERROR),
        ("grpc", "a.B/C", "/a.B/C", "OK", Outcome.OK),
    ]


def test_a_large_body_is_stepped_over() -> None:
    talk = opened().client(wire.headers(1, ASK, end=True)).server(wire.headers(1, OK) + wire.data(1, bytes(16384)) * 9)
    talk.server(wire.data(1, bytes(16000)), chunks=[1400] * 11, captured=100).server(wire.data(1, end=True))
    (session,) = sessions(talk)
    assert (session.status, session.outcome, session.truncated) == ("200", Outcome.OK, False)
    assert session.attributes["http.response.body.size"] == 9 * 16384 + 16000


@pytest.mark.parametrize(("end", "outcome"), [("fin", Outcome.CLOSED), ("rst", Outcome.RESET)])
def test_a_connection_that_ends_in_a_response_still_tells_its_status(end: str, outcome: Outcome) -> None:
    talk = opened().client(wire.headers(1, ASK, end=True)).server(wire.headers(1, OK) + wire.data(1, b"x" * 100)[:40])
    talk = talk.fin(1) if end == "fin" else talk.rst(1)
    (session,) = sessions(talk)
    assert (session.status, session.outcome, session.truncated) == ("200", outcome, True)


def test_a_reset_by_the_client_ends_the_session_then() -> None:
    talk = opened().client(wire.headers(1, ASK, end=True)).wait(9 * MS).client(wire.rst(1)).server(wire.data(1, b"late"))
    (session,) = sessions(talk)
    assert (session.status, session.outcome, session.duration_ns) == ("CANCEL", Outcome.ERROR, 10 * MS)


def test_a_pushed_response_is_a_session() -> None:
    promise = wire.frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\2" + ASK)
    talk = opened().client(wire.headers(1, ASK, end=True)).server(promise + wire.headers(1, OK, end=True))
    talk.server(wire.headers(2, OK) + wire.data(2, b"pushed", end=True))
    assert told(talk) == [("http", "GET", "/items", "200", Outcome.OK)] * 2


def test_after_an_upgrade_stream_1_answers_the_request_of_http_1() -> None:
    upgrade = (
        "GET /first HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
    )
    talk = Conversation().handshake().client(upgrade)
    talk.server("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    talk.server(wire.settings((3, 100)) + wire.headers(1, OK) + wire.data(1, b"one", end=True))
    talk.client(frames.PREFACE + wire.settings() + wire.headers(3, ASK, end=True)).server(wire.headers(3, OK, end=True))
    done = sessions(talk)
    assert [(s.operation, s.resource, s.status) for s in done] == [("GET", "/first", "200"), ("GET", "/items", "200")]
    assert {s.attributes["network.protocol.version"] for s in done} == {"2"}


def test_from_the_middle_of_a_connection() -> None:
    talk = opened().client(wire.headers(1, ASK, end=True)).server(wire.headers(1, OK, end=True))
    talk.client(wire.headers(3, AGAIN, end=True)).server(wire.headers(3, OK, end=True))
    del talk.segments[:6]
    (session,) = sessions(talk)
    assert (session.operation, session.resource, session.status, session.mid_stream) == ("GET", "", "200", True)
    assert session.attributes["clovisor.http.unknown_headers"] == 2


def test_after_a_loss_the_next_exchange_is_read_again() -> None:
    talk = (
        opened().client(wire.headers(1, ASK, end=True)).server(wire.headers(1, OK)).server(wire.data(1, b"x" * 500), lost=True)
    )
    talk.server(wire.data(1, b"y", end=True)).client(wire.headers(3, AGAIN, end=True)).server(wire.headers(3, OK, end=True))
    pipeline = Pipeline(protocols=PROTOCOLS)
    done = pipeline.feed(talk.segments) + pipeline.tick(talk.now + 10_000 * MS) + pipeline.close(talk.now + 10_000 * MS)
    assert ("/items", "200", Outcome.OK) in [(s.resource, s.status, s.outcome) for s in done]
    assert pipeline.ledger.resyncs


def test_a_long_body_goes_on_behind_a_loss() -> None:
    """Its frames are known by their stream, also one at a time; the end is seen, and the size is not claimed."""
    talk = opened().client(wire.headers(1, ASK, end=True)).server(wire.headers(1, OK))
    talk.server(wire.data(1, b"x" * 5000), lost=True).server(bytes(3000) + wire.data(1, b"y" * 8000))
    for _ in range(100):
        talk.server(wire.data(1, bytes(8000)))
    talk.server(wire.data(1, b"z", end=True)).client(wire.headers(3, AGAIN, end=True)).server(wire.headers(3, OK, end=True))
    pipeline = Pipeline(protocols=PROTOCOLS)
    done = pipeline.feed(talk.segments) + pipeline.close(talk.now)
    assert [(s.status, s.outcome, s.truncated) for s in done] == [("200", Outcome.OK, True), ("200", Outcome.OK, False)]
    assert "http.response.body.size" not in done[0].attributes
    assert not pipeline.ledger.unparsed


def test_a_violation_behind_frames_of_nobody_is_survived() -> None:
    talk = opened().client(wire.PING + wire.frame(frames.PING, 0, 0, b"short")).client(wire.headers(1, ASK, end=True))
    talk.server(wire.headers(1, OK, end=True))
    pipeline = Pipeline(protocols=PROTOCOLS)
    (session,) = pipeline.feed(talk.segments)
    assert (session.resource, session.status) == ("/items", "200")
    assert (pipeline.ledger.violations, pipeline.ledger.parser_crashes) == (1, 0)


@pytest.mark.parametrize("request_block", [ASK, CALL], ids=["plain", "gRPC"])
def test_sessions_are_the_same_however_the_frames_of_an_answer_arrive(request_block: bytes) -> None:
    answer = [wire.headers(1, OK), wire.data(1, b"x" * 90), wire.PING, wire.data(3, b"not asked for"), wire.data(1, b"y"), b""]
    answer[-1] = wire.headers(1, STATUS, end=True) if request_block is CALL else wire.data(1, b"z", end=True)
    told = []
    for pieces in ([b"".join(answer)], answer, [b"".join(answer[:2]), b"".join(answer[2:])]):
        talk = opened().client(wire.headers(1, request_block, end=True))
        for piece in pieces:
            talk.server(piece)
        (session,) = sessions(talk)
        assert session.request is not None
        assert session.response is not None
        told.append((session.status, session.outcome, session.attributes, session.request.bytes, session.response.bytes))
    assert told[0] == told[1] == told[2]


def test_an_answer_to_what_nobody_saw_begins_with_the_same_bytes_however_its_frames_arrive() -> None:
    frames_of_it = [wire.headers(1, OK), wire.data(1, b"x"), wire.data(1, b"y", end=True)]
    heads = []
    for pieces in ([b"".join(frames_of_it)], frames_of_it):
        talk = Conversation().handshake().server(wire.settings((3, 100)))
        for piece in pieces:
            talk.server(piece)
        (session,) = sessions(talk)
        assert session.request is None
        heads.append((session.seq, session.head))
    assert heads[0] == heads[1], "both ends make the trace's id of it, and may see other segments"
