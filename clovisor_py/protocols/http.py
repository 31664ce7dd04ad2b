"""HTTP/1.0 and HTTP/1.1 (RFC 9112): where each message of either direction begins and ends.

`_http_head` reads what a head says; this file follows the body that it announces, without keeping any of it: a body of
known length and the data of a chunk are stepped over, seen or not. Each direction is at a head, or has one reader that
carries its open message to the end (`_Half.read`); after a successful CONNECT or an Upgrade both are in a tunnel.

A response cannot be read without its question (one to HEAD has a length and no body), so the methods of the requests that
wait are kept. Unread bytes are looked at once: what was searched of half a head or half a line is remembered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.protocols import _http_head as head
from clovisor_py.protocols import _http_start as start
from clovisor_py.protocols._api import Capture, Pairing, Protocol, Setup
from clovisor_py.protocols._cursor import Cursor

MAX_HEAD: Final = 64 * 1024
"""Bytes of a head, and of all the trailers of a body: eight times what servers take by default. Beyond it: ProtocolError."""
MAX_LINE: Final = 4096
"""Bytes of a chunk's size line with its extensions, or of a trailer. Beyond it: ProtocolError."""
MAX_CHUNK_DIGITS: Final = 15
"""Hexadecimal digits of a chunk's size: the sum of all that a connection can carry fits into 63 bits."""
MAX_PENDING: Final = 1024
"""Requests whose methods are kept until they are answered. More than any client pipelines; reached where the responses are
never seen, and then the oldest matter least. The engine's own queue counts them."""

_HEAD_END = re.compile(rb"\n\r?\n")
_HEX_DIGITS = b"0123456789abcdefABCDEF"


class _Part(Enum):
    """What the next line of a chunked body is."""

    SIZE = "size"
    DATA_END = "data end"
    TRAILER = "trailer"


class _Half:
    """One direction: at a head (`read` is None), or inside the body of `message`."""

    __slots__ = ("message", "part", "read", "searched", "seen", "size", "size_key", "started", "trailers")

    def __init__(self, size_key: str) -> None:
        self.size_key = size_key
        self.reset()

    def reset(self) -> None:
        """At the beginning of a message, nothing of it read."""
        self.message: Message | None = None
        self.read: _Reader | None = None
        self.seen = bytearray()
        """Copy of a head that is not whole yet: what was searched, and what `end`, which is given no bytes, can tell."""
        self.started = False
        """`seen` begins with a whole start line."""
        self.searched = 0
        """Unread bytes of a chunked body that are known to hold no line feed."""
        self.part = _Part.SIZE
        self.size = 0
        self.trailers = 0

    def open(self, message: Message, read: _Reader) -> None:
        """The head is done, the body begins."""
        self.reset()
        self.message = message
        self.read = read

    def close(self, whole: bool) -> Message | None:
        """Let go of the open message, if there is one; the size of its body is known when all of it has passed."""
        message = self.message
        if message is not None and whole:
            message.attributes[self.size_key] = self.size
        elif message is not None:
            message.incomplete = True
        self.reset()
        return message

    def line(self, cursor: Cursor) -> bytes | None:
        """The next line of a chunked body without its end, or None. Raises ProtocolError beyond MAX_LINE."""
        data, pos = cursor.data, cursor.pos
        at = data.find(b"\n", pos + self.searched, pos + MAX_LINE)
        if at >= 0:
            self.searched = 0
            cursor.pos = at + 1
            return bytes(data[pos:at]).rstrip(b"\r")
        self.searched = cursor.remaining
        if self.searched >= MAX_LINE:
            raise ProtocolError("not HTTP/1: a line without end in a chunked body.")
        return None


_Reader = Callable[[_Half, Cursor], Message | None]
"""Carries an open message on; a function, not a bound method, so that a finished flow leaves no cycle behind."""


def _length_over(half: _Half, _cursor: Cursor) -> Message | None:
    """The engine calls when the body of known length has been stepped over."""
    return half.close(whole=True)


def _until_close(half: _Half, cursor: Cursor) -> Message | None:
    """The body is all that follows; `end` returns the message."""
    half.size += cursor.remaining
    cursor.skip(cursor.remaining)
    return None


def _hidden(_half: _Half, _cursor: Cursor) -> Message | None:
    """The end of the head was never seen: what follows belongs to nobody until `end` and `resync`."""
    return None


def _chunks(half: _Half, cursor: Cursor) -> Message | None:
    """Size line, data, line end, and again; size 0, trailers, an empty line (RFC 9112, 7.1)."""
    while (line := half.line(cursor)) is not None:
        if half.part is _Part.SIZE:
            size = _chunk_size(line)
            half.size += size
            half.part = _Part.DATA_END if size else _Part.TRAILER
            cursor.skip(size)
        elif half.part is _Part.DATA_END:
            if line:
                raise ProtocolError("not HTTP/1: a chunk longer than its size.")
            half.part = _Part.SIZE
        elif not line:
            return half.close(whole=True)
        else:
            half.trailers += len(line)
            if half.trailers > MAX_HEAD:
                raise ProtocolError(f"not HTTP/1: more than {MAX_HEAD} bytes of trailers.")
    return None


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].rstrip(b" \t")
    if not digits or len(digits) > MAX_CHUNK_DIGITS or digits.translate(None, _HEX_DIGITS):
        raise ProtocolError("not HTTP/1: a chunk size that is no number.")
    return int(digits, 16)


class HttpParser:
    """One connection, both directions."""

    __slots__ = ("_halves", "_pending", "_tunnel")

    def __init__(self, _setup: Setup) -> None:
        self._halves = (_Half("http.request.body.size"), _Half("http.response.body.size"))
        self._pending: list[str] = []
        self._tunnel = False

    def parse(self, sender: int, cursor: Cursor) -> Message | None:
        half = self._halves[sender]
        if half.read is not None:
            return half.read(half, cursor)
        if self._tunnel:
            cursor.skip(cursor.remaining)
            return None
        if sender == CLIENT and self._pending and self._pending[-1] == "CONNECT":
            return None  # the answer decides whether what follows is HTTP
        raw = _whole_head(sender, half, cursor)
        return None if raw is None else self._begin(sender, half, cursor, raw)

    def gap(self, sender: int, size: int) -> bool:
        half = self._halves[sender]
        if half.read is _until_close:
            half.size += size
            return True
        if half.read is None and not self._tunnel:
            self._hide_rest_of_head(sender, half)
            return False
        return half.read is None

    def end(self, sender: int) -> Message | None:
        half = self._halves[sender]
        if half.read is None:
            self._hide_rest_of_head(sender, half)
        return half.close(whole=half.read is _until_close)

    def resync(self, sender: int, data: bytes | bytearray) -> int | None:
        if self._tunnel:
            return None
        self._halves[sender].reset()
        if sender == SERVER:
            # Responses were lost, nobody knows how many. Who does not pipeline waits for the newest request only.
            del self._pending[:-1]
        return start.find(sender, data)

    def _begin(self, sender: int, half: _Half, cursor: Cursor, raw: bytes) -> Message | None:
        """The head at the cursor is whole: read past it, and return its message or follow its body.

        A bad start line raises before the cursor moves, anything else behind the head: that is where to go on from.
        """
        lower = raw.lower()
        message, asked = self._read(sender, raw, lower)
        cursor.pos += len(raw)
        framing = head.framing(message, lower, asked)
        if framing >= 0:
            cursor.pos += framing
            if cursor.pos <= len(cursor.data):
                message.attributes[half.size_key] = framing
                return message
            half.open(message, _length_over)
            half.size = framing
            return None
        if framing == head.NO_BODY:
            return message
        if framing == head.TUNNEL:
            self._tunnel = True
            return message
        read = _chunks if framing == head.CHUNKED else _until_close
        half.open(message, read)
        return read(half, cursor)

    def _read(self, sender: int, raw: bytes, lower: bytes) -> tuple[Message, str]:
        """The message that begins with `raw`, and the method that it answers ("" where that is unknown)."""
        if sender == CLIENT:
            message = head.request(raw, lower)
            self._pending.append(message.operation)
            if len(self._pending) > MAX_PENDING:
                del self._pending[0]
            return message, ""
        message = head.response(raw)
        answers = self._pending and message.kind is Kind.RESPONSE
        return message, self._pending.pop(0) if answers else ""

    def _hide_rest_of_head(self, sender: int, half: _Half) -> None:
        """Half a head has come and no more will: with a whole start line, it is a message."""
        if half.started:
            raw = bytes(half.seen[: half.seen.rfind(b"\n") + 1]) + b"\n"
            half.open(self._read(sender, raw, raw.lower())[0], _hidden)


def _whole_head(sender: int, half: _Half, cursor: Cursor) -> bytes | None:
    """The next head, still unread, or None: then half of it is remembered."""
    data, pos, known = cursor.data, cursor.pos, len(half.seen)
    if not known:
        while pos < len(data) and data[pos] in b"\r\n":  # RFC 9112, 2.2: some send an empty line after a body
            pos += 1
        cursor.pos = pos
    if pos >= len(data):
        return None
    found = _HEAD_END.search(data, pos + known - 2 if known > 2 else pos, pos + MAX_HEAD)
    if found is None:
        _half_head(sender, half, cursor)
        return None
    if known:
        half.reset()
    return bytes(data[pos : found.end()])


def _half_head(sender: int, half: _Half, cursor: Cursor) -> None:
    """Remember what is there of a head. Raises ProtocolError as soon as it cannot become one."""
    known = len(half.seen)
    half.seen += cursor.data[cursor.pos + known : cursor.pos + MAX_HEAD]
    if len(half.seen) >= MAX_HEAD:
        raise ProtocolError(f"not HTTP/1: a head of more than {MAX_HEAD} bytes.")
    if half.started:
        return
    if half.seen.find(b"\n", known) >= 0:
        start.match(sender, half.seen)
        half.started = True
    else:
        start.check_half(sender, half.seen)


PROTOCOL = Protocol(
    name="http",
    title="HTTP/1.0 and HTTP/1.1",
    specification="https://www.rfc-editor.org/rfc/rfc9112",
    parser=HttpParser,
    recognise=start.recognise,
    pairing=Pairing.FIFO,
    capture=Capture.HEAD,
    ports=(80, 8080, 8000, 8008, 8081, 8088, 8888, 9080, 3000, 5000),
    hints=("http1", "http/1", "http/1.0", "http/1.1", "http1.1", "kubernetes.io/ws", "ws"),
)
