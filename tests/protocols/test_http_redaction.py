"""What an HTTP/1 message tells at each level of redaction, and what it tells at none."""

from __future__ import annotations

import pytest

from clovisor_py.model.message import CLIENT, SERVER, Message
from clovisor_py.protocols import _http_head as head
from clovisor_py.protocols import _http_target as target
from clovisor_py.protocols._api import Setup
from clovisor_py.protocols._redaction import DEFAULT, OFF, STRICT, Redaction
from clovisor_py.protocols.http import PROTOCOL
from tests.support.parser_harness import Script, check, run

LEVELS = (OFF, DEFAULT, STRICT)
LOGIN: Script = [
    (
        CLIENT,
        b"POST /login;sid=1?user=ann&next=/u/7#top HTTP/1.1\r\nHost: shop\r\nCookie: a=1; b=2\r\nCookie: c=3\r\n"
        b"Authorization: Basic YW5uOnB3\r\nContent-Length: 2\r\n\r\npw",
    ),
    (SERVER, b"HTTP/1.1 200 OK\r\nSet-Cookie: s=1; HttpOnly\r\nSET-COOKIE: t=2\r\nContent-Length: 0\r\n\r\n"),
]


def messages(script: Script, redaction: Redaction) -> list[Message]:
    return [message for _, message, _ in run(PROTOCOL, script, Setup(redaction)).messages]


def request(line: bytes, redaction: Redaction) -> Message:
    (message,) = messages([(CLIENT, line + b" HTTP/1.1\r\n\r\n")], redaction)
    return message


@pytest.mark.parametrize("redaction", LEVELS)
def test_every_delivery_gives_the_same_messages(redaction: Redaction) -> None:
    check(PROTOCOL, LOGIN, Setup(redaction))


@pytest.mark.parametrize(
    ("line", "resource", "path", "query"),
    [
        (b"GET /a?b=c&d", "/a?b=c&d", "/a", "b=c&d"),
        (b"GET /a;v=1/b?c=d#e", "/a;v=1/b?c=d#e", "/a;v=1/b", "c=d"),
        (b"GET /a?b?c#d?e", "/a?b?c#d?e", "/a", "b?c"),
        (b"GET /a#b?c", "/a#b?c", "/a", None),
        (b"GET /a?", "/a?", "/a", None),
        (b"GET /a", "/a", "/a", None),
        (b"GET ?a", "/?a", "/", "a"),
        (b"GET .", ".", ".", None),
        (b"GET a/b;c=d?e", "a/b;c=d?e", "a/b;c=d", "e"),
        (b"GET u:p@h/a", "u:", "u:", None),
        (b"GET http://h:81?b=/c", "/?b=/c", "/", "b=/c"),
        (b"GET http://h/a?b#c", "/a?b#c", "/a", "b"),
        (b"OPTIONS *", "*", "*", None),
        (b"GET /a?b=" + b"c" * 3000, "/a?b=" + "c" * (target.MAX_TEXT - 3), "/a", "b=" + "c" * (target.MAX_TEXT - 2)),
    ],
)
def test_off_tells_the_target_as_it_is_on_the_wire(line: bytes, resource: str, path: str, query: str | None) -> None:
    message = request(line, OFF)
    assert (message.resource, message.attributes["url.path"], message.attributes.get("url.query")) == (resource, path, query)


def test_off_tells_cookies_and_how_somebody_logged_in() -> None:
    asked, answered = messages(LOGIN, OFF)
    assert asked.attributes["http.request.header.cookie"] == ["a=1; b=2", "c=3"]
    assert asked.attributes["http.request.header.authorization"] == ["Basic ?"]
    assert answered.attributes["http.response.header.set-cookie"] == ["s=1; HttpOnly", "t=2"]


@pytest.mark.parametrize("redaction", [DEFAULT, STRICT])
def test_other_levels_tell_none_of_it(redaction: Redaction) -> None:
    asked, answered = messages(LOGIN, redaction)
    assert (asked.resource, asked.attributes["url.path"]) == ("/login", "/login")
    told = {*asked.attributes, *answered.attributes}
    assert "url.query" not in told and not any(".header." in name for name in told)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        (b"/v1/users/8731/cart?id=1", "/v1/users/{}/cart"),
        (b"/u/ann@example.org/x;y=z", "/u/{}/x"),
        (b"http://h:81/a/%41nn", "/a/{}"),
        (b"*", "*"),
        (b"/", "/"),
    ],
)
def test_strict_tells_routes(path: bytes, route: str) -> None:
    message = request(b"GET " + path, STRICT)
    assert (message.resource, message.attributes["url.path"]) == (route, route)


def test_levels_are_not_mixed_up() -> None:
    """Heads are remembered, for each level its own."""
    for _ in range(3):
        resources = [request(b"GET /users/1?q=2", redaction).resource for redaction in LEVELS]
        assert resources == ["/users/1?q=2", "/users/1", "/users/{}"]


@pytest.mark.parametrize("redaction", LEVELS)
@pytest.mark.parametrize(
    "line",
    [
        b"GET http://u:SECRET@h/a?b",
        b"GET //u:SECRET@h/a?b",
        b"GET //u:SECRET@h",
        b"CONNECT u:SECRET@h:1",
        b"CONNECT http://u:SECRET@h:1/",
        b"GET mailto:u:SECRET@h",
        b"GET u:SECRET@h?a",
    ],
)
def test_a_password_is_told_at_no_level(line: bytes, redaction: Redaction) -> None:
    assert "SECRET" not in repr(request(line, redaction))


@pytest.mark.parametrize("redaction", LEVELS)
@pytest.mark.parametrize("scheme", [b"Basic ", b"Bearer ", b"Digest username=u, response=", b"Negotiate\t", b"\r\n NTLM "])
def test_a_login_is_told_at_no_level(scheme: bytes, redaction: Redaction) -> None:
    lines = b"Authorization: " + scheme + b"SECRET\r\nProxy-Authorization: Basic SECRET\r\nX-Api-Key: SECRET\r\n"
    assert "SECRET" not in repr(messages([(CLIENT, b"GET / HTTP/1.1\r\n" + lines + b"\r\n")], redaction))


def test_what_is_shown_of_a_header_is_bounded() -> None:
    lines = b"Cookie:\r\n" + b"Cookie: " + b"c" * 3000 + b"\r\n" + b"Cookie: d\r\n" * 100
    (message,) = messages([(CLIENT, b"GET / HTTP/1.1\r\n" + lines + b"\r\n")], OFF)
    cookies = message.attributes["http.request.header.cookie"]
    assert isinstance(cookies, list) and len(cookies) == head.MAX_SHOWN
    assert cookies[:2] == ["c" * target.MAX_TEXT, "d"]
