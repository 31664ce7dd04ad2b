"""HTTP/1.0 and HTTP/1.1 (RFC 9112): where each message of either direction begins and ends.

`_http_target` reads a request line, `_http_head` the rest of a head; this file follows the body that they announce, without
keeping any of it: a body of known length and the data of a chunk are stepped over, seen or not. Each direction is at a head,
or has one reader that carries its open message to the end (`_Half.read`). A 101 and a successful CONNECT hand the connection
over, and are the last that is read here.

A response cannot be read without its question (one to HEAD has a length and no body), so the methods of the requests that
wait are kept. Unread bytes are looked at once: what was searched of half a head or half a line is remembered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.protocols import _http_head as head
from clovisor_py.protocols import _http_start as start
from clovisor_py.protocols import _http_target as target
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
MAX_EARLY: Final = 64 * 1024
"""Bytes that wait behind a CONNECT until it is answered; a client that sends at once sends a few. Beyond it: ProtocolError."""
_HEAD_END = re.compile(rb"\n\r?\n")
_LINE_ENDS = b"\r\n"
_HEX_DIGITS = b"0123456789abcdefABCDEF"
_REQUEST, _RESPONSE = Kind.REQUEST, Kind.RESPONSE  # looking up a member costs more than a call
_SIZE_KEYS = ("http.request.body.size", "http.response.body.size")

_PLAIN, _HEAD, _CONNECT = ".HC"
_MEANINGS: Final = {"HEAD": _HEAD, "CONNECT": _CONNECT}
"""What a method means for the answer, in one letter; of any other method: `_PLAIN`."""

_SIZE, _DATA_END, _TRAILER = range(3)
"""What the next line of a chunked body is."""


class _Half:
    """One direction in the middle of a message: of its head (`read` is None), or of the body of `message`."""

    __slots__ = ("message", "part", "read", "searched", "seen", "size", "size_key", "started", "trailers")

    def __init__(self, size_key: str) -> None:
        self.size_key = size_key
        self.message: Message | None = None
        self.read: _Reader | None = None
        self.seen: bytes | bytearray = b""
        """Copy of a head that is not whole yet: what was searched, and what `end`, which is given no bytes, can tell."""
        self.started = False
        """`seen` begins with a whole start line."""
        self.searched = 0
        """Unread bytes of a chunked body that are known to hold no line feed."""
        self.part = _SIZE
        self.size = 0
        self.trailers = 0

    def open(self, message: Message, read: _Reader) -> None:
        """The head is done, the body begins."""
        self.message = message
        self.read = read

    def close(self, whole: bool) -> Message | None:
        """Let go of the open message, if there is one; the size of its body is known when all of it has passed."""
        message = self.message
        if message is not None and whole:
            message.attributes[self.size_key] = self.size
        elif message is not None:
            message.incomplete = True
        self.message = self.read = None
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


_BETWEEN: Final[tuple[_Half | None, _Half | None]] = (None, None)
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
        if half.part == _SIZE:
            size = _chunk_size(line)
            half.size += size
            cursor.pos += size
            if size and cursor.data[cursor.pos : cursor.pos + 2] == _LINE_ENDS:
                cursor.pos += 2
            else:
                half.part = _DATA_END if size else _TRAILER
        elif half.part == _DATA_END:
            if line:
                raise ProtocolError("not HTTP/1: a chunk longer than its size.")
            half.part = _SIZE
        elif not line:
            return half.close(whole=True)
        else:
            half.trailers += len(line)
            if half.trailers > MAX_HEAD:
                raise ProtocolError(f"not HTTP/1: more than {MAX_HEAD} bytes of trailers.")
    return None


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].rstrip(b" \t")
    if not digits or len(digits) > MAX_CHUNK_DIGITS or digits.lstrip(_HEX_DIGITS):
        raise ProtocolError("not HTTP/1: a chunk size that is no number.")
    return int(digits, 16)


class HttpParser:
    """One connection, both directions. An idle one is nearly nothing: there are thousands."""

    __slots__ = ("_halves", "_heads", "_pending")

    def __init__(self, setup: Setup) -> None:
        self._heads = head.heads(setup.redaction)
        self._halves = _BETWEEN
        """Of each direction, where it is; None between two messages."""
        self._pending = ""
        """Of each request that waits for its answer, what its method means for that: a letter takes no memory of its own."""

    def parse(self, sender: int, cursor: Cursor) -> Message | None:
        half = self._halves[sender]
        if half is not None and half.read is not None:
            whole = half.read(half, cursor)
            if whole is not None:
                self._put(sender, None)
            return whole
        pending = self._pending
        if pending and sender == CLIENT and pending[-1] == _CONNECT:
            _wait(cursor)
            return None
        data, pos = cursor.data, cursor.pos
        found = _HEAD_END.search(data, pos, pos + MAX_HEAD) if half is None else None
        end = found.end() if found is not None and data[pos] not in _LINE_ENDS else self._head_end(sender, cursor)
        if not end:
            return None
        raw = bytes(data[cursor.pos : end])
        # A bad start line raises before the cursor moves, anything else behind the head: that is where to go on from.
        message, framing, violation = self._request(raw) if sender == CLIENT else self._response(raw)
        cursor.pos = end
        if framing >= 0 and end + framing <= len(data):
            cursor.pos = end + framing
            message.attributes[_SIZE_KEYS[sender]] = framing
        elif framing != head.NO_BODY:
            whole = self._follow(sender, cursor, message, framing, violation)
            if whole is None and message.propagation:
                cursor.opened = message
            return whole
        return message

    def gap(self, sender: int, size: int) -> bool:
        half = self._halves[sender]
        if half is None:
            return False
        if half.read is _until_close:
            half.size += size
            return True
        if half.read is None:
            self._hide_rest_of_head(sender, half)
            if half.read is None and sender == CLIENT:
                self._hide_rest_of_line(half)
        return False

    def end(self, sender: int) -> Message | None:
        half = self._halves[sender]
        if half is None:
            return None
        if half.read is None:
            self._hide_rest_of_head(sender, half)
        self._put(sender, None)
        return half.close(whole=half.read is _until_close)

    def resync(self, sender: int, data: bytes | bytearray) -> int | None:
        self._put(sender, None)
        if sender == SERVER:
            # Responses were lost, nobody knows how many. Who does not pipeline waits for the newest request only.
            self._pending = self._pending[-1:]
        return start.find(sender, data)

    def _request(self, raw: bytes) -> tuple[Message, int, str]:
        """The request with that head, how its body is framed, and what is wrong with that."""
        line, _, block = raw.partition(b"\n")
        method, resource, told, names_server = self._heads.lines[line]
        framing, violation, fields, besides_server, context, correlation = self._heads.requests[block]
        attributes = {**told, **(besides_server if names_server else fields)}
        self._pending += _MEANINGS.get(method, _PLAIN)
        if len(self._pending) > MAX_PENDING:
            self._pending = self._pending[1:]
        propagation = context.copy() if context else {}
        return Message(_REQUEST, method, resource, "", False, attributes, propagation, correlation), framing, violation

    def _response(self, raw: bytes) -> tuple[Message, int, str]:
        """As `_request`; what it answers may outrank what its headers say of its body."""
        kind, status, error, attributes, framing, violation, hands_to = self._heads.responses[raw]
        message = Message(kind, "", "", status, error, attributes.copy())
        if hands_to is not None:
            message.hands_to = hands_to
        pending = self._pending
        if pending and kind is _RESPONSE:
            self._pending = pending[1:]
            asked = pending[0]
            if asked == _CONNECT and status[0] == "2":
                message.hands_to = ""
            if (asked == _HEAD or message.hands_to is not None) and framing != head.REFUSED:
                framing = head.NO_BODY
        return message, framing, violation

    def _put(self, sender: int, half: _Half | None) -> None:
        """Where that direction is from now on."""
        other = self._halves[1 - sender]
        if half is None and other is None:
            self._halves = _BETWEEN  # a connection that is idle needs no tuple of its own
        else:
            self._halves = (half, other) if sender == CLIENT else (other, half)

    def _follow(self, sender: int, cursor: Cursor, message: Message, framing: int, violation: str) -> Message | None:
        """The cursor is behind the head of a message whose body may not be at hand."""
        if framing <= head.UNCLEAR:
            raise ProtocolError(f"not HTTP/1: {violation}.")
        half = _Half(_SIZE_KEYS[sender])
        if framing >= 0:
            cursor.pos += framing
            half.open(message, _length_over)
            half.size = framing
            self._put(sender, half)
            return None
        read = _chunks if framing == head.CHUNKED else _until_close
        half.open(message, read)
        try:
            return read(half, cursor)
        finally:
            if half.message is not None:  # more of it is to come, or it is broken and `end` will be asked for it
                self._put(sender, half)

    def _head_end(self, sender: int, cursor: Cursor) -> int:
        """Where the next head ends, still unread; 0: it is not whole, and half of it is remembered."""
        half = self._halves[sender]
        data, pos, known = cursor.data, cursor.pos, len(half.seen) if half is not None else 0
        if not known:
            while pos < len(data) and data[pos] in _LINE_ENDS:  # RFC 9112, 2.2: some send an empty line after a body
                pos += 1
            if pos > cursor.pos:
                cursor.pos = pos
                cursor.drop()
        if pos >= len(data):
            return 0
        found = _HEAD_END.search(data, pos + known - 2 if known > 2 else pos, pos + MAX_HEAD)
        if found is not None:
            self._put(sender, None)
            return found.end()
        if half is None:
            half = _Half(_SIZE_KEYS[sender])
            self._put(sender, half)
        _half_head(sender, half, cursor)
        return 0

    def _hide_rest_of_head(self, sender: int, half: _Half) -> None:
        """Half a head has come and no more will: with a whole start line, it is a message."""
        if half.started:
            raw = bytes(half.seen[: half.seen.rfind(b"\n") + 1]) + b"\n"
            half.open((self._request(raw) if sender == CLIENT else self._response(raw))[0], _hidden)

    def _hide_rest_of_line(self, half: _Half) -> None:
        """The capture cut the request line off: what was seen of it is told, if it is a method and the beginning of a path."""
        found = start.completed(half.seen)
        if found is not None:
            line, whole = found
            message = self._request(line + b"\n")[0]
            del message.attributes["network.protocol.version"]
            if not whole:  # the beginning of a path is another path
                message.resource = ""
                del message.attributes["url.path"]
            half.open(message, _hidden)


def _wait(cursor: Cursor) -> None:
    """The answer to a CONNECT decides whether what follows it is HTTP; until then it is left unread."""
    if cursor.remaining > MAX_EARLY:
        raise ProtocolError(f"not HTTP/1: more than {MAX_EARLY} bytes behind a CONNECT that nobody answered.")


def _half_head(sender: int, half: _Half, cursor: Cursor) -> None:
    """Remember what is there of a head. Raises ProtocolError as soon as it cannot become one."""
    known = len(half.seen)
    if not known:
        half.seen = bytearray()
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
    attributes=(
        "clovisor.http.content_length_ignored",
        "error.type",
        "http.request.body.size",
        "http.request.header.authorization",
        "http.request.header.cookie",
        "http.request.method",
        "http.request.method_original",
        "http.response.body.size",
        "http.response.header.set-cookie",
        "http.response.status_code",
        "network.protocol.version",
        "server.address",
        "server.port",
        "url.path",
        "url.query",
        "url.scheme",
        "user_agent.original",
    ),
    limits={
        "bytes of a head, and of the trailers of a body": MAX_HEAD,
        "lines of a head": head.MAX_HEADERS,
        "bytes of a chunk's size line, or of a trailer": MAX_LINE,
        "digits of a content length": head.MAX_LENGTH_DIGITS,
        "hexadecimal digits of a chunk's size": MAX_CHUNK_DIGITS,
        "bytes of a method": start.MAX_METHOD,
        "bytes that are told of a path, query, host, agent or trace header": target.MAX_TEXT,
        "requests whose methods are kept for their responses": MAX_PENDING,
        "bytes that wait for the answer to a CONNECT": MAX_EARLY,
    },
)
