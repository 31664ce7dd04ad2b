"""What an HTTP/2 connection knows of its streams, and what a protocol that rides on it must offer.

A rider (gRPC, Dubbo's Triple, Connect) is asked of each stream whether it is its own; then it has a ride for that stream,
which sees the headers, the data and the end go by, and writes into the Messages that the carrier makes of them what the
protocol above says. It never sees frames, and makes no messages itself.

    claim(request, None)              a request's headers are whole: mine?
    claim(request, response)          they could not say (some unknown, or all unseen), but now the response's headers, or its
                                      trailers, are there
    claim_data(request, data, …)      of the request's headers some are unknown, and its body begins: mine?
    ride.request(head, message)       the REQUEST that is about to be returned, or the part of it whose data was claimed
    ride.response(head, message)      the first PART of the response
    ride.data(sender, data, pos, end) bytes of the body, as they come; answers how many of the following ones it can do without
    ride.lost(sender)                 bytes were not seen; no more data will be shown
    ride.finish(message, …)           the RESPONSE that ends the exchange

A ride must be total, and keep a bounded amount: the bytes that it is shown are strangers'.
"""

from __future__ import annotations

import typing
from typing import Final

from clovisor_py.model.message import CLIENT, SERVER, Message
from clovisor_py.protocols._http2_head import Head

MAX_STREAMS: Final = 1024
"""Streams of one connection that are known at once; servers allow 100 to 250. Beyond it the oldest is forgotten."""
MAX_SOUGHT: Final = 32
"""Streams whose frames are looked for after a loss: bodies are sent on a few at a time."""
PREFIX: Final = 5
"""Bytes of a body by which a rider may know it."""
NO_MORE: Final = 1 << 62
"""Bytes that a ride can do without: all."""


class Ride(typing.Protocol):
    """One stream, as its own protocol sees it."""

    def request(self, head: Head, message: Message) -> None:
        """Say what the request is: `message` is HTTP's, with its attributes."""

    def response(self, head: Head, message: Message) -> None:
        """The response begins with these headers; `message` tells its status until it ends."""

    def data(self, sender: int, data: bytes | bytearray, pos: int, end: int) -> int:
        """Look at `data[pos:end]`, which is never empty. Answers how many bytes of the body behind them need not be shown."""

    def lost(self, sender: int) -> None:
        """Bytes of this direction passed that were not shown; none will be from now on."""

    def finish(self, message: Message, trailers: Head | None, reset: str) -> None:
        """The exchange is over. `trailers`: the last headers, which may be the first; `reset`: how it was broken off, or ""."""


class Rider(typing.Protocol):
    """What `Protocol.rider` makes, one for each connection."""

    def claim(self, request: Head | None, response: Head | None) -> Ride | None:
        """A ride, if the stream with these headers is this protocol's."""

    def claim_data(self, request: Head, prefix: bytes, size: int, ends: bool) -> Ride | None:
        """A ride, if no other protocol's request begins its body so.

        `prefix`: its first PREFIX bytes, or all; `size`: bytes of its first frame; `ends`: there are no more.
        """


_NO_RIDE: Final[list[int]] = []
"""Of streams that nobody rides; never written to."""


class Stream:
    """One exchange. Pairs are by sender: the client's, the server's."""

    __slots__ = ("epochs", "request", "response", "ride", "sizes", "unknown", "untold", "unwanted")

    def __init__(self, request: Head | None, epochs: tuple[int, int]) -> None:
        self.request = request
        self.response: Head | None = None
        self.ride: Ride | None = None
        self.untold = False
        """The request was claimed by its data: its next part has to say so."""
        self.sizes = [0, 0]
        """Bytes of DATA without padding."""
        self.unwanted = _NO_RIDE
        """Bytes to come that the ride can do without; a pair of its own where there is one."""
        self.unknown = 0 if request is None else request.unknown
        """Headers whose names or values nobody knows."""
        self.epochs = epochs
        """See `Streams.epochs`."""


class Streams:
    """The streams of one connection by id, and which are over."""

    __slots__ = ("_first", "_last", "_open", "epochs", "get")

    def __init__(self) -> None:
        self._open: dict[int, Stream] = {}
        self._first = self._last = 0
        """Of the client's streams that were seen to begin without a loss between them: the others in this range are over."""
        self.get = self._open.get
        """The stream, if it is known and not over."""
        self.epochs = (0, 0)
        """How often bytes of that sender were lost; what a stream knows is whole if it was not since it began."""

    def ask(self, ident: int, head: Head) -> Stream:
        """A request begins. The response may have begun before, where directions are seen at different times."""
        streams = self._open
        known = streams.get(ident)
        if known is not None and known.request is None:
            known.request = head
            known.unknown += head.unknown
            return known
        stream = streams[ident] = Stream(head, self.epochs)
        if len(streams) > MAX_STREAMS:
            del streams[next(iter(streams))]
        if ident & 1:
            self._first = self._first or ident
            self._last = max(self._last, ident)
        return stream

    def answer(self, ident: int) -> Stream | None:
        """The stream that a server speaks on; made up if its request was not seen, None if it is over."""
        stream = self._open.get(ident)
        if stream is None and not (ident & 1 and self._first <= ident <= self._last):
            stream = self._open[ident] = Stream(None, self.epochs)
            if len(self._open) > MAX_STREAMS:
                del self._open[next(iter(self._open))]
        return stream

    def end(self, ident: int) -> Stream | None:
        """The stream, which is over now."""
        return self._open.pop(ident, None)

    def refused(self, last: int) -> int:
        """The lowest of the client's streams above `last` that is open, or 0: the server will not look at it."""
        return min((ident for ident in self._open if ident > last and ident & 1), default=0)

    def latest(self) -> list[int]:
        """The ids of those that are open; the latest MAX_SOUGHT of them."""
        return list(self._open)[-MAX_SOUGHT:]

    def lose(self, sender: int) -> None:
        """Bytes of that sender were lost, and nobody knows on which streams."""
        asked, answered = self.epochs
        self.epochs = (asked + (sender == CLIENT), answered + (sender == SERVER))
        self._first = self._last = 0

    def whole(self, stream: Stream, sender: int) -> bool:
        return stream.epochs[sender] == self.epochs[sender]
