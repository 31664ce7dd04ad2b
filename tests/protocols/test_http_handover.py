"""Where HTTP/1 ends before its connection does: Upgrade and CONNECT, granted and refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.protocols import http
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols.http import PROTOCOL
from tests.support.parser_harness import PLAIN, Script, check, mutated, run

UPGRADE: Script = [
    (CLIENT, b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    (SERVER, b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 9\r\nUpgrade: WebSocket\r\n\r\n\x81\x05hello"),
    (CLIENT, b"\x81\x85masked"),
]
H2C: Script = [
    (CLIENT, b"GET /h2 HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"),
    (SERVER, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    (CLIENT, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
]
CONNECT: Script = [
    (CLIENT, b"CONNECT user:secret@db.example:5432 HTTP/1.1\r\nHost: db.example\r\n\r\n"),
    (SERVER, b"HTTP/1.1 200 Connection established\r\nContent-Length: 10\r\n\r\n\x16\x03\x01"),
    (CLIENT, b"\x16\x03\x01\x02\x00\x01"),
]
GET = b"GET /items HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize("script", [UPGRADE, H2C, CONNECT])
def test_every_delivery_gives_the_same_messages(script: Script) -> None:
    check(PROTOCOL, script)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([UPGRADE, H2C, CONNECT]).flatmap(mutated))
def test_damage_is_survived(script: Script) -> None:
    run(PROTOCOL, script)


def the_last(script: Script) -> Message:
    return run(PROTOCOL, script).messages[-1][1]


def test_a_websocket_is_answered_and_handed_over() -> None:
    message = the_last(UPGRADE)
    assert (message.kind, message.status, message.error, message.hands_to) == (Kind.RESPONSE, "101", False, "websocket")


def test_h2c_is_handed_over_and_answered_there() -> None:
    asked, granted = (message for _, message, _ in run(PROTOCOL, H2C).messages)
    assert (asked.kind, asked.correlation) == (Kind.REQUEST, 1)
    assert (granted.kind, granted.hands_to) == (Kind.INTERIM, "h2c")


def test_a_connect_is_handed_to_whom_it_concerns() -> None:
    asked, granted = (message for _, message, _ in run(PROTOCOL, CONNECT).messages)
    assert (asked.operation, asked.resource) == ("CONNECT", "db.example:5432")
    assert (granted.kind, granted.status, granted.hands_to) == (Kind.RESPONSE, "200", "")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"Upgrade: TLS/1.0, HTTP/1.1", "tls/1.0"),
        (b"upgrade:SPDY/3.1", "spdy/3.1"),
        (b"Upgrade:\r\n websocket", "websocket"),
        (b"Upgrade: ,\r\nUpgrade: tcp", "tcp"),
        (b"Upgrade-Insecure-Requests: 1", ""),
        (b"Upgrade: <script>", ""),
        (b"Upgrade: " + b"x" * 33, ""),
        (b"Upgrade: ", ""),
        (b"X: y", ""),
    ],
)
def test_the_name_is_the_one_nearest_to_the_wire(header: bytes, name: str) -> None:
    message = the_last([(CLIENT, GET), (SERVER, b"HTTP/1.1 101 x\r\n" + header + b"\r\n\r\n")])
    assert (message.kind, message.hands_to) == (Kind.RESPONSE, name)


@pytest.mark.parametrize(
    ("header", "stream"),
    [
        (b"Upgrade: websocket, H2C", 1),
        (b"Upgrade: websocket\r\nupgrade: h2c", 1),
        (b"Upgrade: h2", None),
        (b"Upgrade-X: h2c", None),
        (b"Upgrade: websocket\r\nB3: 0", None),
    ],
)
def test_only_a_request_that_asks_for_h2c_has_a_stream(header: bytes, stream: int | None) -> None:
    (message,) = run(PROTOCOL, [(CLIENT, b"GET / HTTP/1.1\r\n" + header + b"\r\n\r\n")]).of(CLIENT)
    assert message.correlation == stream
    assert bool(message.propagation) == (b"B3" in header)


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad", b"426 Upgrade Required"])
@pytest.mark.parametrize("script", [UPGRADE, H2C])
def test_a_refused_upgrade_goes_on_with_http(script: Script, status: bytes) -> None:
    refused = b"HTTP/1.1 " + status + b"\r\nUpgrade: h2c, websocket\r\nContent-Length: 2\r\n\r\nno"
    out = run(PROTOCOL, [script[0], (SERVER, refused), (CLIENT, GET), (SERVER, OK)])
    assert [m.status or m.resource for _, m, _ in out.messages] == [
        out.of(CLIENT)[0].resource,
        status[:3].decode(),
        "/items",
        "200",
    ]
    assert all(m.hands_to is None for m in out.of(SERVER))


def test_other_interim_responses_hand_nothing_over() -> None:
    out = run(PROTOCOL, [(CLIENT, GET), (SERVER, b"HTTP/1.1 103 Early Hints\r\nUpgrade: x\r\n\r\n" + OK)])
    assert [(m.kind, m.hands_to) for m in out.of(SERVER)] == [(Kind.INTERIM, None), (Kind.RESPONSE, None)]


def test_a_refused_connect_goes_on_with_http() -> None:
    refused = b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
    out = run(PROTOCOL, [(CLIENT, b"CONNECT a:1 HTTP/1.1\r\n\r\n"), (SERVER, refused), (CLIENT, GET), (SERVER, OK)])
    assert [m.status or m.operation for _, m, _ in out.messages] == ["CONNECT", "403", "GET", "200"]


def test_what_follows_a_connect_waits_unread_for_the_answer() -> None:
    parser = http.HttpParser(PLAIN)
    early = Cursor(b"CONNECT a:1 HTTP/1.1\r\n\r\n\x16\x03\x01\x02\x00")
    assert parser.parse(CLIENT, early) is not None
    at = early.pos
    assert parser.parse(CLIENT, early) is None
    assert (early.pos, early.data[at:]) == (at, b"\x16\x03\x01\x02\x00")
    granted = parser.parse(SERVER, Cursor(b"HTTP/1.1 200 OK\r\n\r\n"))
    assert granted is not None and granted.hands_to == ""


def test_what_waits_behind_a_connect_is_bounded() -> None:
    out = run(PROTOCOL, [CONNECT[0], *[(CLIENT, bytes(4096))] * 20])
    assert len(out.messages) == 1 and "nobody answered" in out.violations[0]


def test_nothing_is_left_open_when_nobody_answers_a_connect() -> None:
    out = run(PROTOCOL, [CONNECT[0], (CLIENT, GET)])
    assert [m.operation for m in out.of(CLIENT)] == ["CONNECT"] and not out.violations


@pytest.mark.parametrize("status", [b"101", b"200"])
def test_a_zero_byte_in_the_last_head_is_still_refused(status: bytes) -> None:
    out = run(PROTOCOL, [CONNECT[0], (SERVER, b"HTTP/1.1 " + status + b" x\r\nX: \0\r\n\r\n")])
    assert out.of(SERVER) == [] and "zero byte" in out.violations[0]
