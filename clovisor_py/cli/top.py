"""`clovisor top`: who calls whom now, how often, how fast, and what fails; by pair or by operation."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from clovisor_py.cli import _agent
from clovisor_py.cli._top import SORTS, ordered, table
from clovisor_py.cli._types import Duration
from clovisor_py.cli._until import Until, until
from clovisor_py.config import Settings
from clovisor_py.control_client import ask
from clovisor_py.control_socket import VIEW, Request
from clovisor_py.errors import CaptureBroken, EnvironmentLacking, UsageError
from clovisor_py.exporters._fanout import Fanout
from clovisor_py.metrics.taken import Taken, take
from clovisor_py.metrics.view import By, Line, lines, untold
from clovisor_py.model.session import rfc3339
from clovisor_py.model.text import printable
from clovisor_py.replay import Replay
from clovisor_py.snapshot import from_json
from clovisor_py.sources._capture_input import STANDARD_INPUT, end_standard_input

NAP_S: Final = 0.05
"""How late Ctrl-C is heard."""
MARGIN: Final = 3
"""Lines of a terminal that are left free: header, sum of the rest, prompt."""
AWAY_S: Final = 120.0
"""How long an agent may be away that has answered before: a new one is there in seconds, one with a new image in a minute."""
AWAY: Final = "waiting up to {:.0f} s for the agent to come back; {}"
NO_FILE: Final = (
    "there is no capture '{}': give files, or nothing at all for what the agent of this node sees (-n and --of choose of it)."
)
FOR_AGENTS: Final = {"every_ns": "every", "count": "count", "duration_ns": "duration", "socket": "socket"}
"""Parameters that make no sense of captures, and their options."""
ODD: Final = "what answers at {} is another version's agent ({}): use its own clovisor."


@click.command(name="top")
@click.argument("files", nargs=-1, metavar="[FILE...]", type=click.Path(allow_dash=True))
@click.option(
    "--by", type=click.Choice([by.value for by in By]), default=By.LINK.value, show_default=True, help="One line for each."
)
@click.option("--sort", type=click.Choice(list(SORTS)), default="rate", show_default=True, help="What comes first.")
@click.option("-n", "--namespace", metavar="NAME", help="Only what begins or ends there.")
@click.option("--of", metavar="WORKLOAD", help="Only what this workload calls, and who calls it.")
@click.option(
    "--every", "every_ns", type=Duration(positive=True), default="2s", show_default=True, help="How long a table looks back."
)
@click.option("--count", type=click.IntRange(1), help="End after so many tables.  [default: 1 where no terminal shows them]")
@click.option("--duration", "duration_ns", type=Duration(positive=True), help="End after this time.")
@_agent.output_option
@_agent.socket_option
def COMMAND(
    files: tuple[str, ...],
    by: str,
    sort: str,
    namespace: str | None,
    of: str | None,
    every_ns: int,
    count: int | None,
    duration_ns: int | None,
    output: str,
    socket: Path,
) -> int:
    """Show who calls whom now, how often, how fast, and what fails.

    Asks the agent of this node, which counts every session whether or not it is shown or sampled; or sums up captures. On a
    terminal the table is made anew every two seconds, until Ctrl-C; elsewhere there is one. -o json is one object a line of it,
    with the time of the agent's answer. A row that ends with ·cut has calls that passed unseen.

    \b
    Examples:
      clovisor top
      clovisor top -n shop --sort p99
      clovisor top --by rpc --of cart
      clovisor top --every 10s --count 1 -o json | jq .calls_per_s
      clovisor top monday.pcap --by rpc
      ssh node tcpdump -w - port 80 | clovisor top -
    """

    def show(before: Taken, now: Taken, seconds: float | None = None) -> None:
        found = lines(before, now, By(by), seconds)
        chosen = ordered([line for line in found if _is_of(line, namespace, of)], sort)
        _show(chosen, untold(before, now, By(by)), output, None if files else now.taken)

    if files:
        _refuse_with_captures()
        return _captures(files, show)
    if count is None and duration_ns is None and not sys.stdout.isatty():
        count = 1
    with until(None if duration_ns is None else duration_ns / 1e9) as stop:
        stop.start()
        _live(socket, every_ns / 1e9, count, stop, show)
        return stop.exit_status()


def _live(path: Path, every_s: float, count: int | None, stop: Until, show: Callable[[Taken, Taken], None]) -> None:
    before, shown = _taken(path), 0
    while True:
        _sleep(every_s, stop)
        if stop.asked or (stop() and shown):
            return
        now = _when_back(path, every_s, stop)
        if now is None:
            return
        show(before, now)
        before, shown = now, shown + 1
        if shown == count or stop():
            return


def _when_back(path: Path, every_s: float, stop: Until) -> Taken | None:
    """What the agent tells, which may be away for AWAY_S; None: it is time to end before it is back."""
    end, said = time.monotonic() + AWAY_S, False
    while True:
        try:
            return _taken(path)
        except EnvironmentLacking as error:
            if time.monotonic() >= end:
                raise
            if not said:
                click.echo(click.style(AWAY.format(AWAY_S, error), dim=True), err=True, color=_agent.colours())
                said = True
        _sleep(every_s, stop)
        if stop():
            return None


def _captures(files: Sequence[str], show: Callable[[Taken, Taken, float], None]) -> int:
    missing = [name for name in files if name != STANDARD_INPUT and not Path(name).exists()]
    if missing:
        raise UsageError(NO_FILE.format(missing[0]))
    broken = False
    piped = end_standard_input if STANDARD_INPUT in files else None
    with until(None, piped) as stop, Fanout([]) as fanout, stop.work():
        replay = Replay(Settings(), fanout, stop=stop, by_operation=True)
        for name in files:
            try:
                replay.run(name)
            except CaptureBroken as error:
                click.echo(f"clovisor: {printable(name)}: {error}", err=True)
                broken = True
    report = replay.report()
    show(Taken(), take(report.red, None, 0.0), report.seconds)
    return stop.exit_status() or int(broken)


def _refuse_with_captures() -> None:
    """What is for an agent that is asked again and again would be passed over in silence."""
    context = click.get_current_context()
    given = [name for name in FOR_AGENTS if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given:
        raise UsageError(f"--{FOR_AGENTS[given[0]]} is for the running agent, and captures are summed up once; leave it out.")


def _show(found: Sequence[Line], told_as_other: int, output: str, taken: float | None) -> None:
    """`taken`: when the agent told it, s since the epoch; None of captures, which are told once."""
    if output == "json":
        at = {} if taken is None else {"time": rfc3339(int(taken * 1e9))}
        for line in found:
            text = json.dumps({**at, **line.as_dict(), "told_as_other": told_as_other}, ensure_ascii=False)
            click.echo(text.encode(errors="backslashreplace").decode())  # half a character of the wire is no UTF-8
        return
    rows = columns = None
    if sys.stdout.isatty():
        columns, height = shutil.get_terminal_size()
        if taken is not None:
            click.clear()
            rows = height - MARGIN
    for text in table(found, rows, columns, told_as_other):
        click.echo(text, color=_agent.colours())


def _is_of(line: Line, namespace: str | None, workload: str | None) -> bool:
    """An end must be what was asked for, in both respects."""
    ends = ((line.client_namespace, line.client), (line.server_namespace, line.server))
    return any(namespace in (None, space) and workload in (None, name) for space, name in ends)


def _taken(path: Path) -> Taken:
    try:
        return from_json(Taken, ask(Request(VIEW), path))
    except ValueError as error:
        raise EnvironmentLacking(ODD.format(path, error)) from error


def _sleep(seconds: float, stop: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not stop() and time.monotonic() < end:
        time.sleep(NAP_S)
