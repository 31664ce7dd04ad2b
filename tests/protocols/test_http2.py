"""HTTP/2 against RFC 9113 and the h2 library: exchanges that interleave, begin in the middle, end early, or lose bytes."""

from __future__ import annotations

import os

import pytest

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, PROPAGATION_HEADERS, SERVER, Kind, Message
from clovisor_py.protocols import _http2_frames as frames
from clovisor_py.protocols._api import Setup
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._http2_head import UNKNOWN_HEADERS
from clovisor_py.protocols._http2_streams import MAX_STREAMS
from clovisor_py.protocols._redaction import OFF, STRICT
from clovisor_py.protocols.http2 import MAX_BLOCK, MAX_REFUSED, PROTOCOL, Http2Parser
from tests.support.parser_contract import damage, every_delivery, foreign_bytes
from tests.support.parser_harness import PLAIN, Script, run

pytest.importorskip("h2")

from tests.support import http2 as wire
from tests.support.http2 import REQUEST_FIELDS, Talk, block, script_of

ASK = block(*REQUEST_FIELDS)
OK = b"\x88"


def keep_alive() -> Script:
    talk = Talk().ask(1, "/a?b=c").answer(1, body=b"hello").ask(3, "/p", method="POST", body=b"x" * 30)
    return talk.answer(3, 503, body=b"").ask(5, "/a?b=c").answer(5, 204).script


def interleaved() -> Script:
    talk = Talk().begin(CLIENT, 1, [*REQUEST_FIELDS, ("x-n", "1")]).begin(CLIENT, 3, REQUEST_FIELDS)
    talk.part(CLIENT, 3, b"three").part(CLIENT, 1, b"one").part(CLIENT, 3, b"", end=True)
    talk.answer(3, body=b"answer three").part(CLIENT, 1, b"more", end=True)
    talk.begin(SERVER, 1, [(":status", "200")]).part(SERVER, 1, b"an").part(SERVER, 1, b"swer", end=True)
    return talk.script


def trailers() -> Script:
    talk = Talk().ask(1, body=b"x", trailers=[("x-sum", "1")]).answer(1, body=b"y", trailers=[("x-sum", "2")])
    return (
        talk.begin(CLIENT, 3, REQUEST_FIELDS)
        .begin(SERVER, 3, [(":status", "100")])
        .part(CLIENT, 3, b"b", end=True)
        .answer(3)
        .script
    )


def broken() -> Script:
    talk = Talk().ask(1).begin(SERVER, 1, [(":status", "200")]).part(SERVER, 1, b"some").reset(CLIENT, 1)
    return talk.begin(CLIENT, 3, REQUEST_FIELDS).reset(SERVER, 3, 7).ask(5).answer(5).script


CONTINUED: Script = script_of(
    wire.frame(frames.HEADERS, 0x29, 1, b"\x03\x80\x00\x00\x00\x10" + ASK[:5] + bytes(3))
    + wire.frame(frames.CONTINUATION, 0, 1, ASK[5:6])
    + wire.frame(frames.CONTINUATION, 0, 1)
    + wire.frame(frames.CONTINUATION, frames.END_HEADERS, 1, ASK[6:])
    + wire.PING,
    wire.headers(1, OK) + wire.frame(frames.DATA, frames.PADDED | frames.END_STREAM, 1, b"\x04body" + bytes(4)),
)
PROMISED: Script = script_of(
    wire.headers(1, ASK, end=True),
    wire.frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\x00\x00\x00\x02" + ASK)
    + wire.headers(1, OK, end=True)
    + wire.headers(2, OK)
    + wire.data(2, b"pushed", end=True),
)
REFUSED: Script = script_of(
    wire.headers(1, ASK, end=True) + wire.headers(3, b"\x82\x84\x86", end=True) + wire.headers(5, b"\x82\x84\x86", end=True),
    wire.go_away(1) + wire.headers(1, OK, end=True),
)
UPGRADED: Script = [
    (CLIENT, frames.PREFACE + wire.settings()),
    (SERVER, wire.settings((3, 100)) + wire.headers(1, OK)),
    (CLIENT, wire.settings(ack=True) + wire.headers(3, ASK, end=True)),
    (SERVER, wire.data(1, b"of HTTP/1", end=True) + wire.rst(1, 0) + wire.headers(3, OK, end=True)),
]
SCRIPTS = {
    "keep alive": keep_alive(),
    "interleaved": interleaved(),
    "trailers and interim": trailers(),
    "broken off": broken(),
    "continued": CONTINUED,
    "promised": PROMISED,
    "refused": REFUSED,
    "upgraded": UPGRADED,
}


def told(script: Script, setup: Setup = PLAIN) -> list[tuple[str, int | str | None, str, str, str]]:
    """Kind, stream, operation, resource, status of what is more than a part of something."""
    messages = [message for _, message, _ in run(PROTOCOL, script, setup).messages]
    return [(m.kind.value, m.correlation, m.operation, m.resource, m.status) for m in messages if m.kind is not Kind.PART]


def request(*fields: tuple[str, str], setup: Setup = PLAIN) -> Message:
    found = run(PROTOCOL, script_of(wire.headers(1, block(*fields), end=True)), setup)
    assert not found.violations
    (message,) = found.of(CLIENT)
    return message


def violation(sender: int, text: bytes) -> str:
    parser, cursor = Http2Parser(PLAIN), Cursor(text)
    with pytest.raises(ProtocolError) as refused:
        while parser.parse(sender, cursor) is not None:
            pass
    return str(refused.value)


test_every_delivery_gives_the_same_messages = every_delivery(PROTOCOL, SCRIPTS)
test_damage_is_survived = damage(PROTOCOL, SCRIPTS)
test_bytes_of_no_protocol_are_survived = foreign_bytes(PROTOCOL)
# What is told


def test_requests_and_responses() -> None:
    assert told(SCRIPTS["keep alive"]) == [
        ("request", 1, "GET", "/a", ""),
        ("response", 1, "", "", "200"),
        ("request", 3, "POST", "/p", ""),
        ("response", 3, "", "", "503"),
        ("request", 5, "GET", "/a", ""),
        ("response", 5, "", "", "204"),
    ]


def test_a_request_and_its_response_in_full() -> None:
    script = script_of(
        wire.headers(1, block(*REQUEST_FIELDS, ("user-agent", "curl/8"))) + wire.data(1, b"12345", end=True),
        wire.headers(1, block((":status", "502"), ("set-cookie", "secret"))) + wire.data(1, b"1234567", end=True),
    )
    out = run(PROTOCOL, script)
    asked, sent = out.of(CLIENT)
    (answered,) = out.of(SERVER)
    assert asked == Message(
        kind=Kind.REQUEST,
        operation="GET",
        resource="/items",
        attributes={
            "http.request.method": "GET",
            "url.path": "/items",
            "url.scheme": "http",
            "network.protocol.version": "2",
            "server.address": "shop.example",
            "server.port": 8080,
            "user_agent.original": "curl/8",
        },
        correlation=1,
    )
    assert sent == Message(Kind.PART, correlation=1)
    answer = {"network.protocol.version": "2", "http.response.status_code": 502, "error.type": "502"}
    sizes = {"http.request.body.size": 5, "http.response.body.size": 7}
    assert answered == Message(Kind.RESPONSE, status="502", error=True, attributes=answer | sizes, correlation=1)


def test_a_response_comes_in_as_many_parts_as_its_delivery_makes_necessary() -> None:
    asked = wire.headers(1, block(*REQUEST_FIELDS), end=True)
    head, more, other, last = wire.headers(1, b"\x88"), wire.data(1, b"12"), wire.data(3, b"x"), wire.data(1, b"345", end=True)
    for pieces, kinds in (
        ([head + more + last], "response"),
        ([head, more + more, last], "part part response"),
        ([head + more + wire.PING + last], "part response"),
        ([head + more + wire.headers(3, b"\x88") + other + last], "part part part response"),  # 3 was not asked for
        ([head + more + last[:-1], last[-1:]], "part response"),
    ):
        told = run(PROTOCOL, [*script_of(asked), *((SERVER, piece) for piece in pieces)]).of(SERVER)
        assert " ".join(m.kind.value for m in told) == kinds
        assert told[-1].attributes["http.response.body.size"] == sum(piece.count(more) for piece in pieces) * 2 + 3


def test_frames_of_exchanges_interleave() -> None:
    assert told(SCRIPTS["interleaved"]) == [
        ("request", 1, "GET", "/items", ""),
        ("request", 3, "GET", "/items", ""),
        ("response", 3, "", "", "200"),
        ("response", 1, "", "", "200"),
    ]
    parts = [(sender, m.correlation) for sender, m, _ in run(PROTOCOL, SCRIPTS["interleaved"]).messages if m.kind is Kind.PART]
    assert parts == [(0, 3), (0, 1), (0, 3), (0, 1), (1, 1), (1, 1)]


def test_frames_that_concern_no_exchange_are_dropped() -> None:
    parser = Http2Parser(PLAIN)
    for sender, text in script_of(wire.PING + wire.WINDOW_UPDATE, wire.PING + wire.frame(0xF7, 0, 0, b"grease")):
        assert isinstance(text, bytes)
        cursor = Cursor(text)
        assert parser.parse(sender, cursor) is None
        assert cursor.pos == cursor.dropped == len(text)


def test_interim_responses_and_trailers() -> None:
    assert told(SCRIPTS["trailers and interim"]) == [
        ("request", 1, "GET", "/", ""),
        ("response", 1, "", "", "200"),
        ("request", 3, "GET", "/items", ""),
        ("interim", 3, "", "", "100"),
        ("response", 3, "", "", "200"),
    ]


def test_resets() -> None:
    assert told(SCRIPTS["broken off"])[:4] == [
        ("request", 1, "GET", "/", ""),
        ("response", 1, "", "", "CANCEL"),
        ("request", 3, "GET", "/items", ""),
        ("response", 3, "", "", "REFUSED_STREAM"),
    ]
    reset = next(m for _, m, _ in run(PROTOCOL, SCRIPTS["broken off"]).messages if m.status == "CANCEL")
    assert (reset.error, reset.attributes["error.type"]) == (True, "CANCEL")


@pytest.mark.parametrize(("before", "status"), [(b"", "NO_ERROR"), (wire.headers(1, OK), "200")])
def test_a_reset_without_an_error_is_none(before: bytes, status: str) -> None:
    messages = run(PROTOCOL, script_of(wire.headers(1, ASK), before + wire.rst(1, 0))).of(SERVER)
    assert (messages[-1].kind, messages[-1].status, messages[-1].error) == (Kind.RESPONSE, status, False)


def test_what_comes_after_the_end_concerns_nobody() -> None:
    late = wire.rst(1, 0) + wire.data(1, b"late") + wire.headers(1, OK, end=True)
    assert len(told(script_of(wire.headers(1, ASK), wire.headers(1, OK, end=True) + late))) == 2
    assert len(told([*script_of(wire.headers(1, ASK)), (CLIENT, wire.rst(1)), (SERVER, late)])) == 2


def test_promises_are_requests_of_the_server() -> None:
    out = run(PROTOCOL, PROMISED)
    assert [(m.kind.value, m.correlation) for m in out.of(SERVER)] == [
        ("request", 2),
        ("response", 1),
        ("response", 2),
    ]
    assert out.of(SERVER)[-1].attributes["http.response.body.size"] == 6


def test_streams_above_the_last_of_a_goaway_are_refused() -> None:
    refused = [m for m in run(PROTOCOL, REFUSED).of(SERVER) if m.status == "REFUSED_STREAM"]
    assert [(m.correlation, m.error) for m in refused] == [(3, True), (5, True)]
    many = b"".join(wire.headers(stream, b"\x82\x84\x86", end=True) for stream in range(1, 201, 2))
    out = run(PROTOCOL, script_of(many, wire.go_away(1)))
    assert len(out.of(SERVER)) == MAX_REFUSED
    assert not told(script_of(b"", wire.go_away((1 << 31) - 1)))


def test_an_upgraded_request_is_answered_on_stream_1() -> None:
    assert told(UPGRADED) == [
        ("request", 3, "GET", "/items", ""),
        ("response", 1, "", "", "200"),
        ("response", 3, "", "", "200"),
    ]
    answer = next(m for _, m, _ in run(PROTOCOL, UPGRADED).messages if m.kind is Kind.RESPONSE)
    assert not answer.incomplete
    assert answer.attributes == {"http.response.body.size": 9}


# What a request says, and what it must not


def test_private_parts_stay_private() -> None:
    private = [("authorization", "Bearer secret"), ("cookie", "sid=secret"), ("x-api-key", "secret")]
    fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "u:secret@a"),
        (":path", "/x;s=secret?t=secret"),
        *private,
    ]
    message = request(*fields)
    assert "secret" not in repr(message)
    assert (message.resource, message.attributes["server.address"]) == ("/x", "a")


def test_redaction() -> None:
    fields = [(":method", "GET"), (":scheme", "https"), (":path", "/users/4711?x=1")]
    shown = request(*fields, setup=Setup(OFF))
    assert (shown.resource, shown.attributes["url.query"]) == ("/users/4711?x=1", "x=1")
    assert request(*fields).resource == "/users/4711"
    assert request(*fields, setup=Setup(STRICT)).resource == "/users/{}"


def test_trace_context_is_handed_on_and_nothing_else() -> None:
    sent = {name: f"value-of-{name}" for name in PROPAGATION_HEADERS}
    message = request(*REQUEST_FIELDS, ("cookie", "b3=1"), *sent.items(), ("tracestate", "second"))
    assert message.propagation == sent | {"tracestate": "value-of-tracestate,second"}


@pytest.mark.parametrize(
    ("fields", "operation", "resource", "method"),
    [
        ([(":method", "PURGE"), (":path", "/x")], "PURGE", "/x", "_OTHER"),
        ([(":method", "CONNECT"), (":authority", "db.example:5432")], "CONNECT", "db.example:5432", "CONNECT"),
        ([(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/ws")], "CONNECT", "/ws", "CONNECT"),
        ([(":method", "OPTIONS"), (":path", "*")], "OPTIONS", "*", "OPTIONS"),
        ([(":path", "/x")], "unknown", "/x", None),
        ([(":method", "GET"), (":path", "/a b")], "GET", "/a b", "GET"),
        ([(":method", "GET"), (":path", "no\tpath")], "GET", "", "GET"),
        ([(":method", "GET"), (":scheme", "http")], "GET", "", "GET"),
    ],
)
def test_targets(fields: list[tuple[str, str]], operation: str, resource: str, method: str | None) -> None:
    message = request(*fields)
    assert (message.operation, message.resource) == (operation, resource)
    assert message.attributes.get("http.request.method") == method


# From the middle, and with losses


def later(*turns: tuple[int, bytes]) -> list[tuple[int, bytes | int]]:
    return list(turns)


def test_from_the_middle_what_is_unknown_is_said_to_be() -> None:
    client, server = wire.Encoder(), wire.Encoder()
    fields = [*REQUEST_FIELDS, ("x-tenant", "one")]
    block(*fields, encoder=client)
    block((":status", "200"), ("server", "x"), encoder=server)
    script = later(
        (CLIENT, wire.headers(7, block(*fields, ("x-new", "1"), encoder=client), end=True)),
        (SERVER, wire.headers(7, block((":status", "200"), ("server", "x"), encoder=server), end=True)),
        (CLIENT, wire.headers(9, block(("x-new", "1"), (":method", "GET"), (":path", "/new"), encoder=client), end=True)),
    )
    first, second = run(PROTOCOL, script).of(CLIENT)
    assert (first.operation, first.resource, first.attributes[UNKNOWN_HEADERS]) == ("GET", "", 3)
    assert (second.resource, second.attributes.get(UNKNOWN_HEADERS)) == ("/new", None)
    (answer,) = run(PROTOCOL, script).of(SERVER)
    assert (answer.status, answer.attributes[UNKNOWN_HEADERS]) == ("200", 4)


def test_from_the_middle_of_an_exchange() -> None:
    out = run(PROTOCOL, later((SERVER, wire.data(5, b"rest", end=True)), (CLIENT, wire.data(3, b"rest", end=True))))
    (message,) = out.of(SERVER)
    assert (message.kind, message.status, message.incomplete) == (Kind.RESPONSE, "", True)
    assert not out.of(CLIENT)


def test_the_server_s_first_settings_begin_its_table() -> None:
    assert run(PROTOCOL, later((SERVER, wire.settings((3, 1)) + wire.headers(1, b"\xbe")))).violations
    assert not run(PROTOCOL, later((SERVER, wire.settings(ack=True) + wire.headers(1, b"\xbe")))).violations


def test_a_loss_makes_tables_unknown_and_what_was_open_incomplete() -> None:
    client, server = wire.Encoder(), wire.Encoder()
    script = script_of(
        wire.headers(1, block(*REQUEST_FIELDS, encoder=client), end=True),
        wire.headers(1, block((":status", "200"), ("x-a", "1"), encoder=server)) + wire.data(1, b"x" * 10),
    )
    rest = wire.data(1, b"y", end=True) + wire.headers(3, block((":status", "200"), ("x-a", "1"), encoder=server), end=True)
    out = run(PROTOCOL, [*script, (SERVER, 100), (SERVER, rest)])
    first, second = [message for message in out.of(SERVER) if message.kind is Kind.RESPONSE]
    assert (first.status, first.incomplete, first.attributes) == ("200", True, {})
    assert (second.status, second.attributes[UNKNOWN_HEADERS]) == ("200", 1)


def test_data_may_be_lost() -> None:
    body = wire.data(1, b"x" * 5000, end=True)
    script = script_of(wire.headers(1, ASK, end=True), wire.headers(1, OK) + body[:20])
    out = run(PROTOCOL, [*script, (SERVER, len(body) - 20), (SERVER, wire.headers(3, OK, end=True))])
    assert [m.kind for m in out.of(SERVER)] == [Kind.PART, Kind.RESPONSE, Kind.RESPONSE]
    assert out.of(SERVER)[1].attributes["http.response.body.size"] == 5000


def test_headers_that_are_cut_short_tell_what_they_can() -> None:
    long = block(*REQUEST_FIELDS, ("x-long", "y" * 400))
    out = run(PROTOCOL, script_of(wire.headers(1, long)[:-300], wire.headers(1, OK + block(("x-long", "y" * 400)))[:-300]))
    (asked,), (answer,) = out.of(CLIENT), out.of(SERVER)
    assert (asked.kind, asked.resource, asked.incomplete) == (Kind.REQUEST, "/items", True)
    assert (answer.kind, answer.status, answer.incomplete) == (Kind.PART, "200", True)
    padded = wire.frame(frames.HEADERS, 0x2C, 1, b"\x02\x80\x00\x00\x00\x10" + long + b"\0\0")
    assert run(PROTOCOL, script_of(padded[:-300])).of(CLIENT)[0].resource == "/items"


def test_data_that_is_cut_short_is_an_incomplete_part() -> None:
    out = run(PROTOCOL, script_of(wire.headers(1, ASK), wire.headers(1, OK) + wire.data(1, b"x" * 99)[:50]))
    assert [(m.kind, m.status, m.incomplete) for m in out.of(SERVER)] == [(Kind.PART, "200", False), (Kind.PART, "", True)]


# Limits


@pytest.mark.parametrize(
    ("sender", "text", "why"),
    [
        (CLIENT, b"PRI * HTTP/1.1\r\n\r\n", "preface"),
        (CLIENT, b"GET / HTTP/1.1\r\n\r\n", "size"),
        (SERVER, b"HTTP/1.1 400 Bad\r\n\r\n", "size"),
        (CLIENT, wire.data(0, b"x"), "without a stream"),
        (CLIENT, wire.frame(frames.DATA, frames.PADDED, 1, b"\x09x"), "padding"),
        (CLIENT, wire.frame(frames.DATA, frames.PADDED, 1) + b"\0", "padding"),
        (CLIENT, wire.headers(0, ASK), "without a stream"),
        (CLIENT, wire.headers(1, b"\x05", flags=0x0C), "shorter than"),
        (CLIENT, wire.headers(1, ASK, flags=0) + wire.PING, "does not go on"),
        (CLIENT, wire.headers(1, ASK, flags=0) + wire.frame(frames.CONTINUATION, 4, 3, ASK), "does not go on"),
        (CLIENT, wire.frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\2" + ASK), "promises"),
        (CLIENT, wire.headers(1, OK), "client that answers"),
        (SERVER, wire.headers(1, ASK), "server that asks"),
        (SERVER, wire.frame(frames.PING, 0, 0, b"short"), "size"),
        (SERVER, wire.frame(frames.SETTINGS, 0, 0, b"short"), "size"),
        (SERVER, wire.frame(frames.RST_STREAM, 0, 1, b"long enough"), "size"),
        (SERVER, wire.frame(frames.GOAWAY, 0, 0, b"short"), "size"),
        (SERVER, wire.frame(0x77, 0, 0, bytes(20000)), "size"),
        (CLIENT, wire.headers(1, bytes(MAX_BLOCK + 1), flags=0), "more than"),
    ],
)
def test_violations(sender: int, text: bytes, why: str) -> None:
    assert why in violation(sender, text)


def test_continuations_are_bounded() -> None:
    endless = wire.headers(1, bytes(16000), flags=0) + wire.frame(frames.CONTINUATION, 0, 1, bytes(16000)) * 4
    assert "more than" in violation(CLIENT, endless)


def test_streams_are_bounded() -> None:
    parser = Http2Parser(PLAIN)
    for stream in range(1, 4 * MAX_STREAMS, 2):
        assert parser.parse(CLIENT, Cursor(wire.headers(stream, b"\x82\x84\x86"))) is not None
    for stream in range(1_000_001, 1_000_001 + 4 * MAX_STREAMS, 2):
        assert parser.parse(SERVER, Cursor(wire.headers(stream, OK))) is not None
    assert len(parser._exchanges.streams._open) == MAX_STREAMS


def test_a_continuation_whose_beginning_was_not_seen_makes_the_table_unknown() -> None:
    half = wire.frame(frames.CONTINUATION, frames.END_HEADERS, 1, os.urandom(20))
    assert not run(PROTOCOL, script_of(half + wire.headers(3, b"\x82\x84\xbe"))).violations
