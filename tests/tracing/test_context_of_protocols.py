"""A trace context of every kind, in every place where a protocol may carry one, comes out of the engine as the same context."""

from __future__ import annotations

import base64
from collections.abc import Callable
from urllib.parse import quote

import pytest

pytest.importorskip("h2")

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.message import CLIENT, SERVER
from clovisor_py.model.session import Session
from clovisor_py.outlet import Outlet
from clovisor_py.protocols._redaction import DEFAULT, OFF, STRICT
from tests.protocols import test_grpc, test_kafka, test_postgresql
from tests.support.http2 import Talk
from tests.support.parser_harness import Script
from tests.support.segments import Conversation
from tests.tracing.test_context import SPAN, SPAN_ID, TRACE, TRACE_ID, sw8

Headers = dict[str, str]

FORMATS: dict[str, tuple[Headers, str]] = {
    "traceparent": ({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=1,b=2"}, "traceparent"),
    "b3 in one": ({"b3": f"{TRACE}-{SPAN}-1"}, "b3"),
    "b3 in several": ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "1"}, "b3"),
    "uber-trace-id": ({"uber-trace-id": f"{TRACE}:{SPAN}:0:1"}, "uber-trace-id"),
    "sw8": ({"sw8": sw8()}, "sw8"),
    "all but the first malformed": ({"traceparent": f"00-{TRACE}-{SPAN}-01", "b3": "?", "sw8": "?"}, "traceparent"),
    "the first malformed": ({"traceparent": "00-?", "uber-trace-id": f"{TRACE}:{SPAN}:0:1"}, "uber-trace-id"),
}


def http(headers: Headers) -> Script:
    told = "".join(f"{name.title()}: {value}\r\n" for name, value in headers.items())
    asked = f"GET /x HTTP/1.1\r\nHost: shop\r\n{told}\r\n".encode()
    return [(CLIENT, asked), (SERVER, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")]


def http2(headers: Headers) -> Script:
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "shop"), (":path", "/x"), *headers.items()]
    return Talk().begin(CLIENT, 1, fields).part(CLIENT, 1, b"", end=True).answer(1).script


def grpc(headers: Headers) -> Script:
    talk = Talk().begin(CLIENT, 1, [*test_grpc.CALL, *headers.items()]).part(CLIENT, 1, test_grpc.sent(4), end=True)
    return talk.answer(1, body=test_grpc.sent(4), extra=[test_grpc.TYPE], trailers=[("grpc-status", "0")]).script


def kafka(headers: Headers) -> Script:
    told = tuple((name.title(), value.encode()) for name, value in headers.items())
    asked = test_kafka.produce(test_kafka.batch(test_kafka.record(headers=(("own", b"x"), *told))))
    return [(CLIENT, asked), (SERVER, test_kafka.produced())]


def commented(headers: Headers) -> bytes:
    """In the manner of sqlcommenter: names and values encoded as in a URL."""
    told = ",".join(f"{name}='{quote(value, safe='')}'" for name, value in sorted(headers.items()))
    return f"SELECT name FROM users WHERE card = '4111' /*action='list',{told}*/".encode()


def simple_query(headers: Headers) -> Script:
    rows = [test_postgresql.done(b"SELECT 0"), test_postgresql.READY]
    return [(CLIENT, test_postgresql.query(commented(headers))), (SERVER, b"".join(rows))]


def prepared(headers: Headers) -> Script:
    asked = [test_postgresql.parse(commented(headers)), test_postgresql.bind(), test_postgresql.execute(), test_postgresql.SYNC]
    told = [test_postgresql.PARSED, test_postgresql.BOUND, test_postgresql.done(b"SELECT 0"), test_postgresql.READY]
    return [(CLIENT, b"".join(asked)), (SERVER, b"".join(told))]


PLACES: dict[str, tuple[Callable[[Headers], Script], int]] = {
    "HTTP/1 headers": (http, 8080),
    "HTTP/2 headers": (http2, 8080),
    "gRPC metadata": (grpc, 50051),
    "Kafka record headers": (kafka, 9092),
    "SQL comments": (simple_query, 5432),
    "SQL comments of prepared statements": (prepared, 5432),
}


def told(script: Script, port: int, redaction: object, chunks: int = 0) -> Session:
    """The one session of this script."""
    talk = Conversation(server_port=port).handshake()
    for sender, what in script:
        assert isinstance(what, bytes)
        talk.say(sender, what, chunks=[chunks] * (len(what) // chunks) if chunks else None)
    shown: list[Session] = []
    outlet, engine = Outlet(shown.extend), Pipeline(redaction=redaction)
    outlet.take(engine.feed(talk.segments) + engine.close(talk.now))
    found = [one for one in shown if one.propagation or one.trace]
    assert len(found) == 1, shown
    return found[0]


@pytest.mark.parametrize("redaction", [OFF, DEFAULT, STRICT], ids=["off", "default", "strict"])
@pytest.mark.parametrize(("headers", "form"), FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(("script", "port"), PLACES.values(), ids=PLACES)
def test_every_context_comes_through_everywhere(script, port, headers, form, redaction):
    for chunks in (0, 7):
        one = told(script(headers), port, redaction, chunks)
        assert one.trace is not None
        assert (one.trace.format, one.trace.sampled) == (form, True)
        if form != "sw8":
            assert (one.trace.trace_id, one.trace.parent_id) == (TRACE_ID, SPAN_ID)
        assert one.trace.state == {"traceparent": headers.get("tracestate", ""), "sw8": "abc.12.3"}.get(form, "")


RUBBISH = ("", "?", "00-", "0" * 5000, "é" * 40, "%", "%zz%", "-" * 300, "\x01\x02", base64.b64encode(bytes(99)).decode())


@pytest.mark.parametrize(("script", "port"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("header", ["traceparent", "b3", "x-b3-traceid", "uber-trace-id", "sw8", "tracestate"])
def test_a_malformed_context_is_none_and_never_a_violation(script, port, header):
    over_http2 = script is http2 or script is grpc
    for value in RUBBISH:
        if over_http2 and not (value.isascii() and value.isprintable()):
            continue  # h2 sends no such thing
        talk = Conversation(server_port=port).handshake()
        for sender, what in script({header: value}):
            assert isinstance(what, bytes)
            talk.say(sender, what)
        shown: list[Session] = []
        outlet, engine = Outlet(shown.extend), Pipeline()
        outlet.take(engine.feed(talk.segments) + engine.close(talk.now))
        assert [one.trace for one in shown] == [None]
        assert engine.ledger.violations == 0
        assert set(outlet.contexts.malformed) <= {header}


def test_the_text_of_a_statement_stays_hidden_while_its_context_is_told():
    headers, _ = FORMATS["traceparent"]
    one = told(simple_query(headers), 5432, STRICT)
    assert one.trace is not None
    assert "db.query.text" not in one.attributes
    for redaction in (DEFAULT, STRICT):
        assert "4111" not in repr(told(prepared(headers), 5432, redaction).attributes)


def test_the_context_that_all_records_carry_counts():
    record = test_kafka.record(headers=(("b3", b"%032x-%016x-1" % (1, 1)),))
    script = [(CLIENT, test_kafka.produce(test_kafka.batch(record, record))), (SERVER, test_kafka.produced())]
    one = told(script, 9092, DEFAULT)
    assert one.trace is not None and one.trace.trace_id == 1
    assert one.attributes["messaging.batch.message_count"] == 2
