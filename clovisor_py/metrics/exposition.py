"""Exposition: what Prometheus reads, made when it asks, from RED's edges, TCP's pairs and the last snapshot.

Labels are names of workloads, services, ports, statuses and templates, never paths, keys or addresses; RED bounds how many
there are, and what comes from the wire is made printable first.

Anybody who reaches the port may ask, and a page of a large node takes half a second of the CPU, during which the engine is
slower. So one page is made at a time; who asks meanwhile, or soon after, gets the same.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from clovisor_py.cpu_meter import CpuMeter
from clovisor_py.kernel.pod_usage import PodUsage
from clovisor_py.metrics import _text
from clovisor_py.metrics._calls import call_metrics
from clovisor_py.metrics._families import Families
from clovisor_py.metrics._ledgers import counter, node_metrics, pod_metrics
from clovisor_py.metrics._tcp import tcp_metrics
from clovisor_py.metrics._usage import usage_metrics
from clovisor_py.metrics.red import Red
from clovisor_py.metrics.tcp import Tcp
from clovisor_py.snapshot import Snapshot
from clovisor_py.tracing.sampling import Ratio, whole

KEPT_S: Final = 1.0
"""A page is handed out for so long at least: the snapshot behind it is renewed once a second."""
KEPT_TIMES: Final = 4
"""And for so many times the CPU time that it took: those of a format take a fifth of one core at most, however many ask."""


class Exposition(Collector):
    """Reads when it is asked; all callables must be quick and may be called from any thread.

    `tcp` and `usage` may be left out, and are not told then. `ratio`: of sessions, as sampling has it (`Sampler.ratio`).
    `pushes_s`: seconds of CPU that went into pushing all this elsewhere. `clock`: monotonic, s.
    """

    def __init__(
        self,
        red: Callable[[], Red],
        snapshot: Callable[[], Snapshot],
        tcp: Callable[[], Tcp] | None = None,
        usage: PodUsage | None = None,
        ratio: Ratio = whole,
        pushes_s: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ratio, self._pushes_s, self._clock = ratio, pushes_s, clock
        self._red, self._snapshot, self._tcp, self._usage = red, snapshot, tcp, usage
        self._families = Families()
        self._turn = threading.Lock()
        self._kept: dict[str, tuple[float, bytes]] = {}
        """By content type, of which there are two: until when (`clock`) a page is handed out."""
        self._cpu = CpuMeter()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._process = ProcessCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The whole page and its content type: OpenMetrics where `accept` asks for it, else Prometheus' text.

        Waits for a page that is being made. It may be one of KEPT_S ago, or of KEPT_TIMES what it took.
        """
        content_type = _text.wanted(accept)
        with self._turn:
            until, page = self._kept.get(content_type, (-math.inf, b""))
            if self._clock() >= until:
                self._kept.pop(content_type, None)  # two of a kind would be twice the memory
                page = self._page(content_type)
            return page, content_type

    def _page(self, content_type: str) -> bytes:
        before = self._cpu.spent_s
        with self._cpu.running():
            page = _text.page(self._registry.collect(), content_type)
        kept_s = max(KEPT_S, KEPT_TIMES * (self._cpu.spent_s - before))
        self._kept[content_type] = (self._clock() + kept_s, page)
        return page

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that went into pages so far, unfinished ones included: capturing less would not make it less."""
        return self._cpu.spent_s

    def pushed(self) -> Iterator[Metric]:
        """Every metric of the page, now, for OTLP: durations have OpenTelemetry's own attributes as well.

        The CPU time is not in `cpu_s`: whoever asks counts it.
        """
        yield from self._all(conventions=True)
        yield from self._process.collect()

    def describe(self) -> list[Metric]:
        """Nothing before it is asked: registering would collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, now."""
        return self._all(conventions=False)

    def _all(self, conventions: bool) -> Iterator[Metric]:
        snapshot = self._snapshot()
        yield from call_metrics(self._red(), self._families, self._ratio, conventions)
        if self._tcp is not None:
            yield from tcp_metrics(self._tcp())
        yield from pod_metrics(snapshot.pods)
        if self._usage is not None:
            yield from usage_metrics(snapshot.pods, self._usage)
        yield from node_metrics(snapshot)
        yield counter("clovisor_exposition_cpu_seconds", "CPU time of pages like this one.", [([], self.cpu_s)])
        yield counter("clovisor_metrics_push_cpu_seconds", "CPU time of pushing them by OTLP.", [([], self._pushes_s())])
