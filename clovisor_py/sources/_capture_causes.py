"""An answer that stands before its question in a capture: put behind it, where TCP itself proves the order.

Two interfaces or queues have two clocks, and a file that was merged from them may show a response some microseconds before
its request. Within a connection that was seen from its beginning such things are rare and cost one exchange; of one that is
seen from its middle, as small captures are, they cost everything: what is seen first tells who speaks to whom. So the first
segments of those are looked at: one that acknowledges bytes which only come later passed after them, whatever its time says.
It is given theirs, so that nothing is answered before it was asked.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from clovisor_py.model.segment import ACK, Segment

SKEW_NS: Final = 100_000_000
"""How far apart clocks of one capture are believed to be; less than the time after which TCP sends again (200 ms), because a
repeated question does come after its answer."""
WINDOW: Final = 1 << 20
"""Bytes of a question that may be acknowledged before they come."""
_SEQ_MASK: Final = 0xFFFF_FFFF


class _Begun(NamedTuple):
    """The first payload of a connection in each direction."""

    first: Segment
    other: Segment | None


def in_causal_order(segments: list[Segment], flows: Collection[int]) -> list[Segment]:
    """All of them, in order of time; of `flows`, the connections that begin among them in their middle, causes come first."""
    begun: dict[object, _Begun] = {}
    for segment in segments:
        if segment.length and segment.flow_id in flows:
            found = begun.get(segment.flow_id)
            if found is None:
                begun[segment.flow_id] = _Begun(segment, None)
            elif found.other is None and segment.direction != found.first.direction:
                begun[segment.flow_id] = _Begun(found.first, segment)
    early = {
        flow: found.other for flow, found in begun.items() if found.other is not None and _follows(found.first, found.other)
    }
    return _put_right(segments, early) if early else segments


def _follows(segment: Segment, other: Segment) -> bool:
    """Whether it acknowledges what `other`, which stands behind it, brings."""
    acknowledged = (segment.ack - other.seq) & _SEQ_MASK
    return bool(segment.tcp_flags & ACK) and 0 < acknowledged <= WINDOW and other.time_ns - segment.time_ns <= SKEW_NS


def _put_right(segments: list[Segment], early: dict[object, Segment]) -> list[Segment]:
    """Hold back what follows from `early`, by connection its first segment of the other direction, until that has passed."""
    out: list[Segment] = []
    held: dict[object, list[Segment]] = {}
    for segment in segments:
        cause = early.get(segment.flow_id)
        if cause is not None and segment.direction != cause.direction and _follows(segment, cause):
            held.setdefault(segment.flow_id, []).append(segment)
            continue
        out.append(segment)
        waiting = held.get(segment.flow_id)
        if waiting and cause is not None and segment.direction == cause.direction:
            end = segment.seq + segment.length
            while waiting and (end - waiting[0].ack) & _SEQ_MASK <= WINDOW:
                out.append(waiting.pop(0)._replace(time_ns=segment.time_ns))
            if not waiting:
                del early[segment.flow_id]
    for waiting in held.values():
        out += [segment._replace(time_ns=max(segment.time_ns, segments[-1].time_ns)) for segment in waiting]
    return out
