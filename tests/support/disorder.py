"""What networks and captures do to traffic, done to the Segments of a capture: cut, lost, reordered, doubled, cut anew.

Pure functions from segments to segments (nothing is changed in place), and `engine`, which says what came of them. What may
differ then, and what may not, is the business of the tests and of `tools/disorder`.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.segment import FIN, SYN, TCP, Segment
from clovisor_py.model.session import Session
from clovisor_py.protocols._redaction import OFF
from clovisor_py.sources.pcap import CaptureSource

MASK = 0xFFFF_FFFF
LINK_AND_HEADERS = 66
"""Bytes before the payload of a usual packet: Ethernet, IPv4, TCP with time stamps."""


def segments_of(path: Path) -> list[Segment]:
    with CaptureSource(str(path), {53}) as source:
        return [segment for batch in source.batches() for segment in batch]


def engine(segments: Sequence[Segment], batch: int = 64) -> tuple[list[Session], Ledger]:
    """Feed all of them, with the ticks that a source gives; end with the last one's time."""
    pipeline = Pipeline(redaction=OFF)
    out: list[Session] = []
    now = 0
    for at in range(0, len(segments), batch):
        part = segments[at : at + batch]
        out += pipeline.feed(part)
        now = max(now, *(segment.time_ns for segment in part))
        out += pipeline.tick(now)
    out += pipeline.close(now)
    book = pipeline.ledger
    assert book.parser_crashes == 0, "a parser raised something else than ProtocolError"
    assert book.payload == book.parsed + book.duplicates + book.opaque + book.late
    return out, book


# ---- what happens to packets ----


def cut(segments: Iterable[Segment], snap: int) -> list[Segment]:
    """Captured with a snap length: `snap` bytes of each packet."""
    kept = max(snap - LINK_AND_HEADERS, 0)
    return [segment._replace(data=segment.data[:kept]) for segment in segments]


def lost(segments: Iterable[Segment], chance: random.Random, share: float) -> list[Segment]:
    return [segment for segment in segments if chance.random() >= share]


def doubled(segments: Iterable[Segment], chance: random.Random, share: float) -> list[Segment]:
    out = []
    for segment in segments:
        out += [segment] * (2 if segment.transport == TCP and chance.random() < share else 1)
    return out


def reordered(segments: Iterable[Segment], chance: random.Random, share: float) -> list[Segment]:
    """Some change places with the next one of the same direction; time stays with the place."""
    out = list(segments)
    for at in range(len(out) - 1):
        one, two = out[at], out[at + 1]
        same = (one.flow_id, one.direction) == (two.flow_id, two.direction)
        if same and one.transport == TCP and not (one.tcp_flags | two.tcp_flags) & SYN and chance.random() < share:
            out[at], out[at + 1] = two._replace(time_ns=one.time_ns), one._replace(time_ns=two.time_ns)
    return out


DAMAGES: dict[str, Callable[[list[Segment], random.Random], list[Segment]]] = {
    "cut at 64": lambda segments, _: cut(segments, 64),
    "cut at 96": lambda segments, _: cut(segments, 96),
    "cut at 256": lambda segments, _: cut(segments, 256),
    "1 % lost": lambda segments, chance: lost(segments, chance, 0.01),
    "1 % reordered": lambda segments, chance: reordered(segments, chance, 0.01),
    "1 % doubled": lambda segments, chance: doubled(segments, chance, 0.01),
    "10 % of each": lambda segments, chance: lost(doubled(reordered(segments, chance, 0.1), chance, 0.1), chance, 0.1),
}


def recut(segments: Sequence[Segment], chance: random.Random) -> list[Segment]:
    """The same bytes in other segments: neighbours of one direction joined, and cut again anywhere."""
    out: list[Segment] = []
    for segment in segments:
        last = out[-1] if out else None
        if last is not None and _follows(last, segment) and chance.random() < 0.5:
            out[-1] = last._replace(
                length=last.length + segment.length,
                data=last.data + segment.data,
                tcp_flags=last.tcp_flags | segment.tcp_flags,
                ack=segment.ack,
            )
        else:
            out.append(segment)
    return [piece for segment in out for piece in _pieces(segment, chance)]


def _follows(one: Segment, two: Segment) -> bool:
    return (
        one.transport == TCP
        and one.flow_id == two.flow_id
        and one.direction == two.direction
        and one.length == len(one.data) > 0 < two.length == len(two.data)
        and not (one.tcp_flags | two.tcp_flags) & (SYN | FIN)
        and (one.seq + one.length) & MASK == two.seq
    )


def _pieces(segment: Segment, chance: random.Random) -> list[Segment]:
    whole = segment.length == len(segment.data)
    if segment.transport != TCP or not whole or segment.length < 2 or segment.tcp_flags & SYN or chance.random() < 0.3:
        return [segment]
    marks = sorted({0, segment.length, *(chance.randrange(1, segment.length) for _ in range(chance.randint(1, 4)))})
    return [
        segment._replace(
            seq=(segment.seq + a) & MASK,
            length=b - a,
            data=segment.data[a:b],
            tcp_flags=segment.tcp_flags if b == segment.length else segment.tcp_flags & ~FIN,
        )
        for a, b in itertools.pairwise(marks)
    ]


# ---- what may come of it ----


def facts(sessions: Iterable[Session]) -> list[tuple[object, ...]]:
    """Everything that a session says, times aside, in no order."""
    rows = []
    for s in sessions:
        attributes = {key: value for key, value in s.attributes.items() if not key.endswith("_ns")}
        sizes = (s.request and s.request.bytes, s.response and s.response.bytes)
        rows.append(
            (
                s.protocol,
                s.client,
                s.server,
                s.operation,
                s.resource,
                s.status,
                s.outcome,
                sizes,
                s.truncated,
                s.gap_bytes,
                sorted(attributes.items(), key=repr),
            )
        )
    return sorted(rows, key=repr)


Said = tuple[object, str, str]
"""The two ends, the operation, and what it acted on."""


def said(sessions: Iterable[Session]) -> Counter[Said]:
    """What was asked of whom, as far as sessions know it."""
    return Counter(((s.client, s.server), s.operation, s.resource) for s in sessions if not s.connection)


def false_sessions(whole: Iterable[Session], damaged: Iterable[Session]) -> Counter[Said]:
    """Sessions that were told of and not there. Who knows less (its head was cut) tells nothing false."""
    true = said(whole)
    told = said(damaged) - true
    talked = {ends for ends, _, _ in true}
    for ends, operation, resource in list(told):
        if not resource and ends in talked:
            del told[ends, operation, resource]
    return told
