"""What runs as `clovisor agent`: the API server's word, the node's agent, and all that tells of it, put together.

One thread does the tracing and all decisions. Watches, exporters, Events, the control socket and the HTTP endpoint have
threads of their own, and none of them can make it wait.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final

from clovisor_py import __version__
from clovisor_py.agent_report import Every
from clovisor_py.control_socket import DEFAULT_PATH, VIEW, ControlSocket, Request
from clovisor_py.errors import UsageError
from clovisor_py.exporters._fanout import Fanout
from clovisor_py.exporters._otlp_push import MetricsPush, open_push
from clovisor_py.flows.detect import by_any_name
from clovisor_py.http_endpoint import HttpEndpoint
from clovisor_py.kernel.pod_usage import PodUsage
from clovisor_py.kube.client import Client
from clovisor_py.kube.cluster import Cluster
from clovisor_py.kube.objects import Ref
from clovisor_py.kube.reporter import Reporter
from clovisor_py.metrics.by_pod import ByPod
from clovisor_py.metrics.exposition import Exposition
from clovisor_py.metrics.taken import take
from clovisor_py.node import NodeAgent
from clovisor_py.node_settings import NodeSettings, differences
from clovisor_py.node_snapshot import Counting, Snapshots
from clovisor_py.node_taps import NodeTaps
from clovisor_py.own_problems import SETTINGS_REFUSED, UNKNOWN_NODE, OwnProblems
from clovisor_py.protocols._api import Protocol
from clovisor_py.settings_file import SettingsFile
from clovisor_py.snapshot import Json, Pod, Snapshot, State, as_json
from clovisor_py.taps import Taps
from clovisor_py.tracing.sampling import Sampler

SECOND: Final = 1.0
HUNG_S: Final = 10.0
"""A main loop that has not come round for so long hangs; it does so every 50 ms, attaching a hundred pods takes two seconds."""
LIVE: Final = frozenset({"trace_by_default", "watch", "egress", "redact", "hints", "log_level", "sample"})
"""Settings that hold as soon as they are changed; the others, from the next start on."""

STARTING: Final = "the agent is starting."
NOT_TOLD: Final = "the API server has not told yet which pods are to be traced."
HANGING: Final = "the agent has not come round for {:.0f} s: its log may say why."

_log = logging.getLogger(__name__)


class Service:
    """From `with` to its end; `run` in between. `settings` has been read from `file`, which is looked at for changes.

    `fanout` gets the sessions; who opened it closes it, after this.
    """

    def __init__(
        self,
        settings: NodeSettings,
        file: SettingsFile,
        client: Client,
        protocols: Mapping[str, Protocol],
        fanout: Fanout,
        socket: Path = DEFAULT_PATH,
    ) -> None:
        self._settings, self._file = settings, file
        self.fanout = fanout
        self._names = frozenset(by_any_name(protocols.values()))
        self._undo = ExitStack()
        self._second = Every(SECOND)
        self._came_round: float | None = None
        write = partial(_write_event, client, settings.node)
        self.reporter = Reporter(write)
        self._problems = OwnProblems(settings.node, self.reporter)
        self.cluster = Cluster(client, settings.node, settings.rules(self._names), self._names)
        self._sampler = fanout.sampler or Sampler(1.0)
        self._make_node(settings, protocols)
        self.control = ControlSocket(socket, self._find, lambda sock, asked: self.taps.open(sock, asked.targets, asked.redact))
        self.control.publish(Snapshot(settings.node, __version__, self.node.started, time.time(), starting=True))
        self._exposition = Exposition(
            lambda: self.node.agent.red,
            lambda: self.control.snapshot,
            lambda: self.node.agent.tcp,
            PodUsage(),
            self._sampler.ratio,
            self._pushes_s,
        )
        self._push = self._open_push()
        self._pages_s = 0.0
        self.http_port = settings.http_port
        self._endpoint = HttpEndpoint(
            settings.http_port, healthy=self.healthy, ready=self.ready, metrics=self._exposition.render, host=settings.http_host
        )

    def _make_node(self, settings: NodeSettings, protocols: Mapping[str, Protocol]) -> None:
        """The node's agent, and who looks over its shoulder: taps, and the counts by pod."""
        by_pod, private = ByPod(), set[int]()
        self.taps = Taps(self.fanout, private)
        self.node = NodeAgent(
            settings,
            Counting(self.taps, by_pod),
            self.cluster,
            self.reporter,
            protocols=protocols,
            private=private,
            ratios=self._sampler.ratios,
            began=by_pod.remove,
        )
        self.node.apply(settings.redact, dict(settings.hints))
        self._node_taps = NodeTaps(self.node, self.taps, settings.node, self.cluster.find)
        self._snapshots = Snapshots(self.node, settings.node, by_pod)

    def __enter__(self) -> Service:
        with ExitStack() as undo:
            undo.enter_context(self.reporter)
            undo.enter_context(self.cluster)
            if self.http_port:
                undo.callback(self._endpoint.close)
                self.http_port = self._endpoint.start()
            if self._push is not None:
                undo.enter_context(self._push)
            undo.enter_context(self.node)
            undo.callback(self.taps.close)
            undo.enter_context(self.control)
            self.control.serve(self._answer)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._undo.close()

    def run(self, stop: Callable[[], bool]) -> None:
        """Until `stop()`; then what is open ends, and the filters stay for a successor."""
        self.node.run(stop, self._also)
        self.node.finish()

    def healthy(self) -> str:
        """Empty, or what is wrong."""
        late = 0.0 if self._came_round is None else time.monotonic() - self._came_round
        return HANGING.format(late) if late > HUNG_S else ""

    def ready(self) -> str:
        """Empty as soon as all pods that are wanted have been looked at."""
        if self._came_round is None:
            return STARTING
        return "" if self.node.begun else NOT_TOLD

    def _open_push(self) -> MetricsPush | None:
        """Who pushes metrics, if anybody; raises UsageError where a flag or variable makes no sense."""
        if not self._settings.metrics_export:
            return None
        try:
            return open_push(self._settings.metrics_export, self._settings.node, self._exposition.pushed)
        except UsageError as error:
            if not self._file.leave_out("metrics_export", str(error)):
                raise
            return None

    def _answer(self, request: Request) -> Json:
        """What the control socket tells. Its thread."""
        if request.what == VIEW:
            return as_json(take(self.node.agent.red, self.node.agent.tcp, self.node.started))
        return self.control.answer(request)

    def _find(self, namespace: str, name: str) -> Pod | None:
        """What is known of a pod of another node. Any thread."""
        pod = self.cluster.find(Ref("Pod", namespace, name))
        return None if pod is None else Pod(namespace, name, pod.uid, pod.node, pod.ips, State.OTHER_NODE)

    def _also(self, now: float) -> None:
        self._came_round = now
        self._excuse_pages()
        self._node_taps.turn(now)
        just_begun = self.node.begun and self.control.snapshot.starting
        if self._second.due(now) or just_begun:
            self._look_at_settings()
            self.control.publish(self._snapshot(now))

    def _pushes_s(self) -> float:
        return self._push.cpu_s if self._push is not None else 0.0

    def _excuse_pages(self) -> None:
        spent = self._exposition.cpu_s + self._pushes_s()
        if spent > self._pages_s:
            self.node.agent.shedding.excuse(spent - self._pages_s)
            self._pages_s = spent

    def _snapshot(self, now: float) -> Snapshot:
        taken = self._snapshots.take(now, self.cluster.states())
        own = {**taken.own, **self.fanout.counts()}
        own |= {**self.taps.counts(), **self.reporter.counts(), "names forgotten": self.cluster.index.forgotten}
        own |= {f"endpoint {why}": number for why, number in self._endpoint.refused.copy().items()}
        own |= {f"socket {why}": number for why, number in self.control.refused.copy().items() if why}
        own |= self._push.counts() if self._push is not None else {}
        wrong = {SETTINGS_REFUSED: self._file.refused, UNKNOWN_NODE: self.cluster.unknown_node()}
        problems = self._problems.look(wrong)
        return taken._replace(
            own=own, readers=len(self.taps.open_now), problems=problems, settings_refused=bool(self._file.refused)
        )

    def _look_at_settings(self) -> None:
        found = self._file.look()
        if found is None or isinstance(found, str):  # why it is refused is said as one of the agent's own problems
            return
        before, self._settings = self._settings, found
        for change in differences(before, found):
            later = "" if change.split(" ", 1)[0] in LIVE else " (from the next start on)"
            _log.warning("setting changed: %s%s", change, later)
        logging.getLogger().setLevel(found.log_level.upper())
        self.node.apply(found.redact, dict(found.hints))
        self._sampler.of_others = found.sample
        self.node.concern(self.cluster.set_rules(found.rules(self._names)))


def _write_event(client: Client, node: str, about: Ref, uid: str, reason: str, sentence: str) -> None:
    client.create_event(about, uid, reason, sentence, node=node)
