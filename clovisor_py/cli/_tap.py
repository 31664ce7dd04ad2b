"""`clovisor trace pod/…`: the sessions of pods through the agent of this node, shown and summed up as those of a veth are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from clovisor_py.cli import _summary
from clovisor_py.cli._options import Shown
from clovisor_py.cli._until import Until, until
from clovisor_py.config import Settings
from clovisor_py.control_socket import Request
from clovisor_py.directory import Directory
from clovisor_py.errors import ClovisorError, EnvironmentLacking, UsageError
from clovisor_py.exporters._fanout import Fanout, open_urls
from clovisor_py.exporters._screen import service_map_lines
from clovisor_py.exporters._worker import Ledger
from clovisor_py.flows.crash import Crash
from clovisor_py.kube.marking import KINDS, target
from clovisor_py.metrics.red import Red
from clovisor_py.model.session import Session
from clovisor_py.outlet import Outlet
from clovisor_py.snapshot import CAPTURED, COUNTED, CUT, LOST, SEEN, Ended
from clovisor_py.tap_client import TapClient
from clovisor_py.tap_wire import Finished, Tapped

LEAVE_S: Final = 5.0
"""How long the end waits for what is on its way."""
QUEUE: Final = Settings().export_queue
OWN: Final = ("cpu_share", "write", "hints", "udp_ports", "plugins")
"""Options that say how to read, which the agent decides: (parameter names)."""
FLAGS: Final = {"cpu_share": "--cpu-share", "write": "-w", "hints": "--hint", "udp_ports": "--udp-port", "plugins": "--plugin"}
BOTH: Final = (
    "pods are traced by the agent of this node, and '{}' by this command itself: ask for one kind of target at a time."
)
NOT_HERE: Final = "{} is for what this command traces itself; a pod is read as the agent is told to: use clovisor enable {}."
AGENTS: Final = {"namespace": "-n", "socket": "--socket"}
"""Options that only pods have, and how they are written."""
NO_POD: Final = "{} is for pods of the agent, and '{}' is none: write pod/NAME, deploy/NAME or ns/NAME, or leave {} out."
TOO_EARLY: Final = "ended before the agent had answered: nothing was shown"
UNFINISHED: Final = "the agent did not finish within {:g} s, and what was on its way is not shown: its log says why."
NOT_TOLD: Final = "the agent did not tell how many segments it saw"

_NAMES: Final = frozenset(name for names in KINDS.values() for name in names)


def is_pod(text: str) -> bool:
    """Whether a TARGET is the agent's business: `pod/…`, `deploy/…`, `ns/…`; an existing file is none."""
    kind, slash, _ = text.partition("/")
    return bool(slash) and kind.lower() in _NAMES and not Path(text).exists()


def pods_of(targets: Sequence[str]) -> bool:
    """Whether all of them are. Raises UsageError where only some are."""
    others = [text for text in targets if not is_pod(text)]
    if others and len(others) < len(targets):
        raise UsageError(BOTH.format(others[0]))
    return not others


def refuse_for_others(ctx: click.Context, targets: Sequence[str]) -> None:
    """Raises UsageError where an option was given that means nothing to targets that are no pods."""
    for name, flag in AGENTS.items():
        if _given(ctx, name):
            raise UsageError(NO_POD.format(flag, targets[0], flag))


@dataclass
class TapReport:
    """What `_summary` wants to know."""

    outlet: Outlet
    seconds: float
    exporters: Mapping[str, Ledger]
    engine: Mapping[str, int] = field(default_factory=dict)
    unparsed: Sequence[tuple[int, str, int]] = ()
    crashes: Mapping[Crash, int] = field(default_factory=dict)

    @property
    def red(self) -> Red:
        return self.outlet.red

    @property
    def shown(self) -> Red:
        return self.outlet.shown

    @property
    def filtered(self) -> int:
        return self.outlet.filtered


class Named(Directory):
    """The agent has named both ends."""

    def name(self, session: Session) -> None:
        """They stay as they are."""


def trace_pods(
    ctx: click.Context, targets: Sequence[str], shown: Shown, seconds: float | None, namespace: str | None, path: Path
) -> int:
    """Until it is time, nobody reads, or the agent ends; the exit status."""
    request = _request(ctx, targets, shown, namespace)
    with until(seconds) as stop, TapClient(path, request) as tap:
        if not tap.begin(stop):
            shown.say(TOO_EARLY)
            return stop.exit_status()
        with open_urls(shown.urls, queue_limit=QUEUE) as fanout:
            for pod in tap.begun.pods:
                shown.say(describe(pod, request.redact))
            shown.say("Ctrl-C for the summary")
            stop.start()
            finished, whole = _show(tap, fanout, shown, stop)
    if finished.why:
        raise ClovisorError(finished.why)
    return stop.exit_status() or int(not whole)


def _show(tap: TapClient, fanout: Fanout, shown: Shown, stop: Until) -> tuple[Finished, bool]:
    """What the agent said last, and whether all exporters got everything."""
    began = time.monotonic()
    outlet = Outlet(fanout.offer, shown.filter, shown.count, Named())
    with stop.work():
        try:
            finished = _follow(tap, outlet, lambda: stop() or fanout.gone or outlet.full, shown.say)
        except EnvironmentLacking as error:
            finished = Finished(tap.lost, why=str(error))
    seconds_traced = time.monotonic() - began
    fanout.close()
    report = TapReport(outlet, seconds_traced, fanout.ledgers())
    for line in (*closing(report, finished), *shown.missed):
        shown.say(line)
    for sentence in (undelivered := _summary.undelivered(report)):
        shown.complain(sentence)
    return finished, not undelivered


def describe(pod: Tapped, asked: str) -> str:
    """`tracing pod shop/web (veth7, 10.0.0.2)`, then what its operator should know."""
    where = ", ".join(filter(None, (pod.veth, " ".join(pod.ips))))
    parts = [f"tracing pod {pod.ref}{f' ({where})' if where else ''}"]
    if pod.problem:
        parts.append(f"nothing is seen of it: {pod.problem.rstrip('.')}")
    if not pod.enabled:
        parts.append(f"not enabled ({pod.because}): traced for as long as you look, and the agent exports nothing of it")
    if asked and pod.redact != asked:
        parts.append(f"redacted as the pod's own level says: {pod.redact}")
    elif asked and pod.enabled:
        parts.append(f"redacted as {asked} for the agent's exporters, too, if they were told more until now")
    return " · ".join(parts)


def closing(report: TapReport, finished: Finished) -> list[str]:
    """Who called whom, where there was more than one; then the summary, and what was lost on the way here."""
    rows = report.shown.calls()
    table = [f"  {line}" for line in service_map_lines(rows)] if len(rows) > 1 else []
    segments = NOT_TOLD if finished.why and not finished.segments else _segments(finished.segments)
    return [*table, *_summary.tap_lines(report, segments, finished.lost)]


def _request(ctx: click.Context, targets: Sequence[str], shown: Shown, namespace: str | None) -> Request:
    for name in OWN:
        if _given(ctx, name):
            raise UsageError(NOT_HERE.format(FLAGS[name], targets[0]))
    refs = [target(text, namespace or "default") for text in targets]
    words = " ".join(f"{ref.kind}/{ref.namespace}/{ref.name}" for ref in dict.fromkeys(refs))
    return Request("trace", targets=words, redact=shown.redact if _given(ctx, "redact") else "")


def _given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)


def _follow(tap: TapClient, outlet: Outlet, enough: Callable[[], bool], say: Callable[[str], None]) -> Finished:
    for message in tap.messages():
        if isinstance(message, Finished):
            return message
        _take(message, outlet, say)
        if enough():
            break
    tap.leave()
    until_s = time.monotonic() + LEAVE_S
    for message in tap.messages(beating=False):
        if isinstance(message, Finished):
            return message
        _take(message, outlet, say)
        if time.monotonic() > until_s:
            break
    return Finished(tap.lost, why=UNFINISHED.format(LEAVE_S))


def _take(message: Session | str | None, outlet: Outlet, say: Callable[[str], None]) -> None:
    if isinstance(message, Session):
        outlet.take([message])
    elif message is not None:
        say(message)


def _segments(counts: Sequence[Ended]) -> str:
    """As `trace` of a veth says it."""

    def of(stage: str) -> int:
        return sum(each.number for each in counts if each.stage == stage)

    reasons = ", ".join(f"{each.reason} {each.number:,}" for each in counts if each.stage == LOST and each.number)
    parts = [f"seen {of(SEEN):,} segments", f"captured {of(CAPTURED):,}"]
    parts += [f"only the head of {of(CUT):,}"] if of(CUT) else []
    parts += [f"only counted {of(COUNTED):,}"] if of(COUNTED) else []
    return " · ".join([*parts, f"lost {of(LOST):,}" + (f" ({reasons})" if reasons else "")])
