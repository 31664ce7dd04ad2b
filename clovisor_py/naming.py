"""Naming: who is at both ends of a session, as the API server tells it, at the time of the session.

The traced pod's own end is certain, as its veth is the pod; what the index says of it is taken where it is about that same pod
(it knows the Service, too). The other end is whoever had that address when the session began; unknown stays an address.
"""

from __future__ import annotations

from collections.abc import Callable

from clovisor_py.directory import Directory
from clovisor_py.model.session import Session, Side
from clovisor_py.model.workload import Endpoint, Workload

Resolve = Callable[[str, int, int], Workload | None]
"""(ip, port, time in ns since the epoch): who had that address then."""


class ClusterDirectory(Directory):
    """A Directory that asks the cluster's index. `assign` a workload to a veth before it is traced."""

    def __init__(self, resolve: Resolve) -> None:
        super().__init__()
        self._resolve = resolve
        self._own: dict[int, Workload] = {}
        self._traced: set[str] = set()

    def assign(self, interface: int, workload: Workload) -> None:
        """The pod behind this veth."""
        self.remove(interface)
        self._own[interface] = workload
        self._traced.add(workload.uid)

    def add(self, interface: int, name: str, addresses: object) -> None:
        """Nothing to learn from: `assign` has said who it is."""

    def remove(self, interface: int) -> None:
        """It is traced no more."""
        if (workload := self._own.pop(interface, None)) is not None:
            self._traced.discard(workload.uid)

    def name(self, session: Session) -> None:
        """Put workloads on both ends, and say whether the other end is traced here, too."""
        own, time_ns = self._own.get(session.interface), session.start_ns
        client, server = self._at(session.client, time_ns), self._at(session.server, time_ns)
        if session.side is Side.CLIENT:
            client, peer = _same(own, client), server
        else:
            server, peer = _same(own, server), client
        session.client_workload, session.server_workload = client, server
        session.peer_traced = peer is not None and peer.uid in self._traced

    def _at(self, end: Endpoint, time_ns: int) -> Workload | None:
        return self._resolve(end.ip, end.port, time_ns)


def _same(own: Workload | None, said: Workload | None) -> Workload | None:
    """What was said of an address, if it is about the pod that the veth leads to; else that pod."""
    return said if own is None or (said is not None and said.uid == own.uid) else own
