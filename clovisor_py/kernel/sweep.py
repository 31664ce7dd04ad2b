"""Sweep: the kernel's entries of connections that are over, or silent for too long, are deleted by user space alone.

The kernel opens them within a quota for each pod; what is deleted here gives its place back.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from socket import IPPROTO_TCP, IPPROTO_UDP
from typing import Final

from clovisor_py.kernel import layout
from clovisor_py.kernel.maps import Maps

CLOSED_LINGER_NS: Final = 2_000_000_000
"""A closed connection is remembered so long: its last segments may still be on the way."""
UDP_IDLE_NS: Final = 10_000_000_000
"""UDP has no end to be seen, and DNS takes a port for each question: twice the 5 s after which a resolver asks again."""

_BOTH_ENDED: Final = layout.FIN_SEEN | layout.FIN_SEEN << 1
_LAST_FROM_POD, _LAST_TO_POD = (at + layout.SIDE_FIELDS.index("last_ns") for at in layout.SIDES_AT)

Place = tuple[int, bytes, bytes, int, int, int, int]
"""`layout.KEY`, unpacked."""
Look = Callable[[Place, tuple[int, ...], bool], None]
"""Shown `layout.KEY` and `layout.SESSION` of a connection, unpacked, and whether it is taken away now."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep over the kernel's sessions found."""

    live: int
    released: int


def sweep(maps: Maps, controlled: set[int], idle_ns: int, look: Look | None = None) -> Swept:
    """Delete the kernel's entries of connections that are over or idle, and give their places back to their pods.

    `controlled`: cookies of the flows that have a control; those of flows that are gone are deleted, in the kernel and from
    the set. `idle_ns` is TCP's patience, UDP's is never longer than UDP_IDLE_NS. `look` is shown each of TCP's before.
    """
    now, live, pods = time.monotonic_ns(), set[int](), maps.pods()
    released: dict[int, int] = {}
    for key, value in maps.sessions():
        place, fields = layout.KEY.unpack(key), layout.SESSION.unpack(value)
        ifindex = place[0]
        over = ifindex not in pods or _is_over(place, fields, now, idle_ns)
        if look is not None and place[5] == IPPROTO_TCP:
            look(place, fields, over)
        if not over:
            live.add(fields[0])
        elif maps.delete_session(key):
            released[ifindex] = released.get(ifindex, 0) + 1
    for ifindex in released.keys() & pods.keys():
        maps.set_pod(ifindex, pods[ifindex]._replace(released=pods[ifindex].released + released[ifindex]))
    for cookie in controlled - live:
        maps.delete_control(cookie)
    controlled &= live
    return Swept(len(live), sum(released.values()))


def clear(maps: Maps, ifindex: int, look: Look | None = None) -> None:
    """Delete the entries of one interface's connections, once its pod is not in `pods` any more. `look`: see `sweep`."""
    own = ifindex.to_bytes(4, sys.byteorder)
    for key, value in maps.sessions():
        if key[:4] != own:
            continue
        place = layout.KEY.unpack(key)
        if look is not None and place[5] == IPPROTO_TCP:
            look(place, layout.SESSION.unpack(value), True)
        maps.delete_session(key)


def _is_over(place: Place, fields: tuple[int, ...], now: int, idle_ns: int) -> bool:
    """Whether a connection has ended, or nothing has been said on it for longer than is waited for."""
    created, state = fields[1], fields[4]
    patience = min(idle_ns, UDP_IDLE_NS) if place[5] == IPPROTO_UDP else idle_ns
    if state & layout.RST_SEEN or state & _BOTH_ENDED == _BOTH_ENDED:
        patience = CLOSED_LINGER_NS
    return now - max(created, fields[_LAST_FROM_POD], fields[_LAST_TO_POD]) > patience
