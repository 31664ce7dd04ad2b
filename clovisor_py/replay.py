"""The composition of `clovisor replay`: capture files in place of the kernel, and above them what the agent has.

    file -> Pipeline -> name, context -> RED -> filter -> exporters

Each file has a Pipeline of its own: sessions never span two files. The clock is the capture's: a request is overdue when its
packets say so, however fast the file is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from clovisor_py.config import Settings
from clovisor_py.directory import Directory
from clovisor_py.exporters._fanout import Fanout
from clovisor_py.exporters._patience import Patience
from clovisor_py.exporters._worker import Ledger
from clovisor_py.flows.crash import Crash
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.metrics.red import Red
from clovisor_py.model.segment import Segment
from clovisor_py.model.session import Session
from clovisor_py.outlet import Outlet
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._redaction import redaction
from clovisor_py.sources.pcap import MAX_OPEN, CaptureSource

TICK_NS: Final = 100_000_000
"""Capture time between two ticks: how late a timeout may be said, as live."""
QUEUE: Final = 4096
"""Of one exporter; replay waits when half of it is waiting."""
IDLE_TICKS: Final = 2048
"""Ticks in a long silence, after which nothing is left that could be due (request timeout and idle time, 150 s)."""
BACK_NS: Final = 120_000_000_000
"""A time so far behind the clock begins a new one: captures that were joined, or one packet from the future."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What was in the files, and what of it was not seen."""

    seconds: float
    """Capture time, of all files together."""
    red: Red
    shown: Red
    """Only what was exported."""
    filtered: int
    """Sessions that did not match the filter."""
    packets: int
    passed_over: Mapping[str, int]
    """Packets that became no segment, by reason."""
    lost: int
    """Packets that the capturing machines say they lost."""
    engine: Mapping[str, int]
    unparsed: Sequence[tuple[int, str, int]]
    """(server port, reason, flows) of what could not be read, most frequent first."""
    exporters: Mapping[str, Ledger]
    """By export URL; complete after the end only."""
    crashes: Mapping[Crash, int]
    """Parsers that failed, and how often."""


@dataclass(slots=True)
class _Totals:
    """Sums over files."""

    ns: int = 0
    packets: int = 0
    lost: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    engine: Counter[str] = field(default_factory=Counter)
    unparsed: Counter[tuple[int, str]] = field(default_factory=Counter)
    crashes: Counter[Crash] = field(default_factory=Counter)


class Replay:
    """Feeds files, one after another, to the same exporters (made with a queue of QUEUE).

    `keep` decides which sessions are exported (all are counted), `limit` how many at most; `stop` ends it early;
    `by_operation`: the report's RED tells operations apart.
    """

    def __init__(
        self,
        settings: Settings,
        fanout: Fanout,
        *,
        protocols: Mapping[str, Protocol] | None = None,
        hints: Mapping[int, str] | None = None,
        keep: Callable[[Session], bool] | None = None,
        limit: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        by_operation: bool = False,
    ) -> None:
        self._settings = settings
        self._fanout = fanout
        self._protocols = protocols
        self._hints = dict(hints or {})
        self._stop = stop
        self._patience = Patience(fanout, QUEUE // 2, stop)
        self._outlet = Outlet(self._patience.offer, keep, limit, by_operation=by_operation)
        self._totals = _Totals()
        self.read = False
        """Something could be read: a capture that is one, or a part of it."""
        self._pipeline()  # a hint that makes no sense is said before any file is read

    @property
    def ended(self) -> bool:
        """Nothing more is wanted: the limit is reached, nobody reads any more, or `stop` says so."""
        return self._outlet.full or self._fanout.gone or self._stop()

    def run(self, path: str, progress: Callable[[int, int | None], None] | None = None) -> None:
        """All sessions of one capture; `progress` is told bytes read, and bytes of the file where that is known.

        Raises CaptureBroken where it is no capture, breaks off or is damaged; what came before was taken.
        """
        pipeline, clock = self._pipeline(), _Clock()
        with CaptureSource(path, self._settings.udp_ports) as source:
            self._outlet.directory = Directory()
            self._outlet.joining.clear()
            named = 0
            self.read = True
            try:
                for batch in source.batches():
                    named = self._name(source, named)
                    self._feed(pipeline, clock, batch)
                    if progress is not None:
                        progress(source.position, source.size)
                    if self.ended:
                        break
            finally:
                self._outlet.take(pipeline.close(clock.last_ns))
                self._add(source, pipeline, clock)

    def finish(self) -> None:
        """Wait until the exporters have everything; they are closed by who made them."""
        self._patience.drain()

    def report(self) -> ReplayReport:
        """Of all files so far."""
        totals, outlet = self._totals, self._outlet
        unparsed = [(port, reason, flows) for (port, reason), flows in totals.unparsed.most_common()]
        return ReplayReport(
            totals.ns / 1e9,
            outlet.red,
            outlet.shown,
            outlet.filtered,
            totals.packets,
            totals.passed_over,
            totals.lost,
            totals.engine,
            unparsed,
            self._fanout.ledgers(),
            totals.crashes,
        )

    def _pipeline(self) -> Pipeline:
        return Pipeline(
            hints=self._hints,
            request_timeout_s=self._settings.request_timeout_s,
            flow_idle_s=self._settings.flow_idle_s,
            max_flows=MAX_OPEN,
            protocols=self._protocols,
            redaction=redaction(self._settings.redact),
            begun=self._outlet.joining.begun,
        )

    def _feed(self, pipeline: Pipeline, clock: _Clock, batch: list[Segment]) -> None:
        """Segments, with the ticks that were due before each of them."""
        take = self._outlet.take
        for part in clock.parts(batch):
            for now_ns in clock.ticks(part[0].time_ns):
                take(pipeline.tick(now_ns))
            take(pipeline.feed(part))

    def _name(self, source: CaptureSource, named: int) -> int:
        """Learn the pods of interfaces that came to be known."""
        for number, interface in enumerate(source.interfaces[named:], named):
            if interface.pod:
                self._outlet.directory.add(number, interface.name, interface.addresses)
                self._outlet.joining.know(number, interface.addresses)
        return len(source.interfaces)

    def _add(self, source: CaptureSource, pipeline: Pipeline, clock: _Clock) -> None:
        totals = self._totals
        totals.ns += clock.span_ns
        totals.packets += source.packets
        totals.lost += source.lost
        totals.passed_over.update(source.passed_over())
        counts = pipeline.ledger.as_dict()
        totals.engine.update({name: count for name, count in counts.items() if isinstance(count, int)})
        totals.unparsed.update({(port, reason): flows for port, reason, flows in pipeline.unparsed()})
        totals.crashes.update(pipeline.ledger.crashes)


class _Clock:
    """The capture's time. It only goes forward, in steps of TICK_NS; for the exception see BACK_NS."""

    def __init__(self) -> None:
        self.now_ns = 0
        """Of the latest tick."""
        self.last_ns = 0
        """Of the latest segment."""
        self._began_ns = self._before_ns = 0

    @property
    def span_ns(self) -> int:
        """From the first segment to the last."""
        return self._before_ns + self.last_ns - self._began_ns

    def parts(self, batch: list[Segment]) -> Iterator[list[Segment]]:
        """The batch, cut where a tick is due.

        Where neither its first nor its last segment is, those between are not looked at, which would take 0.1 µs a session:
        they are in order, but for a few, and no time of those is to be heard of.
        """
        begin, due = 0, self.now_ns + TICK_NS
        if batch and 0 < due - batch[0].time_ns <= BACK_NS and 0 < due - batch[-1].time_ns <= BACK_NS:
            yield batch
            self.last_ns = max(self.last_ns, batch[-1].time_ns)
            return
        for index, segment in enumerate(batch):
            time_ns = segment.time_ns
            if time_ns >= due or time_ns < due - BACK_NS:
                if index > begin:
                    yield batch[begin:index]
                    self.last_ns = max(self.last_ns, batch[index - 1].time_ns)
                begin, due = index, time_ns + TICK_NS
        if begin < len(batch):
            yield batch[begin:]
            self.last_ns = max(self.last_ns, batch[-1].time_ns)

    def ticks(self, time_ns: int) -> Iterator[int]:
        """The times of the ticks that are due before a segment of `time_ns`."""
        if not self.now_ns or time_ns < self.now_ns - BACK_NS:
            self._before_ns = self.span_ns
            self.now_ns = self.last_ns = self._began_ns = time_ns
        for _ in range(IDLE_TICKS):
            if time_ns < self.now_ns + TICK_NS:
                return
            self.now_ns += TICK_NS
            yield self.now_ns
        self.now_ns = time_ns
        yield time_ns
