"""Directory: who is behind an address and behind a veth, where no API server tells: the pods that the operator named.

The veth's end is certain (the interface is the pod); the other end is known only if it is one of the traced pods.
Unknown stays an address: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable

from clovisor_py.model.session import Session, Side
from clovisor_py.model.workload import Workload


class Directory:
    """Filled as pods are attached, read for every session."""

    addresses = True
    """Who has no name may be called by the address in what is counted: an operator looks at it, and no time series is made."""

    def __init__(self) -> None:
        self._by_interface: dict[int, Workload] = {}
        self._by_ip: dict[str, Workload] = {}

    def add(self, interface: int, name: str, addresses: Iterable[str]) -> None:
        """A traced pod."""
        workload = Workload(name)
        self._by_interface[interface] = workload
        self._by_ip.update((address, workload) for address in addresses)

    def remove(self, interface: int) -> None:
        """It is traced no more; it keeps its name for what it said before."""
        workload = self._by_interface.get(interface)
        self._by_ip = {ip: other for ip, other in self._by_ip.items() if other is not workload}

    def name(self, session: Session) -> None:
        """Put workloads on both ends, and say whether the other end is traced too."""
        if not self._by_interface:
            return
        own = self._by_interface.get(session.interface)
        if session.side is Side.CLIENT:
            peer = self._by_ip.get(session.server.ip)
            session.client_workload, session.server_workload = own, peer
        else:
            peer = self._by_ip.get(session.client.ip)
            session.client_workload, session.server_workload = peer, own
        session.peer_traced = peer is not None
