"""`clovisor disable`: trace a pod, a workload or a namespace no more."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from clovisor_py.cli._cluster import change_all, cluster_options
from clovisor_py.kube.marking import clear, mark


@click.command(name="disable")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--clear", "clearing", is_flag=True, help="Take back what `enable` and `disable` wrote: others decide again.")
@cluster_options
def COMMAND(
    targets: tuple[str, ...],
    clearing: bool,
    namespace: str | None,
    dry_run: bool,
    kubeconfig: Path | None,
    context: str | None,
) -> int:
    """Do not trace what TARGET names, whatever its namespace or the agent's settings say: no pod restarts.

    Its label clovisor.io/trace becomes "false"; annotations stay, for when it is enabled again. What is nearer to a pod
    wins: a pod that has its own label "true" is still traced.

    \b
    Examples:
      clovisor disable pod/web
      clovisor disable deploy/cart -n shop --dry-run
      clovisor disable ns/shop --clear
    """
    change = partial(clear, dry_run=dry_run) if clearing else partial(mark, traced=False, refined={}, dry_run=dry_run)
    return change_all(targets, change, namespace=namespace, dry_run=dry_run, kubeconfig=kubeconfig, context=context)
