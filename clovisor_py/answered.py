"""Answered: the names under which a pod was told addresses that the cluster does not know, by the DNS answers on its own veth.

So an external address gets the name that the pod asked for, and one behind an ExternalName Service that Service. A name holds
for HOLD_NS after it was told or used: a pool asks once, and keeps its connections for days. A pod that was told one address
under two names (a CDN's) means either: for as long as both hold, the address stays an address. What counts is what its own
sessions show, so where names are hidden from exporters there are none here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from clovisor_py.model.session import Session
from clovisor_py.model.workload import Workload

QUESTION, ANSWERS = "dns.question.name", "dns.answers"
"""Attributes (OpenTelemetry's) of whatever protocol answers such questions."""
HOLD_NS: Final = 600 * 10**9
"""How long an answer names an address that nobody uses: resolvers keep answers for their TTL, and connections outlive it."""
MOST: Final = 512
"""Addresses of one pod that are remembered, at 0.2 kB each; beyond it those longest unused are forgotten, and counted."""
NAMED: Final = 2048
"""Names whose workload is kept as one object."""
_SERVICE_LABELS: Final = 4
"""NAME.NAMESPACE.svc.DOMAIN."""

IsExternal = Callable[[str, str], bool]
"""(namespace, name): whether that is a Service of type ExternalName."""


class _Answer(NamedTuple):
    name: str
    since_ns: int
    last_ns: int
    """When it was told or used."""
    other_ns: int | None = None
    """When another name was, last."""


class Answered:
    """By interface. For one thread."""

    def __init__(self, is_external: IsExternal = lambda namespace, name: False) -> None:
        self._is_external = is_external
        self._pods: dict[int, dict[str, _Answer]] = {}
        self.forgotten = 0

    def learn(self, session: Session) -> None:
        """What the pod behind this veth was told, if this session is an answer to it."""
        told, name = session.attributes.get(ANSWERS), session.attributes.get(QUESTION)
        if not isinstance(told, (list, tuple)) or not isinstance(name, str) or not name:
            return
        known = self._pods.setdefault(session.interface, {})
        name = name.rstrip(".").lower()
        for address in map(str, told):
            known[address] = _told(name, session.start_ns, known.pop(address, None))
        while len(known) > MOST:
            del known[next(iter(known))]
            self.forgotten += 1

    def at(self, interface: int, ip: str, time_ns: int) -> Workload | None:
        """By what name the pod behind this veth knew that address then; which holds for longer by that."""
        known = self._pods.get(interface, {})
        answer = known.get(ip)
        if answer is None or not answer.since_ns <= time_ns < answer.last_ns + HOLD_NS:
            return None
        if answer.other_ns is not None and time_ns < answer.other_ns + HOLD_NS:
            return None
        del known[ip]  # so that it is the last one in use
        known[ip] = answer._replace(last_ns=max(answer.last_ns, time_ns))
        labels = answer.name.split(".")
        if len(labels) >= _SERVICE_LABELS and labels[2] == "svc" and self._is_external(labels[1], labels[0]):
            return _service(labels[1], labels[0])
        return _external(answer.name)

    def forget(self, interface: int) -> None:
        """The veth is another pod's from now on, or nobody's."""
        self._pods.pop(interface, None)


def _told(name: str, time_ns: int, before: _Answer | None) -> _Answer:
    if before is None:
        return _Answer(name, time_ns, time_ns)
    if before.name != name:
        return _Answer(name, time_ns, time_ns, before.last_ns)
    held = time_ns < before.last_ns + HOLD_NS
    return before._replace(since_ns=before.since_ns if held else time_ns, last_ns=max(before.last_ns, time_ns))


@lru_cache(NAMED)
def _external(name: str) -> Workload:
    return Workload(name, kind="external")


@lru_cache(NAMED)
def _service(namespace: str, name: str) -> Workload:
    return Workload(name, namespace, service=name, kind="service")
