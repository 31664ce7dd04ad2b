"""The command line of `tools/bench`. Figures are printed, never judged: the exit status says only whether they were had."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Final

import click
import pytest

from clovisor_py.errors import ClovisorError, EnvironmentLacking
from clovisor_py.kernel.probe import require_bpffs, require_root
from tests.support.load import PACKAGES, lacking
from tools._bench import export, kernel, load, machine, memory, metrics, node, replay, served, sessions
from tools._bench.node_objects import PER_NODE

INTERRUPTED: Final = 130
"""128 + SIGINT."""
RATE: Final = 5000
QUICK_RATE: Final = 2000

quick_option = click.option("--quick", is_flag=True, help="Fewer and shorter runs: all of them below a minute.")
requests_option = click.option("--requests", type=click.IntRange(1), help="How many requests.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure what tracing costs on this machine, and prove the counts. As root (but replay); without a command: all.

    \b
    Examples:
      tools/bench kernel                      ns a packet
      tools/bench load --rate 5000 --family vlan
      tools/bench replay                      capture files, beside tshark
      tools/bench all --quick                 everything, below a minute

    Every run is printed with the medians, and the machine's own baseline beside them.
    """


@bench.command(name="kernel")
@quick_option
def kernel_command(quick: bool) -> None:
    """Measure ns a packet in the kernel, by bpf_prog_test_run."""
    begin()
    _kernel(quick)


@bench.command(name="sessions")
@quick_option
def sessions_command(quick: bool) -> None:
    """Measure µs of user-space CPU a session, stage by stage."""
    begin("nginx", "h2load")
    _sessions(quick)


@bench.command(name="export")
@quick_option
def export_command(quick: bool) -> None:
    """Measure µs of CPU from a session to bytes that a receiver acknowledged, by OTLP and to Jaeger."""
    machine.describe()
    _export(quick)


@bench.command(name="metrics")
@quick_option
def metrics_command(quick: bool) -> None:
    """Measure what counting costs: a session, a connection, a page for Prometheus."""
    machine.describe()
    _metrics(quick)


@bench.command(name="served")
@quick_option
def served_command(quick: bool) -> None:
    """Measure what a traced nginx and its clients pay."""
    begin("nginx", "h2load", "wrk")
    _served(quick)


@bench.command(name="memory")
@quick_option
def memory_command(quick: bool) -> None:
    """Measure what Clovisor keeps in memory."""
    begin("nginx", "h2load")
    _memory(quick)


@bench.command(name="node")
@click.option("--pods", type=click.IntRange(1, 200), default=PER_NODE, show_default=True, help="Of this node.")
@quick_option
def node_command(pods: int, quick: bool) -> None:
    """Measure the agent of a full node: its start, one more pod, at rest, memory."""
    begin()
    _node(quick, pods)


@bench.command(name="replay")
@quick_option
def replay_command(quick: bool) -> None:
    """Measure µs of CPU a session of capture files, beside tshark."""
    machine.describe()
    _replay(quick)


@bench.command(name="load")
@requests_option
@click.option("--rate", type=click.IntRange(10), help=f"Requests a second.  [default: {RATE}]")
@click.option("--family", type=click.Choice(load.FAMILIES), default="ipv4", show_default=True)
@quick_option
def load_command(requests: int | None, rate: int | None, family: str, quick: bool) -> None:
    """Prove that at a fixed rate every request is shown."""
    begin("nginx", "h2load")
    _load(quick, family, requests, rate)


@bench.command(name="saturation")
@requests_option
@quick_option
def saturation_command(requests: int | None, quick: bool) -> None:
    """Prove that at saturation every loss is counted."""
    begin("nginx", "h2load")
    _saturation(quick, requests)


@bench.command(name="all")
@quick_option
def all_command(quick: bool) -> None:
    """Run all of these, one after the other."""
    begin(*PACKAGES)
    for part in (_kernel, _sessions, _export, _metrics, _served, _memory, _node, _replay):
        part(quick)
    for family in load.FAMILIES:
        _load(quick, family)
    _saturation(quick)


def _kernel(quick: bool) -> None:
    kernel.main(runs=5 if quick else 15)


def _sessions(quick: bool) -> None:
    sessions.main(runs=3 if quick else 9)


def _export(quick: bool) -> None:
    export.main(runs=3 if quick else 9, spans=5_000 if quick else 20_000)


def _metrics(quick: bool) -> None:
    metrics.main(runs=5 if quick else 15, sessions=10_000 if quick else 50_000)


def _served(quick: bool) -> None:
    served.main(rounds=1 if quick else 5, seconds=2 if quick else 5)


def _memory(quick: bool) -> None:
    memory.main(seconds=2 if quick else 10)


def _node(quick: bool, pods: int = PER_NODE) -> None:
    if quick:
        node.main(min(pods, 20), cluster=500, services=50, runs=1, rest_s=2)
    else:
        node.main(pods, cluster=10_000, services=1_000, runs=3, rest_s=20)


def _replay(quick: bool) -> None:
    if quick:
        replay.main(runs=1, sessions=2_000, lengths=(1_000, 5_000), flows=(10, 1_000))
    else:
        replay.main(runs=3, sessions=20_000, lengths=(10_000, 50_000, 100_000), flows=(100, 1_000, 10_000, 100_000))


def _load(quick: bool, family: str, requests: int | None = None, rate: int | None = None) -> None:
    rate = rate or (QUICK_RATE if quick else RATE)
    load.load(requests or (2 if quick else 10) * rate, rate, family)


def _saturation(quick: bool, requests: int | None = None) -> None:
    load.saturation(requests or (30_000 if quick else 300_000))


def begin(*programs: str) -> None:
    """Say what the machine is. Raises EnvironmentLacking where something is missing, naming the package that has it."""
    require(*programs)
    machine.describe()


def require(*programs: str) -> None:
    """Raises EnvironmentLacking, naming what is missing and the package that has it."""
    require_root()
    require_bpffs()
    if missing := lacking(programs):
        raise EnvironmentLacking(f"this needs {', '.join(missing)}: apt-get install {' '.join(missing)}")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """A polite kill cleans up as Ctrl-C does."""
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """The exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    if not arguments or arguments[0] == "--quick":
        arguments = ["all", *arguments]
    try:
        bench.main(arguments, prog_name="tools/bench", standalone_mode=False)
    except (ClovisorError, pytest.skip.Exception, pytest.fail.Exception) as error:
        click.echo(f"tools/bench: {error}", err=True)
        return 1
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0


sys.exit(main(sys.argv[1:]))
