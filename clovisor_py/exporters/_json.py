"""One session as one line of JSON (DESIGN, "Session as JSON").

ASCII only: whatever bytes were on the wire, the line can be written to any terminal, file or pipe, and means the same.
"""

from __future__ import annotations

import json
import math

from clovisor_py.model.message import AttributeValue
from clovisor_py.model.session import Session

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def line(session: Session) -> str:
    """The object of `Session.as_dict`, without a line break."""
    try:
        return _encode(session.as_dict())
    except ValueError:  # a float that JSON has no number for
        fields = session.as_dict()
        fields["attributes"] = {key: _finite(value) for key, value in session.attributes.items()}
        return _encode(fields)


def _finite(value: AttributeValue) -> AttributeValue:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
