"""HTTP/1 against RFC 9112: framing, what a message says, what it must not say, and every delivery TCP can think of."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, PROPAGATION_HEADERS, SERVER, Kind, Message
from clovisor_py.protocols import _http_head as head
from clovisor_py.protocols import _http_target as target
from clovisor_py.protocols import http
from clovisor_py.protocols._api import Evidence
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols.http import PROTOCOL
from tests.support.parser_contract import damage, every_delivery, foreign_bytes
from tests.support.parser_harness import PLAIN, Script, run

GET = b"GET /items?id=42 HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"5;name=value\r\nhello\r\n00A \r\n0123456789\r\n0\r\nExpires: never\r\nX-Sum: 1\r\n\r\n"
POST = b"POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nbody=42"

KEEP_ALIVE: Script = [(CLIENT, GET), (SERVER, OK), (CLIENT, POST), (SERVER, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")]
PIPELINED: Script = [
    (CLIENT, b"HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n" + GET + b"\r\n" + POST),
    (SERVER, b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + CHUNKED + CHUNKS + b"\r\n" + OK),
]
INTERIM: Script = [
    (CLIENT, b"PUT /big HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (SERVER, b"HTTP/1.1 100 Continue\r\n\r\n"),
    (CLIENT, CHUNKS),
    (SERVER, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n"),
    (CLIENT, GET),
    (SERVER, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 300\r\n\r\n"),
]
UNTIL_CLOSE: Script = [
    (CLIENT, b"GET /old HTTP/1.0\r\n\r\n"),
    (SERVER, b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\nall of this\r\n\r\nHTTP/1.1 200 OK\r\n\r\nis body"),
]
BARE_LINE_FEEDS: Script = [
    (CLIENT, b"GET /lf HTTP/1.1\nHost: a\n\nGET /mixed HTTP/1.1\r\nHost: b\n\r\n"),
    (SERVER, b"HTTP/1.1 200\nContent-Length: 2\n\nokHTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n"),
]
CONTINUED: Script = [
    (CLIENT, b"PROPFIND /dav/ HTTP/1.1\r\nHost:\r\n\ta\r\nDepth: 0,\r\n 1\r\nContent-Length:\r\n 3\r\n\r\n<a>"),
    (SERVER, b"HTTP/1.1 207 Multi-Status\r\nTransfer-Encoding:\r\n gzip,\r\n chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
]
CHUNK_BY_CHUNK: Script = [
    (CLIENT, b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (CLIENT, b"3\r\nabc\r\n"),
    (CLIENT, b"0;last\r\nX-Sum: 1\r\n\r\n"),
    (SERVER, b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"),
]
SCRIPTS = {
    "keep alive": KEEP_ALIVE,
    "pipelined": PIPELINED,
    "interim": INTERIM,
    "until close": UNTIL_CLOSE,
    "continued lines": CONTINUED,
    "chunk by chunk": CHUNK_BY_CHUNK,
    "bare line feeds": BARE_LINE_FEEDS,
}


def request(data: bytes) -> Message:
    return one(CLIENT, data)


def response(data: bytes, asked: bytes = b"GET") -> Message:
    return run(PROTOCOL, [(CLIENT, asked + b" / HTTP/1.1\r\n\r\n"), (SERVER, data)]).of(SERVER)[0]


def one(sender: int, data: bytes) -> Message:
    (message,) = run(PROTOCOL, [(sender, data)]).of(sender)
    return message


def violation(sender: int, data: bytes) -> str:
    """Why a parser refuses `data`, however it is delivered."""
    assert run(PROTOCOL, [(sender, data[at : at + 1]) for at in range(len(data))]).violations
    with pytest.raises(ProtocolError) as refused:
        http.HttpParser(PLAIN).parse(sender, Cursor(data))
    return str(refused.value)


def headers(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


test_every_delivery_gives_the_same_messages = every_delivery(PROTOCOL, SCRIPTS)
test_damage_is_survived = damage(PROTOCOL, SCRIPTS)
test_bytes_of_no_protocol_are_survived = foreign_bytes(PROTOCOL)
# What a message says


def test_request_and_response() -> None:
    first, second = run(PROTOCOL, KEEP_ALIVE).messages[:2]
    assert first[1] == Message(
        kind=Kind.REQUEST,
        operation="GET",
        resource="/items",
        attributes={
            "http.request.method": "GET",
            "url.scheme": "http",
            "url.path": "/items",
            "network.protocol.version": "1.1",
            "server.address": "shop.example",
            "server.port": 8080,
            "user_agent.original": "curl/8",
        },
    )
    assert second[1] == Message(
        kind=Kind.RESPONSE,
        status="200",
        attributes={"http.response.status_code": 200, "network.protocol.version": "1.1", "http.response.body.size": 5},
    )


@pytest.mark.parametrize(("status", "error", "error_type"), [("399", False, None), ("404", True, None), ("502", True, "502")])
def test_failures(status: str, error: bool, error_type: str | None) -> None:
    message = response(f"HTTP/1.0 {status} x\r\nContent-Length: 0\r\n\r\n".encode())
    assert (message.status, message.error, message.attributes.get("error.type")) == (status, error, error_type)
    assert message.attributes["network.protocol.version"] == "1.0"


@pytest.mark.parametrize("method", ["PROPFIND", "MKCOL", "REPORT", "SUBSCRIBE", "M-SEARCH", "VERSION-CONTROL", "BREW", "get"])
def test_methods_of_others_are_methods(method: str) -> None:
    message = request(f"{method} /dav/a HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert (message.operation, message.attributes["http.request.method_original"]) == (method, method)


@pytest.mark.parametrize("repeats", [1, 2, 5])
def test_what_is_remembered_of_a_head_is_not_shared(repeats: int) -> None:
    script: Script = [(CLIENT, GET.replace(b"\r\n\r\n", b"\r\nB3: 1\r\n\r\n")), (SERVER, OK)]
    for _ in range(repeats):
        asked, answered = (message for _, message, _ in run(PROTOCOL, script).messages)
        assert "mine" not in {**asked.attributes, **asked.propagation, **answered.attributes}
        asked.attributes["mine"] = asked.propagation["mine"] = answered.attributes["mine"] = "x"


def test_heads_that_are_alike_are_not_the_same() -> None:
    """What is remembered of one head is not told of another, whichever part of it differs."""
    parts = ([b"GET /a", b"PUT /a", b"GET /b"], [b"1.0", b"1.1"], [b"a", b"b:81"], [b"X: 1", b"User-Agent: c", b"b3: 1"])
    seen = {}
    for _ in range(3):
        for line, version, host, other in itertools.product(*parts):
            message = request(line + b" HTTP/" + version + b"\r\nHost: " + host + b"\r\n" + other + b"\r\n\r\n")
            seen.setdefault(repr(message), set()).add((line, version, host, other))
    assert len(seen) == 3 * 2 * 2 * 3 and all(len(heads) == 1 for heads in seen.values())


def test_unknown_method_keeps_its_name() -> None:
    message = request(b"PURGE /x HTTP/1.1\r\n\r\n")
    assert message.operation == "PURGE"
    assert message.attributes["http.request.method"] == "_OTHER"
    assert message.attributes["http.request.method_original"] == "PURGE"
    assert request(b"QUERY /x HTTP/1.1\r\n\r\n").attributes["http.request.method"] == "QUERY"


@pytest.mark.parametrize(
    ("line", "resource", "path", "server", "scheme"),
    [
        (b"GET /a/b?c=d#e", "/a/b", "/a/b", ("host", None), "http"),
        (b"GET https://u:p@other.example:8443/a?b=c", "/a", "/a", ("other.example", 8443), "https"),
        (b"GET http://other.example?b=/c", "/", "/", ("other.example", None), "http"),
        (b"GET http://" + b"h" * 400 + b"/a", "/a", "/a", (None, None), "http"),
        (b"GET http://[fd00::1]:81/", "/", "/", ("fd00::1", 81), "http"),
        (b"OPTIONS *", "*", "*", ("host", None), "http"),
        (b"CONNECT db.example:5432", "db.example:5432", None, ("db.example", 5432), "http"),
        (b"CONNECT http://db.example:5432/?a", "db.example:5432", None, ("db.example", 5432), "http"),
        (b"CONNECT [fd00::1]:443", "[fd00::1]:443", None, ("fd00::1", 443), "http"),
        (b"GET /a;v=1/b;w;x=2?c", "/a/b", "/a/b", ("host", None), "http"),
        (b"GET //u:p@h/a", "//h/a", "//h/a", ("host", None), "http"),
        (b"GET //h/a@b", "//h/a@b", "//h/a@b", ("host", None), "http"),
        (b"GET /@me", "/@me", "/@me", ("host", None), "http"),
        (b"GET mailto:a@b", "mailto:", "mailto:", ("host", None), "http"),
        (b"GET http:h/a", "http:", "http:", ("host", None), "http"),
        (b"GET /redirect?to=http://elsewhere/", "/redirect", "/redirect", ("host", None), "http"),
        ("GET /straße".encode(), "/straße", "/straße", ("host", None), "http"),
    ],
)
def test_targets(line: bytes, resource: str, path: str | None, server: tuple[str | None, int | None], scheme: str) -> None:
    message = request(line + b" HTTP/1.1\r\nHost: host\r\n\r\n")
    attributes = message.attributes
    assert (message.resource, attributes.get("url.path"), attributes["url.scheme"]) == (resource, path, scheme)
    assert (attributes.get("server.address"), attributes.get("server.port")) == server


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        (b"a", "a", None),
        (b" A.b:80 ", "A.b", 80),
        (b"[::1]", "::1", None),
        (b"[::1]:99", "::1", 99),
        (b"a:x", "a", None),
        (b"", None, None),
    ],
)
def test_host(host: bytes, address: str | None, port: int | None) -> None:
    attributes = request(b"GET / HTTP/1.1\r\nHOST:" + host + b"\r\n\r\n").attributes
    assert (attributes.get("server.address"), attributes.get("server.port")) == (address, port)


def test_trace_context_is_handed_on_and_nothing_else() -> None:
    sent = {name: f"value-of-{name}" for name in PROPAGATION_HEADERS}
    lines = [f"{name.title()}:  {value} ".encode() for name, value in sent.items()]
    message = request(b"GET / HTTP/1.1\r\n" + headers(b"Cookie: b3=1", *lines, b"Tracestate: second"))
    assert message.propagation == sent | {"tracestate": "value-of-tracestate,second"}


def test_what_is_private_enters_no_message() -> None:
    secret = b"s3cr3t"
    head_lines = headers(
        b"Host: me:%b@a" % secret, b"Cookie: %b" % secret, b"Authorization: Basic %b" % secret, b"Content-Length: 6"
    )
    script: Script = [
        (CLIENT, b"POST http://u:%b@a/p?%b=%b HTTP/1.1\r\n" % (secret, secret, secret) + head_lines + secret),
        (SERVER, b"HTTP/1.1 200 OK\r\n" + headers(b"Set-Cookie: %b" % secret, b"Content-Length: 6") + secret),
        (CLIENT, b"POST /p#%b HTTP/1.1\r\n" % secret + head_lines + secret),
    ]
    messages = run(PROTOCOL, script).messages
    assert len(messages) == 3
    assert "s3cr3t" not in repr(messages)


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT /x?SECRET",
        b"CONNECT http://h/?SECRET",
        b"CONNECT h:1?SECRET",
        b"CONNECT u:SECRET@h:1",
        b"CONNECT h;SECRET",
        b"GET mailto:u:SECRET@h",
        b"GET http:u:SECRET@h",
        b"GET http:/u:SECRET@h/",
        b"GET //u:SECRET@h/a",
        b"GET http://h//u:SECRET@i/a",
        b"GET u/SECRET@h",
        b"GET SECRET@h",
        b"GET *SECRET",
        b"GET /a;jsessionid=SECRET",
        b"GET http://h/a;jsessionid=SECRET/b?c",
        b"GET http://h;SECRET/",
    ],
)
def test_no_form_of_a_target_lets_a_secret_through(line: bytes) -> None:
    assert "SECRET" not in repr(request(line + b" HTTP/1.1\r\nHost: host\r\n\r\n"))


@pytest.mark.parametrize(
    "host", [b"x?SECRET", b"x/p?SECRET", b"x#SECRET", b"u:SECRET@x", b"x;SECRET", b"x:SECRET", b"x/SECRET@y"]
)
def test_no_host_lets_a_secret_through(host: bytes) -> None:
    message = request(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert "SECRET" not in repr(message)
    assert message.attributes["server.address"] == "x"


def test_continued_lines_belong_to_the_value() -> None:
    message = request(
        b"GET / HTTP/1.1\r\n Host: hidden\r\n" + headers(b"User-Agent: a", b"\tb", b"X: 1", b" Content-Length: 9")
    )
    assert message.attributes["user_agent.original"] == "a b"
    assert "server.address" not in message.attributes
    assert request(b"PUT / HTTP/1.1\r\nContent-Length:\r\n 2\r\n\r\nok").attributes["http.request.body.size"] == 2


def test_long_text_is_cut() -> None:
    message = request(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nB3: " + b"b" * 9000 + b"\r\n\r\n")
    assert len(message.resource) == len(message.propagation["b3"]) == head.MAX_TEXT


# Framing


def test_sizes_and_pipelining() -> None:
    out = run(PROTOCOL, PIPELINED)
    assert [(m.operation, m.attributes.get("http.request.body.size")) for m in out.of(CLIENT)] == [
        ("HEAD", None),
        ("GET", None),
        ("POST", 7),
    ]
    assert [m.attributes.get("http.response.body.size") for m in out.of(SERVER)] == [None, 15, 5]


def test_interim_responses_answer_nothing() -> None:
    out = run(PROTOCOL, INTERIM)
    assert [(m.kind, m.status) for m in out.of(SERVER)] == [
        (Kind.INTERIM, "100"),
        (Kind.INTERIM, "103"),
        (Kind.RESPONSE, "204"),
        (Kind.RESPONSE, "304"),
    ]
    assert out.of(CLIENT)[0].attributes["http.request.body.size"] == 15


def test_close_ends_a_body_without_length() -> None:
    out = run(PROTOCOL, UNTIL_CLOSE)
    assert out.before_close == 1
    (message,) = out.of(SERVER)
    assert not message.incomplete
    assert message.attributes["http.response.body.size"] == len(UNTIL_CLOSE[1][1]) - len(
        b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\n"
    )  # type: ignore[arg-type]


def test_unseen_bytes_of_a_body_until_close_are_stepped_over() -> None:
    (message,) = run(PROTOCOL, [(SERVER, b"HTTP/1.0 200 OK\r\n\r\nab"), (SERVER, 1000), (SERVER, b"cd")]).of(SERVER)
    assert (message.incomplete, message.attributes["http.response.body.size"]) == (False, 1004)


def test_unseen_bytes_of_a_known_length_are_skipped() -> None:
    out = run(PROTOCOL, [(SERVER, b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nab"), (SERVER, 4998), (SERVER, OK)])
    assert [(end, m.attributes["http.response.body.size"]) for _, m, end in out.messages] == [(5041, 5000), (5041 + len(OK), 5)]
    assert out.before_close == 2


def test_unseen_chunk_data_is_skipped() -> None:
    out = run(PROTOCOL, [(SERVER, CHUNKED + b"400\r\nab"), (SERVER, 1022), (SERVER, b"\r\n0\r\n\r\n")])
    assert [(m.incomplete, m.attributes["http.response.body.size"]) for m in out.of(SERVER)] == [(False, 1024)]


def test_chunks_outrank_a_length_and_say_so() -> None:
    message = request(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
    assert message.attributes["http.request.body.size"] == 1
    assert message.attributes[head.LENGTH_IGNORED] is True


def test_a_response_in_another_coding_lasts_until_the_close() -> None:
    message = response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nabc")
    assert message.attributes["http.response.body.size"] == 3


@pytest.mark.parametrize(
    "lines",
    [(b"Content-Length: 2, 2",), (b"Content-Length: 2", b"content-length:2"), (b"Content-Length-X: 9", b"CONTENT-LENGTH:\t2 ")],
)
def test_equal_lengths_agree(lines: tuple[bytes, ...]) -> None:
    assert request(b"PUT / HTTP/1.1\r\n" + headers(*lines) + b"ok").attributes["http.request.body.size"] == 2


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: 2\r\nContent-Length: 3",
        b"Content-Length: 2, 3",
        b"Content-Length: -1",
        b"Content-Length: +1",
        b"Content-Length: 1_0",
        b"Content-Length: 0x10",
        b"Content-Length: ",
        b"Content-Length: 1 2",
        b"Content-Length: " + b"9" * (head.MAX_LENGTH_DIGITS + 1),
        b"Content-Length : 2",
        b"Transfer-Encoding : chunked",
        b"X: a\0b",
    ],
)
def test_no_length_is_guessed(line: bytes) -> None:
    violation(CLIENT, b"PUT / HTTP/1.1\r\n" + headers(line))
    violation(SERVER, b"HTTP/1.1 200 OK\r\n" + headers(line))


@pytest.mark.parametrize("coding", [b"gzip", b"chunked, gzip", b"xchunked", b""])
def test_a_request_needs_an_end(coding: bytes) -> None:
    assert "no end" in violation(CLIENT, b"PUT / HTTP/1.1\r\n" + headers(b"Transfer-Encoding: " + coding))


@pytest.mark.parametrize(
    "chunk", [b"\r\n", b"-1\r\n", b"0x5\r\n", b"1_0\r\n", b"g\r\n", b"1" * 16 + b"\r\n", b"2\r\nabc\r\n", b"5" + b" " * 5000]
)
def test_no_chunk_size_is_guessed(chunk: bytes) -> None:
    violation(SERVER, CHUNKED + chunk)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /",
        b"GET / HTTP/x",
        b"FOO /a b HTTP/1.1",
        b"FOO / http/1.1",
        b"GET /\x1b[2J HTTP/1.1",
        b" GET / HTTP/1.1",
        b"G@T / HTTP/1.1",
        b"M" * 33 + b" / HTTP/1.1",
    ],
)
def test_bad_request_lines(line: bytes) -> None:
    violation(CLIENT, line + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("line", "resource", "version"),
    [
        (b"GET  /  HTTP/1.1", "/", "1.1"),
        (b"GET / HTTP/1.1 ", "/", "1.1"),
        (b"GET / http/1.1", "/", "1.1"),
        (b"GET / HTTP/2.0", "/", "2.0"),
        (b"GET / HTTP/1.2", "/", "1.2"),
        (b"GET /a b  c?d e HTTP/1.0", "/a b  c", "1.0"),
        (b"GET http://h:1/a b HTTP/1.1", "/a b", "1.1"),
        (b"GET  HTTP/1.1", "/", "1.1"),
        (b"GET HTTP/1.1", "/", "1.1"),
    ],
)
def test_lines_that_break_the_grammar_and_are_answered_all_the_same(line: bytes, resource: str, version: str) -> None:
    message = request(line + b"\r\n\r\n")
    assert (message.operation, message.resource) == ("GET", resource)
    assert message.attributes["network.protocol.version"] == version
    assert message.attributes["http.request.method"] == "GET"
    for end in range(1, len(line)):
        assert PROTOCOL.recognise(line[:end]) is Evidence.MORE
    assert PROTOCOL.recognise(line + b"\r\n") is Evidence.REQUEST


@pytest.mark.parametrize("method", [b"GET", b"CONNECT", b"PURGE"])
@pytest.mark.parametrize(
    "path",
    [b"/a", b"/", b"//h/a", b"/a;p=1/b", b"/u@h", b"/a#f", b"/a%20b", "/ä".encode(), b"/\xff", b"*", b"a", b"/" + b"a" * 3000],
)
@pytest.mark.parametrize("rest", [b"", b"?q=1", b"?", b"?a#b;c@d", b"#f"])
def test_the_usual_line_is_read_as_any_other(method: bytes, path: bytes, rest: bytes) -> None:
    for end in (b" HTTP/1.1\r", b" HTTP/1.0\r", b" HTTP/1.1"):
        line = method + b" " + path + rest + end
        assert target.read_line(target.SHOW_PATHS, line) == target._read_unusual(target.SHOW_PATHS, line + b"\n")


@pytest.mark.parametrize(
    "line", [b"GETH / TTP/1.1", b" / GETHTTP/1.1", b"GETHTTP/1.1 / ", b"GET /\x01 HTTP/1.1", b"GET / HTTP/1.1\r"]
)
def test_words_that_only_look_usual_are_no_request_line(line: bytes) -> None:
    violation(CLIENT, line + b"\r\n\r\n")


@pytest.mark.parametrize("without", [head.NO_BODY, head.UNTIL_CLOSE])
@pytest.mark.parametrize(
    "first", [b"", b"Server: x\r\n", b"Content-Length: 7\r\n", b"Content-Length:7\r\n", b"Transfer-Encoding: gzip\r\n"]
)
@pytest.mark.parametrize(
    "second",
    [
        b": 7\r\n",
        b": 7\n",
        b":7\r\n",
        b": 7 \r\n",
        b": 7\r\n 8\r\n",
        b": 7,7\r\n",
        b" : 7\r\n",
        b":  7\r\n",
        b": +7\r\n",
        b": 7_0\r\n",
    ]
    + [b": " + b"1" * digits + b"\r\n" for digits in (head.MAX_LENGTH_DIGITS, head.MAX_LENGTH_DIGITS + 1)]
    + [b": \r\n", b"s: 7\r\n", b": 7\r\r\n"],
)
def test_the_usual_length_is_read_as_any_other(without: int, first: bytes, second: bytes) -> None:
    for last in (b"\r\n", b"\n", b"Date: x\r\n\r\n", b"Content-Length: 7\r\n\r\n"):
        lower = (b"\r\n" + first + b"Content-Length" + second + last).lower()
        assert head._frame(lower, without) == head._frame_closely(lower, without)


def test_a_connection_between_messages_keeps_nothing_of_its_own() -> None:
    """Ten thousand of them are open at a time."""
    parser = http.HttpParser(PLAIN)
    for sender, data in [(CLIENT, GET), (SERVER, CHUNKED + CHUNKS), (CLIENT, POST), (SERVER, OK)] * 2:
        cursor = Cursor(b"")
        for end in range(1, len(data) + 1):
            cursor.data = data[:end]
            parser.parse(sender, cursor)
        assert parser._halves is http._BETWEEN
    assert parser._pending == ""


def test_an_odd_version_of_a_response() -> None:
    (message,) = run(PROTOCOL, [(CLIENT, GET), (SERVER, b"HTTP/2.0 500 x\r\nContent-Length: 0\r\n\r\n")]).of(SERVER)
    assert message.status == "500" and message.error
    assert message.attributes["network.protocol.version"] == "2.0"


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000",
        b"HTTP/2 200",
        b"HTTP/1.1  200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 099 x",
        b"http/1.1 200 OK",
    ],
)
def test_bad_status_lines(line: bytes) -> None:
    violation(SERVER, line + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("sender", "first"), [(CLIENT, b"\x16\x03\x01"), (CLIENT, b"M" * 33), (SERVER, b"SSH-2.0"), (SERVER, b"G")]
)
def test_what_cannot_become_a_start_line_is_refused_at_once(sender: int, first: bytes) -> None:
    assert "begin no start line" in violation(sender, first)


# Limits


def test_a_head_is_bounded() -> None:
    line = b"GET / HTTP/1.1\r\n"
    fits = line + b"X: " + b"a" * (http.MAX_HEAD - len(line) - 7) + b"\r\n\r\n"
    assert len(fits) == http.MAX_HEAD and request(fits).operation == "GET"
    assert "a head of more" in violation(CLIENT, line + b"X: " + b"a" * http.MAX_HEAD)
    assert "header lines" in violation(CLIENT, line + b"a:b\r\n" * head.MAX_HEADERS + b"\r\n")


def test_trailers_are_bounded() -> None:
    assert "trailers" in violation(SERVER, CHUNKED + b"0\r\n" + b"a: 34567890\r\n" * (http.MAX_HEAD // 11 + 1))


@pytest.mark.parametrize(
    "filler",
    [b"\n", b"\r\n", b"\r", b"a", b" ", b"\n ", b":", b"\ncontent-length", b"\nx:\n\t", b"GET / HTTP/1.1\n\n", os.urandom(64)],
)
@pytest.mark.parametrize("sender", [CLIENT, SERVER])
def test_hostile_heads_are_read_in_linear_work(sender: int, filler: bytes) -> None:
    start = b"GET / HTTP/1.1\r\n" if sender == CLIENT else b"HTTP/1.1 200 OK\r\n"
    data = start + filler * (3 * http.MAX_HEAD // len(filler))
    run(PROTOCOL, [(sender, data[at : at + 1400]) for at in range(0, len(data), 1400)])
    run(PROTOCOL, [(sender, data[at : at + 1]) for at in range(20000)])


def test_half_a_head_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = 0

    class Counting:
        def search(self, data: bytearray, start: int, end: int) -> None:
            nonlocal searched
            searched += min(len(data), end) - start

    monkeypatch.setattr(http, "_HEAD_END", Counting())
    data = b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000
    run(PROTOCOL, [(CLIENT, data[at : at + 1]) for at in range(len(data))])
    assert searched <= 4 * len(data)


def test_methods_of_unanswered_requests_are_bounded() -> None:
    parser = http.HttpParser(PLAIN)
    for _ in range(3 * http.MAX_PENDING):
        assert parser.parse(CLIENT, Cursor(GET)) is not None
    assert len(parser._pending) == http.MAX_PENDING


# Loss


@pytest.mark.parametrize(
    "tail",
    [
        b"Content-Length: 10\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n",
        b"X: y\r\n",
        b"",
    ],
)
def test_a_message_that_was_cut_is_incomplete(tail: bytes) -> None:
    (message,) = run(PROTOCOL, [(SERVER, b"HTTP/1.1 500 Oh\r\n" + tail)]).of(SERVER)
    assert (message.status, message.error, message.incomplete) == ("500", True, True)
    assert "http.response.body.size" not in message.attributes


def test_half_a_start_line_is_no_message() -> None:
    assert run(PROTOCOL, [(CLIENT, b"GET /half HTT")]).messages == []
    assert run(PROTOCOL, [(SERVER, b"HTTP/1.1 200 OK")]).messages == []


@pytest.mark.parametrize(
    ("line", "resource"),
    [
        (b"GET /half HTT", "/half"),
        (b"GET /half ", "/half"),
        (b"GET /hal", ""),
        (b"GET /half?query=secr", "/half"),
        (b"DELETE / HTTP/1.1\r", "/"),
        (b"PURGE /half HTT", None),
        (b"GET http://host/ha", None),
        (b"CONNECT host:4", None),
        (b"GE", None),
    ],
)
def test_a_request_line_cut_by_a_gap_tells_its_method_and_path(line: bytes, resource: str | None) -> None:
    """What a capture of the first bytes of each packet leaves of a request."""
    out = run(PROTOCOL, [(CLIENT, line), (CLIENT, 300), (SERVER, OK), (CLIENT, GET), (SERVER, OK)])
    assert [(m.resource, m.incomplete) for m in out.of(CLIENT)[:-1]] == ([] if resource is None else [(resource, True)])
    assert all("network.protocol.version" not in m.attributes for m in out.of(CLIENT)[:-1])
    assert "secr" not in str(out.messages)
    assert out.of(CLIENT)[-1].resource == "/items"


def test_a_head_cut_by_a_gap_tells_what_was_seen_of_it() -> None:
    """What a capture budget does to a long cookie: the request, its context and the pairing survive."""
    out = run(
        PROTOCOL,
        [
            (CLIENT, b"HEAD /x HTTP/1.1\r\nHost: a\r\nB3: 1-2-1\r\nUser-Agent: half"),
            (CLIENT, 3000),
            (SERVER, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
            (CLIENT, GET),
            (SERVER, OK),
        ],
    )
    first, second = out.of(CLIENT)
    assert (first.incomplete, first.resource, first.propagation) == (True, "/x", {"b3": "1-2-1"})
    assert (second.incomplete, second.resource) == (False, "/items")
    assert "user_agent.original" not in first.attributes
    assert [m.attributes.get("http.response.body.size") for m in out.of(SERVER)] == [None, 5]


def test_lost_chunk_sizes_end_the_message_at_the_next_turn() -> None:
    out = run(PROTOCOL, [(CLIENT, GET), (SERVER, CHUNKED + b"5\r\nab"), (SERVER, 2000), (CLIENT, GET), (SERVER, OK)])
    assert [(m.status, m.incomplete) for m in out.of(SERVER)] == [("200", True), ("200", False)]


def test_lost_responses_do_not_shift_the_methods() -> None:
    lost = [(CLIENT, b"HEAD / HTTP/1.1\r\n\r\n"), (SERVER, 300)]
    out = run(PROTOCOL, [*lost, *lost, (CLIENT, GET), (SERVER, OK), (CLIENT, GET), (SERVER, OK)])
    assert [m.attributes.get("http.response.body.size") for m in out.of(SERVER)] == [5, 5]


@pytest.mark.parametrize(
    ("sender", "data", "offset"),
    [
        (CLIENT, GET, 0),
        (CLIENT, b"tail of a body\r\n" + GET, 16),
        (CLIENT, b"GET is a word\n\nFOO / HTTP/1.1\n", 15),
        (CLIENT, b"x\nPOST /a/very/long/pa", 2),
        (CLIENT, b"x\nFOO /unknown/and/half", None),
        (CLIENT, OK, None),
        (SERVER, b"x\r\nHTTP/1.1 20\nHTTP/1.0 200 OK\r\n", 15),
        (SERVER, b"x HTTP/1.1 200 OK\r\n", None),
        (SERVER, b"", None),
    ],
)
def test_resync(sender: int, data: bytes, offset: int | None) -> None:
    assert http.HttpParser(PLAIN).resync(sender, bytearray(data)) == offset


def test_after_a_violation_the_next_message_is_found() -> None:
    bad = b"PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n"
    out = run(PROTOCOL, [(CLIENT, b"\x00\x01binary\n" + GET + bad + GET)])
    assert [m.resource for m in out.of(CLIENT)] == ["/items", "/items"]
    assert len(out.violations) == 2


# Recognition


@pytest.mark.parametrize(
    ("data", "evidence"),
    [
        (b"", Evidence.MORE),
        (b"G", Evidence.MORE),
        (b"GET ", Evidence.MORE),
        (b"GET /a", Evidence.MORE),
        (b"CONNECT a:1 HT", Evidence.MORE),
        (b"GET / HTTP/1.1\r", Evidence.MORE),
        (GET, Evidence.REQUEST),
        (b"\r\n" + GET, Evidence.REQUEST),
        (b"PROPFIND / HTTP/1.0\n", Evidence.REQUEST),
        (b"PROPFIND / HTT", Evidence.NO),
        (b"HTTP/1.", Evidence.MORE),
        (b"HTTP/1.1 200", Evidence.MORE),
        (OK, Evidence.RESPONSE),
        (b"HTTP/1.1 200\r\n", Evidence.RESPONSE),
        (b"HTTP/1.1 2x", Evidence.NO),
        (b"HTTP/2 200 OK\r\n", Evidence.NO),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Evidence.NO),
        (b"PRI", Evidence.NO),
        (b"GET key\r\n", Evidence.NO),
        (b"get key", Evidence.NO),
        (b'CONNECT {"verbose":false}\r\n', Evidence.NO),
        (b"OPTIONS rtsp://a RTSP/1.0\r\n", Evidence.NO),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Evidence.NO),
        (b"*1\r\n$4\r\nPING\r\n", Evidence.NO),
    ],
)
def test_recognise(data: bytes, evidence: Evidence) -> None:
    assert PROTOCOL.recognise(data) is evidence


@pytest.mark.parametrize("data", [GET, OK, POST, CHUNKED + CHUNKS])
def test_recognise_is_sure_of_the_sender_wherever_it_starts(data: bytes) -> None:
    wrong = Evidence.REQUEST if data.startswith(b"HTTP") else Evidence.RESPONSE
    for end in range(len(data)):
        assert PROTOCOL.recognise(data[:end]) is not wrong
        assert PROTOCOL.recognise(data[:end]) is not Evidence.NO
        assert PROTOCOL.recognise(data[end:]) is not wrong
    first_line = data.find(b"\n")
    for start in range(first_line, len(data)):
        assert PROTOCOL.recognise(data[start:]) in (Evidence.NO, Evidence.MORE)


@given(st.binary(max_size=300))
def test_random_bytes_are_not_recognised(data: bytes) -> None:
    assume(b"HTTP/" not in data)  # hypothesis finds it in the source
    assert PROTOCOL.recognise(data) in (Evidence.NO, Evidence.MORE)
    assert PROTOCOL.recognise(b"\x16\x03\x03" + data) is Evidence.NO
