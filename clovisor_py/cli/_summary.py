"""The last lines of `trace`, `demo` and `replay`: what was seen, and without being asked, what was not."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clovisor_py.exporters._screen import summary_lines
from clovisor_py.exporters._worker import GONE, Ledger
from clovisor_py.flows.crash import Crash
from clovisor_py.kernel.layout import CUTS, LOSSES, Counter
from clovisor_py.metrics.red import EDGES, Red, total
from clovisor_py.metrics.routes import OTHER

if TYPE_CHECKING:  # the agent knows netlink, which a capture has no use for
    from clovisor_py.agent_report import Report
    from clovisor_py.replay import ReplayReport
    from clovisor_py.sources.pcapng import PcapngWriter

LOST = {
    Counter.SHED: "over the pod's budget",
    Counter.LOST_RING: "ring full",
    Counter.LOST_QUOTA: "over the pod's connection quota",
    Counter.LOST_MAP: "connection table full",
    Counter.LOST_LOAD: "unreadable",
}
PASSED_OVER = {
    Counter.CONTROLS_LOST: "openings and ends of connections lost",
    Counter.FRAGMENTS: "IP fragments passed over",
    Counter.MALFORMED: "malformed packets",
}
"""Packets that SEGMENTS does not count."""
ENGINE_LOSSES = {
    "orphan_responses": "responses without a request",
    "violations": "violations of the protocol",
    "hints_refuted": "connections that are not what --hint says",
    "parser_crashes": "parser crashes (please report them)",
    "unseen_responses": "responses that passed unseen",
    "pending_evicted": "unanswered requests forgotten",
    "flows_evicted": "connections forgotten (table full)",
    "held_evicted": "gaps declared early (too much waited behind them)",
    "buffer_overflows": "messages too long to buffer",
    "gap_bytes": "bytes that passed unread",
    "unread_bytes": "bytes of messages that never came to an end",
    "late_responses": "answers after the timeout",
}


class Told(typing.Protocol):
    """What both kinds of report have."""

    @property
    def seconds(self) -> float: ...
    @property
    def red(self) -> Red: ...
    @property
    def shown(self) -> Red: ...
    @property
    def filtered(self) -> int: ...
    @property
    def engine(self) -> Mapping[str, int]: ...
    @property
    def unparsed(self) -> Sequence[tuple[int, str, int]]: ...
    @property
    def exporters(self) -> Mapping[str, Ledger]: ...


def lines(report: Report, texts: bool = False) -> list[str]:
    """Sessions (a call seen at both ends counts once), then segments, then each kind of loss that there was.

    `texts`: exceptions of parsers are quoted, which may quote what was on the wire.
    """
    remarks = []
    if report.shed_seconds >= 0.1:
        remarks.append(f"captured less for {report.shed_seconds:.1f} s to stay within the CPU share")
    if report.blind_seconds:
        remarks.append(f"nothing was captured for {report.blind_seconds:.1f} s: Clovisor did not run")
    if report.repairs:
        remarks.append(f"filters put back {report.repairs}")
    where = _where(report) if len(report.pods) > 1 else []
    told = _segments(report), *where, _engine(report, remarks), *_crashes(report.crashes, texts), *_gone(report)
    return [*_sessions(report), *_indented(*told)]


def tap_lines(report: Told, segments: str, lost: int) -> list[str]:
    """The same of pods that the node's agent reads: `lost` are sessions that did not get here."""
    here = f"sessions lost on the way from the agent (this reader was too slow) {lost:,}" if lost else ""
    return [*_sessions(report), *_indented(segments, here, *_gone(report))]


def replay_lines(report: ReplayReport, texts: bool = False) -> list[str]:
    """The same of capture files: packets take the place of what the kernel counts."""
    parts = [f"seen {report.engine.get('payload', 0):,} segments in {report.packets:,} packets"]
    passed = sorted(report.passed_over.items(), key=lambda item: (-item[1], item[0]))
    if passed:
        parts.append("passed over " + ", ".join(f"{count:,} {reason}" for reason, count in passed))
    if report.lost:
        parts.append(f"lost while capturing {report.lost:,}")
    parts += _unparsed(report)
    cut = report.engine.get("cut_bytes", 0)
    remarks = [f"bytes that were not captured {cut:,}"] if cut else []
    told = " · ".join(parts), _engine(report, remarks), *_crashes(report.crashes, texts), *_gone(report)
    return [*_sessions(report), *_indented(*told)]


def written(writer: PcapngWriter) -> str:
    """What `-w` wrote: `web.pcapng: 111 packets (clovisor replay shows them again)`."""
    path = "standard output" if writer.path == "-" else writer.path
    if writer.gone:
        return f"{path}: {_packets(writer.written)}, until its reader ended"
    if not writer.lost:
        again = " (clovisor replay shows them again)" if writer.written and writer.regular and writer.path != "-" else ""
        return f"{path}: {_packets(writer.written)}{again}"
    if not writer.written:
        return f"{path}: none of {_packets(writer.lost)} could be written"
    return f"{path}: {_packets(writer.written)}; {writer.lost:,} more could not be written"


def _packets(number: int) -> str:
    return f"{number:,} packet{'' if number == 1 else 's'}"


def undelivered(report: Told) -> list[str]:
    """A sentence for each exporter that did not deliver all: what it dropped, and what it said when it last failed.

    A reader who has seen enough (`| head`) is none of these.
    """
    out = []
    for url, ledger in report.exporters.items():
        lost = {reason: count for reason, count in ledger.dropped.items() if count and reason != GONE}
        if lost:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in lost.items())
            why = ledger.error or "it was too slow; export less, or elsewhere."
            out.append(f"{url} got {ledger.sent:,} of {ledger.offered:,} sessions (dropped: {reasons}): {why}")
    return out


def crashed(crashes: Mapping[Crash, int]) -> list[str]:
    """A sentence for each protocol whose parser or recogniser failed: a mistake in it, whatever the bytes were."""
    what_to_do = "what it could not read is shown as tcp; report it, or leave it out if it is a --plugin."
    return [f"the {name} parser failed: {what_to_do}" for name in sorted({crash.protocol for crash in crashes} - {""})]


def _sessions(report: Told) -> list[str]:
    out = summary_lines(total(report.shown.calls()), report.seconds)
    if report.filtered:
        out.append(f"  {report.filtered:,} more did not match the filter")
    return out


def _indented(*texts: str) -> list[str]:
    return [f"  {text}" for text in texts if text]


def _segments(report: Report) -> str:
    def segments(*counters: Counter) -> int:
        return sum(stats[counter] for stats in report.pods.values() for counter in counters)

    parts = [f"seen {segments(Counter.SEGMENTS):,} segments", f"captured {segments(Counter.CAPTURED):,}"]
    if cut := segments(*CUTS):
        parts.append(f"only the head of {cut:,}")
    if muted := segments(Counter.MUTED):
        parts.append(f"only counted {muted:,}")
    lost = segments(*LOSSES)
    reasons = ", ".join(f"{text} {segments(counter):,}" for counter, text in LOST.items() if segments(counter))
    parts.append(f"lost {lost:,}" + (f" ({reasons})" if reasons else ""))
    parts += [f"{text} {segments(counter):,}" for counter, text in PASSED_OVER.items() if segments(counter)]
    return " · ".join(parts + _unparsed(report))


def _unparsed(report: Told) -> list[str]:
    if not report.unparsed:
        return []
    some = ", ".join(f":{port} {reason}" if port else reason for port, reason, _ in report.unparsed[:3])
    more = " …" if len(report.unparsed) > 3 else ""
    return [f"unparsed flows {sum(flows for *_, flows in report.unparsed):,} ({some}{more})"]


def _where(report: Report) -> list[str]:
    """The pods that lost something, by veth."""
    losses = {veth: sum(stats[counter] for counter in LOSSES) for veth, stats in report.pods.items()}
    return [f"lost on {veth}: {lost:,}" for veth, lost in losses.items() if lost]


def _engine(report: Told, remarks: list[str]) -> str:
    found = [f"{text} {report.engine[name]:,}" for name, text in ENGINE_LOSSES.items() if report.engine.get(name)]
    if report.red.overflowed:
        remarks = [f"sessions of callers beyond {EDGES:,}, counted as {OTHER} {report.red.overflowed:,}", *remarks]
    return " · ".join(found + remarks)


def _gone(report: Told) -> list[str]:
    """The exporters whose readers had seen enough."""
    return [
        f"{url} got {ledger.sent:,} of {ledger.offered:,} sessions: its reader has gone"
        for url, ledger in report.exporters.items()
        if ledger.dropped.get(GONE)
    ]


def _crashes(crashes: Mapping[Crash, int], texts: bool) -> list[str]:
    """Whose parser, with what and where: what its author has to know."""
    out = []
    for crash, times in crashes.items():
        quoted = f": {crash.text}" if texts else " (clovisor -v quotes it)"
        where = f" at {crash.place}" if crash.place else ""
        out.append(f"{crash.protocol} parser crashed × {times:,}: {crash.kind}{where}{quoted if crash.text else ''}".lstrip())
    return out
