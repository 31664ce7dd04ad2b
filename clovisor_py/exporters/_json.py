"""One session as one line of JSON (DESIGN, "Session as JSON").

ASCII only: whatever bytes were on the wire, the line can be written to any terminal, file or pipe, and means the same.

One is made for every session, so nearly all are put together from pieces, in half the time that making the object and
encoding it takes: orjson writes the texts that were on the wire, and all else is numbers and what many sessions share. Where
orjson refuses, or would not escape, the standard library encodes `Session.as_dict`. Both make the same line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import orjson

from clovisor_py.model.message import AttributeValue
from clovisor_py.model.session import Outcome, Part, Session, Side, rfc3339
from clovisor_py.model.workload import Endpoint, Workload

CONNECTIONS: Final = 512
"""Connections whose pieces are remembered, at half a kB each; those that sent something last."""
NO_LINE: Final = "no line"
"""Why a session is dropped: its attributes are nothing that can be encoded."""

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_OUTCOMES: Final = {outcome: _encode(outcome.value) for outcome in Outcome}
_WHOLE: Final = '{"truncated":false,"gap_bytes":0,"mid_stream":false}'


def lines(sessions: Sequence[Session]) -> tuple[list[str], dict[str, int], str]:
    """A line of each that can be told; how many cannot, by reason; and why the last of them cannot."""
    out: list[str] = []
    fault = ""
    for session in sessions:
        try:
            out.append(line(session))
        except Exception as error:  # noqa: BLE001 (whatever a plugin made of it: counted, said, and the others go)
            fault = f"a {session.protocol} session cannot be told as JSON ({type(error).__name__}: {error})."
    untold = len(sessions) - len(out)
    return out, {NO_LINE: untold} if untold else {}, fault


def line(session: Session) -> str:
    """The object of `Session.as_dict`, without a line break."""
    said = {
        "operation": session.operation,
        "resource": session.resource,
        "status": session.status,
        "attributes": session.attributes,
    }
    try:
        text = orjson.dumps(said).decode("ascii")
    except (orjson.JSONEncodeError, UnicodeDecodeError):  # a lone surrogate, an integer of more than 64 bits; a letter
        return _slow(session)
    words, _, attributes = text.partition(',"attributes":')  # no string has this in it: its quotes would be escaped
    opening, ends = _fixed(
        session.protocol, session.side, session.client, session.server, session.client_workload, session.server_workload
    )
    start, request, ttfb = rfc3339(session.start_ns), session.request, session.ttfb_ns
    asked = start if request is not None and request.time_ns == session.start_ns else ""
    whole = not (session.truncated or session.gap_bytes or session.mid_stream)
    return (
        f'{opening}{start}","duration_ns":{session.duration_ns},"ttfb_ns":{"null" if ttfb is None else ttfb}{ends}'
        f'{words[1:]},"outcome":{_OUTCOMES[session.outcome]}'
        f',"request":{_part(request, asked)},"response":{_part(session.response)}'
        f',"trace":{"null" if session.trace is None else _encode(session.as_dict()["trace"])}'
        f',"capture":{_WHOLE if whole else _encode(session.as_dict()["capture"])},"attributes":{attributes}'
    ).replace("\x7f", r"\u007f")


@lru_cache(CONNECTIONS)
def _fixed(
    protocol: str, side: Side, client: Endpoint, server: Endpoint, client_is: Workload | None, server_is: Workload | None
) -> tuple[str, str]:
    """What all sessions of a connection share: the text before `start`, and that between `ttfb_ns` and `operation`."""
    opening = f'{{"protocol":{_encode(protocol)},"side":{_encode(side.value)},"start":"'
    return opening, f',"client":{_end(client, client_is)},"server":{_end(server, server_is)},'


def _end(end: Endpoint, workload: Workload | None) -> str:
    known = "" if workload is None else f',"workload":{_encode(workload.as_dict())}'
    return f'{{"ip":"{end.ip}","port":{end.port}{known}}}'


def _part(part: Part | None, time: str = "") -> str:
    """`time`: its time, where that has been written already."""
    return "null" if part is None else f'{{"time":"{time or rfc3339(part.time_ns)}","bytes":{part.bytes}}}'


def _slow(session: Session) -> str:
    fields = session.as_dict()
    fields["attributes"] = {key: _finite(value) for key, value in session.attributes.items()}
    return _encode(fields).replace("\x7f", r"\u007f")  # the one control character that neither escapes


def _finite(value: AttributeValue) -> AttributeValue | None:
    """JSON has no number for infinity; orjson writes null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
