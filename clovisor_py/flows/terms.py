"""Terms: what an operator said of the flows of one veth: how much is captured and told, which ports speak what, and which
outgoing connections are looked at at all; and whom to ask what a server speaks, wherever it is.

They may change while flows are open; `following.py` makes those follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from clovisor_py.model.segment import TO_POD
from clovisor_py.model.workload import Endpoint
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._redaction import Redaction

NOT_ASKED: Final = "none of the outgoing connections that are asked for"
MUTED: Final = "its pod is only counted"


class Terms(NamedTuple):
    """Of one veth. `hints`: server port to protocol."""

    hints: Mapping[int, Protocol]
    redaction: Redaction
    capture: str | None = None
    """The capture mode of every flow, whatever its protocol asks for; None: as it asks."""
    permits: Callable[[str, int], bool] | None = None
    """Whether an outgoing connection to this IP and port is looked at; None: all are."""
    said: Callable[[str, int], str] | None = None
    """What the server at an IP and port is said to speak, as a protocol's name, empty where nobody says; after `hints`.
    Asked once a connection, and again when `Pipeline.retell` is called."""

    def told(self, servers: Iterable[Endpoint], names: Mapping[str, Protocol]) -> Mapping[int, Protocol]:
        """Server port to protocol, of the ends that may be the server's; `names`: every name of a protocol."""
        if self.said is None:
            return self.hints
        said = {end.port: names.get(self.said(*end)) for end in servers}
        found = {port: protocol for port, protocol in said.items() if protocol is not None}
        return {**found, **self.hints} if found else self.hints

    def refuses(self, server: int, ip: str, port: int) -> bool:
        """Whether a flow is none of our business: `server` is the direction in which its server sends (-1: unknown)."""
        return self.permits is not None and server == TO_POD and not self.permits(ip, port)
