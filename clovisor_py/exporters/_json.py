"""One session as one line of JSON (DESIGN, "Session as JSON").

ASCII only: whatever bytes were on the wire, the line can be written to any terminal, file or pipe, and means the same. orjson
makes nearly all lines, in a fifth of the time; what it refuses or would not escape, the standard library makes.
"""

from __future__ import annotations

import json
import math

import orjson

from clovisor_py.model.message import AttributeValue
from clovisor_py.model.session import Session

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def line(session: Session) -> str:
    """The object of `Session.as_dict`, without a line break."""
    fields = session.as_dict()
    try:
        text = orjson.dumps(fields)
    except orjson.JSONEncodeError:  # a lone surrogate, an integer of more than 64 bits
        return _slow(session)
    return text.decode("ascii").replace("\x7f", r"\u007f") if text.isascii() else _slow(session)


def _slow(session: Session) -> str:
    fields = session.as_dict()
    fields["attributes"] = {key: _finite(value) for key, value in session.attributes.items()}
    return _encode(fields).replace("\x7f", r"\u007f")  # the one control character that neither escapes


def _finite(value: AttributeValue) -> AttributeValue | None:
    """JSON has no number for infinity; orjson writes null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
