"""TCP by pair: connections, retransmissions, resets, round-trip times, zero windows, whatever is spoken on top of it.

The kernel counts for every connection of every traced veth, also where user space reads nothing. The agent looks at all of
its entries every two seconds, when it sweeps them, and at those of a veth that it lets go of; `Tcp.look` is given each then,
adds what is new since the last look, and asks once who is at both ends. So the last look is at what a connection was when it
ended.

A connection counts whole, but for two kinds: one that was there before this agent was (the kernel's counts outlive agents, and
a predecessor has told of them), and one that was private, of which nobody may hear what it was then. What had been counted of
those by the first look that may be told is where they begin; they are open, and not connections anew.

One thread writes; any other may read `pairs()`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Final

from clovisor_py.flows.table import ip_text
from clovisor_py.kernel.layout import PEER_OPENED, POD_OPENED, RST_SEEN, SIDE_FIELDS, SIDES_AT
from clovisor_py.metrics.histogram import Histogram
from clovisor_py.metrics.red import IDLE_NS, UNKNOWN
from clovisor_py.metrics.routes import OTHER
from clovisor_py.model.session import Outcome, Session, Side
from clovisor_py.model.workload import Endpoint, Workload

PAIRS: Final = 1024
"""Pairs that are told apart (as RED's edges); the rest is one pair, OTHER, and `overflowed` counts its connections."""
NAMED: Final = 2000
"""Connections of one round whose ends are asked for, at some 10 µs each: a hundredth of a core. Others wait for the next round,
or are OTHER where they have ended (`unnamed`)."""
_COOKIE, _CREATED, _STATE, _RTT_US = 0, 1, 4, 6
COUNTS: Final = ("bytes", "segments", "retransmits", "zero_windows")
"""What is counted of each end's sending: bytes, segments with payload, retransmitted segments, windows of zero."""
_AT: Final = tuple(tuple(at + SIDE_FIELDS.index(name) for name in COUNTS) for at in SIDES_AT)
_PACKETS: Final = tuple(at + SIDE_FIELDS.index("packets") for at in SIDES_AT)
_NONE: Final = (0,) * len(COUNTS)

Name = Callable[[Session], None]
"""Puts workloads on both ends: a `directory.Directory`'s."""
PairKey = tuple[str, str, str, str, Side]


class Pair:
    """All connections from `client` to `server`, seen at `side`."""

    __slots__ = (
        "checked", "client", "client_namespace", "connections", "open", "received", "resets", "rtt", "sent", "server",
        "server_namespace", "side",
    )  # fmt: skip

    def __init__(self, key: PairKey) -> None:
        self.client_namespace, self.client, self.server_namespace, self.server, self.side = key
        self.connections = self.open = self.resets = self.checked = 0
        """Begun so far, now, and so far ended by a reset."""
        self.sent, self.received = list(_NONE), list(_NONE)
        """COUNTS of what the client sent, and of what the server did."""
        self.rtt = Histogram()
        """ns: the smoothed time that the pod's own socket knew, once a look while something passed."""


class _Known:
    """A connection at the last look."""

    __slots__ = ("client", "counts", "packets", "pair", "reset")

    def __init__(self, pair: Pair, client: int) -> None:
        self.pair, self.client = pair, client
        """`client`: the direction in which the client sends: 0 from the pod, 1 to it."""
        self.counts: Sequence[Sequence[int]] = (_NONE, _NONE)
        self.packets = (-1, -1)
        self.reset = False


class Tcp:
    """`name` says who is at both ends; `addresses`: who has no name is called by the address, else UNKNOWN.

    `since_ns`: on the kernel's clock (monotonic), when counting began; what connections were before is a predecessor's.
    """

    def __init__(self, name: Name, addresses: bool = True, since_ns: int = 0) -> None:
        self._name, self._addresses = name, addresses
        self.since_ns = since_ns
        self._pairs: dict[PairKey, Pair] = {}
        self._other = Pair(("", OTHER, "", OTHER, Side.SERVER))
        self._before: dict[int, _Known] = {}
        self._now: dict[int, _Known] = {}
        self._named = 0
        self.private: Container[int] = ()
        """Interfaces whose connections are not counted (see `Red.private`)."""
        self._hidden_before: set[int] = set()
        self._hidden_now: set[int] = set()
        """Cookies of connections that were private at the last look, and have not been counted since."""
        self._checked_ns = 0
        self.overflowed = self.unnamed = 0
        self.forgotten = 0
        """Pairs that made room for others."""

    def look(self, place: tuple[int, bytes, bytes, int, int, int, int], fields: Sequence[int], over: bool, now_ns: int) -> None:
        """One of the kernel's entries: `layout.KEY` and `layout.SESSION`, unpacked; `over`: it is taken away now.

        `now_ns` is since the epoch.
        """
        known = self._before.pop(fields[_COOKIE], None)
        if place[0] in self.private:
            self._hide(fields[_COOKIE], known, over)
            return
        if known is None:
            known = self._begin(place, fields, over, now_ns)
            if known is None:
                return
        packets = fields[_PACKETS[0]], fields[_PACKETS[1]]
        reset = fields[_STATE] & RST_SEEN != 0
        if packets != known.packets or reset is not known.reset:
            self._count(known, fields, reset)
            known.packets, known.reset = packets, reset
        if over:
            known.pair.open -= 1
        else:
            self._now[fields[_COOKIE]] = known

    def done(self) -> None:
        """All were looked at; those that have vanished (their veth is traced no more) are not open."""
        for gone in self._before.values():
            gone.pair.open -= 1
        self._before, self._now, self._named = self._now, {}, 0
        self._hidden_before, self._hidden_now = self._hidden_now, set()

    def pairs(self) -> list[Pair]:
        """Every pair, OTHER last, where it has any."""
        found = list(self._pairs.copy().values())
        return [*found, self._other] if self.overflowed or self.unnamed else found

    def _hide(self, cookie: int, known: _Known | None, over: bool) -> None:
        """It is private now: nothing of it is told from here on."""
        if known is not None:
            known.pair.open -= 1
        if not over:
            self._hidden_now.add(cookie)

    def _begin(
        self, place: tuple[int, bytes, bytes, int, int, int, int], fields: Sequence[int], over: bool, now_ns: int
    ) -> _Known | None:
        """One that is new, or may be told from now on; None where it has to wait, or there is nothing to tell."""
        hidden = fields[_COOKIE] in self._hidden_before
        old = hidden or fields[_CREATED] < self.since_ns
        if old and over:
            return None
        self._named += 1
        if self._named > NAMED and not over:
            if hidden:
                self._hidden_now.add(fields[_COOKIE])
            return None
        session = _session(place, fields[_STATE], now_ns)
        pair = self._other
        if self._named <= NAMED:
            self._name(session)
            pair = self._pair(session)
        else:
            self.unnamed += 1
        pair.connections += not old
        pair.open += 1
        known = _Known(pair, 0 if session.side is Side.CLIENT else 1)
        if old:
            known.counts, known.reset = _counts(fields), fields[_STATE] & RST_SEEN != 0
            known.packets = fields[_PACKETS[0]], fields[_PACKETS[1]]
        return known

    def _pair(self, session: Session) -> Pair:
        client, server = session.client_workload, session.server_workload
        ends = *self._title(client, session.client), *self._title(server, session.server)
        key = (*ends, session.side)
        pair = self._pairs.get(key)
        if pair is None:
            if len(self._pairs) >= PAIRS:
                self._make_room(session.start_ns)
            if len(self._pairs) >= PAIRS:
                self.overflowed += 1
                return self._other
            pair = self._pairs[key] = Pair(key)
        return pair

    def _make_room(self, now_ns: int) -> None:
        """As `Red` does it: forget pairs without a connection since the last such look."""
        if now_ns - self._checked_ns < IDLE_NS:
            return
        self._checked_ns = now_ns
        idle = [key for key, pair in self._pairs.items() if not pair.open and pair.connections == pair.checked]
        for key in idle:
            del self._pairs[key]
        for pair in self._pairs.values():
            pair.checked = pair.connections
        self.forgotten += len(idle)

    def _title(self, workload: Workload | None, end: Endpoint) -> tuple[str, str]:
        if workload is not None:
            return workload.namespace, workload.title
        return "", end.ip if self._addresses else UNKNOWN

    def _count(self, known: _Known, fields: Sequence[int], reset: bool) -> None:
        pair, counts = known.pair, _counts(fields)
        for direction, (now, before) in enumerate(zip(counts, known.counts, strict=True)):
            into = pair.sent if direction == known.client else pair.received
            for index, (number, earlier) in enumerate(zip(now, before, strict=True)):
                into[index] += max(number - earlier, 0)
        known.counts = counts
        pair.resets += reset and not known.reset
        if rtt_us := fields[_RTT_US]:
            pair.rtt.add(rtt_us * 1000)


def _counts(fields: Sequence[int]) -> Sequence[Sequence[int]]:
    return tuple(tuple(fields[at] for at in places) for places in _AT)


def _session(place: tuple[int, bytes, bytes, int, int, int, int], state: int, now_ns: int) -> Session:
    """A connection as far as it takes to name its ends; which is the client, as `kernel.connections` has it."""
    ifindex, pod_ip, peer_ip, pod_port, peer_port, *_ = place
    opened = state & (POD_OPENED | PEER_OPENED)
    calls = opened == POD_OPENED or (not opened and peer_port < pod_port)
    pod, peer = Endpoint(ip_text(pod_ip), pod_port), Endpoint(ip_text(peer_ip), peer_port)
    client, server, side = (pod, peer, Side.CLIENT) if calls else (peer, pod, Side.SERVER)
    return Session("tcp", side, ifindex, now_ns, 0, None, client, server, "tcp", "", "", Outcome.OK, None, None)
