"""The contract between the engine (`flows/`) and a protocol: three answers, and never any other.

A parser is handed the unread bytes of one direction and returns a `Message`, returns None ("I need more"), or raises
`ProtocolError` ("these bytes are not mine"). It does no I/O, knows no clock, logs nothing, and takes time linear in the
bytes and bounded memory, whatever the bytes are. The engine owns the loop, the limits, gaps, resynchronisation, violation
counts and times.

How the engine calls a parser, for each direction (`sender`) of one flow:

    while bytes are there:  parse(sender, cursor)   until it returns None without moving the cursor
    bytes that will never be seen, not covered by a skip:  gap(sender, size)
    the direction ended, or its message did (see `end`):   end(sender)
    after a violation or a gap it could not step over:     resync(sender, data)

By id, messages may interleave: a request is returned as soon as it can be named, what follows of it as `Kind.PART`; a
response is the parts that were returned of it and then the message that ends it. The engine adds up their bytes and times.

A message begins with the first byte after its predecessor, or after the latest `cursor.drop()` (bytes that belong to no
message: an empty line, a ping), and ends where the cursor stands when it is returned. A body of known length is stepped over
with `cursor.skip`, which may go past the bytes at hand: the engine calls again when the skip is over (with no bytes at all, if
none follow), so that the message can be returned then, and its last byte has a time. A request that is long in coming is
served from its head on: one with a trace context goes into `cursor.opened` as soon as that is read.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import Message
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._redaction import DEFAULT, Redaction


class Evidence(Enum):
    """What a recogniser says of the first bytes of one direction."""

    NO = "no"
    MORE = "more"
    """Could be; more bytes are needed to say."""
    REQUEST = "request"
    """This is the protocol, and a client sent it."""
    RESPONSE = "response"
    """This is the protocol, and a server sent it."""
    EITHER = "either"
    """This is the protocol; nothing in the bytes says who sent it (encrypted records)."""


class Pairing(Enum):
    """How a response finds its request."""

    FIFO = "fifo"
    """In the order of the requests."""
    BY_ID = "id"
    """By `Message.correlation`."""


class Capture(Enum):
    """How much of each turn the protocol needs to be read; the kernel enforces it."""

    HEAD = "head"
    FULL = "full"


class Parser(typing.Protocol):
    """The state of one flow in one protocol; both directions, because answers cannot be read without their questions."""

    def parse(self, sender: int, cursor: Cursor) -> Message | None:
        """Read at most one message of `sender` (CLIENT or SERVER) at the cursor.

        None: more bytes are needed; the cursor may have moved (parts of a message that are done with).
        Raises ProtocolError where the bytes cannot be this protocol.
        """

    def gap(self, sender: int, size: int) -> bool:
        """Whether `size` unseen bytes can be stepped over here (a body read to the end of the connection can).

        False: they cannot. The engine then waits for the next turn of this direction, calls `end`, and resynchronises.
        """

    def end(self, sender: int) -> Message | None:
        """Give up the message that is open in this direction: the connection closed, or unseen bytes hid its end.

        Returns it where enough of it is known to be worth telling (with `incomplete` set if its end was not seen).
        Afterwards the parser expects the beginning of a message in this direction.
        """

    def resync(self, sender: int, data: bytes | bytearray) -> int | None:
        """Offset in `data` where a message of `sender` begins, or None; the parser forgets what was half read."""


@dataclass(frozen=True)
class Setup:
    """What a parser is made with: one flow's circumstances."""

    redaction: Redaction = DEFAULT
    """What may be told; the parser leaves out the rest, so that it exists nowhere else."""
    datagrams: bool = False
    """UDP: each call of `parse` gets one whole datagram, and no message spans two."""
    riders: tuple[Protocol, ...] = ()
    """The protocols that ride on this one (`Protocol.over`)."""
    memory: dict[Any, Any] = field(default_factory=dict)
    """Shared by all flows of this protocol in one engine: what one connection says that helps to read another (the names of
    ids). The parser bounds it, and never tells from it what a flow's own bytes contradict."""
    from_start: bool = False
    """The connection is seen from its first byte: what a parser has not seen said, was not said (a default holds)."""


def recognises_nothing(_data: bytes) -> Evidence:
    return Evidence.NO


def _no_flows(_setup: Setup) -> Parser:
    raise ProtocolError("this protocol rides on another and has no flows of its own.")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What the engine, the CLI and the exporters know of a protocol; data, so that none of them names one."""

    name: str
    """As in `--hint PORT=NAME`; unique."""
    title: str
    specification: str
    """URL of the document that the parser was written from."""
    parser: Callable[[Setup], Parser] = _no_flows
    renew: Callable[[Any, Setup], Parser] | None = None
    """Makes of a connection's own parser one of another setup (more is hidden, or less), which goes on at the very same byte.
    What the connection has to be read by goes along; whatever was made for a Message does not. None: the connection is begun
    again, from its middle, which is as good as long as each message can be read by itself."""
    recognise: Callable[[bytes], Evidence] = recognises_nothing
    """Given the first bytes of one direction of a TCP connection, at most DETECT_BYTES; total, stateless, linear."""
    pairing: Pairing
    capture: Capture
    ports: tuple[int, ...] = ()
    """Well-known server ports: the weakest evidence, used last."""
    hints: tuple[str, ...] = field(default=())
    """Other names by which operators and Service ports call it (`http2`, `h2c`…)."""
    session: str = ""
    """The session's `protocol`, where two files share one (HTTP/1 and HTTP/2 are both `http`); else it is `name`."""
    recognise_datagram: Callable[[bytes], Evidence] | None = None
    """As `recognise`, for one UDP datagram; None: the protocol is not spoken over UDP."""
    over: str = ""
    """Name of the protocol that carries this one (`http2`): it has no flows of its own, no `parser` and no `recognise`."""
    rider: Callable[[Setup], object] | None = None
    """Where `over` is set: makes what the carrier asks of its riders, by the carrier's own contract."""
    attributes: tuple[str, ...] = ()
    """Names of all attributes that its messages may carry, except the engine's own: OpenTelemetry's where they have one for it,
    else `clovisor.NAME.…`."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """What it keeps or accepts at most, in words, for people: `bytes of a head`."""

    @property
    def sessions(self) -> str:
        """The `protocol` of its sessions."""
        return self.session or self.name
