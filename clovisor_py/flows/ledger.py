"""Ledger: what went into the engine, what came out, and where the difference went.

The rule that a test holds: every payload segment fed ends in exactly one of `parsed`, `duplicates`, `opaque`, `late` and
`strangers`, so `payload` is the sum of these once nothing is held back (after `Pipeline.close`, or without holes).
"""

from __future__ import annotations

from typing import Any, Final

from clovisor_py.flows.crash import CRASHES, FURTHER, Crash

BUFFERED_BYTES: Final = 64 * 1024 * 1024
"""Bytes that wait in all flows together, for their parser or for earlier bytes. Beyond it every flow that wants to keep more
loses what it keeps (`buffer_overflows`, `held_evicted`)."""
UNPARSED_PORTS: Final = 256
"""Server ports told apart among unparsed flows; those of further ports are counted under port 0."""


class Ledger:
    """Counters since the start; all but `buffered` only grow. Slotted because the hot path adds to them."""

    __slots__ = (
        "buffer_overflows",  # unread bytes of one direction beyond BUFFER_BYTES, or of all: a violation each
        "buffered",  # bytes that wait now, in all flows
        "controls",  # SYN, FIN, RST (and bare ACKs, where a source has them) without payload
        "crashes",
        "cut_bytes",  # payload bytes that the source kept back on purpose
        "duplicates",  # payload segments whose bytes had all been seen before
        "flows_closed",  # ended by FIN or RST
        "flows_evicted",  # pushed out by newer ones (max_flows)
        "flows_expired",  # silent for flow_idle_s
        "flows_mid_stream",  # first seen in their middle
        "flows_not_asked",  # outgoing connections that the operator's egress rules leave out
        "flows_one_direction",  # the other direction never passed this veth
        "flows_opened",
        "flows_unparsed",  # of unknown protocol, or given up
        "gap_bytes",  # payload bytes lost: in no segment that was fed
        "gaps",
        "held_evicted",  # holes declared lost early, because too much was held behind them
        "hints_refuted",  # connections whose bytes, in both directions, are not what the operator's hint says
        "late",  # payload segments of a flow that had ended, or of a gap that had been given up
        "late_responses",  # their request had been reported as `timeout`
        "messages",
        "opaque",  # payload segments of unparsed flows
        "orphan_responses",  # no request was waiting for them
        "out_of_order",  # payload segments that had to wait for earlier bytes
        "parsed",  # payload segments handed to a detector or a parser
        "parser_crashes",  # bugs: a parser or recogniser raised something else than ProtocolError
        "payload",  # segments with payload (a segment in several pieces is one)
        "pending_evicted",  # requests told as not seen: too many waited on one flow, or another took their id
        "pieces",  # further pieces of segments
        "repeated_requests",  # sent again with the same id and content (DNS retries)
        "resyncs",
        "sessions",
        "strangers",  # payload segments of a veth for which nobody has given terms: captured for somebody who is gone
        "unparsed",
        "unread_bytes",  # of no message: the connection, or what was seen of it, ended in the middle of one
        "unseen_responses",  # requests whose response passed unseen (gaps, cuts)
        "violations",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)
        self.unparsed: dict[tuple[int, str], int] = {}
        """(server port, reason) to flows."""
        self.crashes: dict[Crash, int] = {}
        """What `parser_crashes` were, and how often."""

    buffer_overflows: int
    buffered: int
    controls: int
    cut_bytes: int
    duplicates: int
    flows_closed: int
    flows_evicted: int
    flows_expired: int
    flows_mid_stream: int
    flows_not_asked: int
    flows_one_direction: int
    flows_opened: int
    flows_unparsed: int
    gap_bytes: int
    gaps: int
    held_evicted: int
    hints_refuted: int
    late: int
    late_responses: int
    messages: int
    opaque: int
    orphan_responses: int
    out_of_order: int
    parsed: int
    parser_crashes: int
    payload: int
    pending_evicted: int
    pieces: int
    repeated_requests: int
    resyncs: int
    sessions: int
    strangers: int
    unread_bytes: int
    unseen_responses: int
    violations: int

    def count_unparsed(self, port: int, reason: str) -> None:
        """One more flow to server port `port` that nobody could read."""
        self.flows_unparsed += 1
        key = (port, reason)
        if key not in self.unparsed and len(self.unparsed) >= UNPARSED_PORTS:
            key = (0, reason)
        self.unparsed[key] = self.unparsed.get(key, 0) + 1

    def count_crash(self, crash: Crash) -> None:
        """A parser or recogniser raised something else than ProtocolError."""
        self.parser_crashes += 1
        if crash not in self.crashes and len(self.crashes) >= CRASHES:
            crash = FURTHER
        self.crashes[crash] = self.crashes.get(crash, 0) + 1

    def as_dict(self) -> dict[str, Any]:
        """Name to count; `unparsed` maps `port reason` to flows. What the crashes were is told apart (`crashes`)."""
        out: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__ if name not in ("crashes", "unparsed")}
        out["unparsed"] = {f"{port} {reason}": flows for (port, reason), flows in sorted(self.unparsed.items())}
        return out
