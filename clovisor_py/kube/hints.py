"""Hints: which protocol each port of a pod speaks, as far as somebody said so: the operator's annotation, then the Service's
`appProtocol`, then the name of a Service's or container's port (`http`, `redis-6379`, `tcp-postgresql`).

EndpointSlices, not Services, say which port of the pod a Service's port is: the control plane has resolved targetPorts there,
named ones for each pod, and carries the Service port's name and `appProtocol` along.

The detector takes a hint's word without looking, so a doubtful name is no hint: the bytes tell better than `grpc-web` (HTTP/1
or HTTP/2), `redis-metrics` (HTTP) or an `appProtocol` that nobody here knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from clovisor_py.kube.objects import Pod, Port, Slice
from clovisor_py.kube.policy import Decision

TRANSPORTS: Final = frozenset({"tcp", "udp"})
"""Say nothing: as an `appProtocol`, or as the first word of a name."""
BESIDES: Final = frozenset(
    {"admin", "api", "console", "dashboard", "exporter", "health", "metrics", "probe", "rest", "stats", "ui", "web"}
)
"""Words by which a port that speaks HTTP is told from the one it belongs to: `kafka-ui`, `redis-exporter`."""


def hints_for(pod: Pod, slices: Iterable[Slice], decision: Decision, names: Collection[str]) -> dict[int, str]:
    """Port of the pod to protocol name, one of `names`; what nobody says, or nobody here knows, is not in it.

    `slices`: of any Services; those without an address of the pod are passed over.
    """
    own = set(pod.ips)
    behind = [one for one in slices if one.ref.namespace == pod.ref.namespace and not own.isdisjoint(one.addresses)]
    said = [port for one in sorted(behind, key=lambda one: one.ref) for port in one.ports]
    hints: dict[int, str] = {}
    for ports, read in ((said, of_app_protocol), (said, of_name), (pod.ports, of_name)):
        for port in sorted(ports, key=lambda port: port.protocol != "TCP"):
            if port.number and (name := read(port, names)):
                hints.setdefault(port.number, name)
    return {**hints, **decision.hints}


def protocol_of(port: Port, names: Collection[str]) -> str:
    """What a port's own words say it speaks, also of a Service's port as a client sees it; empty: nothing."""
    return of_app_protocol(port, names) or of_name(port, names)


def of_app_protocol(port: Port, names: Collection[str]) -> str:
    """`kubernetes.io/h2c`, `http`, `grpc`… in whole; empty where it is unknown."""
    word = port.app_protocol.lower()
    return word if word in names else ""


def of_name(port: Port, names: Collection[str]) -> str:
    """The protocol that the name begins with, by words: `http`, `redis-6379`, `tcp-kafka`.

    Empty where an `appProtocol` says something else than a transport: then the name does not mean the protocol.
    """
    if port.app_protocol and port.app_protocol.lower() not in TRANSPORTS:
        return ""
    words = port.name.lower().split("-")
    whole, besides = "-".join(words), not BESIDES.isdisjoint(words)
    if whole in names:
        return whole
    words = words[1:] if words[0] in TRANSPORTS else words
    for count in range(len(words), 0, -1):
        name = "-".join(words[:count])
        if name in names:
            return "" if besides and not name.startswith("http") else name
    return ""
