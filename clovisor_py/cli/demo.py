"""`clovisor demo`: five small pods, real HTTP between them, and what Clovisor sees of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import click

from clovisor_py.agent import Agent
from clovisor_py.agent_report import Report
from clovisor_py.cli import _summary
from clovisor_py.cli._options import CONSOLE, SHOWN, export_option, urls_of
from clovisor_py.cli._until import INTERRUPTED, until
from clovisor_py.config import Settings
from clovisor_py.demo.playground import CLIENT, MAX_RATE, MAX_REQUESTS, Playground
from clovisor_py.exporters._fanout import open_urls
from clovisor_py.exporters._registry import makes_spans, parse
from clovisor_py.exporters._screen import service_map_lines
from clovisor_py.kernel.probe import Machine, State, check_jaeger, require_bpffs, require_root
from clovisor_py.kernel.targets import Veth
from clovisor_py.model.session import Side
from clovisor_py.model.text import printable
from clovisor_py.tracing.spans import span_of

PICTURE = """\
  client ──▶ productpage ──▶ details
                        └──▶ reviews ──▶ ratings
"""
LOCAL_JAEGER = "jaeger://127.0.0.1:6831"
UI = "http://{host}:16686/trace/"
FRONT = "productpage"
SETTLE_S = 0.3
"""After the client's last answer, the last records are on their way for one poll of the ring."""


@click.command(name="demo")
@click.option("--requests", type=click.IntRange(1, MAX_REQUESTS), default=200, show_default=True, help="Sent by the client.")
@click.option("--rate", type=click.FloatRange(1, MAX_RATE), default=40.0, show_default=True, help="Requests a second.")
@click.option("-o", "--output", type=click.Choice(list(CONSOLE)), default="line", show_default=True, help=SHOWN)
@export_option
def COMMAND(requests: int, rate: float, output: str, exports: tuple[str, ...]) -> int:
    """Run a small bookinfo in network namespaces, trace it, and show what was seen.

    Needs root. Leaves nothing behind, also after Ctrl-C. Spans go to Jaeger where one listens on this machine.

    \b
    Examples:
      clovisor demo
      clovisor demo --requests 1000 --rate 100 --export jsonl:demo.jsonl
      clovisor demo --export otlp+grpc://jaeger.example.org

    The exit status is 1 where an exporter did not deliver all, and 130 after Ctrl-C: a demo has an end of its own, and was cut
    short (`trace` has none, and ends with 0).
    """
    require_root()
    require_bpffs()
    if not any(map(makes_spans, exports)) and check_jaeger(Machine()).state is State.OK:
        exports = (*exports, LOCAL_JAEGER)
    settings = Settings()
    with (
        until(None) as stop,
        Playground() as playground,
        open_urls(urls_of(output, exports), queue_limit=settings.export_queue) as fanout,
        Agent(settings, fanout) as agent,
        stop.work(),
    ):
        _say(PICTURE)
        agent.attach([Veth(p.ifindex, p.veth, p.name, tuple(filter(None, (p.ipv4, p.ipv6))), "eth0") for p in playground.pods])
        playground.start_traffic(requests, rate)
        agent.run(_when_done(playground, lambda: stop() or fanout.gone))
        agent.finish()
        sent = sum(record["service"] == CLIENT for record in playground.truth())  # now: closing may take seconds
        fanout.close()
        report = agent.report()
        _say("\n".join(["", *_closing(report, sent, exports)]))
        for sentence in (lost := _summary.undelivered(report)):
            _say(f"clovisor: {sentence}")
    return stop.exit_status(INTERRUPTED) or int(bool(lost))


def _when_done(playground: Playground, stop: Callable[[], bool]) -> Callable[[], bool]:
    """Stop when the client has ended and its last records had time to come up, or when `stop` says so."""
    ended: list[float] = []

    def over() -> bool:
        if not ended and playground.traffic_done():
            ended.append(time.monotonic())
        return stop() or bool(ended and time.monotonic() - ended[0] > SETTLE_S)

    return over


def _closing(report: Report, sent: int, exports: tuple[str, ...]) -> list[str]:
    """The service map, then whether all was seen, then where the traces are."""
    table = [f"  {line}" for line in service_map_lines(report.red.calls())]
    seen = {edge.side: edge.calls for edge in report.red.edges() if edge.client == CLIENT and edge.server == FRONT}
    both = min(seen.get(Side.CLIENT, 0), seen.get(Side.SERVER, 0))
    lines = [*table, "", f"  {both:,} of {sent:,} requests of the client seen, at both ends"]
    lines += [f"  {line}" if index == 0 else line for index, line in enumerate(_summary.lines(report))]
    jaegers = _jaeger_hosts(exports)
    slowest = report.red.total().slowest
    if slowest is not None:
        lines += [f"  traces: {UI.format(host=host)}{span_of(slowest).trace_id:032x}" for host in jaegers]
    if slowest is not None and not jaegers and any(map(makes_spans, exports)):
        lines.append(f"  the slowest trace: {span_of(slowest).trace_id:032x}")
    elif not jaegers:
        lines.append("  no Jaeger on this machine: --export jaeger://HOST")
    return lines


def _jaeger_hosts(exports: Sequence[str]) -> list[str]:
    """The Jaegers among these export URLs, each once, as one writes a host in a URL."""
    hosts = [url.host for url in map(parse, exports) if url.scheme == "jaeger"]
    return [f"[{host}]" if ":" in host else host for host in dict.fromkeys(hosts)]


def _say(text: str) -> None:
    """Several lines, perhaps."""
    click.echo("\n".join(map(printable, text.split("\n"))), err=True)
