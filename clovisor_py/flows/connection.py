"""Connection: what can be said of a connection that nobody can read: encrypted, unknown, refused, or silent.

It becomes one session when it ends (`protocol` is the transport, `resource` the reason): bytes, turns, retransmissions, and
the latency of turns, which any request-response protocol has, encrypted ones included. Live, the kernel's own counts are
taken, as most of such a flow's segments never come up; else those of the segments that did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clovisor_py.flows.sessions import Facts
from clovisor_py.flows.stream import MAX_WINDOW, SEQ_MASK, UNKNOWN_SEQ
from clovisor_py.model.message import AttributeValue
from clovisor_py.model.session import Outcome, Part, Session

SILENT: Final = "nothing was said"
NOT_CAPTURED: Final = "not captured"
"""The kernel counted what was said, and none of it came up: the budget was used up."""
NOT_AS_TAKEN: Final = "not what it was taken for"
UNDECIDED: Final = "unknown protocol"
NOT_AS_HINTED: Final = "hinted {}, but its bytes are not"


@dataclass(slots=True)
class Direction:
    """What one end sent. Times are ns since the epoch, 0 where it sent nothing."""

    bytes: int = 0
    segments: int = 0
    """With payload."""
    turns: int = 0
    retransmissions: int = 0
    first_ns: int = 0
    last_ns: int = 0
    high_seq: int = UNKNOWN_SEQ
    """The number behind the highest byte seen."""
    waited_ns: int = 0
    """Of all its turns together: from the other's latest payload to the turn's first."""
    waits: int = 0
    """Turns that are in `waited_ns`."""


class Tally:
    """Counts a connection's payload, whatever it is. Indexed by direction."""

    __slots__ = ("_speaker", "opened_ns", "sides")

    def __init__(self, opened_ns: int) -> None:
        self.opened_ns = opened_ns
        self.sides = (Direction(), Direction())
        self._speaker = -1

    def add(self, direction: int, time_ns: int, seq: int, length: int, udp: bool) -> None:
        """A segment with payload passed."""
        side, other = self.sides[direction], self.sides[1 - direction]
        side.segments += 1
        if not udp:
            end = (seq + length) & SEQ_MASK
            ahead = length if side.high_seq == UNKNOWN_SEQ else (end - side.high_seq) & SEQ_MASK
            if not 0 < ahead <= MAX_WINDOW:
                side.retransmissions += 1
                return
            side.high_seq = end
            length = min(ahead, length)
        side.bytes += length
        if self._speaker != direction:
            self._speaker = direction
            side.turns += 1
            if other.last_ns:
                side.waited_ns += max(time_ns - other.last_ns, 0)
                side.waits += 1
        side.first_ns = side.first_ns or time_ns
        side.last_ns = time_ns


@dataclass(frozen=True, slots=True)
class Counted:
    """What the kernel counted of one direction of a connection since it began."""

    bytes: int
    segments: int
    turns: int
    retransmissions: int
    zero_windows: int
    waited_ns: int
    waits: int
    """As in Direction; here of turns that were never captured, too."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended: the outcome, the status (`closed`, `reset`, `refused`…), and when."""

    outcome: Outcome
    status: str
    time_ns: int


def session(
    tally: Tally,
    facts: Facts,
    server: int,
    reason: str,
    ending: Ending,
    counted: tuple[Counted, Counted] | None,
    mid_stream: bool,
) -> Session:
    """`server`: the direction in which the server sends; `counted` by direction.

    Of an answer that was only counted nobody knows when it began: not before it was asked for.
    """
    asked, answered = tally.sides[1 - server], tally.sides[server]
    told = counted and counted[server]
    return Session(
        protocol=facts.protocol,
        side=facts.side,
        interface=facts.interface,
        start_ns=tally.opened_ns,
        duration_ns=max(ending.time_ns - tally.opened_ns, 0),
        ttfb_ns=max(answered.first_ns - tally.opened_ns, 0) if answered.first_ns else None,
        client=facts.client,
        server=facts.server,
        operation=facts.transport,
        resource=reason,
        status=ending.status,
        outcome=ending.outcome,
        request=_part(asked, counted and counted[1 - server], tally.opened_ns),
        response=_part(answered, told, (asked.first_ns or tally.opened_ns) if told and told.bytes else 0),
        mid_stream=mid_stream,
        attributes=_attributes(asked, answered, counted and (counted[1 - server], counted[server])),
        transport=facts.transport,
        cgroup_id=facts.cgroup_id,
        connection=True,
    )


def _part(side: Direction, counted: Counted | None, otherwise_ns: int) -> Part | None:
    time_ns = side.first_ns or otherwise_ns
    return Part(time_ns, counted.bytes if counted else side.bytes) if time_ns else None


def _attributes(asked: Direction, answered: Direction, counted: tuple[Counted, Counted] | None) -> dict[str, AttributeValue]:
    """Only what happened: a remark that would say nothing is left out."""
    client, server = counted or (asked, answered)
    found: dict[str, AttributeValue] = {
        "clovisor.client.turns": client.turns,
        "clovisor.server.turns": server.turns,
        "clovisor.client.retransmissions": client.retransmissions,
        "clovisor.server.retransmissions": server.retransmissions,
    }
    if counted:
        found["clovisor.client.zero_windows"], found["clovisor.server.zero_windows"] = (side.zero_windows for side in counted)
    if server.waits:
        found["clovisor.server.latency_ns"] = server.waited_ns // server.waits
    return {key: value for key, value in found.items() if value}
