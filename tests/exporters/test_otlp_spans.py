"""Requests, read back by opentelemetry-proto."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from clovisor_py.exporters import _bounds, _otlp_attributes, _otlp_spans
from clovisor_py.exporters._otlp_spans import REQUEST_BYTES, Encoder
from clovisor_py.exporters._thrift import Encoder as ThriftEncoder
from clovisor_py.model.session import Outcome, Side, TraceContext
from clovisor_py.model.workload import Endpoint, Workload
from clovisor_py.tracing.spans import span_of
from tests.exporters.test_thrift import TAGS, U64, read, tags_of
from tests.support.otlp_receiver import attributes, spans_of
from tests.support.sessions import ANY_SESSION, START, pod, session

WEB = Workload("web-7d-x1", "shop", "n1", "deployment/web", "front", "pod", "u-1", "nginx")


def encoded(*sessions, encoder=None):
    """(resource's attributes, span) of each span that was encoded, from requests that are within their limit."""
    requests, fault = (encoder or Encoder()).requests(sessions)
    assert fault == ""
    out = []
    for request in requests:
        pairs = spans_of(ExportTraceServiceRequest.FromString(request.body))
        assert len(pairs) == request.spans
        out += pairs
    return out


def test_everything_arrives():
    context = TraceContext(0xA << 120, 0xB, "traceparent", sampled=True)
    told = session(side=Side.CLIENT, client_workload=WEB, trace=context, outcome=Outcome.RESET, server_workload=pod("db"))
    [(resource, span)] = encoded(told)
    assert resource == {
        "service.name": "web",
        "service.namespace": "shop",
        "service.instance.id": "shop.web-7d-x1.nginx",
        "k8s.namespace.name": "shop",
        "k8s.node.name": "n1",
        "k8s.pod.name": "web-7d-x1",
        "k8s.pod.uid": "u-1",
        "k8s.container.name": "nginx",
        "k8s.deployment.name": "web",
    }
    ours = span_of(told)
    assert (span.trace_id, span.span_id) == (context.trace_id.to_bytes(16, "big"), ours.span_id.to_bytes(8, "big"))
    assert span.parent_span_id == (0xB).to_bytes(8, "big")
    assert (span.name, span.kind, span.flags) == ("GET", Span.SPAN_KIND_CLIENT, 1)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (START, START + 4_100_000)
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes(span.attributes) == {k: v for k, v in ours.attributes.items() if k not in resource}
    assert span.dropped_attributes_count == 0
    assert attributes(span.attributes)["k8s.service.name"] == "front"


def test_a_root_has_no_parent_and_a_success_no_status():
    [(_, span)] = encoded(session())
    assert span.parent_span_id == b""
    assert span.kind == Span.SPAN_KIND_SERVER
    assert not span.HasField("status")


def test_what_the_application_did_not_sample_says_so():
    [(_, span)] = encoded(session(trace=TraceContext(1, 2, "b3", sampled=False)))
    assert span.flags == 0


def test_the_tracestate_goes_with_it_to_both():
    told = session(trace=TraceContext(1, 2, "traceparent", state="a=1,b=é"))
    [(_, span)] = encoded(told)
    [datagram], _ = ThriftEncoder(TAGS).datagrams([span_of(told)])
    assert span.trace_state == tags_of(read(datagram).spans[0])["w3c.tracestate"] == "a=1,b=é"


def test_our_scope_is_named():
    [request], _ = Encoder().requests([session()])
    message = ExportTraceServiceRequest.FromString(request.body)
    assert message.resource_spans[0].scope_spans[0].scope.name == "clovisor"


@given(ANY_SESSION)
def test_any_session_is_told_as_jaeger_is_told_it(told):
    """The same names, the same content: what OTLP says of a workload once, Thrift says with each span."""
    [(resource, span)] = encoded(told)
    [datagram], _ = ThriftEncoder(TAGS).datagrams([span_of(told)])
    batch = read(datagram)
    [theirs] = batch.spans
    said = resource | attributes(span.attributes)
    said = {key: json.dumps(value) if isinstance(value, list) else value for key, value in said.items()}
    tags = tags_of(theirs)
    assert tags.pop("span.kind") == {2: "server", 3: "client"}[span.kind]
    assert tags.pop("error", False) is (span.status.code == Status.STATUS_CODE_ERROR)
    if "service.name" not in tags:
        assert said.pop("service.name") == batch.process.serviceName
    for forged in ("span.kind", "error"):
        said.pop(forged, None)
    assert said == tags
    assert span.name == theirs.operationName
    assert int.from_bytes(span.trace_id, "big") == (theirs.traceIdHigh & U64) << 64 | theirs.traceIdLow & U64
    assert int.from_bytes(span.span_id, "big") == theirs.spanId & U64
    assert int.from_bytes(span.parent_span_id, "big") == theirs.parentSpanId & U64
    duration = span.end_time_unix_nano - span.start_time_unix_nano
    assert (span.start_time_unix_nano // 1000, duration // 1000) == (theirs.startTime, theirs.duration)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x", "x"),
        ("", ""),
        (1, 1),
        (-3, -3),
        (True, True),
        (False, False),
        (0.25, 0.25),
        (["a", "b"], ["a", "b"]),
        ([], []),
        (["a\ud800"], ["a?"]),
        (["x" * 3000] * 3, json.dumps(["x" * 3000] * 3)[: _bounds.TEXT_CHARS - 1] + "…"),
        (1 << 63, hex(1 << 63)),
        (-(1 << 63), -(1 << 63)),
        ((1 << 63) - 1, (1 << 63) - 1),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ("a\ud800b", "a?b"),
        ("x" * 1_000_000, "x" * (_bounds.TEXT_CHARS - 1) + "…"),
        (Side.CLIENT, "client"),
        (None, "null"),
        (b"x", "\"b'x'\""),
    ],
)
def test_values(value, said):
    encoder = Encoder()
    for _ in range(2):  # the second is from the memo
        [(_, span)] = encoded(session(attributes={"key": value}), encoder=encoder)
        got = attributes(span.attributes)["key"]
        assert (got, type(got)) == (said, type(said))


def test_equal_values_of_different_kinds_stay_what_they_are():
    encoder = Encoder()
    for value in (1, True, 1.0, "1", 0, False, 0.0):
        [(_, span)] = encoded(session(attributes={"key": value}), encoder=encoder)
        assert type(attributes(span.attributes)["key"]) is type(value)


@pytest.mark.parametrize("key", ["é", "a\ud800", "k" * 999, ""])
def test_keys(key):
    [(_, span)] = encoded(session(attributes={key: "v"}))
    assert attributes(span.attributes)[_bounds.text(key, _bounds.NAME_CHARS)] == "v"


@pytest.mark.parametrize("many", [{f"{i}": "日" * 4000 for i in range(50)}, {f"{i}": True for i in range(9000)}])
def test_too_many_attributes_are_left_out_and_counted(many):
    [(resource, span)] = encoded(session(attributes=many, server_workload=WEB))
    said = attributes(span.attributes)
    kept = len(resource) - 1 + len(said) - 1  # without service.name, and without the count itself
    assert said["clovisor.attributes_dropped"] == span.dropped_attributes_count > 0
    assert kept + span.dropped_attributes_count == len(span_of(session(attributes=many, server_workload=WEB)).attributes)
    assert len(span.SerializeToString()) < _bounds.ATTRIBUTES_BYTES


def test_one_resource_a_workload():
    sessions = [session(seq=i, server_workload=pod(f"p{i % 3}", "front")) for i in range(30)]
    [request], _ = Encoder().requests(sessions)
    groups = ExportTraceServiceRequest.FromString(request.body).resource_spans
    assert [attributes(group.resource.attributes)["k8s.pod.name"] for group in groups] == ["p0", "p1", "p2"]
    for number, group in enumerate(groups):
        ids = [span_of(one).span_id.to_bytes(8, "big") for one in sessions[number::3]]
        assert [span.span_id for span in group.scope_spans[0].spans] == ids


def test_a_pod_is_one_resource_through_whatever_service_it_is_called():
    called = ("front", "canary", "")
    [request], _ = Encoder().requests([session(server_workload=replace(WEB, service=name)) for name in called])
    [group] = ExportTraceServiceRequest.FromString(request.body).resource_spans
    spans = [attributes(span.attributes) for span in group.scope_spans[0].spans]
    assert tuple(span.get("k8s.service.name", "") for span in spans) == called


def test_what_the_operator_says_of_all_is_in_every_resource_below_what_is_known():
    of_all = {"deployment.environment.name": "test", "service.name": "no", "url.path": "/reviews/0"}
    told = session(server_workload=WEB), session(seq=7, server_workload=None)
    before, after = encoded(*told), encoded(*told, encoder=Encoder(of_all=of_all))
    for (resource, span), (more, same) in zip(before, after, strict=True):
        assert more == of_all | resource
        assert same == span


def test_a_workload_that_is_not_known_is_its_address():
    [(resource, _)] = encoded(session(server_workload=None))
    assert resource == {"service.name": "10.0.0.2"}


def test_requests_are_bounded_and_lose_nothing():
    big = {f"k{i}": "x" * 4000 for i in range(7)}
    sessions = [session(seq=i, server_workload=pod(f"p{i % 2}"), attributes=big) for i in range(200)]
    requests, _ = Encoder().requests(sessions)
    assert len(requests) > 4
    assert all(len(request.body) <= REQUEST_BYTES for request in requests)
    assert all(len(request.body) > REQUEST_BYTES - 40_000 for request in requests[:-1])
    assert sum(request.spans for request in requests) == 200
    found = encoded(*sessions)
    assert {span.span_id for _, span in found} == {span_of(one).span_id.to_bytes(8, "big") for one in sessions}


def test_nothing_makes_no_request():
    assert Encoder().requests([]) == ([], "")


@pytest.mark.parametrize("broken", [{"attributes": {7: "x"}}, {"start_ns": "x"}, {"client": Endpoint(None, 1)}])
def test_what_cannot_be_told_takes_nothing_else_with_it(broken):
    requests, fault = Encoder().requests([session(), session(**broken), session(seq=7)])
    assert sum(request.spans for request in requests) == 2
    assert "cannot be told" in fault
    assert fault.endswith(".")


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(_otlp_attributes, "KEYS", 8)
    monkeypatch.setattr(_otlp_attributes, "VALUES", 4)
    monkeypatch.setattr(_otlp_spans, "RESOURCES", 4)
    monkeypatch.setattr(_otlp_spans, "NAMES", 4)
    encoder = Encoder()
    for i in range(50):
        changes = {f"k{i}": f"v{i}", "same": f"v{i}", "number": i, "http.route": f"/{i}", "long": "x" * 200}
        [(resource, span)] = encoded(session(attributes=changes, server_workload=pod(f"p{i}")), encoder=encoder)
        assert changes.items() <= attributes(span.attributes).items()
        assert (resource["k8s.pod.name"], span.name) == (f"p{i}", f"GET /{i}")
        memo = encoder._attributes
        for keys in (memo._texts, memo._numbers):
            assert len(keys) <= 8
            assert all(len(values) <= 4 for values in keys.values())
        assert max(len(encoder._resources), len(encoder._names)) <= 4
