"""Recognising Redis: what only Redis says is accepted, what others say too asks for more, and everything else is refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.model.message import CLIENT, SERVER
from clovisor_py.protocols import _redis_start as start
from clovisor_py.protocols._api import Evidence

NO, MORE, REQUEST, RESPONSE = Evidence.NO, Evidence.MORE, Evidence.REQUEST, Evidence.RESPONSE

SAID = {
    b"*2\r\n$3\r\nget\r\n$4\r\nabcd\r\n": REQUEST,
    b"*1\r\n$4\r\nPING\r\n": REQUEST,
    b"*3\r\n$9\r\nFT.SEARCH\r\n$3\r\nidx\r\n$1\r\n*\r\n": REQUEST,
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3000000\r\nxxxx": REQUEST,
    b"*2\r\n$9\r\nsubscribe\r\n$3\r\nFoo\r\n": REQUEST,
    b"*3\r\n$9\r\nsubscribe\r\n$3\r\nFoo\r\n$3\r\nBar\r\n": REQUEST,
    b"*3\r\n$9\r\nsubscribe\r\n$3\r\nFoo\r\n:1\r\n": RESPONSE,
    b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n": RESPONSE,
    b"*3\r\n$7\r\nmessage\r\n$3\r\nFoo\r\n$2\r\nHi\r\n": RESPONSE,
    b"*2\r\n$3\r\nfoo\r\n$3\r\nbar\r\n": MORE,
    b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n": RESPONSE,
    b"*2\r\n:1\r\n:2\r\n": RESPONSE,
    b"*0\r\n": RESPONSE,
    b"*-1\r\n": RESPONSE,
    b"$-1\r\n": RESPONSE,
    b"$5\r\nhello\r\n": RESPONSE,
    b"$5\r\nhelloworld": NO,
    b":1\r\n": MORE,
    b":1\r\n+OK\r\n": RESPONSE,
    b"+OK\r\n": MORE,
    b"+OK\r\n+OK\r\n": MORE,
    b"+OK\r\n$1\r\na\r\n": RESPONSE,
    b"+PONG\r\n": RESPONSE,
    b'+OK\r\n+1776.411797 [0 127.0.0.1:5000] "set" "seen" "1"\r\n': RESPONSE,
    b"-NOAUTH Authentication required.\r\n": RESPONSE,
    b"-ERR unknown command 'foo', with args beginning with: \r\n": RESPONSE,
    b"%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n": RESPONSE,
    b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nfoo\r\n": RESPONSE,
    b"_\r\n": MORE,
    b"HSET a b c\r\n": REQUEST,
    b"SET a b\n*1\r\n$4\r\nPING\r\n": MORE,
    b"SET sanity_check you_are_sane\r\n": MORE,
    b"PING\r\n": MORE,
    b"PING\r\nPING\r\nPING\n\n\n\n": MORE,
    b"\r\n\r\nPING\r\nHSET a b c\r\n": MORE,
    b"\r\nHSET a b c\r\n\r\n": REQUEST,
}
FOREIGN = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n\r\nSUBSCRIBE sip:a@b SIP/2.0\r\n\r\n",
    b"SUBSCRIBE sip:a@b SIP/2.0\r\nVia: x\r\n",
    b"SUBSCRIBE\nid:0\ndestination:/queue/foo\n\n\x00",
    b'INFO {"server_id":"NDZ","version":"2.9"}\r\n',
    b'CONNECT {"verbose":false}\r\nPING\r\n',
    b"PONG\r\n",
    b"-ERR 'Authorization Violation'\r\n",
    b"+OK POP3 server ready\r\n",
    b"+OK POP3 server ready\r\n-ERR invalid password\r\n",
    b"-ERR [AUTH] Authentication failed.\r\n",
    b"set k 0 0 5\r\nvalue\r\n",
    b"get key\r\n",
    b"VALUE k 0 5\r\nhello\r\nEND\r\n",
    b"220 mail ESMTP\r\n",
    b"EHLO a\r\n",
    b"AUTH PLAIN AGEAYg==\r\n",
    b"QUIT\r\n",
    b"* OK [CAPABILITY IMAP4rev1] ready\r\n",
    b"a1 SELECT inbox\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"--boundary\r\nContent-Type: text/plain\r\n\r\n",
    b"+ idling\r\n",
    b":irc.example 001 nick :Welcome\r\n",
    b"$GPGGA,123519,4807.038,N\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    b"AMQP\x00\x00\x09\x01",
]


@pytest.mark.parametrize(("data", "evidence"), SAID.items())
def test_evidence(data: bytes, evidence: Evidence) -> None:
    assert start.recognise(data) is evidence
    said = [start.recognise(data[:size]) for size in range(len(data) + 1)]
    assert set(said) <= {MORE, evidence}, "bytes that are cut ask for more"
    assert said == sorted(said, key=lambda word: word is not MORE)


@pytest.mark.parametrize("data", FOREIGN)
def test_others_are_never_accepted(data: bytes) -> None:
    assert all(start.recognise(data[:size]) in (NO, MORE) for size in range(len(data) + 1))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    assert start.recognise(data) in Evidence
    for sender in (CLIENT, SERVER):
        at = start.find(sender, data)
        assert at is None or 0 <= at < max(len(data), 1)


def test_random_bytes_are_not_redis() -> None:
    chance = random.Random(1)
    firsts = b"*$+-:%>~_#,(|!=PG"
    for _ in range(20_000):
        data = chance.randbytes(24)
        assert start.recognise(data) in (NO, MORE)
        assert start.recognise(bytes([chance.choice(firsts)]) + data) in (NO, MORE)


@pytest.mark.parametrize(
    ("sender", "data", "at"),
    [
        (CLIENT, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", 0),
        (CLIENT, b"*2\r\n$3", 0),
        (CLIENT, b"PING\r\n", 0),
        (CLIENT, b"half a value\r\n*1\r\n$4\r\nPING\r\n", None),
        (SERVER, b"+OK\r\n", 0),
        (SERVER, b"$3", 0),
        (SERVER, b"lo\r\n$5\r\nhello\r\n", None),
        (SERVER, b"lo\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", 4),
        (SERVER, b"lo\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n", 4),
    ],
)
def test_where_a_message_begins(sender: int, data: bytes, at: int | None) -> None:
    """Inside a value anything may look like a message; only the first byte, and what answers nothing, is trusted."""
    assert start.find(sender, data) == at
