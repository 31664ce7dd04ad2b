"""Metrics as opentelemetry-proto reads them: everything that `/metrics` says, under OpenTelemetry's names, and since when."""

from __future__ import annotations

from itertools import accumulate
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families as read_text

from clovisor_py.exporters._otlp_metrics import MetricsEncoder, named
from clovisor_py.exporters._otlp_points import LEARNT
from clovisor_py.kernel.pod_usage import Traffic, Usage
from clovisor_py.metrics._families import FAMILIES
from clovisor_py.metrics.exposition import Exposition
from clovisor_py.metrics.red import Red
from clovisor_py.metrics.routes import FANOUT, NAME
from clovisor_py.metrics.tcp import Tcp
from clovisor_py.model.session import Outcome, Side, TraceContext
from clovisor_py.tracing import ids
from tests.support.otlp_receiver import attributes
from tests.support.sessions import ANY_SESSION, pod, session
from tests.support.snapshots import snapshot, traced

BEGAN, MINUTE = 1_000 * 10**9, 60 * 10**9
SUFFIXES = {"s": "_seconds", "By": "_bytes", "1": "_ratio", "": ""}
SESSIONS = [
    session(duration_ns=4_100_000),
    session(duration_ns=212_000_000, status="503", outcome=Outcome.ERROR),
    session(side=Side.CLIENT, client_workload=pod("a", "a"), server_workload=pod("b", "b")),
    session(protocol="redis", attributes={"db.operation.name": "GET"}),
    session(outcome=Outcome.ONE_WAY, status=""),
]


def exposition(*sessions, found=None):
    red = Red(addresses=False)
    for one in sessions:
        red.add(one)
    tcp = Tcp(lambda session: None)
    return Exposition(lambda: red, lambda: found if found is not None else snapshot(traced()), lambda: tcp)


def encoder(**more):
    return MetricsEncoder({"service.name": "clovisor", "k8s.node.name": "n2"}, BEGAN, **more)


def messages(requests):
    for request in requests:
        message = ExportMetricsServiceRequest.FromString(request.body)
        [group] = message.resource_metrics
        [scope] = group.scope_metrics
        assert attributes(group.resource.attributes) == {"service.name": "clovisor", "k8s.node.name": "n2"}
        assert scope.scope.name == "clovisor"
        found = [(metric, point) for metric in scope.metrics for point in points(metric)]
        assert len(found) == request.points
        yield found


def points(metric):
    return getattr(metric, metric.WhichOneof("data")).data_points


def told(made, now=BEGAN + MINUTE, **more):
    return [pair for found in messages(encoder(**more).requests(made, now)) for pair in found]


def prometheus(metric):
    """As a collector calls it there."""
    return metric.name.replace(".", "_") + SUFFIXES[metric.unit]


def samples(pairs):
    """What a collector would write to Prometheus: (name, labels) to value."""
    found = {}
    for metric, point in pairs:
        name, own, kind = prometheus(metric), attributes(point.attributes), metric.WhichOneof("data")
        if kind != "histogram":
            found[name + ("_total" if kind == "sum" else ""), frozenset(own.items())] = point.as_double
            continue
        for bound, reached in zip([*point.explicit_bounds, float("inf")], accumulate(point.bucket_counts), strict=True):
            found[f"{name}_bucket", frozenset((own | {"le": bound}).items())] = reached
        if point.HasField("sum"):
            found[f"{name}_sum", frozenset(own.items())] = point.sum
            found[f"{name}_count", frozenset(own.items())] = point.count
    return found


def theirs(families):
    found = {}
    for family in families:
        for one in family.samples:
            labels = {key: float(value) if key == "le" else value for key, value in one.labels.items() if value}
            found[one.name, frozenset(labels.items())] = one.value
    return found


def test_it_says_what_the_page_says():
    families = list(exposition(*SESSIONS).pushed())
    pairs = told(families)
    assert samples(pairs) == theirs(families)
    for metric, _ in pairs:
        data = getattr(metric, metric.WhichOneof("data"))
        if metric.WhichOneof("data") != "gauge":
            assert data.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
        if metric.WhichOneof("data") == "sum":
            assert data.is_monotonic
        assert metric.description


def test_sessions_are_as_many_as_on_the_page():
    made = exposition(*SESSIONS)
    page = theirs(read_text(made.render()[0].decode()))
    pushed = {
        (name, frozenset((key, value) for key, value in labels if "." not in key)): value
        for (name, labels), value in samples(told(made.pushed())).items()
    }
    for name in ("clovisor_calls_total", "http_server_request_duration_seconds_count", "clovisor_calls_failed_total"):
        counts = {key: value for key, value in page.items() if key[0] == name}
        assert counts and counts == {key: value for key, value in pushed.items() if key[0] == name}
    assert sum(value for (name, _), value in pushed.items() if name == "clovisor_calls_total") == len(SESSIONS)


@given(st.lists(ANY_SESSION, max_size=5))
def test_whatever_was_on_the_wire_is_told(sessions):
    families = list(exposition(*sessions).pushed())
    assert samples(told(families)) == theirs(families)


@given(st.integers(300, 5000))
def test_requests_are_bounded_and_nothing_is_lost(limit):
    families = list(exposition(*SESSIONS).pushed())
    requests = encoder(request_bytes=limit).requests(families, BEGAN)
    assert all(len(request.body) <= limit or request.points == 1 for request in requests)
    assert samples([pair for found in messages(requests) for pair in found]) == theirs(families)


@pytest.mark.parametrize(
    ("family", "name", "unit"),
    [
        ("http_server_request_duration_seconds", "http.server.request.duration", "s"),
        ("rpc_client_call_duration_seconds", "rpc.client.call.duration", "s"),
        ("k8s_pod_cpu_time_seconds", "k8s.pod.cpu.time", "s"),
        ("k8s_pod_memory_working_set_bytes", "k8s.pod.memory.working_set", "By"),
        ("clovisor_request_size_bytes", "clovisor.request_size", "By"),
        ("clovisor_pod_budget_ratio", "clovisor.pod_budget", "1"),
        ("clovisor_calls", "clovisor.calls", ""),
        ("process_cpu_seconds", "process.cpu", "s"),
    ],
)
def test_names(family, name, unit):
    assert named(family) == (name, unit)


def test_durations_have_the_conventions_names():
    found = {named(name)[0] for family in FAMILIES.values() for name in family.names.values()}
    assert found == {
        "http.server.request.duration",
        "http.client.request.duration",
        "rpc.server.call.duration",
        "rpc.client.call.duration",
        "db.client.operation.duration",
        "messaging.client.operation.duration",
        "dns.lookup.duration",
    }


def test_durations_have_the_conventions_attributes_beside_ours():
    [(_, point)] = [pair for pair in told(exposition(SESSIONS[1]).pushed()) if pair[0].name == "http.server.request.duration"]
    own = attributes(point.attributes)
    assert own.items() >= {"server": "web", "protocol": "http", "operation": "GET /reviews/{id}", "status_class": "5xx"}.items()
    assert {key: value for key, value in own.items() if "." in key} == {
        "http.request.method": "GET",
        "http.route": "/reviews/{id}",
        "url.scheme": "http",
        "error.type": "5xx",
    }


def test_pods_are_called_as_in_the_conventions():
    usage = {"read": lambda uids: {"u1": Usage(1.5, 1000, 700, 2, 4100, 101)}, "beyond": 0}
    usage["traffic"] = lambda: {"veth3f2a": Traffic(5000, 6, 7, 100, 2, 3)}
    made = Exposition(Red, lambda: snapshot(traced()), usage=SimpleNamespace(**usage))
    found = {}
    for metric, point in told(made.pushed()):
        if metric.name.startswith("k8s."):
            found.setdefault(metric.name, []).append(attributes(point.attributes))
    own = {"k8s.namespace.name": "shop", "k8s.pod.name": "cart-7d9f"}
    assert found.pop("k8s.pod.network.io") == [own | {"network.io.direction": way} for way in ("receive", "transmit")]
    assert found["k8s.pod.cpu.time"] == found["k8s.pod.memory.usage"] == [own]
    assert all(one.keys() <= own.keys() | {"network.io.direction"} for each in found.values() for one in each)


def test_exemplars_are_traces():
    own = TraceContext(0xABC, 1, "traceparent", sampled=True)
    slow = session(duration_ns=30_000_000, trace=own)
    pairs = told(exposition(session(duration_ns=4_100_000), slow).pushed())
    [point] = [point for metric, point in pairs if metric.name == "http.server.request.duration"]
    found = {one.trace_id.hex(): one for one in point.exemplars}
    assert set(found) == {f"{ids.trace_id(session()):032x}", f"{0xABC:032x}"}
    example = found[f"{0xABC:032x}"]
    assert example.as_double == pytest.approx(0.03)
    assert example.time_unix_nano == pytest.approx(slow.start_ns + slow.duration_ns, abs=1000)
    assert not example.span_id and not example.filtered_attributes


def counter(value, name="clovisor_x", label="a"):
    made = CounterMetricFamily(name, "x", labels=["l"])
    made.add_metric([label], value)
    return made


def starts(encoder, made, now):
    [found] = messages(encoder.requests(made, now))
    assert all(point.time_unix_nano == now for _, point in found)
    return {attributes(point.attributes)["l"]: point.start_time_unix_nano for _, point in found}


def test_since_when_a_stream_counts():
    told = encoder()
    at = [BEGAN + number * MINUTE for number in range(8)]
    assert starts(told, [counter(5)], at[1]) == {"a": BEGAN}
    assert starts(told, [counter(5)], at[2]) == {"a": BEGAN}
    assert starts(told, [counter(6), counter(1, label="b")], at[3]) == {"a": BEGAN, "b": at[2]}
    assert starts(told, [counter(2), counter(1, label="b")], at[4]) == {"a": at[3], "b": at[2]}
    assert starts(told, [counter(2)], at[5]) == {"a": at[3]}
    assert starts(told, [counter(2), counter(9, label="b")], at[6]) == {"a": at[3], "b": at[5]}


def test_what_was_told_under_other_templates_is_not_told_twice():
    red, began = Red(addresses=False), BEGAN
    made = Exposition(lambda: red, lambda: snapshot(traced()))
    told, words = encoder(), [f"w{chr(97 + number)}" for number in range(FANOUT + 2)]

    def get(word, **more):
        red.add(session(resource=f"/{word}", attributes={"http.request.method": "GET", "url.path": f"/{word}"}, **more))

    def push(minute):
        requests, found = told.requests(made.pushed(), began + minute * MINUTE), {}
        for metric, point in (pair for each in messages(requests) for pair in each):
            own = attributes(point.attributes)
            if metric.name in ("clovisor.calls", "http.server.request.duration"):
                value = point.count if metric.WhichOneof("data") == "histogram" else point.as_double
                key = metric.name.split(".")[0], own["operation"], own["status_class"]
                found[key] = (point.start_time_unix_nano - began) // MINUTE, value
        return found

    for word in words[:FANOUT]:
        get(word)
    assert push(1)["clovisor", "GET /wa", "2xx"] == (0, 1)
    get(words[FANOUT])
    get(words[FANOUT], status="503", outcome=Outcome.ERROR)
    assert push(2) == {
        ("clovisor", "GET /{name}", "2xx"): (2, FANOUT + 1),
        ("http", "GET /{name}", "2xx"): (2, FANOUT + 1),
        ("clovisor", "GET /{name}", "5xx"): (1, 1),
        ("http", "GET /{name}", "5xx"): (1, 1),
    }, "what none had told before began with the push before"
    get(words[FANOUT + 1])
    assert push(3)["clovisor", "GET /{name}", "2xx"] == (2, FANOUT + 2)
    assert LEARNT == NAME


def test_what_somebody_else_counts_begins_when_it_is_first_seen():
    told = encoder()
    made = [counter(5, "k8s_pod_cpu_time_seconds")]
    assert starts(told, made, BEGAN + MINUTE) == starts(told, made, BEGAN + 2 * MINUTE) == {"a": BEGAN + MINUTE}


def test_a_clock_that_was_set_back_makes_no_point_begin_after_its_end():
    told = encoder()
    assert starts(told, [counter(1)], BEGAN - MINUTE) == {"a": BEGAN - MINUTE}


def test_a_histogram_that_begins_anew():
    told = encoder()

    def made(*reached):
        family = HistogramMetricFamily("clovisor_x", "x", labels=["l"])
        family.add_metric(["a"], list(zip(["0.1", "+Inf"], reached, strict=True)), 1.0)
        return [family]

    assert starts(told, made(1, 5), BEGAN + MINUTE) == {"a": BEGAN}
    assert starts(told, made(2, 3), BEGAN + 2 * MINUTE) == {"a": BEGAN + MINUTE}


def test_a_gauge_has_no_beginning_and_an_empty_label_is_none():
    family = GaugeMetricFamily("clovisor_x", "x", labels=["l", "m"])
    family.add_metric(["a", ""], 0.5)
    [(metric, point)] = told([family])
    assert metric.WhichOneof("data") == "gauge"
    assert (point.start_time_unix_nano, point.as_double, attributes(point.attributes)) == (0, 0.5, {"l": "a"})


def test_nothing_at_all_is_no_request():
    assert encoder().requests([GaugeMetricFamily("clovisor_x", "x")], BEGAN) == []
