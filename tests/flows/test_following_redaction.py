"""How much is hidden may change while connections are open: what comes out later was never read at the level of before.

The same on an open connection of every protocol that has something to hide, with each level in turn.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import pytest

from clovisor_py.flows.following import HIDDEN_ANEW
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.session import Session
from clovisor_py.protocols._redaction import OFF, STRICT, Redaction
from clovisor_py.protocols._registry import registry
from tests.protocols import test_postgresql as pg
from tests.support.http2 import Talk
from tests.support.parser_harness import Script
from tests.support.segments import Conversation

VETH = 7
Talking = Generator[Script, str, None]
"""First how it begins; then, for each secret, a question that has it somewhere, and its answer."""


def http() -> Talking:
    secret = yield []
    while True:
        get = f"GET /greet?token={secret} HTTP/1.1\r\nHost: web\r\n\r\n".encode()
        secret = yield [(0, get), (1, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")]


def http2() -> Talking:
    talk, stream = Talk(), 1
    secret = yield talk.script
    while True:
        said = len(talk.script)
        talk.ask(stream, path=f"/greet?token={secret}").answer(stream, body=b"hello")
        secret = yield talk.script[said:]
        stream += 2


def redis() -> Talking:
    secret = yield []
    while True:
        key = secret.encode()
        secret = yield [(0, b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key)), (1, b"$2\r\nhi\r\n")]


def postgresql() -> Talking:
    secret = yield [(0, pg.STARTUP), (1, pg.GREETING)]
    while True:
        asked = pg.query(f"SELECT id FROM users WHERE name = '{secret}'".encode())
        secret = yield [(0, asked), (1, pg.columns(b"id") + pg.row(b"1") + pg.done(b"SELECT 1") + pg.READY)]


TALKS = {"http": (http, 8080), "http2": (http2, 8080), "redis": (redis, 6379), "postgresql": (postgresql, 5432)}


def told(sessions: list[Session]) -> str:
    """All that is ever told of them: `head`, the bytes that ids are made from, stays in the process."""
    return repr([replace(session, head=b"") for session in sessions])


class Open:
    """A connection that stays open, and what came of it."""

    def __init__(self, name: str) -> None:
        make, port = TALKS[name]
        self.talk, self.exchanges = Conversation(server_port=port).handshake(), make()
        self.engine = Pipeline(protocols=dict(registry()), redaction=OFF)
        self.script(next(self.exchanges))

    def script(self, script: Script) -> str:
        for who, data in script:
            self.talk.say(who, data)
        return self.feed()

    def feed(self) -> str:
        said, self.talk.segments = self.talk.segments, []
        return told(self.engine.feed(said))

    def hide(self, redaction: Redaction) -> str:
        return told(self.engine.set_terms(VETH, {}, redaction, self.talk.now))

    def close(self) -> str:
        return told(self.engine.close(self.talk.now))

    def exchange(self, secret: str) -> str:
        return self.script(self.exchanges.send(secret))


@pytest.mark.parametrize("name", TALKS)
def test_of_an_open_connection_more_is_hidden_and_less_again(name: str) -> None:
    one = Open(name)
    assert "SECRET0" in one.exchange("SECRET0")
    between = one.hide(STRICT)
    hidden = one.exchange("SECRET1") + one.exchange("SECRET2")
    assert "SECRET" not in between + hidden
    assert hidden.count("Session(") == 2
    one.hide(OFF)
    assert "SECRET3" in one.exchange("SECRET3")


@pytest.mark.parametrize("name", TALKS)
def test_what_waits_for_an_answer_is_told_at_the_change_and_not_later(name: str) -> None:
    one = Open(name)
    asked, *answers = one.exchanges.send("SECRET0")
    assert one.script([asked]) == "[]"
    assert "SECRET0" in one.hide(STRICT)
    assert "SECRET" not in one.script(answers) + one.exchange("SECRET1") + one.close()
    assert [reason for _, reason, _ in one.engine.unparsed()] == ([] if name == "http2" else [HIDDEN_ANEW])


@pytest.mark.parametrize("name", TALKS)
def test_half_a_question_is_not_finished_at_another_level(name: str) -> None:
    one = Open(name)
    one.exchange("SECRET0")
    (who, asked), *answers = one.exchanges.send("SECRET1")
    one.script([(who, asked[:-2])])
    one.hide(STRICT)
    rest = one.script([(who, asked[-2:]), *answers])
    assert "SECRET" not in rest + one.exchange("SECRET2") + one.close()


def test_the_same_level_again_touches_nothing() -> None:
    one = Open("http")
    asked, *answers = one.exchanges.send("SECRET0")
    one.script([asked])
    assert one.hide(OFF) == "[]"
    assert "SECRET0" in one.script(answers)
    assert one.engine.unparsed() == []


def test_the_header_tables_of_a_connection_outlive_a_change() -> None:
    """They are never sent again: without them every later call of a gRPC client would have no name."""
    one = Open("http2")
    one.exchange("SECRET")
    one.hide(STRICT)
    assert "SECRET" not in (hidden := one.exchange("SECRET"))
    assert "resource='/greet'" in hidden and "unknown_headers" not in hidden and "mid_stream=False" in hidden
    one.hide(OFF)
    assert "resource='/greet?token=SECRET'" in one.exchange("SECRET")


@pytest.mark.parametrize("cut", [1, 9, 12])
def test_a_change_inside_of_a_frame(cut: int) -> None:
    one = Open("http2")
    (who, asked), *answers = one.exchanges.send("SECRET")
    one.script([(who, asked[:cut])])
    one.hide(STRICT)
    answered = one.script([(who, asked[cut:]), *answers])
    assert "resource='/greet'" in answered and "status='200'" in answered and "SECRET" not in answered


def test_calls_that_ride_on_a_connection_are_hidden_anew() -> None:
    """Of what gRPC tells, the text of an error is a value."""
    talk, one = Talk(), Open("http2")
    one.talk = Conversation(flow_id="calls").handshake()
    kind = [("content-type", "application/grpc")]

    def call(stream: int) -> str:
        said = len(talk.script)
        talk.ask(stream, "/shop.Cart/Add", method="POST", body=bytes(5), extra=kind)
        talk.answer(stream, body=bytes(5), extra=kind, trailers=[("grpc-status", "5"), ("grpc-message", f"SECRET {stream}")])
        return one.script(talk.script[said:] if said > 4 else talk.script)

    assert "SECRET 1" in call(1)
    one.hide(STRICT)
    assert "SECRET" not in (hidden := call(3)) and "shop.Cart" in hidden
    one.hide(OFF)
    assert "SECRET 5" in call(5)
