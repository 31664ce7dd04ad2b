"""`clovisor trace`: the sessions of pods, live."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from clovisor_py.agent import Agent, Report
from clovisor_py.cli import _agent, _summary
from clovisor_py.cli._options import Duration, Shown, session_options
from clovisor_py.cli._tap import pods_of, trace_pods
from clovisor_py.cli._until import until
from clovisor_py.errors import ClovisorError, UsageError
from clovisor_py.exporters._fanout import open_urls
from clovisor_py.exporters._screen import service_map_lines
from clovisor_py.kernel.links import PAIRS
from clovisor_py.kernel.probe import require_bpffs, require_root
from clovisor_py.kernel.targets import Veth, resolve, veths_here
from clovisor_py.protocols._redaction import Level
from clovisor_py.sources.pcapng import PcapngWriter

RAW = "-w writes raw payloads, with the passwords and data of others in them: it needs --redact off to say that this is meant."


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


def _closing(report: Report, texts: bool) -> list[str]:
    """Who called whom, where there was more than one; then the summary."""
    rows = report.shown.calls()
    table = [f"  {line}" for line in service_map_lines(rows)] if len(rows) > 1 else []
    return [*table, *_summary.lines(report, texts)]


def _written(writer: PcapngWriter) -> str:
    lost = f"; {writer.lost:,} more could not be written" if writer.lost else ""
    return f"  {writer.path}: {writer.written:,} segments{lost} (clovisor replay shows them again)"


@click.command(name="trace")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...", shell_complete=complete_targets)
@session_options
@click.option("-n", "--namespace", metavar="NAME", help="Of pods that are named without one.  [default: default]")
@_agent.socket_option
@click.option("--duration", "duration_ns", type=Duration(positive=True), help="End after this time of tracing.")
@click.option(
    "--cpu-share", type=click.FloatRange(0.05, 16), help="Of one core, before the kernel captures less.  [default: 0.5]"
)
@click.option(
    "-w",
    "--write",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write what was captured as pcapng; needs --redact off.",
)
@click.pass_context
def COMMAND(
    ctx: click.Context,
    targets: tuple[str, ...],
    shown: Shown,
    namespace: str | None,
    socket: Path,
    duration_ns: int | None,
    cpu_share: float | None,
    write: str | None,
) -> int:
    """Show what pods say, live, until Ctrl-C or until nobody reads it; then a summary.

    A TARGET is a host veth, a network namespace, or a pid. Where `clovisor agent` runs, it is pod/NAME, deploy/NAME or ns/NAME
    as well: the agent of this node shows what it reads of these pods, and reads those that nobody enabled for as long as you
    look. It hides what each pod's own level says, or more with --redact.

    \b
    Examples:
      clovisor trace web                               a network namespace
      clovisor trace vethc1a2 veth77f0                 two pods, by host veth
      clovisor trace 4711 --status 5xx --status timeout
      clovisor trace web --path /api --slower-than 100ms -o json
      clovisor trace web --export jaeger://127.0.0.1 --export jsonl:web.jsonl
      clovisor trace web --hint 9000=http --duration 30s
      clovisor trace pod/shop/cart-7d9f --slower-than 1s   through the agent of this node
      clovisor trace deploy/cart -n shop --status 5xx
      clovisor trace web --redact off -w web.pcapng    to be replayed

    Sessions go to standard output, remarks and the summary to standard error. The exit status is 0 after Ctrl-C, 143 after
    SIGTERM, and 1 where an exporter did not deliver all.
    """
    if pods_of(targets):
        return trace_pods(ctx, targets, shown, None if duration_ns is None else duration_ns / 1e9, namespace, socket)
    if write is not None and shown.redact != Level.OFF.value:
        raise UsageError(RAW)
    require_root()
    require_bpffs()
    veths = list({veth.ifindex: veth for target in targets for veth in resolve(target)}.values())
    settings = shown.settings()
    if cpu_share is not None:
        settings = dataclasses.replace(settings, cpu_share=cpu_share)
    protocols, whole = shown.protocols()
    hints = dict(shown.hints)
    with (
        until(None if duration_ns is None else duration_ns / 1e9) as stop,
        open_urls(shown.urls, queue_limit=settings.export_queue) as fanout,
        PcapngWriter(write) if write is not None else nullcontext() as writer,
        Agent(settings, fanout, hints=hints, keep=shown.filter, limit=shown.count, protocols=protocols, writer=writer) as agent,
        stop.work(),
    ):
        agent.attach(veths)
        for veth in veths:
            shown.say(describe(veth, hints))
        shown.say("Ctrl-C for the summary")
        stop.start()
        agent.run(lambda: stop() or fanout.gone)
        agent.finish()
        left = bool(agent.veths)
        fanout.close()
        report = agent.report()
        for line in _closing(report, shown.texts):
            shown.say(line)
        for sentence in (lost := _summary.undelivered(report)):
            shown.complain(sentence)
        if writer is not None:
            shown.say(_written(writer))
    if not left:
        raise ClovisorError("every traced interface has vanished: start again when the pods are back.")
    return stop.exit_status() or int(not whole or bool(lost) or (writer is not None and writer.lost > 0))
