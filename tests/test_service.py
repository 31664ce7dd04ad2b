"""What `clovisor agent` is put together of, without a kernel and without an API server: who starts, who is told, who ends."""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from clovisor_py import service as module
from clovisor_py.control_client import ask
from clovisor_py.control_socket import Request
from clovisor_py.errors import UsageError
from clovisor_py.exporters._fanout import Fanout
from clovisor_py.exporters._otlp_settings import METRICS
from clovisor_py.kube.objects import Ref
from clovisor_py.metrics.red import Red
from clovisor_py.metrics.tcp import Tcp
from clovisor_py.protocols._registry import registry
from clovisor_py.service import HUNG_S, STARTING, Service
from clovisor_py.snapshot import Pod, Snapshot, State, from_json
from tests.support.agent_service import Reporting, Served, settings
from tests.support.fake_cluster import pod
from tests.support.otlp_receiver import http_receiver
from tests.support.sessions import session


class Node:
    """Stands for the node's agent."""

    def __init__(self, wanted, sessions, cluster, reporter, *, protocols, private, ratios, began):
        self.sessions, self.private, self.cluster, self.ratios = sessions, private, cluster, ratios
        self.started, self.begun, self.tapped = 1.0, False, {}
        self.agent = SimpleNamespace(red=None)
        self.applied, self.concerned, self.log = [], [], []
        made.append(self)

    def __enter__(self):
        self.log.append("in")
        return self

    def __exit__(self, *_):
        self.log.append("out")

    def run(self, stop, also):
        while not stop():
            also(time.monotonic())

    def finish(self):
        self.log.append("finished")

    def apply(self, redact, hints):
        self.applied.append((redact, hints))

    def concern(self, refs):
        self.concerned.append(set(refs))


class Taken:
    """Stands for Snapshots."""

    def __init__(self, node, name, by_pod):
        self.node, self.name = node, name

    def take(self, now, watching):
        return Snapshot(self.name, starting=not self.node.begun, taken=now)


class File:
    """A settings file in which something is found the next time that somebody looks."""

    found: object = None
    refused = ""

    def look(self):
        found, self.found = self.found, None
        self.refused = found if isinstance(found, str) else ""
        return found


made: list[Node] = []


@pytest.fixture
def service(tmp_path, monkeypatch):
    made.clear()
    cluster = Served(pod("web", "10.0.0.1"), elsewhere=(pod("far", "10.9.9.9", node="n9"),))
    cluster.set_rules = lambda rules: {Ref("Pod", "shop", "web")}
    for name, stand_in in (("NodeAgent", Node), ("Snapshots", Taken), ("Reporter", lambda _: Reporting())):
        monkeypatch.setattr(module, name, stand_in)
    monkeypatch.setattr(module, "Cluster", lambda *_, **__: cluster)
    monkeypatch.setattr(module, "SECOND", 0.0)
    level = logging.getLogger().level
    made_service = Service(settings(), File(), None, dict(registry()), Fanout(()), tmp_path / "s")
    made_service.path = tmp_path / "s"
    yield made_service
    logging.getLogger().setLevel(level)


def test_it_says_that_it_is_starting_from_its_first_moment(service):
    assert service.ready() == STARTING
    with service:
        found = from_json(Snapshot, ask(Request("snapshot"), service.path))
        assert (found.node, found.starting) == ("n1", True)
        service._also(time.monotonic())
        assert "has not told yet" in service.ready()
        service.node.begun = True
        service._also(time.monotonic())
        assert service.ready() == ""
        assert not from_json(Snapshot, ask(Request("snapshot"), service.path)).starting
    assert not Path(service.path).exists()


def test_a_pod_of_another_node_is_found_by_its_name(service):
    with service:
        found = from_json(Pod, ask(Request("pod", "shop", "far"), service.path))
        assert ask(Request("pod", "shop", "none"), service.path) is None
    assert (found.node, found.state, found.ips) == ("n9", State.OTHER_NODE, ("10.9.9.9",))


def test_it_runs_and_ends_in_order(service):
    rounds = []
    with service:
        service.run(lambda: rounds.append(1) or len(rounds) > 3)
    assert made[-1].log == ["in", "finished", "out"]


def test_a_loop_that_hangs_is_not_healthy(service):
    assert service.healthy() == ""
    service._came_round = time.monotonic() - HUNG_S - 1
    assert service.healthy()


def test_settings_that_change_and_those_that_make_no_sense(service, caplog):
    caplog.set_level(logging.WARNING)
    with service:
        service._file.found = dataclasses.replace(settings(), redact="strict", cpu_share=0.7, sample=0.25)
        service._also(time.monotonic())
        assert service._sampler.ratio(7) == 0.25
        assert made[-1].applied[-1] == ("strict", {})
        assert made[-1].concerned == [{Ref("Pod", "shop", "web")}]
        service._file.found = "the settings file is odd."
        service._also(time.monotonic() + 1)
        assert made[-1].applied[-1] == ("strict", {})
    said = [record.message for record in caplog.records]
    assert any("redact" in line and "next start" not in line for line in said)
    assert any("cpu_share" in line and "from the next start on" in line for line in said)
    assert made_problems(service) == ("the settings file is odd.",)
    assert ("n1", "SettingsRefused", "the settings file is odd.") in service.reporter.said


def made_problems(service):
    """As they were published last."""
    assert service.control.snapshot.settings_refused
    return service.control.snapshot.problems


def test_what_is_private_is_one_set(service):
    service.node.private.add(7)
    assert service.taps._private == {7}


def test_one_that_cannot_start_leaves_nothing_open(service, monkeypatch):
    def refuse(_):
        raise RuntimeError("no")

    monkeypatch.setattr(Node, "__enter__", refuse)
    with pytest.raises(RuntimeError), service:
        pass
    assert not Path(service.path).exists()


@pytest.fixture
def pushing(service, tmp_path):
    """Makes services with this setting for metrics."""
    file = File()
    file.leave_out = lambda name, why: (name, why.endswith(".")) == ("metrics_export", True) and file.forgiving

    def make(url, *, forgiving=False):
        file.forgiving = forgiving
        changed = dataclasses.replace(settings(), metrics_export=url)
        return Service(changed, file, None, dict(registry()), Fanout(()), tmp_path / "p")

    return make


def test_metrics_are_pushed_with_what_was_counted_last(pushing):
    with http_receiver(signal=METRICS) as receiver:
        served = pushing(f"otlp+http://127.0.0.1:{receiver.port}")
        served.node.agent.red, served.node.agent.tcp = Red(), Tcp(lambda session: None)
        with served:
            served._also(time.monotonic())
            assert served.control.snapshot.own["metrics points sent"] == 0
            served.node.agent.red.add(session())
    [request] = receiver.requests
    found = {one.name: one for one in request.resource_metrics[0].scope_metrics[0].metrics}
    assert [point.as_double for point in found["clovisor.calls"].sum.data_points] == [1.0]
    served.node.agent.shedding = SimpleNamespace(excuse=(excused := []).append)
    served._excuse_pages()
    assert excused and excused[0] >= served._push.cpu_s > 0
    assert b"\nclovisor_metrics_push_cpu_seconds_total 0.0\n" not in served._exposition.render()[0]


def test_a_receiver_of_metrics_that_makes_no_sense(pushing, monkeypatch):
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "often")
    with pytest.raises(UsageError, match="OTEL_METRIC_EXPORT_INTERVAL"):
        pushing("otlp+http://h")
    assert pushing("otlp+http://h", forgiving=True)._push is None
    assert pushing("")._push is None
