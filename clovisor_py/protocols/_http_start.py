"""Start lines of HTTP/1: what is one, what could become one, and where the next one is (RFC 9112, 3 and 4).

The same grammar recognises the protocol, begins each message, rejects bytes that are not HTTP as soon as they show it, and
finds the way back after a loss. Every pattern is linear: a token, a target and the space between them share no byte.

Clients also send lines that break the grammar and that servers answer all the same: a target with spaces in it, more spaces
than one, `http/1.1`, another version. Such a line is read too, where it begins a message with a method that is known.
"""

from __future__ import annotations

import re
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT
from clovisor_py.protocols._api import Evidence

MAX_METHOD: Final = 32
"""Bytes of a method; the longest registered one has 17. It is an operation name, so it must not be free text."""

KNOWN_METHODS: Final = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
"""Those that OpenTelemetry knows. Any other token is a method too, but half a line with one is no evidence."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]" + b"{1,%d}" % MAX_METHOD
_TARGET = rb"[^\x00-\x20\x7f]+"
_KNOWN = "|".join(KNOWN_METHODS).encode()

REQUEST_LINE: Final = re.compile(b"(" + _TOKEN + b") (" + _TARGET + rb") HTTP/(1\.[01])\r?\n")
"""Method, target, version."""
ODD_REQUEST_LINE: Final = re.compile(
    b"(" + _KNOWN + rb") +(?:([^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?) +)?(?i:HTTP)/([0-9]\.[0-9])[ \t]*\r?\n"
)
"""The same of a line that breaks the grammar; the target is None where there is none."""
STATUS_LINE: Final = re.compile(rb"HTTP/([0-9]\.[0-9]) ([1-9][0-9][0-9])(?: |\r?\n)")
"""Version, status; what follows is a phrase for people."""

_HALF_REQUEST = re.compile(
    b"(?:" + _KNOWN + rb") (?:[/*hH]|(?<=CONNECT )[0-9A-Za-z\[])[^\x00-\x20\x7f]*(?: [HTP/1.0]{0,8}\r?)?\Z"
)
_CUT_REQUEST = re.compile(b"(" + _KNOWN + rb") (/[^\x00-\x20\x7f]*)( ?)[HTP/1.0]{0,8}\r?\Z")
_HALF_ODD_REQUEST = re.compile(b"(?:" + _KNOWN + rb") +(?:[/*hH][^\x00-\x1f\x7f]*\r?)?\Z")
_TOKEN_FIRST = re.compile(_TOKEN + rb"(?: |\Z)")
_REQUEST_OR_HALF = re.compile(REQUEST_LINE.pattern + b"|" + _HALF_REQUEST.pattern)
_NEXT_REQUEST = re.compile(rb"\n(?=" + _REQUEST_OR_HALF.pattern + b")")
_NEXT_STATUS = re.compile(rb"\n(?=" + STATUS_LINE.pattern + b")")

_MODEL = b"HTTP/1.1 200 "
"""A status line as far as it matters: completes half a one, to see whether it could become a whole one."""
_FIRST = MAX_METHOD + 1
"""Bytes that show whether a line could become a start line."""


def recognise(data: bytes) -> Evidence:
    """A whole start line is evidence; half a status line, or a known method and half a target, asks for more."""
    text = data.lstrip(b"\r\n")
    if _could_be_status(text):
        return Evidence.RESPONSE if len(text) >= len(_MODEL) else Evidence.MORE
    if _request_line(text):
        return Evidence.REQUEST
    half = _HALF_REQUEST.match(text) or _HALF_ODD_REQUEST.match(text)
    if half or any(f"{method} ".encode().startswith(text) for method in KNOWN_METHODS):
        return Evidence.MORE
    return Evidence.NO


def match(sender: int, raw: bytes | bytearray) -> re.Match[bytes]:
    """The start line of `sender` that `raw` begins with. Raises ProtocolError if it is none."""
    found = _request_line(raw) if sender == CLIENT else STATUS_LINE.match(raw)
    if found is None:
        raise ProtocolError(f"not HTTP/1: no {'request' if sender == CLIENT else 'status'} line where one is due.")
    return found


def check_half(sender: int, half: bytes | bytearray) -> None:
    """Raise ProtocolError if `half` a line, not empty, can never become a start line. Looks at its first bytes only."""
    first = bytes(half[:_FIRST])
    if not (_TOKEN_FIRST.match(first) if sender == CLIENT else _could_be_status(first)):
        raise ProtocolError("not HTTP/1: bytes that begin no start line where one is due.")


def completed(half: bytes | bytearray) -> tuple[bytes, bool] | None:
    """A whole request line for `half` a one of which no more will be seen, and whether the end of its path was.

    None where it does not even begin to name a path. The version is made up, and not to be told.
    """
    found = _CUT_REQUEST.match(half)
    if found is None:
        return None
    method, path, space = found.groups()
    return method + b" " + path + b" HTTP/1.1\r\n", bool(space) or b"?" in path


def find(sender: int, data: bytes | bytearray) -> int | None:
    """Offset of the first line in `data` (which begins with one) that is a start line, or, for a request, half of one."""
    first, later = (_REQUEST_OR_HALF, _NEXT_REQUEST) if sender == CLIENT else (STATUS_LINE, _NEXT_STATUS)
    if first.match(data) or (sender == CLIENT and ODD_REQUEST_LINE.match(data)):
        return 0
    found = later.search(data)
    return found.end() if found else None


def _request_line(raw: bytes | bytearray) -> re.Match[bytes] | None:
    return REQUEST_LINE.match(raw) or ODD_REQUEST_LINE.match(raw)


def _could_be_status(first: bytes) -> bool:
    return STATUS_LINE.match(first + _MODEL[len(first) :]) is not None
