"""What a connection remembers of its streams, and that one more protocol on top is one more rider."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clovisor_py.model.message import CLIENT, SERVER, Kind
from clovisor_py.protocols import grpc, http2
from clovisor_py.protocols._api import Setup
from clovisor_py.protocols._http2_head import Head
from clovisor_py.protocols._http2_streams import MAX_STREAMS, NO_MORE, Streams
from tests.support.parser_harness import check, run

pytest.importorskip("h2")

from tests.support import http2 as wire
from tests.support.http2 import REQUEST_FIELDS, Talk, block, script_of

HEAD = Head(0, ((b":method", b"GET"), (b":path", b"/")))


class Ride:
    """Counts the bytes that it is shown: the first four of each direction."""

    def __init__(self) -> None:
        self.shown = [b"", b""]

    def request(self, head, message):
        message.protocol, message.operation = "toy", head.fields[b":path"].decode()

    def response(self, head, message):
        message.protocol = "toy"

    def data(self, sender, data, pos, end):
        assert pos < end <= len(data)
        self.shown[sender] += bytes(data[pos : min(end, pos + 4 - len(self.shown[sender]))])
        return NO_MORE if len(self.shown[sender]) == 4 else 0

    def lost(self, sender):
        self.shown[sender] = b"lost"

    def finish(self, message, trailers, reset):
        message.protocol, message.status = "toy", f"{self.shown[CLIENT].decode()} {self.shown[SERVER].decode()} {reset}"


class Rider:
    def claim(self, request, response):
        return Ride() if request is not None and request.fields.get(b"content-type") == b"application/toy" else None

    def claim_data(self, request, prefix, size, ends):
        return None


TOY = replace(grpc.PROTOCOL, name="toy", rider=lambda _setup: Rider(), attributes=())
SETUP = Setup(riders=(grpc.PROTOCOL, TOY))


def talk() -> Talk:
    made = Talk().begin(CLIENT, 1, [*REQUEST_FIELDS, ("content-type", "application/toy")]).part(CLIENT, 1, b"re")
    made.begin(CLIENT, 3, [*REQUEST_FIELDS, ("content-type", "application/grpc")]).part(CLIENT, 1, b"quest", end=True)
    return made.answer(1, body=b"response").answer(3, extra=[("grpc-status", "0")])


def test_each_rider_has_its_streams() -> None:
    ends = [m for _, m, _ in check(http2.PROTOCOL, talk().script, SETUP).messages if m.kind is Kind.RESPONSE]
    assert [(m.protocol, m.status) for m in ends] == [("toy", "requ resp "), ("grpc", "OK")]


def test_riders_are_asked_again_only_of_a_request_that_is_not_wholly_known() -> None:
    asked: list[bool] = []

    class Curious(Rider):
        def claim(self, request, response):
            asked.append(response is not None)

    setup = Setup(riders=(replace(TOY, rider=lambda _setup: Curious()),))
    answer = wire.headers(1, b"\x88") + wire.headers(1, block(("x-end", "1")), end=True)
    run(http2.PROTOCOL, script_of(wire.headers(1, block(*REQUEST_FIELDS), end=True), answer), setup)
    assert asked == [False]
    asked.clear()
    run(http2.PROTOCOL, [(CLIENT, wire.headers(1, b"\x82\x86\x84\xbe", end=True)), (SERVER, answer)], setup)
    assert asked == [False, True, True]


def test_a_ride_hears_of_losses_and_resets() -> None:
    ask = block(*REQUEST_FIELDS, ("content-type", "application/toy"))
    body = wire.data(1, b"ab" + b"c" * 50, end=True)
    begin = script_of(wire.headers(1, ask) + body[:11])
    out = run(http2.PROTOCOL, [*begin, (CLIENT, 20), (CLIENT, body[31:]), (SERVER, wire.rst(1))], SETUP)
    (end,) = out.of(SERVER)
    assert (end.status, end.attributes["http.request.body.size"]) == ("lost  CANCEL", 52)


def test_only_the_latest_streams_are_known() -> None:
    streams = Streams()
    for ident in range(1, 4 * MAX_STREAMS, 2):
        streams.ask(ident, HEAD)
    assert streams.get(1) is None
    assert streams.answer(1) is None  # it was one, and is over
    assert streams.get(4 * MAX_STREAMS - 1) is not None
    for ident in range(2, 4 * MAX_STREAMS, 2):
        assert streams.answer(ident) is not None
    assert streams.get(4 * MAX_STREAMS - 1) is None


def test_what_is_over_and_what_was_never_seen() -> None:
    streams = Streams()
    assert streams.answer(1) is not None  # an upgraded request
    streams.end(1)
    streams.ask(3, HEAD)
    streams.ask(7, HEAD)
    streams.end(3)
    assert streams.answer(3) is None
    assert streams.answer(9) is not None
    streams.lose(CLIENT)
    assert streams.answer(5) is not None  # it may have begun in what was lost


def test_a_loss_concerns_the_streams_that_were_open() -> None:
    streams = Streams()
    old = streams.ask(1, HEAD)
    streams.lose(SERVER)
    young = streams.ask(3, HEAD)
    assert [streams.whole(stream, sender) for stream in (old, young) for sender in (CLIENT, SERVER)] == [
        True,
        False,
        True,
        True,
    ]


def test_refusal_goes_from_the_lowest_up() -> None:
    streams = Streams()
    for ident in (7, 1, 5, 4):
        streams.ask(ident, HEAD)
    assert streams.refused(1) == 5
    assert streams.end(5) is not None
    assert streams.refused(1) == 7
    assert streams.refused(7) == 0
