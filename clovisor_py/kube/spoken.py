"""Spoken: which protocol the server at an address speaks, as far as somebody said so, for those who call it.

The same words as for a pod's own ports (`hints`): the operator's annotation on the server's side, then `appProtocol`, then
the port's name. A Service's address says what its ports say; where all that is behind it has one owner, also what is
annotated there.

Asked once a connection, so answers are kept until anything changes that could change them; `version` tells that it did.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from clovisor_py.kube.annotations import PORTS
from clovisor_py.kube.backends import ports_at
from clovisor_py.kube.changes import Change, Object
from clovisor_py.kube.hints import hints_for, protocol_of
from clovisor_py.kube.index import Index
from clovisor_py.kube.objects import Owner, Pod, Port, Service, Slice
from clovisor_py.kube.policy import Decision

KEPT: Final = 4096
"""Addresses and ports whose answers are kept, at 0.3 kB each; beyond it all are asked for again."""


class Spoken:
    """Reads `index`; `decide`: what operators want of a pod; `names`: those of all protocols."""

    def __init__(self, index: Index, decide: Callable[[Pod], Decision], names: Collection[str]) -> None:
        self._index, self._decide, self._names = index, decide, names
        self._kept: dict[tuple[str, int], str] = {}
        self.version = 0
        """Another one: what `at` answered may be answered otherwise now."""

    def note(self, change: Change) -> None:
        """A change that the index has learnt of."""
        self._kept.clear()
        if _words(change.old) != _words(change.new):
            self.version += 1

    def at(self, ip: str, port: int) -> str:
        """The protocol's name; empty: nobody says, or nobody here knows it."""
        known = self._kept.get((ip, port))
        if known is None:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            known = self._kept[ip, port] = self._find(ip, port)
        return known

    def _find(self, ip: str, port: int) -> str:
        index = self._index
        if (pod := index.pod(ip)) is not None:
            return self._of_pod(pod, ip, port)
        if (service := index.service(ip, port)) is not None:
            return self._of_service(service, port)
        if (pod := index.host_pod(ip, port)) is not None:
            return self._of_pod(pod, ip, port)
        return self._of_ports([one for each in index.slices(ip) for one in each.ports if one.number == port])

    def _of_pod(self, pod: Pod, ip: str, port: int) -> str:
        return hints_for(pod, self._index.slices(ip), self._decide(pod), self._names).get(port, "")

    def _of_service(self, service: Service, port: int) -> str:
        """Replicas are alike: what is annotated on one of them, or above it, is annotated on all."""
        targets = self._index.targets(service, port)
        pods = [(pod, ip, number) for ip, number in targets if (pod := self._index.pod(ip)) is not None]
        alike = len({pod.owner or pod.ref for pod, _, _ in pods}) == 1 and len({number for _, _, number in pods}) == 1
        if alike:
            pod, _, number = pods[0]
            if name := self._decide(pod).hints.get(number, ""):
                return name
        if name := self._of_ports(ports_at(service, port)):
            return name
        return self._of_pod(*pods[0]) if alike else ""

    def _of_ports(self, ports: list[Port]) -> str:
        """What they agree on."""
        names = {name for one in ports if (name := protocol_of(one, self._names))}
        return names.pop() if len(names) == 1 else ""


def _words(said: Object | None) -> tuple[object, ...]:
    """Of an object what may say what a port speaks; nothing where it says nothing."""
    match said:
        case Pod():
            named = tuple(port for port in said.ports if port.name)
            spoken = said.annotations.get(PORTS, "")
            return (said.ips, named, spoken) if said.ips and (named or spoken) else ()
        case Service():
            return said.ips, said.ports, said.node_ports
        case Slice():
            named = tuple(port for port in said.ports if port.name or port.app_protocol)
            return (said.service, said.addresses, named) if named else ()
        case Owner():
            return (said.annotations[PORTS],) if PORTS in said.annotations else ()
    return ()
