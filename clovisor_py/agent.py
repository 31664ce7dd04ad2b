"""The composition root: the only module that knows everything. It wires the data's one way, and keeps house.

    ring -> Pipeline -> name, context -> RED -> filter -> exporters

Four times a second it looks whether it stays within its share of a core; once a second it renews the lease and looks whether
its veths are still there; every two it sweeps the kernel's sessions; every five it looks whether its filters are where it
put them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final

from clovisor_py.agent_report import Every, Report, Sessions
from clovisor_py.config import Settings
from clovisor_py.directory import Directory
from clovisor_py.errors import TargetGone
from clovisor_py.exporters._worker import Ledger
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.kernel import layout
from clovisor_py.kernel.datapath import Datapath
from clovisor_py.kernel.links import link_names
from clovisor_py.kernel.maps import Stats
from clovisor_py.kernel.sweep import Look
from clovisor_py.kernel.targets import Veth
from clovisor_py.metrics.red import Red
from clovisor_py.metrics.tcp import Tcp
from clovisor_py.model.segment import Segment
from clovisor_py.model.session import Session
from clovisor_py.outlet import Outlet
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._redaction import redaction
from clovisor_py.shedding import Shedding
from clovisor_py.sources.live import LiveSource
from clovisor_py.sources.pcapng import PcapngWriter
from clovisor_py.troubles import Troubles

SECOND: Final = 1.0
TICK_S: Final = 0.1
"""How late a timeout may be said."""
SHED_S: Final = 0.25
"""How long too much may come up before it is less."""
SWEEP_S: Final = 2.0
REPAIR_S: Final = 5.0
READ_OUT: Final = 1024
"""Batches that are read without a look at anything else: more than the ring holds."""

ADOPTED: Final = "took over from a predecessor: connections go on; what it left unread (%d bytes) it had counted itself."
SKIPPED: Final = "took over from one that was killed: what that left unread (%d bytes) was captured for it, and is skipped."
BLIND: Final = "nothing was captured for %.1f s: Clovisor did not run (it was stopped, or the node was too busy)."

_log = logging.getLogger(__name__)


class Agent:
    """Traces the veths that it is given, from `with` to its end; then nothing of it is left on the node, unless `leave`.

    `directory` names both ends of sessions, by default as far as the veths tell. `leave`: what is attached stays, for a
    successor; the lease silences it meanwhile. `lost` hears of a veth that has vanished, which is logged otherwise.
    `keep` decides which sessions are exported (all are counted); `limit` ends `run` after so many of those; `protocols`: name
    to protocol, by default all that are installed; `writer` gets every segment that was captured. Of interfaces in `private`
    nothing is counted by `red` and `tcp`. Of one that was given no terms (`attach` gives some) nothing is read. `by_operation`:
    `red` tells operations apart.
    """

    def __init__(
        self,
        settings: Settings,
        fanout: Sessions,
        *,
        hints: Mapping[int, str] | None = None,
        keep: Callable[[Session], bool] | None = None,
        limit: int | None = None,
        protocols: Mapping[str, Protocol] | None = None,
        writer: PcapngWriter | None = None,
        directory: Directory | None = None,
        leave: bool = False,
        lost: Callable[[Veth], None] | None = None,
        private: Container[int] = (),
        by_operation: bool = False,
    ) -> None:
        self.settings = settings
        self._leave = leave
        self._on_lost = lost
        self.datapath = Datapath(settings)
        self._fanout = fanout
        self._outlet = Outlet(fanout.offer, keep, limit, directory, by_operation)
        self.directory = self._outlet.directory
        self.tcp = Tcp(self.directory.name, self.directory.addresses)
        """Of all connections, read or not."""
        self.red.private = self.tcp.private = private
        self._writer = writer
        self._started = self._ended = 0.0
        self.pipeline = Pipeline(
            hints=dict(hints or {}),
            control=self.datapath,
            request_timeout_s=settings.request_timeout_s,
            flow_idle_s=settings.flow_idle_s,
            protocols=protocols,
            redaction=redaction(settings.redact),
            begun=self._outlet.joining.begun,
            strangers=False,
        )
        self.troubles = Troubles(_log)
        """What the kernel refused of a veth, or of one look; the agent goes on."""
        self._veths: dict[int, Veth] = {}
        self._attached: set[int] = set()
        """Also those that have vanished: what was captured of them may still wait. For `writer` alone."""
        self._last_stats: dict[str, Stats] = {}
        self.shedding = Shedding(settings.cpu_share, settings.pod_bytes_per_s, self._stats)
        self._repairs = 0
        self._blind_s = 0.0

    def __enter__(self) -> Agent:
        self.datapath.__enter__()
        self.tcp.since_ns = time.monotonic_ns()
        self.source = LiveSource(self.datapath.ring, self.settings.poll_s, self.settings.busy_poll_s)
        self._started = time.monotonic()
        self.shedding.begin()
        if self.datapath.adopted and self._leave:
            _log.warning(ADOPTED, self.datapath.ring.waiting)
        elif self.datapath.adopted:
            _log.warning(SKIPPED, self.datapath.ring.discard())
        if self.datapath.stale_bytes:
            _log.warning("%d bytes of records were older than the lease, and were skipped", self.datapath.stale_bytes)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if not self._leave:
                self.datapath.remove()
        finally:
            self.datapath.close()

    def attach(self, veths: Sequence[Veth]) -> None:
        """Trace these, and detach whatever else a predecessor left. Raises TargetGone, KernelRefused."""
        level = redaction(self.settings.redact)
        for veth in veths:
            self.add(veth)
            self.pipeline.set_terms(veth.ifindex, {}, level, self.source.now_ns())
        self._started = time.monotonic()
        for ifindex in self.datapath.retain(set(self._veths)):
            _log.info("interface %d was a predecessor's and is traced no more", ifindex)

    def add(self, veth: Veth, mode: str = "detect") -> None:
        """Trace one more, new flows in this capture mode. Raises TargetGone, KernelRefused."""
        self.datapath.attach(veth.ifindex, mode)
        self._outlet.losses.look(veth.ifindex, self.source.now_ns(), 0)
        self.directory.add(veth.ifindex, veth.label, veth.addresses)
        self._outlet.joining.know(veth.ifindex, veth.addresses)
        self._veths[veth.ifindex] = veth
        if self._writer is not None:
            self._attached.add(veth.ifindex)
            self._writer.add(veth.ifindex, veth.label, veth.addresses)

    def set_terms(
        self,
        ifindex: int,
        hints: Mapping[int, str],
        redact: str,
        capture: str | None = None,
        permits: Callable[[str, int], bool] | None = None,
        said: Callable[[str, int], str] | None = None,
    ) -> None:
        """What holds for a veth (see `flows.terms`), also for its open flows. Raises UsageError for an unknown protocol."""
        now_ns = self.source.now_ns()
        ended = self.pipeline.set_terms(ifindex, hints, redaction(redact), now_ns, capture=capture, permits=permits, said=said)
        self._deliver(ended)
        self.datapath.set_mode(ifindex, capture or "detect")

    def retell(self) -> None:
        """What is said of servers (`said` of set_terms) may have changed: open flows follow."""
        self._deliver(self.pipeline.retell(self.source.now_ns()))

    def drop(self, ifindex: int) -> None:
        """Trace it no more, whether or not it is still there; what was captured is read, and its open flows end here.

        That holds also where detaching raises a ClovisorError: what stays attached then is a stray of which nothing is read.
        """
        try:
            with self.troubles.at("the last look at what a pod has lost"):
                self._look_at(ifindex)
            self.datapath.detach(ifindex, self._tcp_look())
        finally:
            self._read_out()
            self.forget(ifindex)

    def forget(self, ifindex: int) -> None:
        """Its open flows end here, and nobody knows it any more. What is attached and what is in the ring are let be."""
        veth = self._veths.pop(ifindex, None)
        self._deliver(self.pipeline.drop(ifindex, self.source.now_ns()))
        self.directory.remove(ifindex)
        self._outlet.losses.forget(ifindex)
        self._outlet.joining.forget(ifindex)
        self.shedding.forget(ifindex)
        if veth is not None:
            self._last_stats.pop(veth.name, None)

    def run(self, stop: Callable[[], bool], turn: Callable[[float], None] | None = None) -> None:
        """Until `stop()`, the session limit, or no veth is left. May be called again.

        `turn` is called (with the monotonic time, s) after each batch, every 50 ms at least; it may add and drop veths, and
        with it having none is no end.
        """
        tick, shed, second, sweep, repair = map(Every, (TICK_S, SHED_S, SECOND, SWEEP_S, REPAIR_S))
        for batch in self.source.batches():
            if batch:
                self._feed(batch)
            now = time.monotonic()
            if tick.due(now) and self.source.drained(batch):
                self._deliver(self.pipeline.tick(self.source.now_ns()))
            if second.due(now):
                self._keep_house()
            if shed.due(now) and (budget := self.shedding.look(now, self.datapath.ring.written)) is not None:
                self.datapath.budget(budget)
            if sweep.due(now):
                self._sweep()
            if repair.due(now):
                self._repair()
            if turn is not None:
                turn(now)
            if stop() or self._outlet.full or not (self._veths or turn):
                return

    def finish(self) -> None:
        """Capture no more, read what is left in the ring, and end what is open.

        In this order, or the kernel would count as captured what nobody reads any more; where there will be a successor, it
        reads on. The exporters are closed by who made them.
        """
        if not self._leave:
            self.datapath.silence()
            self._read_out()
        self._look()
        self._deliver(self.pipeline.close(self.source.now_ns()))
        self._ended = time.monotonic()

    @property
    def veths(self) -> list[Veth]:
        """Those that are still there."""
        return list(self._veths.values())

    def ledgers(self) -> Mapping[str, Ledger]:
        """Export URL to its counts, as they are now."""
        return self._fanout.ledgers()

    def tracing(self) -> dict[str, int]:
        """What became of trace contexts, by `PART EVENT`."""
        return self._outlet.counts()

    @property
    def red(self) -> Red:
        """Of all sessions so far."""
        return self._outlet.red

    def report(self, look: bool = True) -> Report:
        """Also after the end; the kernel's counters are those of `finish` then. Without `look` those that were read last."""
        if look and not self._ended:
            self._look()
        return Report(
            seconds=(self._ended or time.monotonic()) - self._started,
            red=self._outlet.red,
            shown=self._outlet.shown,
            filtered=self._outlet.filtered,
            pods=dict(self._last_stats),
            engine=self.pipeline.ledger.as_dict(),
            unparsed=self.pipeline.unparsed(),
            exporters=self._fanout.ledgers(),
            shed_seconds=self.shedding.seconds,
            blind_seconds=self._blind_s,
            repairs=self._repairs,
            crashes=dict(self.pipeline.ledger.crashes),
        )

    def _feed(self, batch: list[Segment]) -> None:
        if self._writer is not None:
            self._writer.write([segment for segment in batch if segment.interface in self._attached])
        self._deliver(self.pipeline.feed(batch))

    def _read_out(self) -> None:
        """All that is in the ring now, and what comes meanwhile, as long as there is not always more."""
        for _ in range(READ_OUT):
            batch = self.datapath.ring.read(self.source.now_ns() - time.monotonic_ns())
            self._feed(batch)
            if not batch:
                return

    def _deliver(self, sessions: list[Session]) -> None:
        if sessions and self._veths:
            for ifindex in self._outlet.losses.due(sessions, self.source.now_ns()):
                self._look_at(ifindex)
        self._outlet.take(sessions)

    def _look_at(self, ifindex: int) -> None:
        """What one pod has lost until now: its sessions are to say so."""
        if (lost := self.datapath.lost(ifindex)) is not None:
            self._outlet.losses.look(ifindex, self.source.now_ns(), lost)

    def _look(self) -> None:
        """Fetch the kernel's counters while they are there."""
        now_ns, losses = self.source.now_ns(), self._outlet.losses
        for ifindex, veth in self._veths.items():
            if (stats := self.datapath.stats(ifindex)) is not None:
                self._last_stats[veth.name] = stats
                losses.look(ifindex, now_ns, sum(stats[counter] for counter in layout.LOSSES))

    def _keep_house(self) -> None:
        if blind_s := self.datapath.heartbeat():
            self._blind_s += blind_s
            _log.warning(BLIND, blind_s)
        try:
            here = link_names()
        except OSError as error:
            _log.warning("the interfaces cannot be listed: %s", error)
            return
        for ifindex, veth in list(self._veths.items()):
            if ifindex not in here:
                self._lose(veth)

    def _lose(self, veth: Veth) -> None:
        if self._on_lost is not None:
            self._on_lost(veth)
            return
        self._look()
        del self._veths[veth.ifindex]
        with self.troubles.at(f"clearing up after {veth.name}"):
            self.datapath.detach(veth.ifindex, self._tcp_look())
        self.directory.remove(veth.ifindex)
        for part in (self._outlet.joining, self._outlet.losses, self.shedding):
            part.forget(veth.ifindex)
        rest = f"{len(self._veths)} go on" if self._veths else "nothing is left to trace"
        _log.warning("%s (%s) has vanished; %s.", veth.name, veth.label, rest)

    def _sweep(self) -> None:
        self.datapath.sweep(int(self.settings.flow_idle_s * 1e9), self._tcp_look())
        self.tcp.done()

    def _tcp_look(self) -> Look:
        """For the datapath to show what the kernel counted of connections, now."""
        now_ns, look = self.source.now_ns(), self.tcp.look
        return lambda place, fields, over: look(place, fields, over, now_ns)

    def _stats(self) -> Iterator[tuple[int, Stats]]:
        """The kernel's counters of every pod, fetched now."""
        self._look()
        return ((ifindex, self._last_stats[veth.name]) for ifindex, veth in self._veths.items())

    def _repair(self) -> None:
        broken: list[int] = []
        with self.troubles.at("looking whether our filters are in place"):
            broken = self.datapath.broken()
        for veth in [self._veths[ifindex] for ifindex in broken if ifindex in self._veths]:
            with self.troubles.at(f"putting our filters on {veth.name} back"):
                self._repair_one(veth)

    def _repair_one(self, veth: Veth) -> None:
        try:
            if self.datapath.repair(veth.ifindex):
                self._repairs += 1
                _log.warning("our filters on %s had been removed or overtaken; they are back.", veth.name)
        except TargetGone:
            self._lose(veth)
