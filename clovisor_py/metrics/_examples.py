"""Examples: what stays of a session that an exemplar names: its trace id, and whether it becomes a span.

Not the session: there are up to 16 for each row, for as long as there is the row, and a session holds what was on the wire.
So its ids are made and sampling is asked when it becomes an example, and only the ratio, which may change, later.
"""

from __future__ import annotations

from typing import NamedTuple

from clovisor_py.model.session import Session
from clovisor_py.tracing import ids
from clovisor_py.tracing.sampling import RATIO, Ratio, verdict, within


class Example(NamedTuple):
    """Times are ns. `kept`: whether it becomes a span whatever the ratio is; None: the ratio decides."""

    trace_id: int
    start_ns: int
    duration_ns: int
    interface: int
    kept: bool | None

    def has_span(self, ratio: Ratio) -> bool:
        """As `sampling` decides it of the session."""
        return within(self.trace_id, ratio(self.interface)) if self.kept is None else self.kept


def example(session: Session) -> Example:
    """The trace id is the one that the application sent, else the one that Clovisor's own spans have."""
    kept, why = verdict(session, 1.0)
    trace_id = session.trace.trace_id if session.trace is not None else ids.trace_id(session)
    return Example(trace_id, session.start_ns, max(session.duration_ns, 0), session.interface, None if why == RATIO else kept)
