"""`clovisor trace`: the sessions of pods, live."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import click

from clovisor_py.agent import Agent
from clovisor_py.agent_report import Report
from clovisor_py.cli import _agent, _completion, _summary
from clovisor_py.cli._options import STDOUT, Shown, session_options, urls_of
from clovisor_py.cli._tap import pods_of, refuse_for_others, trace_pods
from clovisor_py.cli._types import Duration
from clovisor_py.cli._until import until
from clovisor_py.config import CPU_SHARES, Settings
from clovisor_py.errors import ClovisorError, UsageError
from clovisor_py.exporters._fanout import open_urls
from clovisor_py.exporters._screen import service_map_lines
from clovisor_py.kernel.links import PAIRS
from clovisor_py.kernel.probe import require_bpffs, require_root
from clovisor_py.kernel.targets import Veth, resolve
from clovisor_py.protocols._redaction import Level
from clovisor_py.sources.pcapng import PcapngWriter

RAW = "-w writes raw payloads, with the passwords and data of others in them: it needs --redact off to say that this is meant."


def describe(veth: Veth, hints: dict[int, str]) -> str:
    """`tracing web (vethc1a2 ⇄ eth0, 10.0.0.2 fd00::2)`."""
    ends = f"{veth.name} ⇄ {veth.peer_name}" if veth.peer_name else veth.name
    known = " · " + ", ".join(f"{name} on :{port}" for port, name in sorted(hints.items())) if hints else ""
    odd = "" if veth.kind in PAIRS else f" · not a pod's veth ({veth.kind}): all that is behind it counts as the pod"
    return f"tracing {veth.label} ({ends}{', ' if veth.addresses else ''}{' '.join(veth.addresses)}){known}{odd}"


@click.command(name="trace")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...", shell_complete=_completion.targets)
@session_options
@click.option("-n", "--namespace", metavar="NAME", help="Of pods that are named without one.  [default: default]")
@_agent.socket_option
@click.option("--duration", "duration_ns", type=Duration(positive=True), help="End after this time of tracing.")
@click.option(
    "--cpu-share", type=click.FloatRange(*CPU_SHARES), help="Of one core, before the kernel captures less.  [default: 0.5]"
)
@click.option(
    "-w",
    "--write",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write what was captured as pcapng (-: to standard output, instead of lines); needs --redact off.",
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
      clovisor trace web --not-peer 10.244.1.1 --not-path /healthz
      clovisor trace pod/shop/cart-7d9f --slower-than 1s   through the agent of this node
      clovisor trace deploy/cart -n shop --status 5xx
      clovisor trace web --redact off -w web.pcapng    to be replayed
      clovisor trace web --redact off -w - | wireshark -k -i -

    Sessions go to standard output, remarks and the summary to standard error. The exit status is 0 after Ctrl-C, 143 after
    SIGTERM, and 1 where an exporter or -w did not get all, a --plugin was refused, a parser failed, or what was traced is no
    longer there.
    """
    seconds = None if duration_ns is None else duration_ns / 1e9
    if pods_of(targets):
        return trace_pods(ctx, targets, shown, seconds, namespace, socket)
    refuse_for_others(ctx, targets)
    if write is not None and shown.redact != Level.OFF.value:
        raise UsageError(RAW)
    require_root()
    require_bpffs()
    settings = shown.settings()
    if cpu_share is not None:
        settings = dataclasses.replace(settings, cpu_share=cpu_share)
    return _trace(targets, shown, settings, seconds, write)


def _trace(targets: Sequence[str], shown: Shown, settings: Settings, seconds: float | None, write: str | None) -> int:
    """What this command traces itself; the exit status."""
    urls = urls_of(shown.output, shown.exports, write == STDOUT)
    veths = list({veth.ifindex: veth for target in targets for veth in resolve(target)}.values())
    protocols, whole = shown.protocols()
    hints = dict(shown.hints)
    with (
        until(seconds) as stop,
        open_urls(urls, queue_limit=settings.export_queue) as fanout,
        PcapngWriter(write) if write is not None else nullcontext() as writer,
        Agent(settings, fanout, hints=hints, keep=shown.filter, limit=shown.count, protocols=protocols, writer=writer) as agent,
        stop.work(),
    ):
        agent.attach(veths)
        for veth in veths:
            shown.say(describe(veth, hints))
        if writer is not None and writer.replaced:
            shown.say(f"{writer.path} held a capture, which is replaced")
        shown.say("Ctrl-C for the summary")
        stop.start()
        agent.run(lambda: stop() or fanout.gone or (writer is not None and writer.gone))
        agent.finish()
        left = bool(agent.veths)
        fanout.close()
        whole &= _sum_up(agent.report(), shown, writer)
    if not left:
        raise ClovisorError("every traced interface has vanished: start again when the pods are back.")
    return stop.exit_status() or int(not whole)


def _sum_up(report: Report, shown: Shown, writer: PcapngWriter | None) -> bool:
    """Say how it was; whether no parser failed, and all of it got where it was to go."""
    rows = report.shown.calls()
    who_called_whom = service_map_lines(rows) if len(rows) > 1 else []
    for line in [*(f"  {row}" for row in who_called_whom), *_summary.lines(report, shown.texts), *shown.missed]:
        shown.say(line)
    for sentence in (failed := [*_summary.undelivered(report), *_summary.crashed(report.crashes)]):
        shown.complain(sentence)
    if writer is None:
        return not failed
    shown.say(f"  {_summary.written(writer)}")
    return not failed and (writer.gone or not writer.lost)
