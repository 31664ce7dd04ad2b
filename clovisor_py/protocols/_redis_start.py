"""Is this Redis, who says it, and where does a message begin: the first bytes of one direction.

An array of strings can be a command or an answer (`LRANGE`), a `PING` or an `+OK` can be NATS's or POP3's: what only Redis
says is accepted, what others say too asks for more, and the other direction or the well-known port settles it.
"""

from __future__ import annotations

import re
from typing import Final

from clovisor_py.model.message import CLIENT
from clovisor_py.protocols import _redis_commands as commands
from clovisor_py.protocols import _redis_requests as requests
from clovisor_py.protocols import _resp as resp
from clovisor_py.protocols._api import Evidence

PUSHES: Final = (b"message", b"pmessage", b"smessage", b"invalidate")
"""First words of what the server sends unasked; no command is called so."""
MAX_LINES: Final = 8
"""Inline commands that are looked at."""
CONFIRMATIONS: Final = frozenset(
    (b"subscribe", b"psubscribe", b"ssubscribe", b"unsubscribe", b"punsubscribe", b"sunsubscribe"),
)
"""First words of what answers a command of the same name: an array of three, the last one a number."""

_STATUS = re.compile(
    rb"^\+(?:PONG|QUEUED|RESET|CONTINUE|FULLRESYNC [0-9a-f]{40} [0-9]+|Background [a-z ]+ started"
    rb"|[0-9]{1,12}\.[0-9]{6} \[[0-9]+ [^\]\r\n]+\] \"[^\r\n]*)\r\n",
    re.MULTILINE,
)
"""Simple strings that nobody else answers with; the last is what MONITOR shows."""
_ERROR = re.compile(
    rb"^-(?:(?:WRONGTYPE|NOAUTH|WRONGPASS|NOPERM|MOVED|ASK|CROSSSLOT|CLUSTERDOWN|TRYAGAIN|LOADING|BUSY|NOSCRIPT|READONLY|MISCONF"
    rb"|OOM|EXECABORT|MASTERDOWN|NOREPLICAS|NOPROTO|BUSYGROUP|NOGROUP|BUSYKEY|UNBLOCKED|UNKILLABLE|INPROG|DENIED) [^\r\n]+"
    rb"|ERR (?:unknown command [`']|wrong number of arguments for|value is not |Operation against a key|syntax error"
    rb"|Protocol error|max number of clients|no such key|invalid (?:password|DB index)|operation not permitted"
    rb"|DB index is|EXEC without|DISCARD without|Client sent AUTH|AUTH <password>)[^\r\n]*)\r\n",
    re.MULTILINE,
)
"""Errors that nobody else reports."""
_NEXT_PUSH = re.compile(rb"(?<=\r\n)[*>][2-4]\r\n\$(?:7\r\nmessage|8\r\n[ps]message|10\r\ninvalidate)\r\n")
_FOREIGN = re.compile(rb" (?:HTTP|SIP|RTSP)/|\{")
"""In lines of HTTP and its kin, and of NATS."""
_TEXT = re.compile(rb"[\t\r\x20-\x7e\x80-\xff]*\n?\Z")
_LINES = b"+-"
_GREETING = b"+OK "
"""So begins POP3, whose errors may be in the same words; Redis says no more than `+OK`."""
_BREAKS = b"\r\n"
_BLANK = (b"", b"\r", b"\n")
"""An empty line, as `split` leaves it or as it begins."""


def recognise(data: bytes) -> Evidence:
    """By the first bytes of one direction, at the beginning of a message."""
    if data[:1] in _BLANK:
        data = data.lstrip(_BREAKS)  # Redis takes empty lines without an answer
        if not data:
            return Evidence.MORE
    first = data[:1]
    if first.isalpha():
        return _line(data)
    if first == b"*" and (head := requests.HEAD.match(data)):
        return _words(data, int(head[1]), head[3], len(head[3]) == int(head[2]))
    kinds = resp.survey(data)
    if kinds is None:
        return Evidence.NO
    if first in (b"+", b"-") and not data[1:2].isalnum() and len(data) > 1:
        return Evidence.NO
    return Evidence.RESPONSE if _is_reply(data, kinds) else Evidence.MORE


def find(sender: int, data: bytes | bytearray) -> int | None:
    """Offset of a message's beginning in the bytes of a new turn, or None.

    Inside a value anything may look like a message, and one that is taken for another shifts all answers: so it has to be
    the first byte, except for what the server sends unasked, which shifts nothing.
    """
    if sender == CLIENT:
        named = requests.LINE_NAME.match(data)
        known = named is not None and commands.is_known(named[1])
        return 0 if known or requests.HEAD.match(data) or requests.HALF_HEAD.match(data) else None
    if resp.COUNTED.match(data) or resp.LINE.match(data) or resp.HALF.match(data):
        return 0
    push = _NEXT_PUSH.search(data)
    return push.start() if push else None


def _is_reply(data: bytes, kinds: bytes) -> bool:
    """Whether well-formed values are enough to be sure that a Redis server sent them."""
    if not kinds:
        return False
    first = kinds[:1]
    if data.startswith((b"$-1\r\n", b"*-1\r\n", b"*0\r\n")):
        return True
    if first in (b"$", b"=", b"!"):
        return True
    if first in (b"+", b"-"):
        certain = not data.startswith(_GREETING) and (_STATUS.search(data) or _ERROR.search(data))
        return bool(certain or kinds.strip(_LINES))
    return len(kinds) > 1


def _words(data: bytes, count: int, name: bytes, exact: bool) -> Evidence:
    """An array whose first element could be a command's name."""
    kinds = resp.survey(data) if exact else None
    if kinds is None:
        return Evidence.NO
    elements = kinds[1 : count + 1]
    if elements.strip(b"$") or (name in PUSHES and 2 <= count <= 4):
        return Evidence.RESPONSE
    if not commands.is_known(name):
        return Evidence.MORE
    undecided = name.lower() in CONFIRMATIONS and count == 3 and len(elements) < count
    return Evidence.MORE if undecided else Evidence.REQUEST


def _line(data: bytes) -> Evidence:
    """Inline commands: by the name alone only where no other protocol has it."""
    *whole, last = data.split(b"\n", MAX_LINES)
    for line in whole:
        if line.startswith(b"*"):
            last = b""  # from here on arrays
            break
        if line not in _BLANK and not _is_command(line + b"\n"):
            return Evidence.NO
    if len(whole) < MAX_LINES and last[:1] not in (b"", b"*", b"\r") and not _is_command(last) and not _is_begun(last):
        return Evidence.NO
    return Evidence.REQUEST if whole and whole[0].split()[0].upper() in commands.REDIS_ONLY else Evidence.MORE


def _is_command(line: bytes) -> bool:
    """Whether a line, or the beginning of one, has the name of a command, and nothing that is surely no argument."""
    named = requests.LINE_NAME.match(line)
    known = named is not None and named[1].upper() in commands.KNOWN
    return known and _TEXT.match(line) is not None and _FOREIGN.search(line) is None


def _is_begun(line: bytes) -> bool:
    return any(known.startswith(line.upper()) for known in commands.KNOWN)
