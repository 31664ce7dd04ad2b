"""kube/backends.py: which pods' ports are behind a Service's port, and since when."""

from __future__ import annotations

from clovisor_py.kube.backends import Backends, Behind, ports_at
from clovisor_py.kube.objects import Port, Ref, Service, Slice

TARGETS = (Port(8080, "http"), Port(9090, "admin"))
HTTP, DNS = Port(80, "http"), Port(80, "dns", "UDP")
WEB = Service(Ref("Service", "shop", "web"), ips=("10.96.0.7",), ports=(HTTP, Port(81, "admin")))


def slice_(name, *addresses, ports=TARGETS, of="web", namespace="shop"):
    return Slice(Ref("EndpointSlice", namespace, name), of, addresses, ports)


def fed(*steps):
    """(old, new) each, a nanosecond apart."""
    backends = Backends()
    for now, (old, new) in enumerate(steps, 1):
        backends.apply(old, new, now)
    return backends


def test_ports_are_the_same_by_name():
    backends = fed((None, slice_("a", "10.0.0.1", "10.0.0.2")))
    assert backends.of(WEB, 80) == Behind((("10.0.0.1", 8080), ("10.0.0.2", 8080)), 1)
    assert backends.of(WEB, 81).targets == (("10.0.0.1", 9090), ("10.0.0.2", 9090))
    assert backends.of(WEB, 82).targets == ()
    assert backends.of(WEB._replace(ref=Ref("Service", "else", "web")), 80) == Behind((), 0)


def test_transports_are_told_apart():
    both = WEB._replace(ports=(HTTP, DNS))
    backends = fed((None, slice_("a", "10.0.0.1", ports=(Port(53, "dns", "UDP"), Port(54, "dns")))))
    assert backends.of(both, 80).targets == (("10.0.0.1", 53),)


def test_all_slices_of_a_service_count_and_the_latest_change_of_them():
    first, second = slice_("a", "10.0.0.1"), slice_("b", "10.0.0.2", "10.0.0.1")
    backends = fed((None, first), (None, second), (first, first._replace(ref=first.ref)))
    assert backends.of(WEB, 80) == Behind((("10.0.0.1", 8080), ("10.0.0.2", 8080)), 2)
    backends.apply(second, None, 9)
    assert backends.of(WEB, 80) == Behind((("10.0.0.1", 8080),), 9)
    backends.apply(first, None, 10)
    assert not backends._slices and not backends._changed


def test_a_slice_without_a_service_is_nobodys():
    orphan = slice_("a", "10.0.0.1", of="")
    backends = fed((None, orphan), (orphan, None))
    assert not backends._slices and not backends._changed


def test_node_ports():
    exposed = WEB._replace(node_ports=(30080, 30081))
    assert [ports_at(exposed, port) for port in (80, 30081, 30082)] == [[HTTP], [Port(81, "admin")], []]
    assert ports_at(WEB._replace(node_ports=(30080,)), 30080) == []
