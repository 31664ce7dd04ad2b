"""One session as one line of JSON (DESIGN, "Session as JSON").

ASCII only: whatever bytes were on the wire, the line can be written to any terminal, file or pipe, and means the same.

One is made for every session. So that of an ordinary one (asked, answered, all of it seen) is put together from pieces, in
a third of the time that making the object and encoding it takes: orjson writes the attributes, which were on the wire, and all
else is numbers and what many sessions share. Any other is the object, encoded. Where orjson refuses, or would not escape, the
standard library does it. All make the same line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Final

import orjson

from clovisor_py.model.message import AttributeValue
from clovisor_py.model.session import Outcome, Session, Side, TraceContext, rfc3339
from clovisor_py.model.workload import Endpoint, Workload

CONNECTIONS: Final = 512
"""Connections whose pieces are remembered, at 1 kB each; beyond it all are forgotten, and those that go on are learnt again."""
WORKLOADS: Final = 512
"""Workloads whose text is remembered, at half a kB each."""
NO_LINE: Final = "no line"
"""Why a session is dropped: its attributes are nothing that can be encoded."""
SECOND_NS: Final = 1_000_000_000
_LAST_NS: Final = 2 * SECOND_NS - 1

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_OK, _SERVER = Outcome.OK, Side.SERVER
_OUTCOMES: Final = {outcome: outcome.value for outcome in Outcome}
_WHOLE: Final = '{"truncated":false,"gap_bytes":0,"mid_stream":false}'


class _Connection:
    """What the sessions of a connection share, and by what they are known to: these very objects, which all of them name."""

    __slots__ = ("client", "client_workload", "ends", "opening", "protocol", "server", "server_workload", "side")

    def __init__(self, session: Session) -> None:
        self.client, self.server, self.side, self.protocol = session.client, session.server, session.side, session.protocol
        self.client_workload, self.server_workload = session.client_workload, session.server_workload
        self.opening = f'{{"protocol":{quoted(self.protocol)},"side":{quoted(self.side.value)},"start":"'
        """The text before `start`."""
        ends = _end(self.client, self.client_workload), _end(self.server, self.server_workload)
        self.ends = f',"client":{ends[0]},"server":{ends[1]},"operation":'
        """That between `ttfb_ns` and the operation."""


class Writer:
    """Makes lines; remembers what the sessions of a connection, and those of a second, share. For one thread."""

    __slots__ = ("_before_ns", "_known", "_second")

    def __init__(self) -> None:
        self._known: dict[int, _Connection] = {}
        """By `_key`, which is the identity of its client: hashing all that tells connections apart would take 2 µs."""
        self._before_ns, self._second = 0, ""
        """The latest second, up to the point; and when the one before began: since then, each moment of the latest is a `1` and
        the nine digits of its nanoseconds."""
        self._turn(0)

    def lines(self, sessions: Sequence[Session]) -> tuple[list[str], dict[str, int], str]:
        """A line of each that can be told; how many cannot, by reason; and why the last of them cannot."""
        out: list[str] = []
        line, fault = self.line, ""
        for session in sessions:
            try:
                out.append(line(session))
            except Exception as error:  # noqa: BLE001 (whatever a plugin made of it: counted, said, and the others go)
                fault = f"a {session.protocol} session cannot be told as JSON ({type(error).__name__}: {error})."
        untold = len(sessions) - len(out)
        return out, {NO_LINE: untold} if untold else {}, fault

    def line(self, session: Session) -> str:
        """The object of `Session.as_dict`, without a line break."""
        request, response, start_ns = session.request, session.response, session.start_ns
        if request is None or response is None or session.truncated or session.gap_bytes or session.mid_stream:
            return _by_object(session)
        nanos = start_ns - self._before_ns
        if not SECOND_NS <= nanos <= _LAST_NS:
            nanos = self._turn(start_ns)
        later = response[0] - self._before_ns  # by index, a time and a size are read faster than by name
        if request[0] != start_ns or not SECOND_NS <= later <= _LAST_NS:
            return _by_object(session)
        try:
            attributes = orjson.dumps(session.attributes).decode("ascii")
        except (orjson.JSONEncodeError, UnicodeDecodeError):  # a lone surrogate, an integer of more than 64 bits; a letter
            return _slow(session)
        client = session.client
        known = self._known.get(id(client) if session.side is _SERVER else ~id(client))  # `_key`, without a call
        if (
            known is None or known.client is not client or known.server is not session.server
            or known.client_workload is not session.client_workload or known.server_workload is not session.server_workload
            or known.side is not session.side or known.protocol != session.protocol
        ):  # fmt: skip
            known = self._learn(session)
        second, ttfb, outcome, trace = self._second, session.ttfb_ns, session.outcome, session.trace
        start = f"{second}{f'{nanos}'[1:]}"
        text = (
            f'{known.opening}{start}Z","duration_ns":{session.duration_ns},"ttfb_ns":{"null" if ttfb is None else ttfb}'
            f'{known.ends}{quoted(session.operation)},"resource":{quoted(session.resource)},"status":{quoted(session.status)}'
            f',"outcome":"{"ok" if outcome is _OK else _OUTCOMES[outcome]}"'
            f',"request":{{"time":"{start}Z","bytes":{request[1]}}}'
            f',"response":{{"time":"{second}{f"{later}"[1:]}Z","bytes":{response[1]}}}'
            f',"trace":{"null" if trace is None else _trace(trace)},"capture":{_WHOLE},"attributes":{attributes}}}'
        )
        return _printable(text) if "\x7f" in text else text

    def _turn(self, time_ns: int) -> int:
        """Its second is the latest now; answers `time_ns` from the one before."""
        self._before_ns = (time_ns // SECOND_NS - 1) * SECOND_NS
        self._second = rfc3339(time_ns)[: -len("000000000Z")]
        return time_ns - self._before_ns

    def _learn(self, session: Session) -> _Connection:
        """The connection's pieces, remembered from now on."""
        if len(self._known) >= CONNECTIONS:
            self._known.clear()
        known = self._known[_key(session)] = _Connection(session)
        return known


def _key(session: Session) -> int:
    """Both ends of a call may name the same client, and take turns: each side has its own pieces."""
    return id(session.client) if session.side is _SERVER else ~id(session.client)


def _end(end: Endpoint, workload: Workload | None) -> str:
    return f'{{"ip":{quoted(end.ip)},"port":{end.port}{"" if workload is None else _named(workload)}}}'


@lru_cache(WORKLOADS)
def _named(workload: Workload) -> str:
    """Remembered, as connections are many (one for each question to a DNS server) between few workloads."""
    return f',"workload":{_encode(workload.as_dict())}'


def _trace(trace: TraceContext) -> str:
    form = quoted(trace.format)
    return f'{{"trace_id":"{trace.trace_id:032x}","parent_id":"{trace.parent_id:016x}","format":{form}}}'


def _by_object(session: Session) -> str:
    try:
        return _printable(orjson.dumps(session.as_dict()).decode("ascii"))
    except (orjson.JSONEncodeError, UnicodeDecodeError):
        return _slow(session)


def _slow(session: Session) -> str:
    fields = session.as_dict()
    fields["attributes"] = {key: _finite(value) for key, value in session.attributes.items()}
    return _printable(_encode(fields))


def _printable(text: str) -> str:
    """The one control character that none of them escapes."""
    return text.replace("\x7f", r"\u007f")


def _finite(value: AttributeValue) -> AttributeValue | None:
    """JSON has no number for infinity; orjson writes null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
