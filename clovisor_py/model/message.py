"""Message: one L7 unit parsed from a stream: a request, a response, or a one-way message.

The parser fills the upper half (what was said), the engine the lower half (when, where in the stream, how much of it was
seen): a parser knows neither clock nor sequence numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

AttributeValue: TypeAlias = str | int | float | bool | list[str]

CLIENT: Final = 0
"""Sender: the end that opened the conversation."""
SERVER: Final = 1
"""Sender: the end that answers."""

PROPAGATION_HEADERS: Final = frozenset(
    {
        "traceparent",
        "tracestate",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-parentspanid",
        "x-b3-sampled",
        "x-b3-flags",
        "uber-trace-id",
        "sw8",
    }
)
"""Names (lower case) that carry a trace context; the only headers a parser hands on verbatim."""


class Kind(Enum):
    """The part that a message plays in a session."""

    REQUEST = "request"
    RESPONSE = "response"
    INTERIM = "interim"
    """Answers a request without ending it (HTTP 1xx); or bytes of either end that are no message of their own, so that the next
    one begins behind them (what a login says, where `Cursor.drop` would come too late)."""
    ONE_WAY = "one_way"
    """A session of its own: nobody answers."""
    SILENT = "silent"
    """A request that asks for no answer, among others that do (Redis' CLIENT REPLY OFF): a session in its place in the order,
    which is fine as far as anybody can see."""
    PART = "part"
    """By id only: more of a request that was returned already, or a beginning of the response to it; the message that both
    belong to is named by `correlation`. Frames of several messages may interleave then, and each is told when it passed."""


@dataclass(slots=True)
class Message:
    """What a parser returns. `operation`, `resource`, `status` mean the same for every protocol (`GET`, `/x`, `200`)."""

    kind: Kind
    operation: str = ""
    resource: str = ""
    status: str = ""
    error: bool = False
    """The response reports a failure of the server or of the call, by the protocol's own rules."""
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    propagation: dict[str, str] = field(default_factory=dict)
    """Headers of PROPAGATION_HEADERS, lower-case name to value, as they were on the wire."""
    correlation: int | str | None = None
    """What pairs a response with its request (by-id pairing only)."""
    incomplete: bool = False
    """The parser had to end the message before it saw the end."""
    protocol: str = ""
    """The session's `protocol`, where it is not the flow's: what rides on it (gRPC on HTTP/2)."""
    hands_to: str | None = None
    """After this message the connection, in both directions, is the protocol's of that name (an Upgrade); where no such
    protocol is installed it is only counted, under that name. Empty: whoever recognises it (a tunnel)."""

    # Set by the engine.
    start_ns: int = 0
    end_ns: int = 0
    size: int = 0
    """Bytes on the wire from first to last, whether captured or not."""
    seq: int = 0
    """TCP sequence number of the first byte: what both ends of the call see alike."""
    head: bytes = b""
    """The first HEAD_BYTES bytes: with `seq`, what a trace id is made from when there is no context."""
    gap_bytes: int = 0
    """Bytes inside it that were lost (neither captured nor kept back on purpose)."""


HEAD_BYTES: Final = 64
