"""HTTP/2 (RFC 9113), in clear text: by prior knowledge, after an Upgrade from HTTP/1, or from the middle of a connection.

Frames of many exchanges interleave, so nothing waits for the end of a message: frames of an exchange are told when they have
passed (`_http2_exchanges`), and frames that belong to none are dropped, so that nobody's time begins with a PING. An
upgraded request is stream 1: its answer is like any other.

This file follows the frames: their headers (`_http2_frames`), header blocks in one frame or several (`_hpack`), and DATA,
which is stepped over, seen or not, unless a protocol that rides on the stream asks to see some of it (`_http2_streams`).

Who was not there from the beginning, or lost a header block, does not know older entries of the header table any more: such
headers are counted as unknown. New ones are exact again.
"""

from __future__ import annotations

from functools import partial
from typing import Final, cast

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.protocols import _http2_frames as frames
from clovisor_py.protocols._api import Capture, Pairing, Protocol, Setup
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._hpack import MAX_FIELDS, MAX_TABLE, Decoder
from clovisor_py.protocols._http2_exchanges import Exchanges, lose, part
from clovisor_py.protocols._http2_head import UNKNOWN_HEADERS, Head
from clovisor_py.protocols._http2_streams import MAX_STREAMS, PREFIX, Rider
from clovisor_py.protocols._http_target import shown

MAX_BLOCK: Final = 64 * 1024
"""Bytes of a header block with its continuations, as of a head in HTTP/1. Beyond it: ProtocolError."""
MAX_REFUSED: Final = 16
"""Requests that one GOAWAY ends; a client in a hurry has a few under way. Others end with the connection."""

_AT_HEADER: Final = -1
_PRI: Final = frames.PREFACE[0]
_DATA, _HEADERS, _END_HEADERS = frames.DATA, frames.HEADERS, frames.END_HEADERS
_BLOCKS: Final = (frames.HEADERS, frames.PUSH_PROMISE, frames.CONTINUATION)
_HEADER_SIZE, _STREAM_MASK = frames.HEADER_SIZE, frames.STREAM_MASK
_UNUSUAL: Final = frames.END_HEADERS | frames.PADDED | frames.HAS_PRIORITY
"""Flags that tell whether a HEADERS frame is a header block and nothing else."""
_PART, _unpack = Kind.PART, frames.HEADER.unpack_from


class _Half:
    """One direction: at a frame's header (`kind` is _AT_HEADER), or inside of a frame of that kind."""

    __slots__ = (
        "block", "decoder", "flags", "fresh", "ident", "kind", "last", "left", "open", "pad", "part", "promised", "refused",
    )  # fmt: skip

    def __init__(self, decoder: Decoder[Head]) -> None:
        self.decoder = decoder
        self.fresh = True
        """No frame was seen yet."""
        self.reset()

    def reset(self) -> None:
        self.kind = _AT_HEADER
        self.ident = 0
        """Stream of the DATA, or of the header block."""
        self.flags = 0
        """Flags of the DATA, or of the frame that begins the header block."""
        self.left = 0
        """Payload to come of the frame; of DATA, without padding."""
        self.pad = 0
        self.last = 0
        """Flags of the open frame of a header block."""
        self.open = False
        """A header block goes on in the next frame."""
        self.block = bytearray()
        """What is there of it."""
        self.part = bytearray()
        """What is there of the payload of an open frame of a header block."""
        self.promised = 0
        """Stream that the header block is a promised request of."""
        self.refused = 0
        """Requests that the GOAWAY at the cursor has ended so far."""


class Http2Parser:
    """One connection, both directions."""

    __slots__ = ("_exchanges", "_halves")

    def __init__(self, setup: Setup) -> None:
        read = partial(Head, shown(setup.redaction))
        self._halves = (_Half(Decoder(read)), _Half(Decoder(read)))
        self._exchanges = Exchanges(cast(Rider, one.rider(setup)) for one in setup.riders if one.rider is not None)

    def renewed(self, setup: Setup) -> Http2Parser:
        """The same connection by another setup: its header tables are never sent again. Its exchanges are as if unseen."""
        parser = Http2Parser(setup)
        parser._halves = self._halves
        for half in self._halves:
            half.decoder.read_by(partial(Head, shown(setup.redaction)))
        return parser

    def parse(self, sender: int, cursor: Cursor) -> Message | None:
        half, data = self._halves[sender], cursor.data
        while True:
            pos = cursor.pos
            if half.kind != _AT_HEADER:
                more = self._body if half.kind == _DATA else self._payload
                message = more(sender, half, cursor)
            elif len(data) - pos < _HEADER_SIZE:
                message = None
                if sender == CLIENT and data[pos : pos + 1] == frames.PREFACE[:1]:
                    _preface(half, cursor)
            else:
                high, low, kind, flags, ident = _unpack(data, pos)
                size, ident = high << 8 | low, ident & _STREAM_MASK
                begin = pos + _HEADER_SIZE
                end = begin + size
                usual = kind == _HEADERS and flags & _UNUSUAL == _END_HEADERS and ident and not half.open
                if usual and end <= len(data) and size <= MAX_BLOCK:
                    half.fresh = False
                    cursor.pos = end  # nearly all header blocks: whole, in one frame, with nothing else in it
                    head = half.decoder.decode(bytes(data[begin:end]))
                    message = self._exchanges.headers(sender, ident, head, flags, cursor)
                else:
                    message = self._frame(sender, half, cursor, kind, size, flags, ident)
            if message is not None or half.kind != _AT_HEADER or cursor.pos == pos:
                return message

    def gap(self, sender: int, size: int) -> bool:
        """Inside of DATA that a rider wanted to see, it can do without; anything else may hide frames."""
        half = self._halves[sender]
        if half.kind != _DATA or size > half.left + half.pad:
            return False
        stream = self._exchanges.streams.get(half.ident)
        if stream is not None and stream.ride is not None:
            lose(stream, stream.ride, sender)
        of_data = min(size, half.left)
        half.left -= of_data
        half.pad -= size - of_data
        return True

    def end(self, sender: int) -> Message | None:
        """Of a cut frame: that the exchange is cut short, or what the beginning of its headers says."""
        half = self._halves[sender]
        message = None
        if half.kind == _DATA:
            message = part(half.ident)
        elif half.open or half.kind != _AT_HEADER:
            message = self._half_block(sender, half)
        if message is not None:
            message.incomplete = True
        half.reset()
        return message

    def resync(self, sender: int, data: bytes | bytearray) -> int | None:
        half = self._halves[sender]
        half.reset()
        half.fresh = False
        half.decoder.forget()
        self._exchanges.streams.lose(sender)
        found = frames.find(data)
        return frames.find_on(data, self._exchanges.streams.latest()) if found is None else found

    def _frame(self, sender: int, half: _Half, cursor: Cursor, kind: int, size: int, flags: int, ident: int) -> Message | None:
        """The frame whose header is at the cursor, as far as it is there; None without a step where more is needed."""
        if half.open and (kind != frames.CONTINUATION or ident != half.ident):
            raise ProtocolError("not HTTP/2: a header block that does not go on.")
        if kind == _DATA:
            return self._data(sender, half, cursor, size, flags, ident)
        if kind in _BLOCKS and (half.open or kind != frames.CONTINUATION):
            return self._block_frame(sender, half, cursor, kind, size, flags, ident)
        if sender == CLIENT and cursor.data[cursor.pos] == _PRI:
            _preface(half, cursor)
            return None
        if kind == frames.RST_STREAM:
            return self._reset(half, cursor, size, ident)
        if kind == frames.GOAWAY and sender == SERVER:
            return self._go_away(half, cursor, size)
        if kind == frames.SETTINGS and sender == SERVER and half.fresh and not flags & frames.ACK:
            half.decoder.start()  # what a server says first
        _other(half, cursor, kind, size)
        return None

    # ---- data ----

    def _data(self, sender: int, half: _Half, cursor: Cursor, size: int, flags: int, ident: int) -> Message | None:
        pad, head = 0, _HEADER_SIZE
        if flags & frames.PADDED:
            if cursor.remaining == head:
                return None
            pad = cursor.data[cursor.pos + head]
            head += 1
            size -= 1
        if not ident or pad > size:
            raise ProtocolError("not HTTP/2: data without a stream, or shorter than its padding.")
        if size > pad and self._exchanges.doubtful(sender, ident):
            begin, first = cursor.pos + head, min(size - pad, PREFIX)
            prefix = bytes(cursor.data[begin : begin + first])
            if len(prefix) < first:
                return None
            self._exchanges.claim_data(ident, prefix, size - pad, bool(flags & frames.END_STREAM))
        half.fresh = False
        cursor.pos += head
        stream = self._exchanges.data(sender, ident, size - pad)
        if stream is None or (stream.ride is None and cursor.pos + size <= len(cursor.data)):
            cursor.pos += size
            if stream is None:
                cursor.drop()
                return None
            message = self._exchanges.data_over(sender, ident, stream, flags)
            part_of_answer = sender == SERVER and message.kind is _PART
            return self._exchanges.with_data(cursor, ident, stream, message) if part_of_answer else message
        half.kind, half.ident, half.flags, half.left, half.pad = _DATA, ident, flags, size - pad, pad
        return self._body(sender, half, cursor)

    def _body(self, sender: int, half: _Half, cursor: Cursor) -> Message | None:
        """Step over the data, except what the stream's ride wants to see of it; then it counts for the exchange."""
        ident = half.ident
        streams = self._exchanges.streams
        stream = streams.get(ident)
        if stream is not None and stream.ride is not None and half.left and streams.whole(stream, sender):
            data, ride, unwanted = cursor.data, stream.ride, stream.unwanted
            while half.left:
                step = min(unwanted[sender], half.left)
                if step:
                    unwanted[sender] -= step
                else:
                    step = min(half.left, cursor.remaining)
                    if not step:
                        return None
                    unwanted[sender] = ride.data(sender, data, cursor.pos, cursor.pos + step)
                half.left -= step
                cursor.pos += step
        cursor.pos += half.left + half.pad
        half.left = half.pad = 0
        if cursor.pos > len(cursor.data):
            return None
        half.kind = _AT_HEADER
        if stream is None:  # reset by the other side while the data passed
            cursor.drop()
            return None
        return self._exchanges.data_over(sender, ident, stream, half.flags)

    # ---- header blocks ----

    def _block_frame(
        self, sender: int, half: _Half, cursor: Cursor, kind: int, size: int, flags: int, ident: int
    ) -> Message | None:
        if not ident or len(half.block) + size > MAX_BLOCK:
            raise ProtocolError(f"not HTTP/2: headers without a stream, or more than {MAX_BLOCK} bytes of them.")
        if kind == frames.PUSH_PROMISE and sender == CLIENT:
            raise ProtocolError("not HTTP/2: a client that promises.")
        half.fresh = False
        if kind != frames.CONTINUATION:
            half.ident, half.flags, half.promised = ident, flags, 0
        cursor.pos += _HEADER_SIZE
        half.kind, half.last, half.left = kind, flags, size
        return self._payload(sender, half, cursor)

    def _payload(self, sender: int, half: _Half, cursor: Cursor) -> Message | None:
        """More of a frame of a header block. It is kept here, so that `end` can tell what a cut one says."""
        pos, have = cursor.pos, min(half.left, cursor.remaining)
        half.part += cursor.data[pos : pos + have]
        cursor.pos += have
        half.left -= have
        if half.left:
            return None
        kind, half.kind = half.kind, _AT_HEADER
        payload, half.part = bytes(half.part), bytearray()
        return self._fragment(sender, half, cursor, kind, half.last, payload)

    def _fragment(self, sender: int, half: _Half, cursor: Cursor, kind: int, flags: int, payload: bytes) -> Message | None:
        """A frame of a header block is whole, and with the last of them the block."""
        fragment, promised = frames.unwrap(kind, flags, payload)
        half.promised = half.promised or promised
        if half.open:
            half.block += fragment
            fragment = bytes(half.block) if flags & frames.END_HEADERS else b""
        elif not flags & frames.END_HEADERS:
            half.block += fragment
        half.open = not flags & frames.END_HEADERS
        if half.open:
            return None
        half.block = bytearray()
        if half.promised:
            return self._exchanges.ask(half.promised, half.decoder.decode(fragment))
        return self._exchanges.headers(sender, half.ident, half.decoder.decode(fragment), half.flags, cursor)

    def _half_block(self, sender: int, half: _Half) -> Message | None:
        """The rest of a header block will never be seen; what comes first in it says most."""
        flags, rest = half.last, bytes(half.part)
        if flags & frames.PADDED and half.kind != frames.CONTINUATION:
            flags, rest = flags & ~frames.PADDED, rest[1:]  # the padding is at the end
        try:
            block, promised = frames.unwrap(half.kind, flags, rest) if rest else (b"", 0)
            head = half.decoder.decode_half(bytes(half.block) + block)
            known = not (promised or half.promised) and (head.status if sender == SERVER else head.asks)
            flags, nothing = half.flags & ~frames.END_STREAM, Cursor(b"")
            return self._exchanges.headers(sender, half.ident, head, flags, nothing) if known else None
        except ProtocolError:
            return None  # not even the beginning is one

    # ---- the end of exchanges ----

    def _reset(self, half: _Half, cursor: Cursor, size: int, ident: int) -> Message | None:
        code = _number(cursor, size, 4)
        if code is None:
            return None
        half.fresh = False
        cursor.pos += _HEADER_SIZE + size
        message = self._exchanges.reset(ident, code)
        if message is None:
            cursor.drop()
        return message

    def _go_away(self, half: _Half, cursor: Cursor, size: int) -> Message | None:
        """End the requests that the server will not look at, one a call, before the frame is read."""
        last = _number(cursor, size, 8)
        if last is None:
            return None
        message = self._exchanges.refuse(last & frames.STREAM_MASK) if half.refused < MAX_REFUSED else None
        half.refused += 1
        if message is not None:
            return message
        half.refused = 0
        _other(half, cursor, frames.GOAWAY, size)
        return None


def _preface(half: _Half, cursor: Cursor) -> None:
    """A client's first words: its table begins empty. Raises ProtocolError where they are others."""
    said = bytes(cursor.data[cursor.pos : cursor.pos + len(frames.PREFACE)])
    if not frames.PREFACE.startswith(said):
        raise ProtocolError("not HTTP/2: neither a frame nor the preface of a connection.")
    if len(said) == len(frames.PREFACE):
        half.decoder.start()
        half.fresh = False
        cursor.pos += len(said)
        cursor.drop()


def _other(half: _Half, cursor: Cursor, kind: int, size: int) -> None:
    """Read past a frame that concerns no exchange; types that nobody here knows are ignored (RFC 9113, 4.1)."""
    if frames.SIZES.get(kind, size) != size or size > frames.USUAL_FRAME or (kind == frames.SETTINGS and size % 6):
        raise ProtocolError("not HTTP/2: a frame of a size that its type does not have.")
    if kind == frames.CONTINUATION:
        half.decoder.forget()  # the beginning of its block was not seen
    half.fresh = False
    cursor.pos += _HEADER_SIZE + size
    cursor.drop()


def _number(cursor: Cursor, size: int, least: int) -> int | None:
    """What a payload of `least` bytes or more begins with; None where so many are not there yet."""
    if size < least or (size > least == 4) or size > frames.USUAL_FRAME:
        raise ProtocolError("not HTTP/2: a frame of a size that its type does not have.")
    begin = cursor.pos + _HEADER_SIZE
    return int.from_bytes(cursor.data[begin : begin + 4], "big") if begin + least <= len(cursor.data) else None


PROTOCOL = Protocol(
    name="http2",
    title="HTTP/2 in clear text (h2c)",
    specification="https://www.rfc-editor.org/rfc/rfc9113",
    parser=Http2Parser,
    renew=Http2Parser.renewed,
    recognise=frames.recognise,
    pairing=Pairing.BY_ID,
    capture=Capture.FULL,
    ports=(50051,),
    hints=("h2", "h2c", "http/2", "http2.0", "kubernetes.io/h2c"),
    session="http",
    attributes=(
        "http.request.method",
        "http.request.method_original",
        "http.request.body.size",
        "http.response.status_code",
        "http.response.body.size",
        "url.scheme",
        "url.path",
        "url.query",
        "server.address",
        "server.port",
        "user_agent.original",
        "network.protocol.version",
        "error.type",
        UNKNOWN_HEADERS,
    ),
    limits={
        "bytes of a header block": MAX_BLOCK,
        "bytes of a header table": MAX_TABLE,
        "headers in a block": MAX_FIELDS,
        "streams at once": MAX_STREAMS,
        "requests that a GOAWAY ends": MAX_REFUSED,
    },
)
