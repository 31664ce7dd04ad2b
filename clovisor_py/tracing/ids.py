"""Trace and span ids that both ends of a call work out alike, without talking to each other.

What a NAT in front of a Service leaves as it is, and both veths therefore see: the client's address and port, the TCP
sequence number of the request's first byte, and its first bytes. A hash of them is the trace id where the application
sent none, and, with the side, the span id: so the server's end can name the client's span as its parent without having
seen it. (Masquerading changes the client's address: the two sides are then two traces, never a wrong one.)

Where the transport has no sequence number (UDP), the second in which the request passed stands in for it: who asks the same
from the same port for hours (multicast DNS, whose ids are all 0) makes a trace each time. Both veths see the same second but
for what the datagram took between them, and what their clocks differ: a call on whose way a second ends is two traces. Equal
questions within one second share their ids: nothing that both ends see tells them apart.

A session without a head (nothing of it was captured: an L4 session) has no such evidence. Its ids are unique, made with
its start, and `shared` says that the other end cannot know them.

The first bytes are somebody's payload. A session that goes to another process goes without them, and takes its ids along.
"""

from __future__ import annotations

import struct
from _blake2 import blake2b  # hashlib has the same and loads OpenSSL, 3.5 MB of memory for nothing
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

from clovisor_py.model.message import HEAD_BYTES
from clovisor_py.model.session import Ids, Session, Side
from clovisor_py.model.workload import Endpoint

_TRACE: Final = b"clovisor.trace"
_SPAN: Final = {Side.CLIENT: b"clovisor.client", Side.SERVER: b"clovisor.server"}
"""Personalisation of the hash: the same evidence gives three unrelated ids."""

_MAPPED: Final = b"\0" * 10 + b"\xff\xff"
_EVIDENCE = struct.Struct("!16sHQ")
_UNSHARED = struct.Struct("!QI")
_STEP = struct.Struct("!Q")

STEP_NS: Final = 1_000_000_000
"""Of the time that stands in for a sequence number: as long as who asks the same again waits at least (multicast DNS 1 s, a
resolver 1 to 5 s); a thousand times as long as a datagram is on its way."""
_SEQUENCED: Final = "tcp"
"""The transport whose sequence numbers tell equal requests apart."""


def trace_id(session: Session) -> int:
    """128 bits, never zero: the trace of a session whose request carried no context."""
    return session.ids.trace if session.ids is not None else _hash(session, _TRACE, 16)


def span_id(session: Session, side: Side) -> int:
    """64 bits, never zero: the span of this call at `side`, which need not be the side where it was observed."""
    if session.ids is not None:
        return session.ids.client if side is Side.CLIENT else session.ids.server
    return _hash(session, _SPAN[side], 8)


def span_id_of(client: Endpoint, seq: int, head: bytes, start_ns: int, interface: int, transport: str, side: Side) -> int:
    """The same, of a session that has these and is not over yet."""
    return _digest(_evidence(client, seq, head, start_ns, interface, transport), _SPAN[side], 8)


def shared(session: Session) -> bool:
    """Whether the other end computes the same ids."""
    return bool(session.head) or session.ids is not None


def to_take_along(session: Session) -> Ids | None:
    """What a session needs that goes elsewhere without its head; None where it had none to begin with."""
    if not session.head:
        return session.ids
    return Ids(trace_id(session), span_id(session, Side.CLIENT), span_id(session, Side.SERVER))


def packed(ip: str) -> bytes:
    """16 bytes: IPv4 mapped into IPv6, every spelling of an address alike; a hash of text that is no address."""
    try:
        return inet_pton(AF_INET6, ip.partition("%")[0]) if ":" in ip else _MAPPED + inet_pton(AF_INET, ip)
    except (OSError, ValueError):
        return blake2b(ip.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _hash(session: Session, person: bytes, size: int) -> int:
    start_ns, interface, transport = session.start_ns, session.interface, session.transport
    return _digest(_evidence(session.client, session.seq, session.head, start_ns, interface, transport), person, size)


def _evidence(client: Endpoint, seq: int, head: bytes, start_ns: int, interface: int, transport: str) -> bytes:
    evidence = _EVIDENCE.pack(packed(client.ip), client.port & 0xFFFF, seq & 0xFFFFFFFF)
    if not head:
        return evidence + _UNSHARED.pack(start_ns & (1 << 64) - 1, interface & 0xFFFFFFFF)
    if transport != _SEQUENCED:
        evidence += _STEP.pack(start_ns // STEP_NS & (1 << 64) - 1)
    return evidence + head[:HEAD_BYTES]


def _digest(evidence: bytes, person: bytes, size: int) -> int:
    return int.from_bytes(blake2b(evidence, digest_size=size, person=person).digest(), "big") or 1
