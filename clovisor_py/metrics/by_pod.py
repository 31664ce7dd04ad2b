"""By pod: what its sessions say of it, port by port: what was read, what nobody could read, and why.

`add` is called for every session on the engine's thread, and does as little as it can; any other thread may read meanwhile.
Everything is bounded: what comes beyond is counted under port 0 and OTHER.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from clovisor_py.flows.sessions import ONE_DIRECTION, SEEN
from clovisor_py.kernel.connections import Open, Where
from clovisor_py.model.session import Session
from clovisor_py.snapshot import Port

PODS: Final = 1024
"""Pods that are remembered: twice what the kernel traces. A session may still end after its pod was removed; beyond, the one
that came first is forgotten."""
PORTS: Final = 64
"""Server ports of one pod that are told apart: a scan or a port per connection (passive FTP) brings any number."""
WORDS: Final = 16
"""Protocols, reasons or server names of one port that are told apart; names come from the wire."""
OTHER: Final = "other"
TLS: Final = "tls.protocol.name"
SERVER_NAME: Final = "server.address"


class Seen:
    """One server port of one pod."""

    __slots__ = ("mid_stream", "one_direction", "protocols", "server_names", "sessions", "unread")

    def __init__(self) -> None:
        self.sessions = self.mid_stream = self.one_direction = 0
        self.protocols: dict[str, int] = {}
        self.unread: dict[str, int] = {}
        self.server_names: dict[str, int] = {}

    def add(self, session: Session) -> None:
        """Count one session."""
        attributes = session.attributes
        if session.connection:
            _count(self.unread, session.resource)
        else:
            self.sessions += 1
            _count(self.protocols, session.protocol)
        self.mid_stream += session.mid_stream
        if attributes.get(SEEN) == ONE_DIRECTION:
            self.one_direction += 1
        if TLS in attributes and (name := attributes.get(SERVER_NAME)):
            _count(self.server_names, str(name))


class PodSessions:
    """One pod's sessions: by outcome, and by (side, server port)."""

    __slots__ = ("outcomes", "ports")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.ports: dict[tuple[str, int], Seen] = {}

    def add(self, session: Session) -> None:
        outcome, key = session.outcome.value, (session.side.value, session.server.port)
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        (self.ports.get(key) or self._new(key)).add(session)

    def facts(self) -> tuple[Port, ...]:
        """By side and port."""
        found = sorted(self.ports.copy().items())
        return tuple(
            Port(
                port=port,
                side=side,
                protocols=_most(seen.protocols),
                sessions=seen.sessions,
                unread=seen.unread.copy(),
                server_names=_most(seen.server_names),
                mid_stream=seen.mid_stream,
                one_direction=seen.one_direction,
            )
            for (side, port), seen in found
        )

    def _new(self, key: tuple[str, int]) -> Seen:
        if len(self.ports) >= PORTS:
            key = (key[0], 0)
        return self.ports.setdefault(key, Seen())


class ByPod:
    """The pods, by the ifindex of their veth."""

    def __init__(self) -> None:
        self._pods: dict[int, PodSessions] = {}

    def add(self, session: Session) -> None:
        """Count one session."""
        pod = self._pods.get(session.interface)
        (pod or self._new(session.interface)).add(session)

    def _new(self, interface: int) -> PodSessions:
        if len(self._pods) >= PODS:
            self._pods.pop(next(iter(self._pods)))
        return self._pods.setdefault(interface, PodSessions())

    def of(self, interface: int) -> PodSessions:
        """An empty one where nothing was seen."""
        return self._pods.get(interface) or PodSessions()

    def remove(self, interface: int) -> None:
        """The pod is gone; the number may come again for another."""
        self._pods.pop(interface, None)


def with_open(ports: Iterable[Port], open_now: Mapping[Where, Open]) -> tuple[Port, ...]:
    """Add what the kernel knows of open connections; ports beyond PORTS are told as port 0."""
    found = {(port.side, port.port): port for port in ports}
    for where, now in sorted(open_now.items()):
        key = where if where in found or len(found) < PORTS else (where[0], 0)
        port = found.get(key) or Port(key[1], key[0])
        found[key] = port._replace(
            open=port.open + now.connections,
            older=port.older + now.older,
            one_direction=port.one_direction + now.one_direction,
        )
    return tuple(found[key] for key in sorted(found))


def _count(counts: dict[str, int], word: str) -> None:
    if word not in counts and len(counts) >= WORDS:
        word = OTHER
    counts[word] = counts.get(word, 0) + 1


def _most(counts: dict[str, int]) -> tuple[str, ...]:
    return tuple(word for word, _ in sorted(counts.copy().items(), key=lambda item: (-item[1], item[0])))
