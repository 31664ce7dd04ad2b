"""Where a frame begins, and who sent it, from bytes alone: never a wrong yes."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.model.message import CLIENT, SERVER
from clovisor_py.protocols import _http2_frames as frames
from clovisor_py.protocols._api import Evidence
from clovisor_py.protocols._hpack import huffman
from clovisor_py.protocols._http2_frames import PREFACE, find, find_on, recognise

pytest.importorskip("h2")

from tests.support.http2 import PING, WINDOW_UPDATE, Talk, data, frame, go_away, headers, rst, settings

REQUEST = headers(5, b"\x82\x84\x86\x41\x01a", end=True)
RESPONSE = headers(5, b"\x88\x5c\x011") + data(5, b"x", end=True)

FOREIGN = {
    "tls hello": bytes.fromhex("16030100c8010000c40303") + bytes(range(190)),
    "tls alert": bytes.fromhex("15030300020100"),
    "http/1": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "http/1 with a method like the preface": b"PRIVATE / HTTP/1.1\r\n\r\n",
    "half a preface, and no more": b"PRI * HTTP/1.1\r\n\r\n",
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "postgresql startup": bytes.fromhex("0000002100030000") + b"user\0me\0database\0db\0\0",
    "postgresql ssl": bytes.fromhex("0000000804d2162f"),
    "mysql": bytes.fromhex("0a000000033c53454c4543542031"),
    "kafka": bytes.fromhex("0000001f00120003000000010009") + b"probe-123\x00\x04cli\x021\x00",
    "mongodb": bytes.fromhex("3f0000000100000000000000d4070000") + bytes(47),
    "rocketmq": bytes.fromhex("000000d9000000cd") + b'{"code":105}',
    "dns": bytes.fromhex("001d000101000001000000000000076578616d706c6503636f6d0000010001"),
    "amqp": b"AMQP\x00\x00\x09\x01",
    "zeros": bytes(64),
    "a small frame of dubbo": bytes.fromhex("dabbc2000000000000000001000000e3"),
    "settings with none that anybody knows": settings((999, 1), (0xFE03, 1)) + REQUEST,
    "settings with none at all": settings((0, 1), (3, 1)) + REQUEST,
    "a ping on a stream": frame(frames.PING, 0, 3, b"12345678") + REQUEST,
    "headers without a stream": headers(0, b"\x82") + REQUEST,
    "a request on a stream of the server's": headers(4, b"\x82\x84\x86"),
}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (PREFACE, Evidence.REQUEST),
        (PREFACE + settings(), Evidence.REQUEST),
        (REQUEST, Evidence.REQUEST),
        (headers(7, b"\xbe\xbf\x83\x86"), Evidence.REQUEST),
        (headers(7, b"\x3f\xe1\x1f\x82\x84"), Evidence.REQUEST),
        (headers(7, b"\x00\x80\x00\x00\x00\x10\x82\x84"[:1] + b"\x80\x00\x00\x00\x10\x82", flags=0x24), Evidence.MORE),
        (headers(7, b"\x80\x00\x00\x00\x10\x82\x84", flags=0x24), Evidence.REQUEST),
        (headers(7, b"\x40\x05:path\x02/a\xc3\x83\x86"), Evidence.REQUEST),
        (headers(7, b"\x40\x84\xb9\x58\xd3\x3f\x02/a\xc3\x83\x86"), Evidence.REQUEST),
        (headers(7, b"\xc3\x00\x01x\x02yy\x83\x86"), Evidence.REQUEST),
        (headers(7, b"\xc3\x00\x01x\x02yy"), Evidence.MORE),
        (headers(7, b"\xc3\x00\x01x\x7f\x80\x01" + b"y" * 255), Evidence.MORE),
        (headers(7, b"\xc2\x00\x0cgrpc-message\x00", end=True), Evidence.RESPONSE),
        (headers(7, b"\x40\x0bgrpc-status\x015", end=True), Evidence.RESPONSE),
        (headers(7, b"\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x015", end=True), Evidence.RESPONSE),
        (PING + WINDOW_UPDATE + REQUEST, Evidence.REQUEST),
        (data(3, b"x" * 100) + REQUEST, Evidence.REQUEST),
        (RESPONSE, Evidence.RESPONSE),
        (headers(2, b"\x48\x03404"), Evidence.RESPONSE),
        (settings((3, 100)) + WINDOW_UPDATE + RESPONSE, Evidence.RESPONSE),
        (RESPONSE + data(5, bytes(30000)), Evidence.RESPONSE),
        (settings((3, 100)), Evidence.MORE),
        (PING, Evidence.MORE),
        (data(3, b"x"), Evidence.MORE),
        (headers(3, b"\xbe\xbf"), Evidence.MORE),
        (headers(3, b"\x40\x0bgrpc-status\x010", end=True), Evidence.RESPONSE),
        (b"", Evidence.MORE),
        (data(3, bytes(100)) + b"\x99" * 20, Evidence.NO),
        (settings((3, 100), (0xFE03, 1)) + frame(0x0C, 0, 0, b"origin") + RESPONSE, Evidence.RESPONSE),
        (REQUEST + frame(0x0C, 0, 0, b"origin"), Evidence.REQUEST),
    ],
)
def test_recognition(data: bytes, expected: Evidence) -> None:
    assert recognise(data) is expected


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
def test_other_protocols(data: bytes) -> None:
    assert recognise(data) is Evidence.NO
    for cut in range(len(data)):
        assert recognise(data[:cut]) in (Evidence.NO, Evidence.MORE)


@pytest.mark.parametrize(
    ("data", "last"), [(PREFACE, Evidence.REQUEST), (REQUEST, Evidence.REQUEST), (RESPONSE, Evidence.RESPONSE)]
)
def test_cut_short_it_is_not_known_yet(data: bytes, last: Evidence) -> None:
    said = [recognise(data[:cut]) for cut in range(len(data) + 1)]
    known = said.index(last)
    assert set(said[:known]) == {Evidence.MORE}
    assert set(said[known:]) == {last}


def test_frames_on_streams_that_nobody_reaches() -> None:
    assert recognise(headers(1 << 30 | 1, b"\x82\x84\x86")) is Evidence.NO
    assert recognise(headers(3, b"\x82\x84\x86", flags=0) + PING) is Evidence.NO
    continued = headers(3, b"\x82\x84\x86", flags=0) + frame(frames.CONTINUATION, 4, 3, b"\x84")
    assert (recognise(continued), recognise(continued + REQUEST)) == (Evidence.MORE, Evidence.REQUEST)


def test_chance_is_not_enough() -> None:
    for seed in range(3000):
        assert recognise(os.urandom(seed % 300 + 9)) not in (Evidence.REQUEST, Evidence.RESPONSE)
    chance = random.Random(1)
    for _ in range(3000):  # small numbers, as binary protocols are full of
        assert recognise(bytes(chance.choices(range(6), k=60))) not in (Evidence.REQUEST, Evidence.RESPONSE)


@given(st.binary(max_size=300))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    assert recognise(data) in Evidence
    at = find(data)
    assert at is None or 0 <= at < max(len(data), 1)


def test_in_the_middle_of_a_connection_every_turn_of_either_end_is_told() -> None:
    talk = Talk().ask(1, "/a", method="POST", body=b"x" * 50).answer(1, body=b"y" * 700)
    talk.ask(3, "/b").answer(3, 404).ask(5, "/a", extra=[("x-a", "1")]).answer(5, body=b"z")
    told = [(sender, recognise(text)) for sender, text in talk.script if isinstance(text, bytes)]
    assert {evidence for sender, evidence in told if sender == CLIENT} == {Evidence.REQUEST, Evidence.MORE}
    assert {evidence for sender, evidence in told if sender == SERVER} == {Evidence.RESPONSE, Evidence.MORE}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", REQUEST),
        (b"", PREFACE),
        (b"", data(3, bytes(2000))[:100]),
        (b"the rest of some data " * 20, REQUEST),
        (b"{}" * 300, RESPONSE + PING),
        (bytes(500), WINDOW_UPDATE + RESPONSE),
        (bytes(500), PING),
        (b"\x00\x00\x04" * 10, rst(3) + go_away(3)),
        (os.urandom(3000).replace(b"\0", b"\1"), RESPONSE),
    ],
)
def test_a_frame_is_found(before: bytes, after: bytes) -> None:
    assert find(before + after) == len(before)


@pytest.mark.parametrize("data", [b"", bytes(5000), b"text " * 1000, b"\x00\x00\x01\x01" * 1000])
def test_none_is_found(data: bytes) -> None:
    assert find(data) is None


@pytest.mark.parametrize("before", [b"", bytes(5000), b"\0\0\0\3" * 50, os.urandom(3000), bytes(4) + rst(9)[3:]])
def test_a_frame_on_a_known_stream_is_found_alone(before: bytes) -> None:
    """As a body is seen: a piece that begins inside of one frame and ends inside of the next."""
    piece = before + data(3, b"x" * 8192)[:6000]
    assert find_on(piece, [1, 3, 5]) == len(before)
    assert find_on(piece, [1, 5]) is find_on(piece, []) is None


def test_a_known_streams_number_alone_is_no_frame() -> None:
    numbers = b"".join(number.to_bytes(8, "big") for number in range(4000))
    assert find_on(numbers, [3]) is None
    assert find_on(data(3, b"x" * 20) + b"no frame behind it", [3]) is None


@given(st.binary(max_size=400), st.lists(st.integers(1, 5), max_size=4))
def test_any_bytes_have_an_answer_for_known_streams(raw: bytes, streams: list[int]) -> None:
    at = find_on(raw, streams)
    assert at is None or 0 <= at < len(raw)


def test_error_codes_have_names() -> None:
    assert (frames.error_name(0), frames.error_name(8), frames.error_name(1 << 31)) == ("NO_ERROR", "CANCEL", "UNKNOWN_ERROR")


def test_names_that_tell_their_sender_are_known_in_huffmans_code_too() -> None:
    plain = {name: says for name, says in frames._NAMES.items() if name.strip(b":").replace(b"-", b"").isalpha()}
    coded = {huffman(name): says for name, says in frames._NAMES.items() if name not in plain}
    assert plain == coded
