"""`clovisor pods`: who is traced on this node, where, since when, and how much of it was seen and lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from clovisor_py.cli import _agent
from clovisor_py.cli._until import until
from clovisor_py.explain import STALE_S, age, ago
from clovisor_py.exporters._text import cells, clip
from clovisor_py.model.text import printable
from clovisor_py.snapshot import LOST, SEEN, Pod, Snapshot, State, as_json

HEADER: Final = ("POD", "VETH", "SINCE", "SEGMENTS", "LOST", "SESSIONS", "STATE")
RIGHT: Final = frozenset({"SINCE", "SEGMENTS", "LOST", "SESSIONS"})
LOSS: Final = HEADER.index("LOST")
ONLY_LOOKED_AT: Final = "traced for who looks"
"""Nobody enabled it: `clovisor trace` does not want to miss anything of it."""
POD_CELLS: Final = 60
"""A pod's name is cut there; `-o json` has it whole."""
STALE: Final = "ring stale bytes"
"""Of the agent's own counts."""
WATCH_S: Final = 2.0
"""The agent says something new once a second."""
NAP_S: Final = 0.05
"""How late Ctrl-C is heard."""


@click.command(name="pods")
@_agent.namespace_option
@click.option("-a", "--all", "everything", is_flag=True, help="Those that nobody asked to trace, too.")
@click.option("-w", "--watch", is_flag=True, help="Again every two seconds, until Ctrl-C.")
@_agent.output_option
@_agent.socket_option
def COMMAND(namespace: str | None, everything: bool, watch: bool, output: str, socket: Path) -> int:
    """Show which pods of this node are traced, since when, and how much of them was seen and lost.

    Asks the agent that runs here. A pod that should be traced and is not says why; `clovisor explain` says more. SINCE is for
    how long this agent has traced it (filters of an agent before may be older): SEGMENTS, LOST and SESSIONS count from there.

    \b
    Examples:
      clovisor pods
      clovisor pods -n shop -a
      clovisor pods --watch
      clovisor pods -o json | jq '.pods[] | select(.state == "traced") | .name'
    """
    if not watch:
        _show(_agent.snapshot(socket), namespace, everything, output)
        return 0
    with until(None) as stop:
        while not stop():
            found = _agent.snapshot(socket)
            if output == "text":
                click.clear()  # does nothing where standard output is no terminal
            _show(found, namespace, everything, output)
            _sleep(WATCH_S, stop)
        return stop.exit_status()


def _sleep(seconds: float, stop: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not stop() and time.monotonic() < end:
        time.sleep(NAP_S)


def _show(found: Snapshot, namespace: str | None, everything: bool, output: str) -> None:
    wanted = [pod for pod in found.pods if namespace in (None, pod.namespace)]
    if output == "json":
        click.echo(json.dumps(as_json(found._replace(pods=tuple(wanted))), ensure_ascii=False))
        return
    pods = sorted((pod for pod in wanted if everything or shown(pod)), key=lambda pod: pod[:2])
    for line in lines(found, pods, time.time()):
        click.echo(line, color=_agent.colours())


def shown(pod: Pod) -> bool:
    """Whether it is or should be traced."""
    return pod.selected or pod.state is State.TRACED


def lines(snapshot: Snapshot, pods: Sequence[Pod], now: float) -> Iterator[str]:
    """The table, then what the operator has to know without asking."""
    if pods:
        yield from _table([_row(pod, now) for pod in pods])
    elif not snapshot.starting:
        yield f"No pod of node {snapshot.node} is traced here: label one with clovisor.io/trace=true, or clovisor enable it."
    for problem in snapshot.problems:
        yield click.style(printable(problem), fg="yellow")
    for remark in _remarks(snapshot, now):
        yield click.style(remark, dim=True)


def _row(pod: Pod, now: float) -> tuple[str, ...]:
    if pod.state is not State.TRACED:
        return (clip(pod.ref, POD_CELLS), printable(pod.veth), "", "", "", "", printable(pod.state.value + _why(pod)))
    numbers = (pod.ended(SEEN), pod.ended(LOST), sum(pod.sessions.values()))
    state = f"traced, behind {pod.ahead}" if pod.ahead else pod.state.value if pod.selected else ONLY_LOOKED_AT
    counts = (f"{number:,}" for number in numbers)
    return (clip(pod.ref, POD_CELLS), printable(pod.veth), age(now - pod.since), *counts, printable(state + _why(pod)))


def _why(pod: Pod) -> str:
    """Whole, as the last column may be as wide as it likes; of several mistakes the first."""
    said = [*([pod.problem] if pod.problem and pod.problem != pod.state.value else []), *pod.mistakes]
    more = f" (and {len(said) - 1} more: clovisor explain {pod.ref})" if len(said) > 1 else ""
    return f": {said[0]}{more}" if said else ""


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    table = [HEADER, *rows]
    widths = [max(cells(row[column]) for row in table) for column in range(len(HEADER))]
    for row in table:
        columns = []
        for title, text, width in zip(HEADER, row, widths, strict=True):
            space = " " * (width - cells(text))
            columns.append(space + text if title in RIGHT else text + space)
        line = "  ".join(columns).rstrip()
        bad = row is not HEADER and (row[LOSS] not in ("0", "") or row[-1] != State.TRACED.value)
        yield click.style(line, fg="yellow") if bad else line


def _remarks(snapshot: Snapshot, now: float) -> Iterator[str]:
    if sentence := _agent.starting(snapshot):
        yield sentence
    if now - snapshot.taken > STALE_S:
        yield f"the agent said this {ago(now - snapshot.taken)}, and nothing since: see its log."
    away = [each.name for each in snapshot.resources if not each.synced]
    if away:
        yield f"the API server does not tell of {', '.join(away)}: tracing goes on with what is known."
    if snapshot.shedding:
        yield "the agent is at its share of a core: less of the busiest pods is captured; counters stay complete."
    if snapshot.repairs:
        yield f"filters put back: {snapshot.repairs:,}."
    for each in snapshot.exporters:
        if dropped := [f"{reason} {number:,}" for reason, number in each.dropped.items() if number]:
            yield printable(f"{each.url} got {each.sent:,} of {each.offered:,} sessions; dropped: {', '.join(dropped)}.")
    if stale := snapshot.own.get(STALE, 0):
        yield f"{stale:,} bytes that were captured before this agent began were too old to be read: what they told is not seen."
