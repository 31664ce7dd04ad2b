"""gRPC as it rides on HTTP/2: what a call is, how it ended, and how many messages went each way."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.protocols import grpc
from clovisor_py.protocols import http2 as carrier
from clovisor_py.protocols._api import Setup
from clovisor_py.protocols._redaction import OFF, STRICT
from clovisor_py.protocols.grpc import COMPRESSED, PROTOCOL, REQUESTS, RESPONSES, STATUS_MESSAGE, STATUSES, TIMEOUT, Counter
from tests.support.parser_contract import damage, every_delivery
from tests.support.parser_harness import Run, Script, check, run

pytest.importorskip("h2")

from tests.support import http2 as wire
from tests.support.http2 import Talk, block, script_of

SETUP = Setup(riders=(PROTOCOL,))
PATH = "/shop.v1.Cart/AddItem"
FIELDS = [(":method", "POST"), (":scheme", "http"), (":authority", "cart:50051"), (":path", PATH), ("te", "trailers")]
CALL = [*FIELDS, ("content-type", "application/grpc"), ("grpc-timeout", "1500m")]
TYPE = ("content-type", "application/grpc+proto")


def sent(*sizes: int, flag: int = 0) -> bytes:
    return b"".join(struct.pack(">BI", flag, size) + bytes(size) for size in sizes)


def unary() -> Script:
    talk = Talk().begin(CLIENT, 1, CALL).part(CLIENT, 1, sent(30), end=True)
    return talk.answer(1, body=sent(50), extra=[TYPE], trailers=[("grpc-status", "0"), ("grpc-message", "")]).script


def bidirectional() -> Script:
    talk = Talk().begin(CLIENT, 1, CALL).begin(SERVER, 1, [(":status", "200"), TYPE])
    talk.part(CLIENT, 1, sent(10, 300)[:11]).part(SERVER, 1, sent(0, 0, 7)[:3]).part(CLIENT, 1, sent(10, 300)[11:17])
    talk.part(SERVER, 1, sent(0, 0, 7)[3:]).part(CLIENT, 1, sent(10, 300)[17:], end=True)
    talk.ends[SERVER].send_headers(1, [("grpc-status", "5"), ("grpc-message", "no%20cart")], end_stream=True)
    return talk.pump().script


def trailers_only() -> Script:
    talk = Talk().begin(CLIENT, 1, CALL).part(CLIENT, 1, sent(4), end=True)
    return talk.answer(1, extra=[TYPE, ("grpc-status", "16"), ("grpc-message", "who")]).script


def cancelled() -> Script:
    talk = Talk().begin(CLIENT, 1, CALL).part(CLIENT, 1, sent(4), end=True).begin(SERVER, 1, [(":status", "200"), TYPE])
    return talk.part(SERVER, 1, sent(9, 9, flag=1)).reset(CLIENT, 1).script


def mixed() -> Script:
    talk = Talk().begin(CLIENT, 1, CALL).ask(3, "/index.html").answer(3, body=b"x").part(CLIENT, 1, sent(), end=True)
    return talk.answer(1, 200, extra=[TYPE], trailers=[("grpc-status", "0")]).script


SCRIPTS = {
    "unary": unary(),
    "bidirectional": bidirectional(),
    "trailers only": trailers_only(),
    "cancelled": cancelled(),
    "with plain HTTP/2": mixed(),
}


def ride(script: Script, setup: Setup = SETUP) -> Run:
    found = run(carrier.PROTOCOL, script, setup)
    assert not found.violations
    return found


def ended(script: Script, setup: Setup = SETUP) -> Message:
    """The response that ends the first call."""
    return next(m for _, m, _ in ride(script, setup).messages if m.kind is Kind.RESPONSE)


test_every_delivery_gives_the_same_messages = every_delivery(carrier.PROTOCOL, SCRIPTS, SETUP)
test_damage_is_survived = damage(carrier.PROTOCOL, SCRIPTS, SETUP)


def test_it_has_no_flows_of_its_own() -> None:
    assert PROTOCOL.over == carrier.PROTOCOL.name
    assert PROTOCOL.rider is not None


# What is told


def test_a_unary_call_in_full() -> None:
    out = ride(SCRIPTS["unary"])
    asked, sent_part = out.of(CLIENT)
    assert asked == Message(
        kind=Kind.REQUEST,
        operation="shop.v1.Cart/AddItem",
        resource=PATH,
        attributes={
            "http.request.method": "POST",
            "url.path": PATH,
            "url.scheme": "http",
            "network.protocol.version": "2",
            "server.address": "cart",
            "server.port": 50051,
            "rpc.system.name": "grpc",
            "rpc.method": "shop.v1.Cart/AddItem",
            TIMEOUT: 1500.0,
        },
        correlation=1,
        protocol="grpc",
    )
    assert sent_part == Message(Kind.PART, correlation=1)
    begun, answer = out.of(SERVER)
    assert (begun.status, begun.protocol, begun.attributes["http.response.status_code"]) == ("", "grpc", 200)
    assert answer == Message(
        kind=Kind.RESPONSE,
        status="OK",
        attributes={
            "http.request.body.size": 35,
            "http.response.body.size": 55,
            "rpc.response.status_code": "OK",
            REQUESTS: 1,
            RESPONSES: 1,
        },
        correlation=1,
        protocol="grpc",
    )


def test_streams_of_messages_are_counted_however_frames_cut_them() -> None:
    answer = ended(SCRIPTS["bidirectional"])
    assert (answer.status, answer.error, answer.attributes["error.type"]) == ("NOT_FOUND", True, "NOT_FOUND")
    assert (answer.attributes[REQUESTS], answer.attributes[RESPONSES]) == (2, 3)


def test_a_response_of_trailers_only() -> None:
    answer = ended(SCRIPTS["trailers only"])
    assert (answer.status, answer.attributes[RESPONSES]) == ("UNAUTHENTICATED", 0)
    assert answer.attributes["http.response.status_code"] == 200


def test_a_cancelled_call() -> None:
    answer = ended(SCRIPTS["cancelled"])
    assert (answer.status, answer.error, answer.attributes["error.type"]) == ("CANCELLED", True, "CANCELLED")
    assert (answer.attributes[RESPONSES], answer.attributes[COMPRESSED]) == (2, 2)


def test_other_streams_are_http() -> None:
    protocols = {
        (m.correlation, m.protocol) for _, m, _ in ride(SCRIPTS["with plain HTTP/2"]).messages if m.kind is not Kind.PART
    }
    assert protocols == {(1, "grpc"), (3, "")}


@pytest.mark.parametrize(
    ("kind", "rides"),
    [
        ("application/grpc", True),
        ("application/grpc+json", True),
        ("Application/gRPC;charset=utf-8", True),
        ("application/grpc-web+proto", False),
        ("application/grpcx", False),
        ("application/json", False),
    ],
)
def test_content_types(kind: str, rides: bool) -> None:
    script = script_of(wire.headers(1, block(*FIELDS, ("content-type", kind))))
    assert (ride(script).of(CLIENT)[0].protocol == "grpc") is rides


def answered(server: bytes) -> Message:
    return ended(script_of(wire.headers(1, block(*CALL), end=True), server))


@pytest.mark.parametrize("code", range(len(STATUSES) + 1))
def test_statuses(code: int) -> None:
    message = answered(wire.headers(1, block((":status", "200"), TYPE, ("grpc-status", str(code))), end=True))
    assert message.status == (STATUSES[code] if code < len(STATUSES) else "UNKNOWN")
    assert message.error is (code != 0)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, "UNKNOWN"), (404, "UNIMPLEMENTED"), (503, "UNAVAILABLE"), (500, "UNKNOWN"), (401, "UNAUTHENTICATED")],
)
def test_without_a_status_http_s_own_decides(status: int, expected: str) -> None:
    message = answered(wire.headers(1, block((":status", str(status)))) + wire.data(1, b"<html>", end=True))
    assert (message.status, message.error, message.attributes["error.type"]) == (expected, True, expected)
    assert RESPONSES not in message.attributes  # that was no message


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, "INTERNAL"), (2, "INTERNAL"), (7, "UNAVAILABLE"), (8, "CANCELLED"), (11, "RESOURCE_EXHAUSTED"), (99, "UNKNOWN")],
)
def test_resets(code: int, expected: str) -> None:
    assert answered(wire.rst(1, code)).status == expected
    assert answered(wire.headers(1, b"\x88") + wire.rst(1, code)).status == expected


def test_a_refused_call() -> None:
    assert answered(wire.go_away(0)).status == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("timeout", "milliseconds"),
    [
        ("1H", 3_600_000),
        ("2M", 120_000),
        ("3S", 3000),
        ("4m", 4),
        ("5u", 0.005),
        ("500000n", 0.5),
        ("123456789m", None),
        ("1x", None),
        ("", None),
    ],
)
def test_deadlines(timeout: str, milliseconds: float | None) -> None:
    script = script_of(wire.headers(1, block(*FIELDS, TYPE, ("grpc-timeout", timeout)), end=True))
    assert ride(script).of(CLIENT)[0].attributes.get(TIMEOUT) == milliseconds


def test_a_status_message_is_private() -> None:
    trailers = wire.headers(
        1, block((":status", "200"), TYPE, ("grpc-status", "3"), ("grpc-message", "bad%20card%E2%82%AC")), end=True
    )
    script = script_of(wire.headers(1, block(*CALL), end=True), trailers)
    assert "card" not in repr(ended(script))
    assert ended(script, Setup(OFF, riders=(PROTOCOL,))).attributes[STATUS_MESSAGE] == "bad card€"


def test_a_method_is_a_name_also_where_paths_are_hidden() -> None:
    script = script_of(wire.headers(1, block((":path", "/pkg.Service2/Get"), (":method", "POST"), TYPE)))
    asked = ride(script, Setup(STRICT, riders=(PROTOCOL,))).of(CLIENT)[0]
    assert (asked.operation, asked.resource) == ("pkg.Service2/Get", "/pkg.Service2/Get")


# From the middle, and with losses


UNKNOWN_TYPE = b"\x83\x86\x04" + bytes([len(PATH)]) + PATH.encode() + b"\xbe"
"""A request whose content type is in the unseen past."""


@pytest.mark.parametrize("first", [b"\x88\xbf", b"\x88" + block(TYPE)])
@pytest.mark.parametrize("body", [b"", b"\0\0"])
def test_where_the_request_does_not_say_the_response_may(first: bytes, body: bytes) -> None:
    script: Script = [
        (CLIENT, wire.headers(7, UNKNOWN_TYPE) + wire.data(7, body, end=True)),
        (SERVER, wire.headers(7, first) + wire.data(7, sent(5)) + wire.headers(7, block(("grpc-status", "4")), end=True)),
    ]
    answer = ended(script)
    assert (answer.protocol, answer.status, answer.resource) == ("grpc", "DEADLINE_EXCEEDED", PATH)
    assert answer.attributes.get(REQUESTS) == (None if body else 0)
    assert answer.attributes.get(RESPONSES) == (None if first == b"\x88\xbf" else 1)


def doubtful(body: bytes, *, head: bytes = UNKNOWN_TYPE, end: bool = True) -> Script:
    return [(CLIENT, wire.headers(7, head) + wire.data(7, body, end=end)), (SERVER, wire.headers(7, b"\x88\xbf", end=True))]


def test_a_body_that_is_a_message_says_it_too() -> None:
    script = doubtful(sent(5))
    check(carrier.PROTOCOL, script, SETUP)
    asked, more = ride(script).of(CLIENT)
    assert (asked.protocol, asked.operation) == ("", "POST")
    assert (more.kind, more.protocol, more.operation, more.resource) == (Kind.PART, "grpc", "shop.v1.Cart/AddItem", PATH)
    answer = ended(script)
    assert (answer.protocol, answer.status, answer.error, answer.attributes[REQUESTS]) == ("grpc", "", False, 1)


@pytest.mark.parametrize(
    ("script", "protocol"),
    [
        (doubtful(sent(0)), "grpc"),
        (doubtful(sent(500)[:40], end=False), "grpc"),
        (doubtful(sent(500)[:40]), ""),
        (doubtful(sent(5)[:8]), ""),
        (doubtful(sent(5, flag=2)), ""),
        (doubtful(sent(5)[:4]), ""),
        (doubtful(b'{"a":1}'), ""),
        (doubtful(sent(5), head=b"\x82" + UNKNOWN_TYPE[1:]), ""),
        (doubtful(sent(5), head=UNKNOWN_TYPE + block(("content-type", "application/x-other"))), ""),
        (doubtful(sent(5), head=UNKNOWN_TYPE[:-1]), ""),
    ],
)
def test_only_where_it_fits_and_nothing_speaks_against_it(script: Script, protocol: str) -> None:
    assert ended(script).protocol == protocol


def test_an_end_that_nobody_could_read_is_no_failure() -> None:
    script: Script = [
        (CLIENT, wire.headers(7, block(*CALL), end=True)),
        (SERVER, wire.headers(7, b"\x88" + block(TYPE)) + wire.headers(7, b"\xfe", end=True)),
    ]
    answer = ended(script)
    assert (answer.protocol, answer.status, answer.error) == ("grpc", "", False)


def test_a_loss_ends_the_counting() -> None:
    begin = script_of(
        wire.headers(1, block(*CALL), end=True), wire.headers(1, block((":status", "200"), TYPE)) + wire.data(1, sent(5))
    )
    rest = wire.data(1, sent(6)) + wire.headers(1, block(("grpc-status", "0")), end=True)
    answer = ended([*begin, (SERVER, 40), (SERVER, rest)])
    assert (answer.status, answer.incomplete) == ("OK", True)
    assert RESPONSES not in answer.attributes
    assert answer.attributes[REQUESTS] == 0


def test_a_prefix_that_was_lost_with_its_data_ends_it_too() -> None:
    body = wire.data(1, sent(100, 100))
    begin = wire.headers(1, block((":status", "200"), TYPE)) + body[: 9 + 105]
    script: Script = [*script_of(wire.headers(1, block(*CALL), end=True), begin), (SERVER, 50), (SERVER, body[9 + 155 :])]
    answer = ended([*script, (SERVER, wire.headers(1, block(("grpc-status", "0")), end=True))])
    assert (answer.status, answer.incomplete, answer.attributes.get(RESPONSES)) == ("OK", False, None)
    assert answer.attributes["http.response.body.size"] == 210


# Counting


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=12), st.lists(st.integers(1, 12), min_size=1))
def test_prefixes_may_be_cut_anywhere(sizes: list[int], pieces: list[int]) -> None:
    data, counter, at, unwanted, turn = sent(*sizes), Counter(), 0, 0, 0
    while at < len(data):
        end = min(at + pieces[turn % len(pieces)], len(data))
        turn += 1
        step = min(unwanted, end - at)
        at, unwanted = at + step, unwanted - step
        if at < end:
            unwanted = counter.take(data, at, end)
            at = end
    assert counter.messages == len(sizes)
    assert len(counter.prefix) < 5


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=10))
def test_any_bytes_can_be_counted(pieces: list[bytes]) -> None:
    counter = Counter()
    for piece in pieces:
        assert counter.take(piece, 0, len(piece)) >= 0
        assert len(counter.prefix) < 5


def test_every_attribute_is_declared() -> None:
    assert {REQUESTS, RESPONSES, COMPRESSED, TIMEOUT, STATUS_MESSAGE} <= set(grpc.PROTOCOL.attributes)
