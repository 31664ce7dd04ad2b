"""Exposition: what Prometheus reads, made when it asks, from RED's edges, TCP's pairs and the last snapshot.

Labels are names of workloads, services, ports, statuses and templates, never paths, keys or addresses; RED bounds how many
there are, and what comes from the wire is made printable first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from clovisor_py.kernel.pod_usage import PodUsage
from clovisor_py.metrics._calls import call_metrics
from clovisor_py.metrics._families import Families
from clovisor_py.metrics._ledgers import counter, node_metrics, pod_metrics
from clovisor_py.metrics._tcp import tcp_metrics
from clovisor_py.metrics._usage import usage_metrics
from clovisor_py.metrics.red import Red
from clovisor_py.metrics.tcp import Tcp
from clovisor_py.snapshot import Snapshot
from clovisor_py.tracing.sampling import Ratio, whole


class Exposition(Collector):
    """Reads when it is asked; all callables must be quick and may be called from any thread.

    `tcp` and `usage` may be left out, and are not told then. `ratio`: of sessions, as sampling has it (`Sampler.ratio`).
    """

    def __init__(
        self,
        red: Callable[[], Red],
        snapshot: Callable[[], Snapshot],
        tcp: Callable[[], Tcp] | None = None,
        usage: PodUsage | None = None,
        ratio: Ratio = whole,
    ) -> None:
        self._ratio = ratio
        self._red, self._snapshot, self._tcp, self._usage = red, snapshot, tcp, usage
        self._families = Families()
        self._lock = threading.Lock()
        self._rendering: dict[int, float] = {}
        """Threads that render now, with their CPU time when they began, s."""
        self._rendered_s = 0.0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The whole page and its content type: OpenMetrics where `accept` asks for it, else Prometheus' text."""
        encode, content_type = choose_encoder(accept)
        thread = threading.get_ident()
        with self._lock:
            self._rendering[thread] = time.thread_time()
        try:
            return encode(self._registry), content_type
        finally:
            with self._lock:
                self._rendered_s += time.thread_time() - self._rendering.pop(thread)

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that went into pages so far, unfinished ones included: capturing less would not make it less."""
        with self._lock:
            now = [time.clock_gettime(time.pthread_getcpuclockid(one)) - began for one, began in self._rendering.items()]
            return self._rendered_s + sum(now)

    def families(self) -> Iterator[Metric]:
        """Every metric of the page, now; the CPU time is not in `cpu_s`: whoever asks counts it."""
        return iter(self._registry.collect())

    def describe(self) -> list[Metric]:
        """Nothing before it is asked: registering would collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, now."""
        snapshot = self._snapshot()
        yield from call_metrics(self._red(), self._families, self._ratio)
        if self._tcp is not None:
            yield from tcp_metrics(self._tcp())
        yield from pod_metrics(snapshot.pods)
        if self._usage is not None:
            yield from usage_metrics(snapshot.pods, self._usage)
        yield from node_metrics(snapshot)
        yield counter("clovisor_exposition_cpu_seconds", "CPU time of pages like this one.", [([], self.cpu_s)])
