"""Metrics pushed by OTLP, every minute, from a thread of its own: the way for whoever has a collector and no Prometheus.

The setting `metrics_export` is the URL (`otlp+grpc://HOST`, as for spans), and `otlp:` leaves it to OpenTelemetry's variables
(OTEL_EXPORTER_OTLP_METRICS_…, else OTEL_EXPORTER_OTLP_…); OTEL_METRIC_EXPORT_INTERVAL is the time between two pushes, ms.

Nobody waits for it: it reads what `/metrics` reads, when its time has come. Nothing is queued, as every point tells all that
was counted up to then: of a push that does not arrive the resolution is lost, no count. It is tried again until it arrives, or
the next one is due; each point that was lost so is counted, by reason, and at any moment `offered = sent + dropped + waiting`.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Final

from prometheus_client.core import Metric

from clovisor_py import __version__
from clovisor_py.cpu_meter import CpuMeter
from clovisor_py.errors import ExportInterrupted, UsageError
from clovisor_py.exporters import _otlp_settings, _own_resource
from clovisor_py.exporters._otlp_metrics import MetricsEncoder, Request
from clovisor_py.exporters._otlp_reply import Transport
from clovisor_py.exporters._registry import parse
from clovisor_py.exporters._worker import CLOSE_S, FAILED, LONGEST_PAUSE_S, LONGEST_WAIT_S, PAUSE_S, REFUSED, STOPPED
from clovisor_py.exporters.otlp import REJECTED, transport_of

INTERVAL: Final = "OTEL_METRIC_EXPORT_INTERVAL"
INTERVAL_S: Final = 60.0
"""OpenTelemetry's own."""
INTERVALS_S: Final = (1.0, 3600.0)
"""Shorter costs more than it tells (the agent looks at itself once a second); longer is a mistake."""

Tell = Callable[[], Iterable[Metric]]
"""All families, now; called from the thread."""

_log = logging.getLogger(__name__)


class MetricsPush:
    """From `with` to its end, which pushes a last time; `name` is what logs call it (the URL).

    `tell` is asked for everything each `interval_s`; many agents begin at the same time, so the first push is at a random
    moment of the first interval.
    """

    def __init__(
        self, name: str, transport: Transport, encoder: MetricsEncoder, tell: Tell, interval_s: float = INTERVAL_S
    ) -> None:
        self.name = name
        self._called = name.rstrip(":")
        self._transport, self._encoder, self._tell, self._interval_s = transport, encoder, tell, interval_s
        self._lock = threading.Lock()
        self._offered = self._sent = 0
        self._dropped = dict.fromkeys((REJECTED, REFUSED, FAILED, STOPPED), 0)
        self._untold = 0
        self._stopping = threading.Event()
        self._abandoned = self._down = self._said_refused = False
        self._cpu = CpuMeter()
        self._thread = threading.Thread(target=self._run, name=f"metrics {name}", daemon=True)

    def counts(self) -> dict[str, int]:
        """What became of all points so far, by name; `pushes untold` are those that could not even be made."""
        with self._lock:
            waiting = self._offered - self._sent - sum(self._dropped.values())
            points = {"offered": self._offered, "sent": self._sent, "waiting": waiting, **self._dropped}
            return {f"metrics points {what}": number for what, number in points.items()} | {
                "metrics pushes untold": self._untold
            }

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that went into pushes so far, into one that goes on as well."""
        return self._cpu.spent_s

    def close(self, deadline_s: float = CLOSE_S) -> None:
        """Push once more, but for no longer than `deadline_s`; what is still on its way then is dropped as `stopped`."""
        self._stopping.set()
        self._thread.join(deadline_s)
        with self._lock:
            if self._thread.is_alive() and not self._abandoned:
                self._abandoned = True
                self._dropped[STOPPED] += self._offered - self._sent - sum(self._dropped.values())
        if lost := sum(self._dropped.values()):
            _log.warning("metrics to %s: %d of %d points were not taken.", self._called, lost, self._offered)

    def __enter__(self) -> MetricsPush:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # The thread.

    def _run(self) -> None:
        due = time.monotonic() + self._interval_s * random.random()
        while not self._stopping.wait(max(due - time.monotonic(), 0.0)):
            due += self._interval_s
            with self._cpu.running():
                self._push(due)
            due = max(due, time.monotonic())
        with self._cpu.running():
            self._push(time.monotonic())
        self._transport.close()

    def _push(self, until: float) -> None:
        """Everything, once; tried until it arrives, or (monotonic) `until`."""
        try:
            requests = self._encoder.requests(self._tell(), time.time_ns())
            self._offer(requests)
            self._deliver(requests, until)
        except Exception as error:  # noqa: BLE001 (a fault of ours, or a transport's, must not end the thread; it is said and counted)
            self._say_down(error, unexpected=True)
            with self._lock:
                self._untold += 1
            self._drop_rest()

    def _offer(self, requests: Sequence[Request]) -> None:
        with self._lock:
            if not self._abandoned:
                self._offered += sum(request.points for request in requests)

    def _deliver(self, requests: Sequence[Request], until: float) -> None:
        for request in requests:
            if not self._send(request, until):
                self._drop_rest()  # whoever does not take this one takes no other now
                return
        self._say_up()

    def _send(self, request: Request, until: float) -> bool:
        """Whether it is settled; False: it was tried in vain."""
        attempt = 0
        while True:
            attempt += 1
            try:
                reply = self._transport.send(request.body)
            except ExportInterrupted as error:
                self._say_down(error)
                if not self._pause(attempt, error.retry_after_s, until):
                    return False
                continue
            lost = request.points if reply.refused else min(reply.rejected, request.points)
            self._settle(request.points - lost, REFUSED if reply.refused else REJECTED, lost, reply.why)
            return True

    def _pause(self, attempt: int, asked_s: float, until: float) -> bool:
        """Wait before the next attempt, at least as long as the collector asked for; False where there is to be none."""
        pause = min(PAUSE_S * 2 ** (attempt - 1), LONGEST_PAUSE_S) * random.uniform(0.5, 1.0) + min(asked_s, LONGEST_WAIT_S)
        return time.monotonic() + pause < until and not self._stopping.wait(pause)

    def _settle(self, sent: int, reason: str, lost: int, why: str) -> None:
        with self._lock:
            if self._abandoned:
                return  # counted as `stopped` when `close` gave up on it
            self._sent += sent
            self._dropped[reason] += lost
        if lost and not self._said_refused:
            self._said_refused = True
            said = f" ({why.rstrip('.')})" if why else ""
            _log.warning("metrics to %s: %d points were not taken%s; further ones are counted only.", self._called, lost, said)

    def _drop_rest(self) -> None:
        """All that is not settled."""
        with self._lock:
            if not self._abandoned:
                self._dropped[FAILED] += self._offered - self._sent - sum(self._dropped.values())

    def _say_down(self, error: Exception, *, unexpected: bool = False) -> None:
        """Once, however often it fails, until it works again."""
        if not self._down:
            said = str(error) or type(error).__name__
            _log.warning("metrics to %s: %s", self._called, said, exc_info=error if unexpected else None)
        self._down = True

    def _say_up(self) -> None:
        if self._down:
            _log.info("metrics to %s: works again.", self._called)
        self._down = False


def open_push(url: str, node: str, tell: Tell, environ: Mapping[str, str] = os.environ) -> MetricsPush:
    """Ready to begin. `node`: whose agent tells. Raises UsageError where the URL or a variable makes no sense."""
    parsed = parse(url)
    if parsed.scheme not in _otlp_settings.SCHEMES:
        raise UsageError(f"'{parsed.shown}' is no receiver of metrics; write one of {_otlp_settings.SYNOPSIS}.")
    settings = _otlp_settings.settings_of(parsed, environ, _otlp_settings.METRICS)
    resource = {
        **_own_resource.said(environ),
        "service.name": "clovisor",
        "service.version": __version__,
        "service.instance.id": node,
        "k8s.node.name": node,
    }
    encoder = MetricsEncoder(resource, time.time_ns())
    return MetricsPush(url, transport_of(settings), encoder, tell, _interval_s(environ))


def _interval_s(environ: Mapping[str, str]) -> float:
    said = environ.get(INTERVAL, "").strip()
    if not said:
        return INTERVAL_S
    try:
        seconds = float(said) / 1000
    except ValueError:
        seconds = math.nan
    low, high = INTERVALS_S
    if not low <= seconds <= high:
        raise UsageError(f"{INTERVAL} is no usable time; give it in milliseconds, from {low * 1000:.0f} to {high * 1000:.0f}.")
    return seconds
