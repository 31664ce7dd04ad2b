"""The exchanges of one HTTP/2 connection: what its headers, data and resets make of its streams, as Messages (RFC 9113, 8).

A request is told when its headers are whole, a response in parts and by what ends it: END_STREAM of the server, a reset of
either side, or a GOAWAY that names an older stream as the last. What says nothing new of an exchange that goes on is an empty
part, so that its bytes and times count; what belongs to none is None.
"""

from __future__ import annotations

from collections.abc import Iterable

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._http2_frames import DATA, END_STREAM, HEADER, HEADER_SIZE, PADDED, error_name
from clovisor_py.protocols._http2_head import UNKNOWN_HEADERS, Head
from clovisor_py.protocols._http2_streams import NO_MORE, Ride, Rider, Stream, Streams

_PART, _RESPONSE, _INTERIM = Kind.PART, Kind.RESPONSE, Kind.INTERIM
_unpack = HEADER.unpack_from


class Exchanges:
    """What frames do to streams."""

    __slots__ = ("_riders", "streams")

    def __init__(self, riders: Iterable[Rider]) -> None:
        self._riders = tuple(riders)
        self.streams = Streams()

    def headers(self, sender: int, ident: int, head: Head, flags: int, cursor: Cursor) -> Message | None:
        """A header block on a stream, up to `cursor`; where it concerns none, that is dropped.

        Raises ProtocolError where its sender could not have sent it.
        """
        if sender == SERVER:
            if head.asks:
                raise ProtocolError("not HTTP/2: a server that asks.")
            stream = self.streams.answer(ident)
            if stream is not None:
                return self._answer(ident, stream, head, flags, cursor)
        elif head.status:
            raise ProtocolError("not HTTP/2: a client that answers.")
        elif head.asks:
            return self.ask(ident, head)
        else:
            stream = self.streams.get(ident)
            if head.unknown and (stream is None or stream.request is None):
                return self.ask(ident, head)
            if stream is not None:
                return part(ident)
        cursor.drop()
        return None

    def ask(self, ident: int, head: Head) -> Message:
        """A request: the client's, or one that the server answers before it is asked (a promise)."""
        stream = self.streams.ask(ident, head)
        message = head.request(ident)
        if stream.ride is None and self._riders:
            stream.ride = self._claimed(stream, None)
        if stream.ride is not None:
            stream.ride.request(head, message)
        return message

    def doubtful(self, sender: int, ident: int) -> bool:
        """Whether the first bytes of this body should be shown to `claim_data`: its head left open whose it is."""
        stream = self.streams.get(ident) if sender == CLIENT and self._riders else None
        if stream is None or stream.ride is not None or stream.request is None:
            return False
        return stream.request.unknown > 0 and not stream.sizes[CLIENT] and self.streams.whole(stream, CLIENT)

    def claim_data(self, ident: int, prefix: bytes, size: int, ends: bool) -> None:
        """Ask the riders about a body that begins so."""
        stream = self.streams.get(ident)
        for rider in self._riders:
            if stream is not None and stream.request is not None and stream.ride is None:
                stream.ride = rider.claim_data(stream.request, prefix, size, ends)
                stream.untold = stream.ride is not None
                stream.unwanted = [0, 0]

    def data(self, sender: int, ident: int, size: int) -> Stream | None:
        """So many bytes of a body are on their way. Answers the stream, if there is one."""
        stream = self.streams.get(ident) if sender == CLIENT else self.streams.answer(ident)
        if stream is not None:
            stream.sizes[sender] += size
        return stream

    def data_over(self, sender: int, ident: int, stream: Stream, flags: int) -> Message:
        """They have passed."""
        if sender == CLIENT or not flags & END_STREAM:
            message = part(ident)
            if stream.untold and stream.ride is not None and stream.request is not None:
                stream.untold = False
                stream.ride.request(stream.request, message)
            return message
        return self._finish(ident, stream, _ending(ident, stream), None)

    def with_data(self, cursor: Cursor, ident: int, stream: Stream, message: Message) -> Message:
        """Take the DATA at hand that follows this part of a response on its stream into the same message.

        To the engine that is the same as a part for each frame, and costs a third. (Not so a request, nor a response to what
        nobody saw: of their first bytes a trace's id is made, at both ends the same.)
        """
        data, pos, ride = cursor.data, cursor.pos, stream.ride
        last = len(data) - HEADER_SIZE
        if pos > last or stream.untold or stream.request is None:
            return message
        if ride is not None and not self.streams.whole(stream, SERVER):
            ride = None
        while pos <= last:
            high, low, kind, flags, on = _unpack(data, pos)
            size = high << 8 | low
            if kind != DATA or on != ident or flags & PADDED or size > last - pos:
                break
            pos += HEADER_SIZE + size
            stream.sizes[SERVER] += size
            if ride is not None:
                _show(ride, stream.unwanted, data, pos - size, pos)
            if flags & END_STREAM:  # so it was no part, but the end
                cursor.pos = pos
                if stream.response is not None:
                    message.status = status = stream.response.status
                    message.error = status >= "400"
                message.kind = _RESPONSE
                return self._finish(ident, stream, message, None)
        cursor.pos = pos
        return message

    def reset(self, ident: int, code: int) -> Message | None:
        """Either side breaks an exchange off; where it is over already, that concerns nobody."""
        stream = self.streams.get(ident)
        return None if stream is None else self._broken_off(ident, stream, error_name(code), code != 0)

    def refuse(self, last: int) -> Message | None:
        """The server will not look at streams above `last`: end one of them, if one is left."""
        ident = self.streams.refused(last)
        stream = self.streams.get(ident)
        return None if stream is None else self._broken_off(ident, stream, "REFUSED_STREAM", True)

    def _answer(self, ident: int, stream: Stream, head: Head, flags: int, cursor: Cursor) -> Message:
        if stream.response is not None or not (head.status or head.unknown):
            stream.unknown += head.unknown
            if flags & END_STREAM:
                return self._finish(ident, stream, _ending(ident, stream), head)
            return self.with_data(cursor, ident, stream, part(ident))
        message = head.response(ident, flags)
        if message.kind is _INTERIM:
            return message
        stream.response = head
        unknown = stream.unknown = stream.unknown + head.unknown
        if unknown:
            message.attributes[UNKNOWN_HEADERS] = unknown
        if stream.ride is None and (unknown or stream.request is None):
            stream.ride = self._claimed(stream, head)
        if stream.ride is not None:
            stream.ride.response(head, message)
        if flags & END_STREAM:
            return self._finish(ident, stream, message, head)
        return self.with_data(cursor, ident, stream, message)

    def _claimed(self, stream: Stream, response: Head | None) -> Ride | None:
        """The ride of the first rider whose stream this is."""
        for rider in self._riders:
            ride = rider.claim(stream.request, response)
            if ride is not None:
                stream.unwanted = [0, 0]
                for sender in (CLIENT, SERVER):
                    if stream.sizes[sender] or (sender == CLIENT and stream.request is None):
                        lose(stream, ride, sender)
                return ride
        return None

    def _finish(self, ident: int, stream: Stream, message: Message, trailers: Head | None, reset: str = "") -> Message:
        """`message` ends the exchange: add what is known only now."""
        streams, attributes = self.streams, message.attributes
        streams.end(ident)
        asked = answered = True
        if stream.epochs is not streams.epochs:
            asked, answered = streams.whole(stream, CLIENT), streams.whole(stream, SERVER)
        if asked and stream.sizes[CLIENT] and stream.request is not None:
            attributes["http.request.body.size"] = stream.sizes[CLIENT]
        if answered and stream.response is not None:
            attributes["http.response.body.size"] = stream.sizes[SERVER]
        elif not reset:
            message.incomplete = True
        if stream.unknown:
            attributes[UNKNOWN_HEADERS] = stream.unknown
        ride = stream.ride
        if ride is None and trailers is not None and (stream.unknown or stream.request is None):
            ride = self._claimed(stream, trailers)
        if ride is not None:
            if not asked:
                ride.lost(CLIENT)
            if not answered:
                ride.lost(SERVER)
            ride.finish(message, trailers, reset)
        return message

    def _broken_off(self, ident: int, stream: Stream, name: str, error: bool) -> Message:
        message = _ending(ident, stream)
        if error or not message.status:
            message.status = name
        if error:
            message.error = True
            message.attributes["error.type"] = name
        return self._finish(ident, stream, message, None, name)


def part(ident: int, incomplete: bool = False) -> Message:
    """More of an exchange that was told of."""
    return Message(_PART, "", "", "", False, {}, {}, ident, incomplete)


def _show(ride: Ride, unwanted: list[int], data: bytes | bytearray, pos: int, end: int) -> None:
    """Let the ride see what it wants of a server's DATA that is at hand."""
    while pos < end:
        step = min(unwanted[SERVER], end - pos)
        if step:
            unwanted[SERVER] -= step
        else:
            step = end - pos
            unwanted[SERVER] = ride.data(SERVER, data, pos, end)
        pos += step


def lose(stream: Stream, ride: Ride, sender: int) -> None:
    """The ride did not see all of this direction, and is shown no more of it."""
    ride.lost(sender)
    stream.unwanted[sender] = NO_MORE


def _ending(ident: int, stream: Stream) -> Message:
    """The end of a response whose status was told before, in a part of it."""
    status = "" if stream.response is None else stream.response.status
    return Message(_RESPONSE, "", "", status, status >= "400", {}, {}, ident)
