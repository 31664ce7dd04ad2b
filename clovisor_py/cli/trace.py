"""`clovisor trace`: the sessions of pods, live."""

from __future__ import annotations

import dataclasses

import click
from click.shell_completion import CompletionItem

from clovisor_py.agent import Agent, Report
from clovisor_py.cli import _summary
from clovisor_py.cli._options import Duration, Hint, Status, session_filter
from clovisor_py.cli._until import until
from clovisor_py.config import Settings
from clovisor_py.errors import ClovisorError
from clovisor_py.exporters._fanout import open_urls
from clovisor_py.exporters._screen import service_map_lines
from clovisor_py.kernel.links import PAIRS
from clovisor_py.kernel.probe import require_bpffs, require_root
from clovisor_py.kernel.targets import Veth, resolve, veths_here
from clovisor_py.model.text import printable

SHOWN = "line fits the terminal and shows a call once; wide cuts nothing and shows both its ends; json says everything."
CONSOLE = {"line": "console:", "wide": "console:?format=wide", "json": "console:?format=json"}


def describe(veth: Veth, hints: dict[int, str]) -> str:
    """`tracing web (vethc1a2 ⇄ eth0, 10.0.0.2 fd00::2)`."""
    ends = f"{veth.name} ⇄ {veth.peer_name}" if veth.peer_name else veth.name
    known = " · " + ", ".join(f"{name} on :{port}" for port, name in sorted(hints.items())) if hints else ""
    odd = "" if veth.kind in PAIRS else f" · not a pod's veth ({veth.kind}): all that is behind it counts as the pod"
    return f"tracing {veth.label} ({ends}{', ' if veth.addresses else ''}{' '.join(veth.addresses)}){known}{odd}"


def complete_targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Namespaces and host veths that begin so."""
    try:
        names = [name for veth in veths_here() for name in (veth.label, veth.name)]
    except ClovisorError:
        return []  # completion is no place for errors
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _closing(report: Report) -> list[str]:
    """Who called whom, where there was more than one; then the summary."""
    rows = report.shown.calls()
    table = [f"  {line}" for line in service_map_lines(rows)] if len(rows) > 1 else []
    return [*table, *_summary.lines(report)]


def _remark(text: str) -> None:
    click.secho(printable(text), err=True, dim=True)


def _mute(text: str) -> None:
    """With --quiet."""


@click.command(name="trace")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...", shell_complete=complete_targets)
@click.option("-o", "--output", type=click.Choice(list(CONSOLE)), default="line", show_default=True, help=SHOWN)
@click.option("--export", "exports", multiple=True, metavar="URL", help="Send sessions there too (jsonl:FILE, jaeger://HOST).")
@click.option("--hint", "hints", multiple=True, type=Hint(), help="This server port speaks that protocol.")
@click.option("--port", "ports", multiple=True, type=click.IntRange(1, 65535), help="Only sessions of this server port.")
@click.option("--path", metavar="PATTERN", help="Only resources that begin so, or match (* ? []).")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=Status(),
    metavar="STATUS",
    help="Only this status (404), class (5xx) or outcome (timeout).",
)
@click.option("--slower-than", "slower_ns", type=Duration(), help="Only sessions that took as long (100ms, 2s, 1m).")
@click.option("--duration", "duration_ns", type=Duration(), help="End after this time of tracing.")
@click.option("--count", type=click.IntRange(1), help="End after so many sessions.")
@click.option(
    "--cpu-share", type=click.FloatRange(0.05, 16), help="Of one core, before the kernel captures less.  [default: 0.5]"
)
@click.option("-q", "--quiet", is_flag=True, help="No remarks: only sessions.")
def COMMAND(
    targets: tuple[str, ...],
    output: str,
    exports: tuple[str, ...],
    hints: tuple[tuple[int, str], ...],
    ports: tuple[int, ...],
    path: str | None,
    statuses: tuple[str, ...],
    slower_ns: int | None,
    duration_ns: int | None,
    count: int | None,
    cpu_share: float | None,
    quiet: bool,
) -> int:
    """Show what pods say, live, until Ctrl-C or until nobody reads it; then a summary.

    A TARGET is a host veth, a network namespace, or a pid.

    \b
    Examples:
      clovisor trace web                               a network namespace
      clovisor trace vethc1a2 veth77f0                 two pods, by host veth
      clovisor trace 4711 --status 5xx --status timeout
      clovisor trace web --path /api --slower-than 100ms -o json
      clovisor trace web --export jaeger://127.0.0.1 --export jsonl:web.jsonl
      clovisor trace web --hint 9000=http --duration 30s

    Sessions go to standard output, remarks and the summary to standard error.
    """
    require_root()
    require_bpffs()
    veths = list({veth.ifindex: veth for target in targets for veth in resolve(target)}.values())
    settings = Settings() if cpu_share is None else dataclasses.replace(Settings(), cpu_share=cpu_share)
    keep = session_filter(ports, path, statuses, slower_ns)
    say = _mute if quiet else _remark
    with (
        until(None if duration_ns is None else duration_ns / 1e9) as stop,
        open_urls([CONSOLE[output], *exports], queue_limit=settings.export_queue) as fanout,
        Agent(settings, fanout, hints=dict(hints), keep=keep, limit=count) as agent,
        stop.work(),
    ):
        agent.attach(veths)
        for veth in veths:
            say(describe(veth, dict(hints)))
        say("Ctrl-C for the summary")
        stop.start()
        agent.run(lambda: stop() or fanout.gone)
        agent.finish()
        left = bool(agent.veths)
        fanout.close()
        for line in _closing(agent.report()):
            say(line)
    if not left:
        raise ClovisorError("every traced interface has vanished: start again when the pods are back.")
    return 0
