"""One datagram, captured at several interfaces of a node: the first copy counts.

Copies of a TCP segment are retransmissions to the engine, which passes them over. Datagrams have no numbers, so a question
seen at a pod's veth, at the bridge and at the node's own interface would be three. Only what cannot be anything else is taken
for a copy: the same bytes between the same ends, at once, and from a capture of several interfaces. On one interface somebody
did say it twice.
"""

from __future__ import annotations

from typing import Final

COOKED: Final = frozenset((113, 276))
"""Link types of `tcpdump -i any`: every interface there is."""
AT_ONCE_NS: Final = 10_000_000
"""How long a packet may take through a node; no resolver asks again so soon."""
REMEMBERED: Final = 1024
"""Latest datagrams, one for each direction of a pair of ends: far more than pass in AT_ONCE_NS."""


class Copies:
    """Remembers the latest datagrams, by their hash."""

    def __init__(self) -> None:
        self._latest: dict[bytes, tuple[int, int, int]] = {}

    def is_copy(self, key: bytes, data: bytes, time_ns: int, interface: int, link: int) -> bool:
        """Whether this datagram has just been seen elsewhere; `key`: its ends."""
        digest = hash(data)
        latest = self._latest.pop(key, None)
        copy = latest is not None and latest[0] == digest and abs(time_ns - latest[1]) <= AT_ONCE_NS
        if copy and latest is not None and (link in COOKED or latest[2] != interface):
            self._latest[key] = latest
            return True
        self._latest[key] = digest, time_ns, interface
        if len(self._latest) > REMEMBERED:
            del self._latest[next(iter(self._latest))]
        return False
