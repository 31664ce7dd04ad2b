"""What is behind Services: the addresses and ports that their EndpointSlices list, by Service, as they are now.

A Service's port and a slice's are the same by name and transport: the control plane has resolved targetPorts there. Addresses
that are not ready are listed too, so a Service with one address has had no other since `changed`.
"""

from __future__ import annotations

from typing import NamedTuple

from clovisor_py.kube.objects import Port, Ref, Service, Slice

Key = tuple[str, str]
"""Namespace and name of a Service."""


class Behind(NamedTuple):
    """`targets`: (address, port) each; `changed`: since when they have been just these, ns since 1970."""

    targets: tuple[tuple[str, int], ...]
    changed: int


class Backends:
    """Fed with changes of EndpointSlices, in order."""

    def __init__(self) -> None:
        self._slices: dict[Key, dict[Ref, Slice]] = {}
        self._changed: dict[Key, int] = {}

    def apply(self, old: Slice | None, new: Slice | None, now: int) -> None:
        """One slice as it was and as it is."""
        if old is not None and (new is None or new.service != old.service):
            self._remove(old, now)
        if new is not None and new.service:
            key = (new.ref.namespace, new.service)
            self._slices.setdefault(key, {})[new.ref] = new
            if old is None or _places(old) != _places(new):
                self._changed[key] = now

    def of(self, service: Service, port: int) -> Behind:
        """Where calls to this port of a Service (or to this node port) may end."""
        key = (service.ref.namespace, service.ref.name)
        wanted = {(one.name, one.protocol) for one in ports_at(service, port)}
        targets = {
            (address, one.number): None
            for each in self._slices.get(key, {}).values()
            for one in each.ports
            if (one.name, one.protocol) in wanted
            for address in each.addresses
        }
        return Behind(tuple(targets), self._changed.get(key, 0))

    def _remove(self, old: Slice, now: int) -> None:
        key = (old.ref.namespace, old.service)
        held = self._slices.get(key, {})
        if held.pop(old.ref, None) is not None:
            self._changed[key] = now
        if not held:
            self._slices.pop(key, None)
            self._changed.pop(key, None)


def ports_at(service: Service, port: int) -> list[Port]:
    """A Service's ports (TCP and UDP) of this number; of a node port the one that it stands for, where that is certain."""
    found = [one for one in service.ports if one.number == port]
    if not found and port in service.node_ports and len(service.node_ports) == len(service.ports):
        found = [service.ports[service.node_ports.index(port)]]
    return found


def _places(one: Slice) -> tuple[object, ...]:
    return one.service, one.addresses, one.ports
