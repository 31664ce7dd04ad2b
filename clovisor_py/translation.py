"""Translation: what this node's kernel makes of a session's addresses, asked once a connection, or twice a second of it.

Sessions are named on the engine's thread, thousands a second, so an answer is kept for KEEP_S; a port that is used again for
another connection to the same address comes later than that. Where the kernel cannot be asked, it is said once, and
sessions are named by what the API server says alone.
"""

from __future__ import annotations

import logging
import time
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from clovisor_py.errors import ClovisorError, EnvironmentLacking
from clovisor_py.kernel.conntrack import Entry
from clovisor_py.model.session import Session, Side
from clovisor_py.model.workload import Endpoint

KEEP_S: Final = 0.5
"""How long an answer is good: a port in TIME_WAIT may be used again after one second (tcp_tw_reuse), not before; half of it,
as `ends` keeps what it made of the answer for as long again."""
MOST: Final = 4096
"""Connections whose answers are kept, at 0.5 kB each; beyond it the oldest are asked for again."""
PER_S: Final = 2000
"""Questions a second, at 20 µs each: a twenty-fifth of a core, for what is a name. Beyond it none is asked (`skipped`). Half
of them are for whoever comes first; the other half is kept in equal shares for the veths that asked in the second before."""
AGAIN_S: Final = 60.0
"""A kernel that cannot be asked at all is asked again so often: somebody may load a module, or permit it."""
LOOK_S: Final = 5.0
"""How old the list of this node's own addresses may be."""

_log = logging.getLogger(__name__)

Addresses = Callable[[None], Mapping[int, Iterable[str]]]
"""This namespace's addresses by interface: `kernel.links.addresses`."""


class Table(typing.Protocol):
    """What a `kernel.conntrack.Conntrack` is here."""

    def of_client(self, client: Endpoint, called: Endpoint, transport: str) -> Entry | None: ...
    def of_server(self, seen_client: Endpoint, server: Endpoint, transport: str) -> Entry | None: ...


class Translation:
    """`clock`: monotonic, s. For one thread."""

    def __init__(self, table: Table, addresses: Addresses, clock: Callable[[], float] = time.monotonic) -> None:
        self._table, self._addresses, self._clock = table, addresses, clock
        self._kept: dict[tuple[Endpoint, Endpoint, str, Side], tuple[float, Entry | None]] = {}
        self._here: frozenset[str] = frozenset()
        self._looked = self._resumes = float("-inf")
        self._said = False
        self._second = float("-inf")
        self._common = self._kept_back = self._share = 0
        """What is left of this second's questions, and how many of those kept back a veth may have."""
        self._asking: dict[int, int] = {}
        """Questions that each veth had in this second, by ifindex."""
        self.asked = 0
        """Questions to the kernel."""
        self.failed = 0
        """Of these: it did not answer."""
        self.skipped = 0
        """Not asked, because there were too many of that veth, or of all."""

    def of(self, session: Session) -> Entry | None:
        """The connection of a session, as both of its ends see it; None where nothing is known of it."""
        key = (session.client, session.server, session.transport, session.side)
        now = self._clock()
        known = self._kept.get(key)
        if known is not None:
            if now < known[0]:
                return known[1]
            del self._kept[key]
        if now < self._resumes or not self._affordable(session.interface, now):
            return None
        entry = self._ask(*key, now)
        self._kept[key] = (now + KEEP_S, entry)
        if len(self._kept) > MOST:
            del self._kept[next(iter(self._kept))]
        return entry

    def is_here(self, ip: str) -> bool:
        """Whether it is an address of this node's own: one of its interfaces, a bridge's, a tunnel's."""
        now = self._clock()
        if now >= self._looked + LOOK_S:
            self._looked = now
            try:
                self._here = frozenset(one for some in self._addresses(None).values() for one in some)
            except ClovisorError as error:
                self._fail(error)
        return ip in self._here

    def _affordable(self, interface: int, now: float) -> bool:
        """One chatty pod has what nobody else wants, but not the others' shares: nor that of one who is yet to come."""
        if now >= self._second + 1.0:
            self._second, self._common = now, PER_S - PER_S // 2
            self._kept_back = PER_S // 2
            self._share = max(1, self._kept_back // (1 + max(1, len(self._asking))))
            self._asking.clear()
        asked = self._asking[interface] = self._asking.get(interface, 0) + 1
        if asked <= self._share and self._kept_back:
            self._kept_back -= 1
        elif self._common:
            self._common -= 1
        else:
            self.skipped += 1
            return False
        return True

    def _ask(self, client: Endpoint, server: Endpoint, transport: str, side: Side, now: float) -> Entry | None:
        ask = self._table.of_client if side is Side.CLIENT else self._table.of_server
        self.asked += 1
        try:
            return ask(client, server, transport)
        except ClovisorError as error:
            self._fail(error)
            self._resumes = now + (AGAIN_S if isinstance(error, EnvironmentLacking) else KEEP_S)
            return None

    def _fail(self, error: ClovisorError) -> None:
        self.failed += 1
        if not self._said:
            self._said = True
            _log.warning("who is behind a Service's address is known less well: %s", error)
