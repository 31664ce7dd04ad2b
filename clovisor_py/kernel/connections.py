"""Connections: what the kernel's sessions say of those that are open now, by pod, side and server port.

A session is told when it ends; of a connection that was there before us and goes on for days only the kernel knows. Two facts
are certain there: that its opening was not seen, and that after a handshake, which takes both directions, one of them has never
passed the veth.
"""

from __future__ import annotations

from collections.abc import Iterable
from socket import IPPROTO_TCP
from typing import Final, NamedTuple

from clovisor_py.kernel.layout import FIN_SEEN, KEY, PEER_OPENED, POD_OPENED, RST_SEEN, SESSION, SIDE_FIELDS, SIDES_AT

SEQ_KNOWN: Final = 0x100
"""CV_SEQ_KNOWN of the first direction: something with a sequence number has passed in it."""
_STATE: Final = 4
_SEGMENTS: Final = tuple(at + SIDE_FIELDS.index("segments") for at in SIDES_AT)
_ENDED: Final = FIN_SEEN | FIN_SEEN << 1

Where = tuple[str, int]
"""(side, server port): `server` is the pod's own port, `client` one that it calls."""


class Open(NamedTuple):
    """TCP connections that have not ended."""

    connections: int = 0
    older: int = 0
    """Of these: their opening was not seen."""
    one_direction: int = 0
    """Of these: opened before our eyes, and only one direction has ever passed."""


def open_connections(sessions: Iterable[tuple[bytes, bytes]]) -> dict[int, dict[Where, Open]]:
    """By ifindex, from packed keys and sessions (`Maps.sessions`). About 2 µs each."""
    found: dict[int, dict[Where, Open]] = {}
    for key, value in sessions:
        ifindex, _, _, pod_port, peer_port, transport, _ = KEY.unpack(key)
        if transport != IPPROTO_TCP:
            continue
        fields = SESSION.unpack(value)
        state = fields[_STATE]
        if state & RST_SEEN or state & _ENDED == _ENDED:
            continue
        opened = state & (POD_OPENED | PEER_OPENED)
        calls = opened == POD_OPENED or (not opened and peer_port < pod_port)  # as flows.table.likely_server
        where = ("client", peer_port) if calls else ("server", pod_port)
        pod = found.setdefault(ifindex, {})
        before = pod.get(where, Open())
        one_way = bool(opened) and _one_way(state, fields)
        pod[where] = Open(before.connections + 1, before.older + (not opened), before.one_direction + one_way)
    return found


def _one_way(state: int, fields: tuple[int, ...]) -> bool:
    """Who sends payload had the other's SYN."""
    seen = [bool(state & SEQ_KNOWN << direction) for direction in (0, 1)]
    return seen[0] != seen[1] and bool(fields[_SEGMENTS[seen[1]]])
