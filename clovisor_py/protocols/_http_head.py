"""The head of an HTTP/1 message behind its request line: status line, headers, and the way the body is framed.

A head is never taken apart: one lower-cased copy, and in it one search for each header that matters, anchored at the
beginning of a line. That costs a third less than splitting it, and is linear whatever the bytes are: no pattern here can
match the same byte in two ways. Most callers send one head over and over (but for its target), so what was read of the
usual ones is remembered (`Heads`); it is shared, so callers copy the dictionaries.

Of cookies only redaction `off` tells the values, and of an authorization the scheme: the rest is a login. Bodies enter no
Message. What two servers could read differently (lengths that disagree, white space before a colon) is a violation, never a
guess.

Grammar: RFC 9112 (start line, framing), RFC 9110 (methods, statuses, Upgrade).
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from typing import Final, TypeAlias

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import PROPAGATION_HEADERS, SERVER, Kind
from clovisor_py.protocols import _http_start as start
from clovisor_py.protocols import _http_target as target
from clovisor_py.protocols._http_target import MAX_TEXT, Attributes, text
from clovisor_py.protocols._memo import Memo
from clovisor_py.protocols._redaction import HIDDEN, Redaction

MAX_HEADERS: Final = 2000
"""Lines in one head; Node.js, the most patient server, stops there. Beyond it: a violation."""
MAX_LENGTH_DIGITS: Final = 18
"""Digits of a Content-Length: what is longer does not fit into 63 bits. Beyond it: a violation."""
MAX_REMEMBERED: Final = 2048
"""Bytes of a head that is remembered; a longer one carries tokens, and is its sender's own."""
MAX_REMEMBERED_LINE: Final = 512
"""Bytes of a request line that is remembered."""
MAX_SHOWN: Final = 16
"""Lines of one header that redaction `off` shows; the rest is left out."""

NO_BODY: Final = -1
"""Framing: the message ends with its head. A framing of 0 or more is the length of the body."""
CHUNKED: Final = -2
"""Framing: the body is in chunks."""
UNTIL_CLOSE: Final = -3
"""Framing: the body ends with the connection."""
UNCLEAR: Final = -4
"""Framing: two readers could come to two answers; a violation, unless the message has no body whatever its headers say."""
REFUSED: Final = -5
"""Framing: these headers are no HTTP; a violation."""

LENGTH_IGNORED: Final = "clovisor.http.content_length_ignored"
"""Attribute, true where a message had a Content-Length besides its Transfer-Encoding: the mark of request smuggling."""
H2C: Final = "h2c"
"""What HTTP/2 is called in an Upgrade."""
H2C_STREAM: Final = 1
"""The HTTP/2 stream on which a request that asks for it is answered, if it is granted (RFC 7540, 3.2)."""

_COMMA, _COLON = b",:"
_INDENT = b" \t"
_BODILESS = (204, 304)
"""Besides all below 200."""
_RESPONSE, _INTERIM = Kind.RESPONSE, Kind.INTERIM  # looking up a member costs more than a call

_CODING, _LENGTH = b"\ntransfer-encoding", b"\ncontent-length"
_TRACED = "|".join(sorted(map(re.escape, PROPAGATION_HEADERS))).encode()
_CONTEXT = re.compile(b"\n(" + _TRACED + b"):")
_RARE = re.compile(b"\n(?:upgrade|" + _TRACED + b"):")
"""Asked once: most requests have none of them."""
_PROTOCOL = re.compile(rb"[0-9a-z._+/\-]{1,32}")
"""A protocol's name that may be told: such as are registered, never free text."""


RequestFields: TypeAlias = tuple[int, str, Attributes, Attributes, dict[str, str], int | None]
"""What the headers of a request say: framing, why it is UNCLEAR or REFUSED, attributes, attributes without those of the Host
header, trace context, and the id by which another protocol will answer it, if it does."""
ResponseHead: TypeAlias = tuple[Kind, str, bool, Attributes, int, str, str | None]
"""What the head of a response says: kind, status, error, attributes, framing (if it answers a GET), why that is UNCLEAR or
REFUSED, and whom it hands the connection to. Plain tuples, because one is made for each message that is not remembered.

An error is a status of 400 or more, whichever side looks on: to the caller the call failed, and RED counts that. Whether a
server's span is an error too (OpenTelemetry: only from 500 on) is for the spans to say."""


def _status(version: bytes, digits: bytes) -> tuple[int, str, Attributes]:
    """Code, text and attributes of a status line."""
    code = int(digits)
    told = target.VERSIONS.get(version) or version.decode("ascii")
    attributes: Attributes = {"http.response.status_code": code, "network.protocol.version": told}
    if code >= 500:
        attributes["error.type"] = str(code)
    return code, str(code), attributes


_STATUSES = {
    b"HTTP/%b %b " % (version, digits): _status(version, digits)
    for version in target.VERSIONS
    for digits in (b"%d" % code for code in range(100, 1000))
}
"""By the beginning of a status line that has a phrase, or a space where one would be: nearly all have."""
STATUS_BYTES: Final = len(b"HTTP/1.1 200 ")


class Heads:
    """Reads heads, as `show` allows.

    `lines[line]`: a request line without its line feed; ProtocolError if it is none. `requests[fields]`: the headers of a
    request, what follows that line feed up to its empty line; total. `responses[head]`: all of it; ProtocolError if it begins
    with no status line.
    """

    __slots__ = ("_show", "lines", "requests", "responses")

    def __init__(self, show: int) -> None:
        self._show = show
        self.lines: Memo[target.RequestLine] = Memo(partial(target.read_line, show), MAX_REMEMBERED_LINE)
        self.requests: Memo[RequestFields] = Memo(self._request, MAX_REMEMBERED)
        self.responses: Memo[ResponseHead] = Memo(self._response, MAX_REMEMBERED)

    def _request(self, fields: bytes) -> RequestFields:
        block = b"\n" + fields
        lower = block.lower()
        attributes: Attributes = {}
        if agent := _first(block, lower, b"\nuser-agent:"):
            attributes["user_agent.original"] = text(agent)
        if self._show & target.SHOW_COOKIES:
            _show(attributes, "http.request.header.cookie", _every(block, lower, b"\ncookie:"))
            schemes = [_scheme(value) for value in _every(block, lower, b"\nauthorization:")]
            _show(attributes, "http.request.header.authorization", schemes)
        framing, violation, ignored = _frame(lower, NO_BODY)
        if ignored:
            attributes[LENGTH_IGNORED] = True
        whole = attributes
        if host := _first(block, lower, b"\nhost:"):
            whole = attributes.copy()
            target.server(whole, host)
        rare = _RARE.search(lower)
        if rare is None:
            return framing, violation, whole, attributes, {}, None
        stream = H2C_STREAM if b"h2c" in lower and H2C in _protocols(lower) else None
        return framing, violation, whole, attributes, _propagation(block, lower, rare.start()), stream

    def _response(self, raw: bytes) -> ResponseHead:
        code, status, attributes = _STATUSES.get(raw[:STATUS_BYTES]) or _status(*start.match(SERVER, raw).groups())
        lower = raw.lower()
        framing, violation, ignored = _frame(lower, UNTIL_CLOSE)
        if ignored:
            attributes = {**attributes, LENGTH_IGNORED: True}
        if self._show & target.SHOW_COOKIES:
            attributes = attributes.copy()
            _show(attributes, "http.response.header.set-cookie", _every(raw, lower, b"\nset-cookie:"))
        if code >= 200:
            if code in _BODILESS and framing != REFUSED:
                framing = NO_BODY
            return _RESPONSE, status, code >= 400, attributes, framing, violation, None
        kind, hands_to = _interim(code, lower)
        return kind, status, False, attributes, framing if framing == REFUSED else NO_BODY, violation, hands_to


_heads = lru_cache(maxsize=8)(Heads)


def heads(redaction: Redaction) -> Heads:
    """The process's reader of heads under these rules, with what it remembers."""
    return _heads(target.shown(redaction))


def _interim(code: int, lower: bytes) -> tuple[Kind, str | None]:
    """Kind and successor of a 1xx. The answer to a request that asked for h2c follows in HTTP/2."""
    if code != 101:
        return _INTERIM, None
    hands_to = next(iter(_protocols(lower)), "")
    return _INTERIM if hands_to == H2C else _RESPONSE, hands_to


def _frame(lower: bytes, without: int) -> tuple[int, str, bool]:
    """The framing that these headers ask for (RFC 9112, 6.3; `without` any), what is wrong with them, and LENGTH_IGNORED."""
    if 0 in lower:
        return REFUSED, "a zero byte in a head", False
    if len(lower) > MAX_HEADERS and lower.count(b"\n") > MAX_HEADERS:
        return REFUSED, f"more than {MAX_HEADERS} header lines", False
    if not lower.partition(_CODING)[1]:  # twice as quick as `in`
        parts = lower.split(_LENGTH)
        if len(parts) == 1:
            return without, "", False
        value, _, rest = parts[1].partition(b"\r\n")
        digits = value[2:]
        usual = value[:2] == b": " and digits.isdigit() and len(digits) <= MAX_LENGTH_DIGITS
        if usual and len(parts) == 2 and rest[0] not in _INDENT:
            return int(digits), "", False
    return _frame_closely(lower, without)


def _frame_closely(lower: bytes, without: int) -> tuple[int, str, bool]:
    """The same, where a body is in a coding, or its length is written more than once or otherwise than usual."""
    coding, length = lower.find(_CODING), lower.find(_LENGTH)
    ignored = False
    try:
        if coding >= 0 and (codings := _members(lower, _CODING, coding)):
            ignored = length >= 0
            return _coded(codings[-1], is_request=without == NO_BODY), "", ignored
        lengths = _members(lower, _LENGTH, length)
        return _agreed(lengths) if lengths else without, "", False
    except ProtocolError as error:
        return UNCLEAR, str(error), ignored


def _coded(last_coding: bytes, is_request: bool) -> int:
    """In a transfer coding: it outranks a Content-Length, and only chunks have an end."""
    if last_coding == b"chunked":
        return CHUNKED
    if is_request:
        raise ProtocolError("a request in a transfer coding that has no end")
    return UNTIL_CLOSE


def _agreed(lengths: list[bytes]) -> int:
    """The Content-Length, said once or several times the same."""
    length = lengths[0]
    if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
        raise ProtocolError("a content length that is no number")
    if lengths.count(length) != len(lengths):
        raise ProtocolError("content lengths that disagree")
    return int(length)


def _members(lower: bytes, name: bytes, at: int) -> list[bytes]:
    """Every member of a list header, of all its lines in order, the first at `at` (RFC 9110, 5.3)."""
    members: list[bytes] = []
    while at >= 0:
        colon = at + len(name)
        end = _value_end(lower, colon)
        if lower[colon] == _COLON:
            value = lower[colon + 1 : end].strip()
            members += map(bytes.strip, value.split(b",")) if _COMMA in value else (value,)
        elif lower[colon:end].lstrip()[:1] == b":":
            raise ProtocolError("white space between a header's name and its colon")
        at = lower.find(name, end)
    return members


def _protocols(lower: bytes) -> list[str]:
    """What an Upgrade names, the one nearest to the wire first (RFC 9110, 7.8)."""
    named = [member.strip() for line in _every(lower, lower, b"\nupgrade:") for member in line.split(b",")]
    return [name.decode("ascii") for name in named if _PROTOCOL.fullmatch(name)]


def _first(raw: bytes, lower: bytes, name: bytes) -> bytes:
    """The value of a header's first line, as it was written; `name` with the line feed before and the colon after it."""
    at = lower.find(name)
    if at < 0:
        return b""
    end = raw.find(b"\n", at + 1)
    return raw[at + len(name) : end].strip() if raw[end + 1] not in _INDENT else _written(raw, at + len(name))


def _every(raw: bytes, lower: bytes, name: bytes) -> list[bytes]:
    """The values of a header's first MAX_SHOWN lines, those that are not empty."""
    values: list[bytes] = []
    at = lower.find(name)
    while at >= 0 and len(values) < MAX_SHOWN:
        if value := _written(raw, at + len(name)):
            values.append(value)
        at = lower.find(name, at + len(name))
    return values


def _written(raw: bytes, at: int) -> bytes:
    """The value that begins at `at`, in one line."""
    value = raw[at : _value_end(raw, at)]
    return b" ".join(value.split()) if b"\n" in value else value.strip()


def _value_end(raw: bytes, at: int) -> int:
    """Offset of the line feed that ends a value. Indented lines continue it: obsolete, and still sent."""
    end = raw.find(b"\n", at)
    while raw[end + 1] in _INDENT:
        end = raw.find(b"\n", end + 1)
    return end


def _propagation(raw: bytes, lower: bytes, at: int) -> dict[str, str]:
    """Headers that carry a trace context, none of them before `at`; one that comes twice is a list."""
    context: dict[str, str] = {}
    found = _CONTEXT.search(lower, at)
    while found:
        name = found[1].decode("ascii")
        value = _written(raw, found.end())[:MAX_TEXT].decode("latin-1")
        context[name] = f"{context[name]},{value}"[:MAX_TEXT] if name in context else value
        found = _CONTEXT.search(lower, found.end())
    return context


def _scheme(authorization: bytes) -> bytes:
    return authorization.split()[0] + b" " + HIDDEN.encode()


def _show(attributes: Attributes, name: str, values: list[bytes]) -> None:
    if values:
        attributes[name] = [text(value) for value in values]
