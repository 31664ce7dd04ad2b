"""Spoken: which protocol the server at an address speaks, as far as somebody said so, for those who call it.

The same words as for a pod's own ports (`hints`): the operator's annotation on the server's side, then `appProtocol`, then
the port's name. A Service's address says what its ports say; where all that is behind it has one owner, also what is
annotated there.

Asked once a connection, so answers are kept until something changes on which they hang, and for each it is kept what that is:
a cluster changes all the time, nearly always elsewhere. `version` tells that an answer that was given may be another one now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from clovisor_py.kube.annotations import PORTS
from clovisor_py.kube.backends import ports_at
from clovisor_py.kube.changes import Change, Object
from clovisor_py.kube.hints import hints_for, protocol_of
from clovisor_py.kube.index import Index
from clovisor_py.kube.objects import Owner, Pod, Port, Ref, Service, Slice
from clovisor_py.kube.policy import Decision

KEPT: Final = 4096
"""Addresses and ports whose answers are kept, at 1.5 kB each; beyond it all are forgotten, and whatever is said of ports
anywhere may concern one of them."""

Place = tuple[str, int]
"""Address and port of a server."""


class Spoken:
    """Reads `index`; `decide`: what operators want of a pod; `names`: those of all protocols."""

    def __init__(self, index: Index, decide: Callable[[Pod], Decision], names: Collection[str]) -> None:
        self._index, self._decide, self._names = index, decide, names
        self._kept: dict[Place, str] = {}
        self._hangs_on: dict[Place, set[object]] = {}
        """What each answer that was given was made of: its address and port, Services, and who may be annotated. Also of those
        that are no longer kept: somebody may still go by them."""
        self._hanging: dict[object, set[Place]] = {}
        """The same, the other way round."""
        self._forgot = False
        """There may be answers of which that is not known."""
        self.version = 0
        """Another one: what `at` answered may be answered otherwise now."""

    def note(self, change: Change) -> None:
        """A change that the index has learnt of."""
        touched = {place for thing in (*self._touches(change.old), *self._touches(change.new)) for place in self._at(thing)}
        for place in touched:
            self._kept.pop(place, None)
        if (touched or self._forgot) and _words(change.old) != _words(change.new):
            self.version += 1
            self._forgot = False  # whoever goes by an answer asks again

    def at(self, ip: str, port: int) -> str:
        """The protocol's name; empty: nobody says, or nobody here knows it."""
        known = self._kept.get((ip, port))
        if known is None:
            made_of: set[object] = {ip, port}
            known = self._find(ip, port, made_of)
            self._keep((ip, port), known, made_of)
        return known

    def _keep(self, place: Place, answer: str, made_of: set[object]) -> None:
        for thing in self._hangs_on.pop(place, ()):
            self._hanging[thing].discard(place)
            if not self._hanging[thing]:
                del self._hanging[thing]
        if len(self._hangs_on) >= KEPT:
            self._forgot = True
            for each in (self._kept, self._hangs_on, self._hanging):
                each.clear()
        self._kept[place], self._hangs_on[place] = answer, made_of
        for thing in made_of:
            self._hanging.setdefault(thing, set()).add(place)

    def _at(self, thing: object) -> Collection[Place]:
        return self._hanging.get(thing, ())

    def _touches(self, said: Object | None) -> Iterator[object]:
        """On what an answer may hang that this object can change."""
        match said:
            case Pod():
                yield from said.ips
                yield from (_service(each) for ip in said.ips for each in self._index.slices(ip))
            case Service():
                yield from (said.ref, *said.ips, *said.node_ports)
            case Slice():
                yield from (_service(said), *said.addresses)
            case Owner():
                yield from (said.ref, *said.ips)

    def _find(self, ip: str, port: int, made_of: set[object]) -> str:
        """`made_of`: takes what the answer hangs on."""
        index = self._index
        if (pod := index.pod(ip)) is not None:
            return self._of_pod(pod, ip, port, made_of)
        if (service := index.service(ip, port)) is not None:
            return self._of_service(service, port, made_of)
        if (pod := index.host_pod(ip, port)) is not None:
            return self._of_pod(pod, ip, port, made_of)
        return self._of_ports([one for each in index.slices(ip) for one in each.ports if one.number == port])

    def _of_pod(self, pod: Pod, ip: str, port: int, made_of: set[object]) -> str:
        made_of.update(self._above(pod))
        return hints_for(pod, self._index.slices(ip), self._decide(pod), self._names).get(port, "")

    def _above(self, pod: Pod) -> Iterator[Ref]:
        """Who else may be annotated for it: its namespace, and what controls it, up to one that is not known (yet)."""
        yield Ref("Namespace", "", pod.ref.namespace)
        yield from filter(None, (pod.owner, *(owner.owner for owner in self._index.chain(pod.owner))))

    def _of_service(self, service: Service, port: int, made_of: set[object]) -> str:
        """Replicas are alike: what is annotated on one of them, or above it, is annotated on all."""
        made_of.add(service.ref)
        targets = self._index.targets(service, port)
        pods = [(pod, ip, number) for ip, number in targets if (pod := self._index.pod(ip)) is not None]
        alike = len({pod.owner or pod.ref for pod, _, _ in pods}) == 1 and len({number for _, _, number in pods}) == 1
        if alike:
            pod, _, number = pods[0]
            made_of.update(self._above(pod))
            if name := self._decide(pod).hints.get(number, ""):
                return name
        if name := self._of_ports(ports_at(service, port)):
            return name
        return self._of_pod(*pods[0], made_of) if alike else ""

    def _of_ports(self, ports: list[Port]) -> str:
        """What they agree on."""
        names = {name for one in ports if (name := protocol_of(one, self._names))}
        return names.pop() if len(names) == 1 else ""


def _service(one: Slice) -> Ref:
    return Ref("Service", one.ref.namespace, one.service)


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
