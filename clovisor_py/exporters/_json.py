"""One session as one line of JSON (DESIGN, "Session as JSON").

ASCII only: whatever bytes were on the wire, the line can be written to any terminal, file or pipe, and means the same.
"""

from __future__ import annotations

import json
import math

from clovisor_py.model.message import AttributeValue
from clovisor_py.model.session import Session


def line(session: Session) -> str:
    """The object of `Session.as_dict`, without a line break."""
    try:
        return json.dumps(session.as_dict(), separators=(",", ":"), allow_nan=False)
    except ValueError:  # a float that JSON has no number for
        fields = session.as_dict()
        fields["attributes"] = {key: _finite(value) for key, value in session.attributes.items()}
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def _finite(value: AttributeValue) -> AttributeValue:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
