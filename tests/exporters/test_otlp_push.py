"""The push against collectors of our own, by both ways there: when it comes, what becomes of it, and what is counted then."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import contextmanager

import grpc
import pytest
from prometheus_client.core import CounterMetricFamily

from clovisor_py import __version__
from clovisor_py.errors import UsageError
from clovisor_py.exporters import _otlp_push
from clovisor_py.exporters._otlp_push import INTERVAL, open_push
from clovisor_py.exporters._otlp_settings import METRICS
from tests.support.otlp_receiver import RECEIVERS, Answer, attributes, certificates, free_port, partial, retry_info

SOON = {INTERVAL: "1000"}
BUSY = {"grpc": grpc.StatusCode.UNAVAILABLE, "http": 503}
NEVER = {"grpc": grpc.StatusCode.INVALID_ARGUMENT, "http": 400}
PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=["grpc", "http"])
def way(request):
    return request.param


def two_points():
    made = CounterMetricFamily("clovisor_x", "x", labels=["l"])
    made.add_metric(["a"], 1)
    made.add_metric(["b"], 2)
    return [made]


@contextmanager
def pushing(url, tell=two_points, environ=SOON):
    push = open_push(url, "n1", tell, environ)
    with push:
        yield push


def counted(push):
    """What became of points, without what is nought; they add up."""
    counts = {name.removeprefix("metrics points "): number for name, number in push.counts().items()}
    untold = counts.pop("metrics pushes untold")
    assert counts["offered"] == counts["sent"] + sum(counts[why] for why in counts.keys() - {"offered", "sent"})
    return {name: number for name, number in counts.items() if number} | ({"untold": untold} if untold else {})


def until(true):
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def values(receiver):
    """By label, of each request."""
    for request in receiver.requests:
        [group] = request.resource_metrics
        found = [point for metric in group.scope_metrics[0].metrics for point in metric.sum.data_points]
        yield {attributes(point.attributes)["l"]: point.as_double for point in found}


def test_it_comes_again_and_again_and_at_the_end(way):
    with RECEIVERS[way](signal=METRICS) as receiver:
        with pushing(f"otlp+{way}://127.0.0.1:{receiver.port}") as push:
            until(lambda: len(receiver.requests) >= 2)
        assert list(values(receiver)) == [{"a": 1.0, "b": 2.0}] * len(receiver.requests)
    assert len(receiver.requests) >= 3
    assert counted(push) == {"offered": 2 * len(receiver.requests), "sent": 2 * len(receiver.requests)}
    said = attributes(receiver.requests[0].resource_metrics[0].resource.attributes)
    assert said == {
        "service.name": "clovisor",
        "service.version": __version__,
        "service.instance.id": "n1",
        "k8s.node.name": "n1",
    }
    assert push.cpu_s > 0
    if way == "http":
        assert receiver.metadata[0]["path"] == "/v1/metrics"


def test_the_operators_attributes_are_below_the_agents_own(way):
    said = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,k8s.pod.name=clovisor-x,service.name=no"}
    with RECEIVERS[way](signal=METRICS) as receiver, pushing(f"otlp+{way}://127.0.0.1:{receiver.port}", environ=said):
        pass
    resource = attributes(receiver.requests[0].resource_metrics[0].resource.attributes)
    assert (resource["deployment.environment.name"], resource["service.name"]) == ("test", "clovisor")
    assert resource["k8s.pod.name"] == "clovisor-x"


def test_a_short_life_is_told_too(way):
    with RECEIVERS[way](signal=METRICS) as receiver:
        with pushing(f"otlp+{way}://127.0.0.1:{receiver.port}", environ={}) as push:
            pass
        assert list(values(receiver)) == [{"a": 1.0, "b": 2.0}]
    assert counted(push) == {"offered": 2, "sent": 2}


def test_variables_alone_say_where(way):
    protocol = {"grpc": "grpc", "http": "http/protobuf"}[way]
    with RECEIVERS[way](signal=METRICS) as receiver:
        place = f"http://127.0.0.1:{receiver.port}" + ("/v1/metrics" if way == "http" else "")
        named = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": place, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}
        headers = {"OTEL_EXPORTER_OTLP_HEADERS": "x-scope=shop", "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "gzip"}
        with pushing("otlp:", environ={**named, **headers, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}):
            pass
    assert len(receiver.requests) == 1
    assert receiver.metadata[0]["x-scope"] == "shop"


def test_mutual_tls(way, tmp_path):
    made = certificates(tmp_path)
    secured = {"tls": made.context(mutual=True)} if way == "http" else {"credentials": made.credentials(mutual=True)}
    files = f"ca={made.file('ca.pem')}&cert={made.file('client.pem')}&key={made.file('client.key')}"
    with (
        RECEIVERS[way](signal=METRICS, **secured) as receiver,
        pushing(f"otlps+{way}://localhost:{receiver.port}?{files}", environ={}) as push,
    ):
        pass
    assert counted(push) == {"offered": 2, "sent": 2}


def test_a_busy_collector_is_asked_again(way):
    script = [Answer(BUSY[way]), Answer(BUSY[way])]
    with RECEIVERS[way](signal=METRICS, script=script) as receiver:
        with pushing(f"otlp+{way}://127.0.0.1:{receiver.port}", environ={INTERVAL: "3000"}) as push:
            until(lambda: counted(push).get("sent"))
        assert len(receiver.requests) >= 3
    assert counted(push)["offered"] == counted(push)["sent"]


def test_a_pause_that_is_asked_for_and_too_long_is_not_waited_for(way):
    asked = {"headers": {"grpc-status-details-bin": retry_info(50)}} if way == "grpc" else {"headers": {"Retry-After": "50"}}
    with (
        RECEIVERS[way](signal=METRICS, script=[Answer(BUSY[way], **asked)]) as receiver,
        pushing(f"otlp+{way}://127.0.0.1:{receiver.port}") as push,
    ):
        until(lambda: len(receiver.requests) >= 2)
    assert counted(push)["failed"] == 2


def test_rejected_and_refused_points(way):
    script = [Answer(body=partial(1, "too\nold")), Answer(NEVER[way], b"no")]
    with (
        RECEIVERS[way](signal=METRICS, script=script) as receiver,
        pushing(f"otlp+{way}://127.0.0.1:{receiver.port}") as push,
    ):
        until(lambda: len(receiver.requests) >= 3)
    found = counted(push)
    assert (found["rejected"], found["refused"]) == (1, 2)


def test_nobody_is_there_and_then_somebody_is(way, caplog):
    port = free_port()
    with caplog.at_level(logging.INFO), pushing(f"otlp+{way}://127.0.0.1:{port}") as push:
        until(lambda: counted(push).get("failed"))
        with RECEIVERS[way](port, signal=METRICS) as receiver:
            until(lambda: len(receiver.requests) >= 1)
            until(lambda: counted(push).get("sent"))
    said = [record.message for record in caplog.records if record.name == _otlp_push.__name__]
    assert sum("no collector answers" in one for one in said) <= 2  # once each time that it goes away
    assert any(one.endswith("works again.") for one in said)
    assert "points were not taken" in said[-1]


def test_a_collector_that_hangs_keeps_nobody(way):
    with socket.create_server(("127.0.0.1", 0)) as server:
        push = open_push(f"otlp+{way}://127.0.0.1:{server.getsockname()[1]}?timeout=2", "n1", two_points, {})
        with push._lock:
            push._thread.start()
            push._stopping.set()
        until(lambda: counted(push).get("waiting"))
        began = time.monotonic()
        push.close(0.1)
        assert time.monotonic() - began < 1
        assert counted(push) == {"offered": 2, "stopped": 2}
        push._thread.join(PATIENCE_S)
        assert counted(push) == {"offered": 2, "stopped": 2}


def test_what_cannot_be_told_is_counted_and_goes_on(way):
    failing = [RuntimeError("no"), None]

    def tell():
        if failing and (error := failing.pop(0)) is not None:
            raise error
        return two_points()

    with RECEIVERS[way](signal=METRICS) as receiver, pushing(f"otlp+{way}://127.0.0.1:{receiver.port}", tell) as push:
        until(lambda: receiver.requests)
    assert counted(push)["untold"] == 1


def test_each_push_is_told_by_its_own_thread():
    threads = []

    def tell():
        threads.append(threading.current_thread().name)
        return two_points()

    with RECEIVERS["http"](signal=METRICS) as receiver, pushing(f"otlp+http://127.0.0.1:{receiver.port}", tell, {}):
        pass
    assert threads == [f"metrics otlp+http://127.0.0.1:{receiver.port}"]


@pytest.mark.parametrize(
    ("url", "environ", "said"),
    [
        ("console:", {}, "no receiver of metrics"),
        ("nothing:", {}, "there is no exporter"),
        ("otlp+grpc://h", {INTERVAL: "soon"}, "from 1000 to 3600000"),
        ("otlp+grpc://h", {INTERVAL: "10"}, INTERVAL),
        ("otlp:", {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "ftp://c"}, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is not a URL"),
        ("otlps+http://h?ca=/no/such/file", {}, "no CA to trust"),
    ],
)
def test_what_makes_no_sense_is_said_at_once(url, environ, said):
    with pytest.raises(UsageError, match=said):
        open_push(url, "n1", two_points, environ)


def test_the_cost_of_a_push_is_known_while_it_goes_on():
    burnt, go_on = threading.Event(), threading.Event()

    def tell():
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        burnt.set()
        assert go_on.wait(PATIENCE_S)
        return two_points()

    with RECEIVERS["http"](signal=METRICS) as receiver, pushing(f"otlp+http://127.0.0.1:{receiver.port}", tell) as push:
        assert burnt.wait(PATIENCE_S)
        assert push.cpu_s >= 0.05
        go_on.set()
