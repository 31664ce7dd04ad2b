"""Doubt: a flow that was read as its operator's hint says, and of which nothing could be read.

Of a connection that is seen from its middle the first bytes prove nothing, so a hint holds there until the parser has failed
often enough (`loop.MAX_VIOLATIONS`). Many connections end before. They must not vanish: each is a session, as any connection
that nobody can read.
"""

from __future__ import annotations

from clovisor_py.flows.connection import NOT_AS_TAKEN
from clovisor_py.flows.loop import Loop
from clovisor_py.flows.table import Flow


def doubted(flow: Flow) -> bool:
    """Whether an ended flow was only ever guessed at; its tally is back then, with the bytes that its readers were given."""
    tally, flow.doubt = flow.doubt, None
    if tally is None or flow.readers is None or flow.pairing is None or flow.pairing.asked:
        return False
    if not all(map(_read_nothing, flow.readers)):
        return False
    for side, reader in zip(tally.sides, flow.readers, strict=True):
        side.bytes = max(side.bytes, reader.end)
        side.first_ns = side.first_ns or (tally.opened_ns if reader.end else 0)
    flow.tally, flow.why, flow.opaque = tally, NOT_AS_TAKEN, True
    return True


def _read_nothing(reader: Loop) -> bool:
    """No byte came, or no message was made of those that did (after a violation, of the latest)."""
    return not reader.end or reader.fresh or reader.violations > 0
