"""Answered: the names under which a pod was told addresses that the cluster does not know, by the DNS answers on its own veth.

So an external address gets the name that the pod asked for, and one behind an ExternalName Service that Service. A pod that was
told one address under two names (a CDN's) means either: then the address stays an address. What counts is what its
own sessions show, so where names are hidden from exporters there are none here.
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
"""How long an answer names an address: resolvers keep answers for their TTL, and connections outlive it."""
MOST: Final = 512
"""Addresses of one pod that are remembered, at 0.2 kB each; beyond it the oldest are forgotten, and counted."""
NAMED: Final = 2048
"""Names whose workload is kept as one object."""
_SERVICE_LABELS: Final = 4
"""NAME.NAMESPACE.svc.DOMAIN."""

IsExternal = Callable[[str, str], bool]
"""(namespace, name): whether that is a Service of type ExternalName."""


class _Answer(NamedTuple):
    name: str
    """Empty: there were two."""
    time_ns: int


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
        name, time_ns = name.rstrip(".").lower(), session.start_ns
        for address in map(str, told):
            before = known.pop(address, None)
            other = before is not None and before.name != name and time_ns - before.time_ns < HOLD_NS
            known[address] = _Answer("" if other else name, time_ns)
        while len(known) > MOST:
            del known[next(iter(known))]
            self.forgotten += 1

    def at(self, interface: int, ip: str, time_ns: int) -> Workload | None:
        """By what name the pod behind this veth knew that address then."""
        answer = self._pods.get(interface, {}).get(ip)
        if answer is None or not answer.name or not 0 <= time_ns - answer.time_ns < HOLD_NS:
            return None
        labels = answer.name.split(".")
        if len(labels) >= _SERVICE_LABELS and labels[2] == "svc" and self._is_external(labels[1], labels[0]):
            return _service(labels[1], labels[0])
        return _external(answer.name)

    def forget(self, interface: int) -> None:
        """The veth is another pod's from now on, or nobody's."""
        self._pods.pop(interface, None)


@lru_cache(NAMED)
def _external(name: str) -> Workload:
    return Workload(name, kind="external")


@lru_cache(NAMED)
def _service(namespace: str, name: str) -> Workload:
    return Workload(name, namespace, service=name, kind="service")
