"""A conversation in a few lines, as the Segments that a source would make of it: `client("…")`, `server("…")`, `fin`, `rst`.

Every segment is appended to `segments`; what a network does to them (loss, reordering, duplication) is done to that list.
"""

from __future__ import annotations

from clovisor_py.model.segment import ACK, FIN, FROM_POD, RST, SYN, TCP, TO_POD, UDP, Segment

MS = 1_000_000
SECOND = 1_000_000_000
EPOCH = 1_700_000_000 * SECOND
MASK = 0xFFFF_FFFF


def ipv4(text: str) -> bytes:
    return bytes(10) + b"\xff\xff" + bytes(map(int, text.split(".")))


class Conversation:
    """One TCP (or UDP) connection at one veth; by default the pod is the server."""

    def __init__(
        self,
        *,
        flow_id="flow",
        pod_is_client=False,
        server_port=8080,
        client_port=40000,
        client_seq=1000,
        server_seq=5000,
        start_ns=EPOCH,
        step_ns=MS,
        udp=False,
    ):
        self.flow_id = flow_id
        self.directions = (FROM_POD, TO_POD) if pod_is_client else (TO_POD, FROM_POD)
        pod_port, peer_port = (client_port, server_port) if pod_is_client else (server_port, client_port)
        self.addresses = (ipv4("10.0.0.2"), ipv4("10.0.0.1"), pod_port, peer_port)
        self.seqs = [client_seq & MASK, server_seq & MASK]
        self.now = start_ns
        self.step_ns = step_ns
        self.udp = udp
        self.segments: list[Segment] = []

    def wait(self, ns):
        self.now += ns
        return self

    def handshake(self):
        self._add(0, SYN, advance=1, ack=0)
        self._add(1, SYN | ACK, advance=1)
        return self

    def client(self, data, **how):
        return self.say(0, data, **how)

    def server(self, data, **how):
        return self.say(1, data, **how)

    def say(self, who, data, *, chunks=None, captured=None, lost=False, **fields):
        """`chunks`: sizes of the segments (the last takes the rest); `captured`: how many bytes of each were captured;
        `lost`: it passes, but nobody sees it; `lost_before`: so many the kernel says were lost so far."""
        data = data.encode() if isinstance(data, str) else data
        sizes = list(chunks or [])
        while data:
            size = sizes.pop(0) if sizes else len(data)
            part, data = data[:size], data[size:]
            self._add(who, ACK, advance=len(part), data=part, captured=captured, lost_here=lost, **fields)
        return self

    def fin(self, who, data=b"", **fields):
        return self._add(who, FIN | ACK, advance=len(data) + 1, data=data, **fields)

    def rst(self, who):
        return self._add(who, RST | ACK, advance=0)

    def close(self):
        return self.fin(0).fin(1)

    def _add(
        self, who, tcp_flags, *, advance, data=b"", captured=None, lost_here=False, ack=None, flags=0, lost_before=0, **fields
    ):
        self.now += self.step_ns
        if not lost_here:
            segment = Segment(
                time_ns=self.now,
                flow_id=self.flow_id,
                interface=7,
                direction=self.directions[who],
                transport=UDP if self.udp else TCP,
                pod_ip=self.addresses[0],
                peer_ip=self.addresses[1],
                pod_port=self.addresses[2],
                peer_port=self.addresses[3],
                seq=0 if self.udp else self.seqs[who],
                ack=0 if self.udp else (self.seqs[1 - who] if ack is None else ack),
                tcp_flags=0 if self.udp else tcp_flags,
                window=65535,
                flags=flags,
                length=len(data),
                data=data if captured is None else data[:captured],
                lost=lost_before,
                **fields,
            )
            self.segments.append(segment)
        self.seqs[who] = (self.seqs[who] + advance) & MASK
        return self


def recut(segment, size):
    """The segment in two, as another path MTU would have it."""
    first = segment._replace(length=size, data=segment.data[:size], tcp_flags=segment.tcp_flags & ~FIN)
    rest = segment._replace(seq=(segment.seq + size) & MASK, length=segment.length - size, data=segment.data[size:])
    return [first, rest]
