"""The last lines of `trace`, `demo` and `replay`: what was seen, and without being asked, what was not."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clovisor_py.exporters._screen import summary_lines
from clovisor_py.kernel.layout import CUTS, LOSSES, Counter
from clovisor_py.metrics.red import EDGES, OTHER, Red, total

if TYPE_CHECKING:  # the agent knows netlink, which a capture has no use for
    from clovisor_py.agent import Report
    from clovisor_py.replay import ReplayReport

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
    "parser_crashes": "parser crashes (please report them)",
    "unseen_responses": "responses that passed unseen",
    "pending_evicted": "unanswered requests forgotten",
    "flows_evicted": "connections forgotten (table full)",
    "held_evicted": "gaps declared early (too much waited behind them)",
    "buffer_overflows": "messages too long to buffer",
    "gap_bytes": "bytes that passed unread",
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
    def exporters(self) -> Mapping[str, tuple[int, int, Mapping[str, int]]]: ...


def lines(report: Report) -> list[str]:
    """Sessions (a call seen at both ends counts once), then segments, then each kind of loss that there was."""
    remarks = []
    if report.shed_seconds >= 0.1:
        remarks.append(f"captured less for {report.shed_seconds:.1f} s to stay within the CPU share")
    if report.repairs:
        remarks.append(f"filters put back {report.repairs}")
    where = _where(report) if len(report.pods) > 1 else []
    return [*_sessions(report), *_indented(_segments(report), *where, _engine(report, remarks), *_exporters(report))]


def replay_lines(report: ReplayReport) -> list[str]:
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
    return [*_sessions(report), *_indented(" · ".join(parts), _engine(report, remarks), *_exporters(report))]


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


def _exporters(report: Told) -> list[str]:
    """Only where something was dropped: what arrived needs no line."""
    out = []
    for url, (offered, sent, dropped) in report.exporters.items():
        if lost := {reason: count for reason, count in dropped.items() if count}:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in lost.items())
            out.append(f"{url} got {sent:,} of {offered:,}; dropped: {reasons}")
    return out
