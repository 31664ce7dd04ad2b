"""Who is behind an address at a time: fed with changes, asked for both ends of every session.

Asked in this order: the pod that has the IP (not those on the host's network, nor those that have ended); the Service with
that cluster IP, or with that load balancer's or external IP and port; on a node's IP the host-network pod that declares the
port, the Service with that node port, else the node; last, the Service whose EndpointSlice lists IP and port (what runs
outside of the cluster). Anything else is None: nothing is guessed. Two pods, or two Services, that fit equally well are none.

A Service is answered as the pod behind it where there is just one, and has been since before that time; where all pods
behind it have one owner, as the Service with that owner. Which of several pods it was only the kernel knows.

What a pod's `owner` is follows controllers upwards, ReplicaSet to Deployment, Job to CronJob, and survives their deletion.
Its `service` is that of the EndpointSlices which have its IP: the one with that port, else the only one.

For one thread. Times are nanoseconds since 1970.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Any, Final, cast

from clovisor_py.kube._tenure import MOST_ENDED, OPEN, RETAIN_NS, Holder, Tenure, Tenures
from clovisor_py.kube.backends import Backends
from clovisor_py.kube.changes import Change
from clovisor_py.kube.objects import Owner, Pod, Ref, Service, Slice
from clovisor_py.model.workload import Workload

ENDED: Final = frozenset({"Succeeded", "Failed"})
"""Phases in which a pod's IP is somebody else's already."""
LONGEST_CHAIN: Final = 8
"""Owners above a pod: real chains have three; a circle has no end."""


class Index:
    """Empty at first; `apply` every change of the cluster-wide watches, in order."""

    def __init__(self) -> None:
        self._pods: Tenures[str, Pod] = Tenures(exclusive=True)
        self._services: Tenures[str, Service] = Tenures(exclusive=False)
        self._slices: Tenures[str, Slice] = Tenures(exclusive=False)
        self._nodes: Tenures[str, Owner] = Tenures(exclusive=True)
        self._host_pods: Tenures[tuple[str, int], Pod] = Tenures(exclusive=False)
        self._node_ports: Tenures[int, Service] = Tenures(exclusive=True)
        self._external: set[Ref] = set()
        """Services of type ExternalName."""
        self._backends = Backends()
        self._certain: dict[tuple[Ref, int], tuple[int, Workload | None]] = {}
        """Service and port to who is certainly behind it, and since when; until anything changes."""
        self._owners: dict[Ref, Owner] = {}
        self._owners_ended: deque[tuple[int, Owner]] = deque()

    def __len__(self) -> int:
        """Addresses that are known, those of the past included."""
        return len(self._pods) + len(self._services) + len(self._nodes)

    @property
    def forgotten(self) -> int:
        """Intervals of the past that were dropped early, because there were too many."""
        return sum(table.forgotten for table in self._tables())

    def apply(self, change: Change, now_ns: int) -> None:
        """One change, as it came at this time; only of watches of the whole cluster (each object in one of them)."""
        old, new = change.old, change.new
        self._certain.clear()
        match new or old:
            case Pod():
                self._pod(cast("Pod | None", old), cast("Pod | None", new), now_ns)
            case Service():
                self._service(cast("Service | None", old), cast("Service | None", new), now_ns)
            case Slice():
                self._slice(cast("Slice | None", old), cast("Slice | None", new), now_ns)
            case Owner():
                self._owner(cast("Owner | None", old), cast("Owner | None", new), now_ns)
        self.expire(now_ns)

    def expire(self, now_ns: int) -> None:
        """Forget what has been over for RETAIN_NS; call it now and then when nothing changes."""
        for table in self._tables():
            table.expire(now_ns)
        ended = self._owners_ended
        while ended and (ended[0][0] <= now_ns - RETAIN_NS or len(ended) > MOST_ENDED):
            _, gone = ended.popleft()
            if self._owners.get(gone.ref) is gone:  # else there is another of that name
                del self._owners[gone.ref]

    def resolve(self, ip: str, port: int, time_ns: int) -> Workload | None:
        """Who had this address at that time; None where nobody is known."""
        if (pod := self._pods.at(ip, time_ns)) is not None:
            return self._name_pod(pod, self._service_of(pod, ip, port, time_ns))
        services = self._services.all_at(ip, time_ns)
        if service := _only([one for one in services if _has(one.holder, port)]):
            return self._behind(service.holder, port, time_ns) or _name_service(service)
        if (node := self._nodes.at(ip, time_ns)) is not None:
            return self._on_node(node, ip, port, time_ns)
        if service := _only(services):
            return _name_service(service)
        return self._outside(ip, port, time_ns)

    def chain(self, ref: Ref | None) -> list[Owner]:
        """The owners from this one upwards, as far as they are known, nearest first."""
        owners: list[Owner] = []
        while ref is not None and len(owners) < LONGEST_CHAIN and (owner := self._owners.get(ref)) is not None:
            owners.append(owner)
            ref = owner.owner
        return owners

    def owner(self, ref: Ref) -> Owner | None:
        """A Namespace, a Node, or an owner, by its name."""
        return self._owners.get(ref)

    def pod(self, ip: str) -> Pod | None:
        """Who has this address now."""
        found = self._pods.at(ip, _NOW)
        return found.holder if found else None

    def host_pod(self, ip: str, port: int) -> Pod | None:
        """Who listens there now on a node's own address."""
        found = _only(self._host_pods.all_at((ip, port), _NOW))
        return found.holder if found else None

    def service(self, ip: str, port: int) -> Service | None:
        """Which Service is called there now: by one of its own addresses, or by its node port."""
        found = _only([one for one in self._services.all_at(ip, _NOW) if _has(one.holder, port)])
        if found is None and self._nodes.at(ip, _NOW) is not None:
            found = self._node_ports.at(port, _NOW)
        return found.holder if found else None

    def is_external(self, namespace: str, name: str) -> bool:
        """Whether that is a Service of type ExternalName."""
        return Ref("Service", namespace, name) in self._external

    def slices(self, ip: str) -> list[Slice]:
        """All that list this address now."""
        return [one.holder for one in self._slices.all_at(ip, _NOW)]

    def targets(self, service: Service, port: int) -> tuple[tuple[str, int], ...]:
        """Addresses and ports behind a port of a Service, now."""
        return self._backends.of(service, port).targets

    # Feeding.

    def _pod(self, old: Pod | None, new: Pod | None, now: int) -> None:
        born = min(_nanoseconds(new.created, now), now) if new else now
        self._pods.move(old, _ips(old), new, _ips(new), born, now)
        self._host_pods.move(old, _places(old), new, _places(new), born, now)

    def _service(self, old: Service | None, new: Service | None, now: int) -> None:
        self._services.move(old, old.ips if old else (), new, new.ips if new else (), 0, now)
        for one in (old, new):
            if one is not None:
                (self._external.add if one is new and one.kind == "ExternalName" else self._external.discard)(one.ref)
        self._node_ports.move(old, old.node_ports if old else (), new, new.node_ports if new else (), 0, now)

    def _slice(self, old: Slice | None, new: Slice | None, now: int) -> None:
        self._slices.move(old, old.addresses if old else (), new, new.addresses if new else (), now, now)
        self._backends.apply(old, new, now)

    def _owner(self, old: Owner | None, new: Owner | None, now: int) -> None:
        if new is not None:
            self._owners[new.ref] = new
        elif old is not None:
            # A Deployment goes before its ReplicaSet, and that before its pods: they keep their name to their end.
            self._owners_ended.append((now, self._owners.get(old.ref, old)))
        self._nodes.move(old, old.ips if old else (), new, new.ips if new else (), 0, now)

    # Answering.

    def _name_pod(self, tenure: Tenure[Pod], service: str) -> Workload:
        pod, owner = tenure.holder, self._owner_of(tenure.holder)
        said = tenure.said
        names = pod.service_name, pod.service_version
        known = (owner, service, pod.node, *names)
        if said is None or (said.owner, said.service, said.node, said.service_name, said.service_version) != known:
            name, namespace = pod.ref.name, pod.ref.namespace
            said = tenure.said = Workload(name, namespace, pod.node, owner, service, "pod", pod.uid, "", *names)
        return said

    def _owner_of(self, pod: Pod) -> str:
        """The topmost owner; one that is not known itself is still known by its name."""
        ref = pod.owner
        if ref is None:
            return ""
        for _ in range(LONGEST_CHAIN):
            owner = self._owners.get(ref)
            if owner is None or owner.owner is None:
                break
            ref = owner.owner
        return f"{ref.kind.lower()}/{ref.name}"

    def _service_of(self, tenure: Tenure[Pod], ip: str, port: int, time_ns: int) -> str:
        """Of slices that got this IP in the pod's own time: those of that moment, else (not ready yet, or any more) any."""
        own = [one for one in self._slices.of(ip) if tenure.born <= one.since <= tenure.until and tenure.since < one.until]
        if not own:
            return ""
        slices = [one.holder for one in own if one.covers(time_ns)] or [one.holder for one in own]
        names = {one.service for one in slices if _has(one, port)} or {one.service for one in slices}
        return names.pop() if len(names) == 1 else ""

    def _on_node(self, node: Tenure[Owner], ip: str, port: int, time_ns: int) -> Workload:
        if pod := _only(self._host_pods.all_at((ip, port), time_ns)):
            behind = {one.holder.service for one in self._slices.all_at(ip, time_ns) if _has(one.holder, port)}
            return self._name_pod(pod, behind.pop() if len(behind) == 1 else "")
        name = node.holder.ref.name
        if (service := self._node_ports.at(port, time_ns)) is not None:
            ref = service.holder.ref
            reached = self._behind(service.holder, port, time_ns)
            return reached or Workload(ref.name, ref.namespace, name, service=ref.name, kind="service")
        if node.said is None:
            node.said = Workload(name, node=name, kind="node")
        return node.said

    def _behind(self, service: Service, port: int, time_ns: int) -> Workload | None:
        """Who is certainly behind a Service, if anybody is."""
        key = (service.ref, port)
        if (known := self._certain.get(key)) is None:
            known = self._certain[key] = self._look_behind(service, port)
        since, workload = known
        return workload if since <= time_ns else None

    def _look_behind(self, service: Service, port: int) -> tuple[int, Workload | None]:
        targets, since = self._backends.of(service, port)
        pods = [self._pods.at(ip, _NOW) for ip in dict.fromkeys(ip for ip, _ in targets)]
        known = [one for one in pods if one is not None]
        if not known or len(known) < len(pods):
            return since, None
        since = max(since, *(one.since for one in known))
        name, namespace = service.ref.name, service.ref.namespace
        if len({one.holder.uid for one in known}) == 1:
            return since, self._name_pod(known[0], name)
        direct = {one.holder.owner: one.holder for one in known}
        owners = {self._owner_of(one) for one in direct.values()}
        owner = owners.pop() if len(owners) == 1 else ""
        called = {one.holder.service_name for one in known}
        alike = called.pop() if len(called) == 1 else ""
        return since, Workload(name, namespace, "", owner, name, "service", service_name=alike) if owner else None

    def _outside(self, ip: str, port: int, time_ns: int) -> Workload | None:
        """What is no pod and no node, but behind a Service."""
        slices = [one for one in self._slices.all_at(ip, time_ns) if _has(one.holder, port) and one.holder.service]
        if len({(one.holder.ref.namespace, one.holder.service) for one in slices}) != 1:
            return None
        first = slices[0]
        if first.said is None:
            name, namespace = first.holder.service, first.holder.ref.namespace
            first.said = Workload(name, namespace, service=name, kind="service")
        return first.said

    def _tables(self) -> tuple[Tenures[Any, Any], ...]:
        return self._pods, self._services, self._slices, self._nodes, self._host_pods, self._node_ports


_NOW: Final = OPEN - 1
"""A time that whatever has not ended covers."""


def _name_service(tenure: Tenure[Service]) -> Workload:
    if tenure.said is None:
        ref = tenure.holder.ref
        tenure.said = Workload(ref.name, ref.namespace, service=ref.name, kind="service")
    return tenure.said


def _only(tenures: list[Tenure[Holder]]) -> Tenure[Holder] | None:
    return tenures[0] if len(tenures) == 1 else None


def _has(declared: Service | Slice, port: int) -> bool:
    return any(one.number == port for one in declared.ports)


def _ips(pod: Pod | None) -> tuple[str, ...]:
    """Those that are the pod's alone."""
    return pod.ips if pod is not None and not pod.host_network and pod.phase not in ENDED else ()


def _places(pod: Pod | None) -> tuple[tuple[str, int], ...]:
    """Where a pod listens on its node's own addresses."""
    if pod is None or not pod.host_network or pod.phase in ENDED:
        return ()
    return tuple((ip, port.number) for ip in pod.ips for port in pod.ports)


def _nanoseconds(text: str, otherwise: int) -> int:
    """Of an RFC 3339 time."""
    try:
        return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()) * 10**9
    except (ValueError, OverflowError):
        return otherwise
