"""Control: the engine's only way back to the kernel, and it says so little that a capture file can ignore it.

`counted` asks. The other calls are advice. The kernel enforces budgets on its own (user space is too late by design), so an
implementation may be slow, may drop a call (and counts it), and must not raise: the engine goes on the same way whether it was
heeded or not.
"""

from __future__ import annotations

import typing
from collections.abc import Hashable
from typing import Final

from clovisor_py.flows.connection import Counted

HEAD: Final = "head"
"""Capture mode: the first bytes of each turn, and the headers of all payload segments."""
FULL: Final = "full"
"""Capture mode: everything."""
NONE: Final = "none"
"""Capture mode: nothing goes up; the kernel only counts."""


class Connection(typing.NamedTuple):
    """A connection as the kernel names it; `flow_id` tells it from others that had the same addresses."""

    flow_id: Hashable
    interface: int
    pod_ip: bytes
    peer_ip: bytes
    pod_port: int
    peer_port: int
    transport: int


class Control(typing.Protocol):
    """What `kernel/datapath.py` does to the kernel's control map when the engine has learned something of a flow."""

    def capture(self, flow_id: Hashable, mode: str) -> None:
        """The flow's protocol is known (`head` or `full`), or it never will be (`none`)."""

    def skip_until(self, flow_id: Hashable, direction: int, seq: int) -> None:
        """Payload of `direction` that ends at TCP sequence number `seq` or earlier is not needed (headers still are).

        It holds until payload that ends later is seen: sequence numbers come round, a skip does not.
        """

    def counted(self, connection: Connection) -> tuple[Counted, Counted] | None:
        """What was counted of a connection below, by direction; None where it is not known there (any more)."""


class NoControl:
    """For capture files and tests: there is nothing to control."""

    def capture(self, flow_id: Hashable, mode: str) -> None:
        """Nothing to tell."""

    def skip_until(self, flow_id: Hashable, direction: int, seq: int) -> None:
        """Nothing to tell."""

    def counted(self, connection: Connection) -> None:
        """Nobody counts below."""
