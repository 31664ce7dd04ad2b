"""Naming: who is at both ends of a session, as the API server tells it, at the time of the session.

The traced pod's own end is certain, as its veth is the pod; what the index says of it is taken where it is about that same pod
(it knows the Service, too). Its container is the only one, or the one whose cgroup the kernel saw sending. The other end is
whoever had that address when the session began; unknown stays an address.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from clovisor_py.answered import IsExternal
from clovisor_py.directory import Directory
from clovisor_py.ends import EndFinder, Resolve
from clovisor_py.model.session import Session, Side
from clovisor_py.model.workload import Workload
from clovisor_py.tracing.context import read
from clovisor_py.tracing.sampling import verdict
from clovisor_py.translation import Translation

CONTAINERS: Final = 4096
"""Ends with their container that are remembered as one object: as many as a node has, many times over."""


class Containers(NamedTuple):
    """Of one pod. `only`: its name where there is never another; else `names`, by container id."""

    only: str = ""
    names: Mapping[str, str] = {}


class ClusterDirectory(Directory):
    """A Directory that asks the cluster's index. `assign` a workload to a veth before it is traced.

    `container_of`: cgroup id to container id, empty where unknown. `elsewhere`: whether a pod is traced on another node.
    `ratio`: of a traced pod's sessions, those that become spans.
    """

    addresses = False

    def __init__(
        self,
        resolve: Resolve,
        container_of: Callable[[int], str] = lambda _: "",
        translation: Translation | None = None,
        is_external: IsExternal = lambda namespace, name: False,
        elsewhere: Callable[[Workload], bool] = lambda _: False,
        ratio: Callable[[Workload], float] = lambda _: 1.0,
    ) -> None:
        super().__init__()
        self._elsewhere, self._ratio = elsewhere, ratio
        self._ends, self._container_of = EndFinder(resolve, translation, is_external), container_of
        self._own: dict[int, Workload] = {}
        self._containers: dict[int, Containers] = {}
        self._named: dict[tuple[int, str], tuple[Workload, Workload]] = {}
        """By veth and container: the pod's end, and the same with the container."""
        self._traced: set[str] = set()
        self._callers: set[str] = set()
        """Of these, whose calls are told of one and all."""

    def assign(self, interface: int, workload: Workload) -> None:
        """The pod behind this veth."""
        self.remove(interface)
        self._own[interface] = workload
        self._traced.add(workload.uid)
        self._callers.add(workload.uid)

    def tell(self, interface: int, exported: bool, calls: bool = True) -> None:
        """Whether what is seen there is for exporters: only then the other end of a call may count on a span of this one.

        `calls`: whether that holds of all that the pod calls, too.
        """
        if (workload := self._own.get(interface)) is not None:
            (self._traced.add if exported else self._traced.discard)(workload.uid)
            (self._callers.add if exported and calls else self._callers.discard)(workload.uid)

    def contain(self, interface: int, containers: Containers) -> None:
        """The containers of the pod behind this veth, as they are from now on."""
        if interface in self._own:
            self._containers[interface] = containers

    def add(self, interface: int, name: str, addresses: object) -> None:
        """Nothing to learn from: `assign` has said who it is."""

    def counts(self) -> dict[str, int]:
        """What was asked for to name ends, and not to be had."""
        return self._ends.counts()

    def remove(self, interface: int) -> None:
        """It is traced no more."""
        self._containers.pop(interface, None)
        self._ends.forget(interface)
        if (workload := self._own.pop(interface, None)) is not None:
            self._traced.discard(workload.uid)
            self._callers.discard(workload.uid)

    def name(self, session: Session) -> None:
        """Put workloads on both ends, and say whether the other end is traced, too: here, or on its own node."""
        client, server, alike = self._ends.find(session, self._own.get(session.interface))
        if session.side is Side.CLIENT:
            client, peer, here = self._in_container(session, client), server, self._traced
        else:
            server, peer, here = self._in_container(session, server), client, self._callers
        session.client_workload, session.server_workload = client, server
        session.peer_traced = alike and peer is not None and (peer.uid in here or self._elsewhere(peer))
        if session.peer_traced and session.side is Side.SERVER and peer is not None and (ratio := self._ratio(peer)) < 1.0:
            session.peer_kept = _kept(session, ratio)

    def _in_container(self, session: Session, own: Workload | None) -> Workload | None:
        """The traced pod's own end, with its container where that is known."""
        containers = self._containers.get(session.interface)
        if own is None or containers is None:
            return own
        name = containers.only
        if not name and session.cgroup_id:
            name = containers.names.get(self._container_of(session.cgroup_id), "")
        return self._inside(session.interface, own, name) if name else own

    def _inside(self, interface: int, own: Workload, name: str) -> Workload:
        """One object for all sessions of a container: found by its name, as hashing a workload takes 1 µs."""
        known = self._named.get((interface, name))
        if known is None or known[0] is not own:
            if len(self._named) >= CONTAINERS:
                self._named.clear()
            known = self._named[interface, name] = own, dataclasses.replace(own, container=name)
        return known[1]


def _kept(session: Session, ratio: float) -> bool:
    """Whether the client's end of this becomes a span, where its pod has that ratio: by what both ends have alike, but for who
    is to blame.
    """
    if session.propagation and session.trace is None:
        session.trace = read(session.propagation)
    return verdict(session, ratio, side=Side.CLIENT)[0]
