"""What Prometheus gets: names of OpenTelemetry, buckets true to the histogram, ledgers that add up; always readable."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from clovisor_py.metrics._edge import EDGE_ROWS, STATUSES
from clovisor_py.metrics._families import COMMON, DATABASE, cumulative
from clovisor_py.metrics._ledgers import TURN_BITS
from clovisor_py.metrics.exposition import KEPT_S, Exposition
from clovisor_py.metrics.histogram import Histogram
from clovisor_py.metrics.red import Red
from clovisor_py.model.session import Outcome, Part, Side, TraceContext
from clovisor_py.snapshot import Ended, Exporter, Pod, Resource, State, Unparsed
from clovisor_py.tracing import ids
from tests.support.sessions import ANY_SESSION, pod, session
from tests.support.snapshots import snapshot, traced

ENDS = {"client_namespace": "", "client": "unknown", "server_namespace": "", "server": "web", "protocol": "http"}
LATER = itertools.count(0, 1000).__next__
"""A clock by which each page is an old one when the next is asked for."""
GET = {"operation": "GET /reviews/{id}", "status_class": "2xx"}


def exposition(*sessions, found=None, **more):
    red = Red(addresses=False)
    for one in sessions:
        red.add(one)
    more = {"clock": LATER} | more
    return Exposition(lambda: red, lambda: found if found is not None else snapshot(traced()), **more)


def samples(made):
    """(name, labels) to value; fails where one is told twice."""
    page, content_type = made.render()
    assert content_type.startswith("text/plain")
    found = {}
    for family in read_text(page.decode()):
        for one in family.samples:
            key = (one.name, frozenset(one.labels.items()))
            assert key not in found, key
            found[key] = one.value
    return found


def value(made, name, **labels):
    return samples(made).get((name, frozenset(labels.items())))


def named(made, name):
    return {key: number for key, number in samples(made).items() if key[0] == name}


@pytest.mark.parametrize(
    ("attribute", "side", "name"),
    [
        ("http.request.method", Side.SERVER, "http_server_request_duration_seconds"),
        ("http.request.method", Side.CLIENT, "http_client_request_duration_seconds"),
        ("rpc.method", Side.SERVER, "rpc_server_call_duration_seconds"),
        ("rpc.method", Side.CLIENT, "rpc_client_call_duration_seconds"),
        ("db.system.name", Side.SERVER, "db_client_operation_duration_seconds"),
        ("messaging.system", Side.CLIENT, "messaging_client_operation_duration_seconds"),
        ("dns.question.name", Side.SERVER, "dns_lookup_duration_seconds"),
        ("tls.protocol.name", Side.SERVER, "clovisor_session_duration_seconds"),
    ],
)
def test_names_come_from_attributes(attribute, side, name):
    made = exposition(session(side=side, protocol="new", attributes={"server.port": 80, attribute: "x"}))
    [(key, count)] = named(made, f"{name}_count").items()
    assert count == 1
    labels = dict(key[1])
    assert ("side" in labels) is not ("http" in name or "rpc" in name)
    assert (labels["client"], labels["server"], labels["protocol"]) == ("unknown", "web", "new")


def test_an_rpc_is_not_http_though_it_rides_on_it():
    made = exposition(session(protocol="grpc", attributes={"http.request.method": "POST", "rpc.method": "a/B"}))
    assert named(made, "rpc_server_call_duration_seconds_count")
    assert not named(made, "http_server_request_duration_seconds_count")


def test_a_series_keeps_its_name_when_a_stranger_becomes_the_slowest():
    red = Red()
    made = Exposition(lambda: red, snapshot, clock=LATER)
    red.add(session())
    assert named(made, "http_server_request_duration_seconds_count")
    red.add(session(duration_ns=10**10, attributes={}))
    assert list(named(made, "http_server_request_duration_seconds_count").values()) == [2]
    assert not named(made, "clovisor_session_duration_seconds_count")


def test_durations_calls_statuses_and_errors():
    made = exposition(session(), session(duration_ns=212_000_000, status="503", outcome=Outcome.ERROR))
    name, failed = "http_server_request_duration_seconds", GET | {"status_class": "5xx"}
    assert value(made, f"{name}_bucket", **ENDS, **GET, le="0.0025") == 0
    assert value(made, f"{name}_bucket", **ENDS, **GET, le="0.005") == value(made, f"{name}_count", **ENDS, **GET) == 1
    assert value(made, f"{name}_bucket", **ENDS, **failed, le="0.1") == 0
    assert value(made, f"{name}_bucket", **ENDS, **failed, le="0.25") == value(made, f"{name}_count", **ENDS, **failed) == 1
    assert value(made, f"{name}_sum", **ENDS, **failed) == pytest.approx(0.212)
    assert value(made, "clovisor_calls_total", **ENDS, **GET, side="server") == 1
    assert value(made, "clovisor_calls_failed_total", **ENDS, **failed, side="server") == 1
    assert value(made, "clovisor_answers_total", **ENDS, side="server", status="200") == 1
    assert value(made, "clovisor_errors_total", **ENDS, side="server", status="503") == 1


def test_a_pair_tells_failures_from_its_first_session_on():
    """A rate takes no notice of a series' first value: the first burst of failures has to find one that is there."""
    red = Red(addresses=False)
    made = Exposition(lambda: red, snapshot, clock=itertools.count(step=10**6).__next__)
    pair = ENDS | {"side": "server"}

    def told():
        return value(made, "clovisor_edge_calls_total", **pair), value(made, "clovisor_edge_calls_failed_total", **pair)

    red.add(session())
    assert told() == (1, 0)
    red.add(session(status="503", outcome=Outcome.ERROR))
    assert told() == (2, 1)


@pytest.mark.parametrize("slowest", ["dns.question.name", "http.request.method", "rpc.method", "toy"])
def test_what_was_not_told_apart_is_of_no_family(slowest, monkeypatch):
    monkeypatch.setattr("clovisor_py.metrics.red.EDGES", 0)
    made = exposition(session(duration_ns=10**9, attributes={slowest: "x"}), session(attributes={"db.system.name": "redis"}))
    found = {name for name, _ in samples(made) if name.endswith("_duration_seconds_count") and "turn" not in name}
    assert found == {"clovisor_session_duration_seconds_count"}


def test_a_pair_has_less_than_a_thousand_series_whatever_is_on_the_wire():
    sessions = [
        session(operation=f"M{i}", status=str(500 + i), outcome=Outcome.ERROR, attributes={"http.request.method": f"M{i}"})
        for i in range(3 * max(STATUSES, EDGE_ROWS))
    ]
    found = samples(exposition(*sessions))
    assert 900 < sum(("server", "web") in labels for _, labels in found) < 1000


def test_both_workloads_are_labels():
    made = exposition(session(client_workload=pod("web-1", "web"), server_workload=pod("cart-1", "cart")))
    labels = {"client_namespace": "shop", "client": "web", "server_namespace": "shop", "server": "cart"}
    assert value(made, "http_server_request_duration_seconds_count", **labels, **GET, protocol="http") == 1


def test_one_way_sessions_count_and_take_no_time():
    made = exposition(session(outcome=Outcome.ONE_WAY, status=""))
    asked = GET | {"status_class": "one_way"}
    assert value(made, "clovisor_calls_total", **ENDS, **asked, side="server") == 1
    assert not any("duration" in name and "turn" not in name for name, _ in samples(made))


def test_the_pods_ledger_adds_up():
    segments = (Ended("seen", "", 100), Ended("captured", "", 90), Ended("cut", "head", 7), Ended("lost", "ring full", 3))
    made = exposition(found=snapshot(traced(segments=segments), Pod("shop", "idle")))
    found = {dict(labels)["stage"]: number for (_, labels), number in named(made, "clovisor_segments_total").items()}
    assert found == {"seen": 100, "captured": 90, "cut": 7, "lost": 3}
    own = {"namespace": "shop", "pod": "cart-7d9f"}
    assert value(made, "clovisor_turns_total", **own, stage="seen", reason="", direction="to_pod") == 404
    assert value(made, "clovisor_sessions_total", **own, stage="made", reason="ok") == 398
    assert value(made, "clovisor_pods", state="traced") == value(made, "clovisor_pods", state="not selected") == 1


def test_of_a_pod_that_is_only_tapped_nothing_is_told():
    made = exposition(found=snapshot(traced(name="web", selected=False), traced()))
    assert {dict(labels).get("pod") for _, labels in samples(made)} - {None} == {"cart-7d9f"}


def test_turns_by_latency():
    made = exposition(found=snapshot(traced()))
    buckets = named(made, "clovisor_turn_duration_seconds_bucket")
    mine = {float(dict(labels)["le"]): number for (_, labels), number in buckets.items() if ("direction", "from_pod") in labels}
    assert len(mine) == len(TURN_BITS) + 1
    assert {number for le, number in mine.items() if le < 2**21 / 1e9} == {0}
    assert {number for le, number in mine.items() if le >= 2**21 / 1e9} == {400}


def test_a_pod_that_is_being_replaced_is_told_once():
    made = exposition(found=snapshot(traced(), traced(uid="u0", state=State.NOT_RUNNING, segments=(Ended("seen", "", 1),))))
    assert list(named(made, "clovisor_segments_total").values()) == [81_332, 81_332]


def test_the_node():
    found = snapshot(
        engine={"payload": 9, "buffered": 3},
        own={"translations skipped": 5, "metrics points sent": 6, "metrics points waiting": 4},
        cpu_share=0.5,
        allowed=0.25,
        readers=2,
        settings_refused=True,
        unparsed=(Unparsed(443, "encrypted", 2),),
        resources=(Resource("pods", True, 3, 12, counts={"gone": 4}), Resource("jobs")),
        exporters=(
            Exporter("otlp://user:secret@h?token=secret", 10, 7, 1, {"queue full": 2}),
            Exporter("otlp://h?token=other", 1, 1, 0, left_out=6),
        ),
        shedding=True,
        repairs=3,
    )
    made = exposition(found=found)
    assert b"secret" not in made.render()[0]
    assert value(made, "clovisor_exported_sessions_total", exporter="otlp://h", stage="offered", reason="") == 11
    assert value(made, "clovisor_exported_sessions_total", exporter="otlp://h", stage="dropped", reason="queue full") == 2
    assert value(made, "clovisor_exported_sessions_total", exporter="otlp://h", stage="left out", reason="sampling") == 6
    assert value(made, "clovisor_engine_total", event="payload") == 9
    assert value(made, "clovisor_engine_buffered_bytes") == 3
    assert value(made, "clovisor_unparsed_flows_total", port="443", reason="encrypted") == 2
    assert (value(made, "clovisor_api_synced", resource="pods"), value(made, "clovisor_api_synced", resource="jobs")) == (1, 0)
    assert (value(made, "clovisor_shedding"), value(made, "clovisor_repairs_total")) == (1, 3)
    assert value(made, "clovisor_build_info", version="0.1.0", node="n2") == 1
    assert value(made, "clovisor_agent_events_total", part="translations", event="skipped") == 5
    assert value(made, "clovisor_agent_events_total", part="metrics", event="points sent") == 6
    assert value(made, "clovisor_agent_events_total", part="metrics", event="points waiting") is None
    assert value(made, "clovisor_metrics_push_waiting_points") == 4
    assert (value(made, "clovisor_cpu_share_cores"), value(made, "clovisor_pod_budget_ratio")) == (0.5, 0.25)
    assert value(made, "clovisor_readers") == 2
    assert value(made, "clovisor_settings_refused") == 1
    assert value(made, "clovisor_export_waiting_sessions", exporter="otlp://h") == 1
    assert value(made, "clovisor_api_watch_events_total", resource="pods", event="gone") == 4
    assert value(made, "clovisor_api_synced_timestamp_seconds", resource="pods") == 3


@given(st.lists(ANY_SESSION, max_size=5))
def test_whatever_was_on_the_wire_both_formats_parse(sessions):
    made = exposition(*sessions)
    samples(made)
    page, content_type = made.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert list(read_openmetrics(page.decode()))


@given(st.lists(st.integers(0, 10**11), max_size=50), st.sampled_from([COMMON, DATABASE]))
def test_buckets_only_grow_and_are_right_to_three_percent(durations, bounds):
    histogram = Histogram()
    for ns in durations:
        histogram.add(ns)
    found, total = cumulative(histogram, bounds)
    assert [float(le) for le, _ in found] == [*bounds, float("inf")]
    assert [count for _, count in found] == sorted(count for _, count in found)
    assert found[-1][1] == len(durations)
    assert total == pytest.approx(sum(durations) / 1e9)
    for bound, (_, count) in zip(bounds, found, strict=False):
        ns = bound * 1e9
        assert sum(one <= ns * 0.968 for one in durations) <= count <= sum(one <= ns * 1.032 for one in durations)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus")
def test_promtool_has_nothing_to_say():
    page, _ = exposition(session(), session(protocol="x", attributes={})).render()
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def exemplars(made):
    page, _ = made.render("application/openmetrics-text; version=1.0.0")
    found = {}
    for family in read_openmetrics(page.decode()):
        found |= {one.labels["le"]: one.exemplar for one in family.samples if one.exemplar is not None}
    return found


def test_exemplars_are_the_traces_of_calls_in_their_buckets():
    own = TraceContext(0xABC, 1, "traceparent", sampled=True)
    made = exposition(session(duration_ns=4_100_000), session(duration_ns=30_000_000, trace=own))
    found = exemplars(made)
    assert found["0.005"].labels == {"trace_id": f"{ids.trace_id(session()):032x}"}
    assert found["0.005"].value == pytest.approx(0.0041)
    assert found["0.05"].labels == {"trace_id": f"{0xABC:032x}"}
    assert set(found) == {"0.005", "0.05"}


def test_no_exemplar_of_a_trace_that_nobody_keeps():
    unwanted = TraceContext(0xABC, 1, "traceparent", sampled=False)
    assert exemplars(exposition(session(trace=unwanted))) == {}
    red = Red()
    red.add(session())
    assert exemplars(Exposition(lambda: red, snapshot, ratio=lambda _: 0.0)) == {}


def test_addresses_paths_and_keys_are_in_no_label():
    made = exposition(
        session(resource="/users/8731?token=x", attributes={"http.request.method": "GET", "url.path": "/users/8731"}),
        session(protocol="redis", operation="HSET", resource="cart:8731", attributes={"db.operation.name": "HSET"}),
        session(protocol="dns", operation="A", resource="who.example", attributes={"dns.question.name": "who.example"}),
    )
    page = made.render()[0]
    for secret in (b"8731", b"10.0.0.", b"who.example", b"token"):
        assert secret not in page


def test_sizes():
    made = exposition(session(request=Part(0, 100), response=Part(0, 5000)), session(request=Part(0, 127), response=None))
    own = ENDS | {"side": "server"}
    assert value(made, "clovisor_request_size_bytes_bucket", **own, le="63.0") == 0
    assert value(made, "clovisor_request_size_bytes_bucket", **own, le="255.0") == 2
    assert value(made, "clovisor_request_size_bytes_sum", **own) == 227
    assert value(made, "clovisor_response_size_bytes_count", **own) == 1


def test_what_a_page_costs_is_told():
    made = exposition(session())
    made.render()
    before = made.cpu_s
    assert before > 0
    assert value(made, "clovisor_exposition_cpu_seconds_total") >= before
    assert made.cpu_s > before


def test_what_pushing_costs_is_told():
    assert value(exposition(pushes_s=lambda: 2.5), "clovisor_metrics_push_cpu_seconds_total") == 2.5
    assert value(exposition(), "clovisor_metrics_push_cpu_seconds_total") == 0


class Asked:
    """Snapshots that take long where `begun` is waited for; `times`: how often one was asked for."""

    def __init__(self):
        self.times = 0
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def __call__(self):
        self.times += 1
        self.begun.set()
        assert self.go_on.wait(10)
        return snapshot(traced())


def test_a_page_is_made_once_for_all_who_ask_meanwhile():
    asked, now = Asked(), [0.0]
    asked.go_on.clear()
    made = Exposition(Red, asked, clock=lambda: now[0])
    with ThreadPoolExecutor(4) as pool:
        pages = [pool.submit(made.render) for _ in range(4)]
        assert asked.begun.wait(10)
        now[0] = 3.0  # it takes longer than a page is kept
        asked.go_on.set()
        assert len({page.result() for page in pages}) == 1
    assert asked.times == 1


def test_a_page_is_kept_for_a_moment_by_format():
    asked, now = Asked(), [0.0]
    made = Exposition(Red, asked, clock=lambda: now[0])
    made.render()
    assert made.render("application/openmetrics-text")[1].startswith("application/openmetrics-text")
    now[0] = KEPT_S * 0.9
    made.render("text/plain"), made.render("application/openmetrics-text; version=1.0.0")
    assert asked.times == 2
    now[0] = KEPT_S * 1.1
    made.render(), made.render("application/openmetrics-text")
    assert asked.times == 4


def test_a_page_that_cost_much_is_kept_longer():
    asked, now = Asked(), [0.0]

    def burn():
        end = time.thread_time() + KEPT_S / 2
        while time.thread_time() < end:
            pass
        return asked()

    made = Exposition(Red, burn, clock=lambda: now[0])
    made.render()
    now[0] = KEPT_S * 1.9
    made.render()
    assert asked.times == 1


def test_after_a_failure_the_next_one_is_made_anew():
    failing = [RuntimeError("no")]

    def fail_once():
        if failing:
            raise failing.pop()
        return snapshot(traced())

    made = Exposition(Red, fail_once)
    with pytest.raises(RuntimeError):
        made.render()
    assert made.render()[0]
