"""The last lines of `trace` and `demo`: what was seen, and without being asked, what was not."""

from __future__ import annotations

from clovisor_py.agent import Report
from clovisor_py.exporters._screen import summary_lines
from clovisor_py.kernel.layout import CUTS, LOSSES, Counter
from clovisor_py.metrics.red import EDGES, OTHER, total

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


def lines(report: Report) -> list[str]:
    """Sessions (a call seen at both ends counts once), then segments, then each kind of loss that there was."""
    shown = total(report.shown.calls())
    out = summary_lines(shown, report.seconds)
    if report.filtered:
        out.append(f"  {report.filtered:,} more did not match the filter")
    out.append("  " + _segments(report))
    if len(report.pods) > 1:
        out.extend(_where(report))
    out.extend(f"  {text}" for text in (_engine(report), *_exporters(report)) if text)
    return out


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
    if report.unparsed:
        some = ", ".join(f":{port} {reason}" if port else reason for port, reason, _ in report.unparsed[:3])
        more = " …" if len(report.unparsed) > 3 else ""
        parts.append(f"unparsed flows {sum(flows for *_, flows in report.unparsed):,} ({some}{more})")
    return " · ".join(parts)


def _where(report: Report) -> list[str]:
    """The pods that lost something, by veth."""
    losses = {veth: sum(stats[counter] for counter in LOSSES) for veth, stats in report.pods.items()}
    return [f"  lost on {veth}: {lost:,}" for veth, lost in losses.items() if lost]


def _engine(report: Report) -> str:
    found = [f"{text} {report.engine[name]:,}" for name, text in ENGINE_LOSSES.items() if report.engine.get(name)]
    if report.shed_seconds >= 0.1:
        found.append(f"captured less for {report.shed_seconds:.1f} s to stay within the CPU share")
    if report.red.overflowed:
        found.append(f"sessions of callers beyond {EDGES:,}, counted as {OTHER} {report.red.overflowed:,}")
    if report.repairs:
        found.append(f"filters put back {report.repairs}")
    return " · ".join(found)


def _exporters(report: Report) -> list[str]:
    """Only where something was dropped: what arrived needs no line."""
    out = []
    for url, (offered, sent, dropped) in report.exporters.items():
        if lost := {reason: count for reason, count in dropped.items() if count}:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in lost.items())
            out.append(f"{url} got {sent:,} of {offered:,}; dropped: {reasons}")
    return out
