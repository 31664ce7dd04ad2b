"""FlowTable: which flow a segment belongs to. Bounded; the flow that has been silent longest goes first.

Flows stand in the order of their last segment, so the idle ones are found without looking at the others. A flow that has
ended leaves only its id behind, for a short while: late segments of a closed connection must not open it again.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from clovisor_py.flows.connection import UNDECIDED, Tally
from clovisor_py.flows.control import Connection
from clovisor_py.flows.detect import Detector, Ports
from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.pairing import Pairing
from clovisor_py.flows.reader import Reader
from clovisor_py.flows.sessions import Facts
from clovisor_py.flows.stream import Stream
from clovisor_py.model.segment import ACK, FROM_POD, PEER_OPENED, POD_OPENED, SYN, TCP, UDP, Segment
from clovisor_py.model.session import Side
from clovisor_py.model.workload import Endpoint
from clovisor_py.protocols._api import Protocol

MAX_FLOWS: Final = 16384
"""Connections at once, at 3 to 6 kB each; as many as one pod may have. Beyond: `flows_evicted`, the one silent longest; the
kernel still tracks it, and if it speaks again it is mid-stream."""
LINGER_NS: Final = 2_000_000_000
"""How long a closed flow's id is remembered: longer than retransmissions of its last segments take."""
MAX_CLOSED: Final = 65536
"""Ids of closed flows remembered at once; the oldest are forgotten first, at worst to come back as mid-stream."""
SERVERS: Final = 256
"""Endpoints that are remembered, those that came last."""
ADDRESSES: Final = 4096
"""Addresses whose text is remembered, one object for all flows that have it."""

_MAPPED = bytes(10) + b"\xff\xff"


class Flow:
    """One connection at one veth. Pairs are indexed by direction."""

    __slots__ = (
        "cgroup_id",
        "detector",
        "doubt",
        "ended",
        "first_ack",
        "id",
        "interface",
        "last_ns",
        "lost",
        "mid_stream",
        "one_direction",
        "opaque",
        "opener",
        "pairing",
        "peer",
        "pod",
        "protocol",
        "readers",
        "seen",
        "server",
        "speaker",
        "streams",
        "tally",
        "told",
        "udp",
        "why",
    )

    def __init__(self, segment: Segment, ledger: Ledger) -> None:
        self.id = segment.flow_id
        self.interface = segment.interface
        self.udp = segment.transport == UDP
        self.pod = _endpoint(ip_text(segment.pod_ip), segment.pod_port)
        self.peer = _endpoint(ip_text(segment.peer_ip), segment.peer_port)
        self.streams = (Stream(ledger), Stream(ledger))
        self.readers: tuple[Reader, Reader] | None = None
        self.pairing: Pairing | None = None
        self.protocol = ""
        """Whose readers these are; of a flow that is opaque, whose they were."""
        self.told: Mapping[int, Protocol] | None = None
        """What it was detected by: port to protocol, as somebody said; None until then."""
        self.detector: Detector | None = None
        """From the first byte until the protocol is known; then `readers` and `pairing` are there, or the flow is `opaque`."""
        self.doubt: Tally | None = None
        """Of a flow that is read as it was hinted to be, until it has proved to be that (see `doubt.py`)."""
        self.ended = False
        self.opaque = False
        """Nobody can read it: counted only."""
        self.opener = _opener(segment)
        """The direction of who opened the connection; -1 where that was not seen."""
        self.server = -1
        """The direction in which the server sends; -1 until known."""
        self.speaker = -1
        """The direction of the latest payload."""
        self.seen = 0
        """Bit per direction of which any segment passed."""
        self.first_ack = -1
        self.one_direction = False
        """The other direction moves (it is acknowledged) and never passes this veth."""
        self.tally: Tally | None = Tally(segment.time_ns)
        """Until somebody reads the flow; again, when nobody does any more."""
        self.why = UNDECIDED
        """Why nobody can read it."""
        self.mid_stream = not self.udp and not segment.tcp_flags & SYN
        self.last_ns = segment.time_ns
        self.lost = segment.lost
        self.cgroup_id = segment.cgroup_id
        """Of the pod's own end; 0 until known."""

    def know_cgroup(self, cgroup_id: int) -> None:
        """Who sends from the pod, of all that comes out from now on."""
        self.cgroup_id = cgroup_id
        if self.pairing is not None:
            self.pairing.cgroup_id = cgroup_id

    @property
    def connection(self) -> Connection:
        """As the kernel names it."""
        pod, peer = self.ends
        ips = _ip_bytes(pod.ip), _ip_bytes(peer.ip)
        return Connection(self.id, self.interface, *ips, pod.port, peer.port, UDP if self.udp else TCP)

    @property
    def ports(self) -> Ports:
        """What detection needs to know of the addresses."""
        return Ports((self.pod.port, self.peer.port), self.opener)

    @property
    def ends(self) -> tuple[Endpoint, Endpoint]:
        """Who sends in each direction."""
        return self.pod, self.peer

    def facts(self, protocol: str) -> Facts:
        """What its sessions have in common, once the server is known."""
        client, server = self.ends[1 - self.server], self.ends[self.server]
        transport = "udp" if self.udp else "tcp"
        return Facts(protocol, self.side, self.interface, client, server, transport, self.cgroup_id, self.id)

    @property
    def side(self) -> Side:
        """Where the pod stands, once the server is known."""
        return Side.SERVER if self.server == FROM_POD else Side.CLIENT

    @property
    def client_first(self) -> tuple[int, int]:
        """Both directions, so that requests are there when their responses are."""
        return (0, 1) if self.server else (1, 0)

    @property
    def server_end(self) -> Endpoint:
        """The server's address; unless it is known, the end with the lower port."""
        return self.ends[self.likely_server]

    @property
    def likely_server(self) -> int:
        """The direction in which the server sends; unless it is known, the other one than who opened, or the lower port's."""
        if self.server >= 0:
            return self.server
        return 1 - self.opener if self.opener >= 0 else int(self.peer.port < self.pod.port)


class FlowTable:
    """Flows by id, least recently active first."""

    __slots__ = ("_closed", "_ledger", "_max_flows", "flows")

    def __init__(self, ledger: Ledger, max_flows: int = MAX_FLOWS) -> None:
        self.flows: OrderedDict[Hashable, Flow] = OrderedDict()
        self._closed: OrderedDict[Hashable, int] = OrderedDict()
        self._ledger = ledger
        self._max_flows = max_flows

    def __len__(self) -> int:
        return len(self.flows)

    def is_closed(self, flow_id: Hashable) -> bool:
        """It ended a moment ago."""
        return flow_id in self._closed

    def open(self, segment: Segment) -> Flow:
        """A flow for a segment of an unknown connection."""
        flow = self.flows[segment.flow_id] = Flow(segment, self._ledger)
        self._closed.pop(segment.flow_id, None)
        self._ledger.flows_opened += 1
        return flow

    def surplus(self) -> Iterator[Flow]:
        """The flows that have to go to make room; the caller removes each before asking for the next."""
        while len(self.flows) > self._max_flows:
            self._ledger.flows_evicted += 1
            yield next(iter(self.flows.values()))

    def idle(self, before_ns: int) -> Iterator[Flow]:
        """The flows that were silent since `before_ns`; the caller removes each before asking for the next."""
        while self.flows and (flow := next(iter(self.flows.values()))).last_ns <= before_ns:
            self._ledger.flows_expired += 1
            yield flow

    def remove(self, flow: Flow) -> None:
        """It may come back (as mid-stream, if it is a TCP connection)."""
        self.flows.pop(flow.id, None)

    def close(self, flow: Flow, now_ns: int) -> None:
        """It has ended and will not come back."""
        self.flows.pop(flow.id, None)
        self._ledger.flows_closed += 1
        self._closed[flow.id] = now_ns
        if len(self._closed) > MAX_CLOSED:
            self._closed.popitem(last=False)

    def forget_closed(self, now_ns: int) -> None:
        """Forget the ids that have lingered long enough."""
        closed = self._closed
        while closed and next(iter(closed.values())) <= now_ns - LINGER_NS:
            closed.popitem(last=False)


def _opener(segment: Segment) -> int:
    """The direction of who opened the connection, as far as its first segment tells: -1."""
    if segment.tcp_flags & SYN:
        return 1 - segment.direction if segment.tcp_flags & ACK else segment.direction
    if segment.flags & POD_OPENED:
        return 0
    return 1 if segment.flags & PEER_OPENED else -1


@lru_cache(ADDRESSES)
def ip_text(ip: bytes) -> str:
    """16 bytes as text; IPv4 mapped into IPv6 as dotted quad."""
    if ip.startswith(_MAPPED):
        return ".".join(map(str, ip[12:]))
    return ipaddress.IPv6Address(ip).compressed


def _ip_bytes(text: str) -> bytes:
    """The inverse of `ip_text`."""
    ip = ipaddress.ip_address(text).packed
    return ip if len(ip) == 16 else _MAPPED + ip


@lru_cache(SERVERS)
def _endpoint(ip: str, port: int) -> Endpoint:
    """The same one for all connections of a server: it is what comes again."""
    return Endpoint(ip, port)
