"""Which protocol a port speaks: who is believed first, and which names are no evidence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.flows.detect import by_any_name, resolve
from clovisor_py.kube.hints import hints_for, protocol_of
from clovisor_py.kube.objects import Pod, Port, Ref, Slice
from clovisor_py.kube.policy import Decision
from clovisor_py.protocols._registry import registry

NAMES = frozenset(by_any_name(registry().values()))
TRACED = Decision(True, "asked for")


def pod(*ports: Port) -> Pod:
    return Pod(Ref("Pod", "shop", "cart"), "u1", ips=("10.0.0.2", "fd00::2"), ports=ports)


def slice_(*ports: Port, addresses=("10.0.0.2", "10.0.0.3"), namespace="shop", name="cart-a") -> Slice:
    return Slice(Ref("EndpointSlice", namespace, name), "cart", addresses, ports)


@pytest.mark.parametrize(
    ("name", "app_protocol", "expected"),
    [
        ("http", "", "http"),
        ("HTTP", "", "http"),
        ("http-metrics", "", "http"),
        ("https-admin", "", "https"),
        ("redis-6379", "", "redis"),
        ("pg", "", "pg"),
        ("tcp-postgresql", "", "postgresql"),
        ("tcp-redis-client", "", "redis"),
        ("dns-tcp", "", "dns-tcp"),
        ("grpc", "", "grpc"),
        ("grpc-cart", "", "grpc"),
        ("http2-internal", "", "http2"),
        ("grpc-web", "", ""),
        ("redis-metrics", "", ""),
        ("kafka-ui", "", ""),
        ("postgres-exporter", "", ""),
        ("web", "", ""),
        ("tcp", "", ""),
        ("httpd", "", ""),
        ("", "", ""),
        ("-", "", ""),
        ("web", "kubernetes.io/h2c", "kubernetes.io/h2c"),
        ("web", "HTTP", "http"),
        ("redis", "tcp", "redis"),
        ("redis", "example.com/own", ""),
        ("http", "grpc", "grpc"),
    ],
)
def test_what_a_ports_own_words_say(name, app_protocol, expected):
    assert protocol_of(Port(80, name, "TCP", app_protocol), NAMES) == expected


def test_the_order_of_words():
    one = pod(Port(8080, "redis"), Port(9000, "kafka"), Port(9001, "http"))
    behind = [slice_(Port(8080, "pg", app_protocol="kubernetes.io/h2c"), Port(9000, "grpc"))]
    assert hints_for(one, [], TRACED, NAMES) == {8080: "redis", 9000: "kafka", 9001: "http"}
    assert hints_for(one, behind, TRACED, NAMES) == {8080: "kubernetes.io/h2c", 9000: "grpc", 9001: "http"}
    decision = TRACED._replace(hints={9000: "redis", 5000: "http"})
    assert hints_for(one, behind, decision, NAMES) == {8080: "kubernetes.io/h2c", 9000: "redis", 9001: "http", 5000: "http"}


def test_an_app_protocol_of_any_service_comes_before_a_name_of_any():
    services = [slice_(Port(80, "http"), name="a"), slice_(Port(80, "x", app_protocol="grpc"), name="b")]
    assert hints_for(pod(), services, TRACED, NAMES) == {80: "grpc"}
    assert hints_for(pod(), services[::-1], TRACED, NAMES) == {80: "grpc"}


def test_only_services_that_the_pod_is_behind():
    http = Port(80, "http")
    assert hints_for(pod(), [slice_(http, addresses=("10.0.0.9",))], TRACED, NAMES) == {}
    assert hints_for(pod(), [slice_(http, namespace="other")], TRACED, NAMES) == {}
    assert hints_for(pod(), [slice_(http, addresses=("fd00::2",))], TRACED, NAMES) == {80: "http"}


def test_tcp_and_udp_of_one_number():
    assert hints_for(pod(), [slice_(Port(53, "dns", "UDP"), Port(53, "http", "TCP"))], TRACED, NAMES) == {53: "http"}


@given(st.lists(st.tuples(st.integers(0, 65535), st.text(max_size=20), st.text(max_size=20))))
def test_whatever_they_are_called_the_engine_knows_it(words):
    hints = hints_for(pod(), [slice_(*(Port(number, name, "TCP", app) for number, name, app in words))], TRACED, NAMES)
    resolve(hints, registry())
    assert 0 not in hints
