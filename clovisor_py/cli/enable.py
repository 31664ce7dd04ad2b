"""`clovisor enable`: trace a pod, a workload or a namespace."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click

from clovisor_py.cli._cluster import change_all, cluster_options
from clovisor_py.cli._plugins import plugin_option
from clovisor_py.errors import UsageError
from clovisor_py.flows.detect import by_any_name
from clovisor_py.kube.annotations import CAPTURE, CAPTURES, EGRESS, LEVELS, PORTS, REDACT, SAMPLE, read_egress, read_ports
from clovisor_py.kube.marking import mark
from clovisor_py.protocols._plugins import load


@click.command(name="enable")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--ports", metavar="PORT=PROTOCOL,…", help="What these ports speak (8080=http,9092=kafka).")
@click.option("--capture", type=click.Choice(CAPTURES), help="Of payloads: heads of turns, everything, nothing.")
@click.option("--egress", metavar="ADDRESS:PORT,…", help="Only these outgoing connections (10.0.0.5:5432,*:6379).")
@click.option("--redact", type=click.Choice(LEVELS), help="How much of what is private to hide.")
@click.option(
    "--sample",
    type=click.FloatRange(0, 1),
    metavar="RATIO",
    help="Of its sessions, those that become spans (0.1); errors always do.",
)
@plugin_option
@cluster_options
def COMMAND(
    targets: tuple[str, ...],
    ports: str | None,
    capture: str | None,
    egress: str | None,
    redact: str | None,
    sample: float | None,
    plugins: tuple[Path, ...],
    namespace: str | None,
    dry_run: bool,
    kubeconfig: Path | None,
    context: str | None,
) -> int:
    """Trace what TARGET names, within a second: no pod restarts.

    A TARGET is pod/NAME, deploy/NAME, sts/NAME, ds/NAME or ns/NAME; pod/NAMESPACE/NAME works as well. Its label
    clovisor.io/trace becomes "true", and annotations say the rest; what was asked for earlier stays. What is nearer to a pod
    wins: its own label, then its workload's, then its namespace's.

    \b
    Examples:
      clovisor enable deploy/cart -n shop
      clovisor enable deploy/cart --ports 8080=http,9092=kafka --redact strict
      clovisor enable ns/shop --dry-run
      clovisor enable deploy/busy --sample 0.01
      clovisor enable pod/web --egress '10.0.0.5:5432,*:6379'
    """
    given = {PORTS: ports, CAPTURE: capture, EGRESS: egress, REDACT: redact, SAMPLE: None if sample is None else f"{sample:g}"}
    refined = {key: text for key, text in given.items() if text is not None}
    _check(refined, plugins)
    return change_all(
        targets,
        partial(mark, traced=True, refined=refined, dry_run=dry_run),
        namespace=namespace,
        dry_run=dry_run,
        kubeconfig=kubeconfig,
        context=context,
    )


def _check(refined: Mapping[str, str], plugins: tuple[Path, ...]) -> None:
    """Refuse here what the agent could only complain about later. Raises UsageError."""
    names = by_any_name(load(plugins).protocols.values())
    mistakes = (*read_ports(refined.get(PORTS, ""), names).mistakes, *read_egress(refined.get(EGRESS, "")).mistakes)
    if mistakes:
        more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
        raise UsageError(f"{mistakes[0]}{more}.")
