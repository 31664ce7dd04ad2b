"""What commands that change the cluster share: how they get to the API server, and how they show what they changed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from clovisor_py.errors import ClovisorError, UsageError
from clovisor_py.kube.client import Client
from clovisor_py.kube.context import namespace_of
from clovisor_py.kube.marking import Change, Objects, target
from clovisor_py.kube.objects import Ref
from clovisor_py.model.text import printable

NOTHING: Final = "(none)"

_OPTIONS: Final = (
    click.option("-n", "--namespace", metavar="NAME", help="Of what is named without one.  [default: the context's]"),
    click.option("--dry-run", is_flag=True, help="Show what would change (the API server checks it), and change nothing."),
    click.option("--kubeconfig", type=click.Path(path_type=Path), metavar="FILE", help="The way to the API server."),
    click.option("--context", metavar="NAME", help="Of the kubeconfig."),
)


def cluster_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that say which cluster, which namespace, and whether in earnest."""
    return functools.reduce(lambda made, option: option(made), reversed(_OPTIONS), command)


def change_all(
    targets: tuple[str, ...],
    change: Callable[[Objects, Ref], Change],
    *,
    namespace: str | None,
    dry_run: bool,
    kubeconfig: Path | None,
    context: str | None,
) -> int:
    """Change each target and show it; the exit status. One that cannot be changed does not keep the others from it.

    Raises UsageError before anything was changed, ApiUnavailable where there is no API server.
    """
    refs = [target(text, namespace or namespace_of(kubeconfig, context)) for text in targets]
    if namespace and any(ref.namespace not in ("", namespace) for ref in refs):
        raise UsageError(f"--namespace {namespace} and a target name two namespaces: leave one out.")
    client, failed = Client(kubeconfig, context), 0
    try:
        for ref in dict.fromkeys(refs):
            try:
                show(change(client, ref), dry_run)
            except ClovisorError as error:
                if len(refs) == 1:
                    raise
                failed += 1
                click.echo(f"clovisor: {printable(str(error))}", err=True)
    finally:
        client.close()
    return 1 if failed else 0


def show(change: Change, dry_run: bool) -> None:
    """What changed, before and after; remarks on standard error."""
    heading = "nothing to change" if not change.changed else "would change" if dry_run else "changed"
    click.echo(f"{change.ref}: {heading}")
    width = max((len(row.key) for row in change.rows), default=0)
    for key, before, after in change.rows:
        said = _said(after) if before == after else f"{_said(before)} → {_said(after)}"
        click.echo(printable(f"  {key:<{width}}  {said}"))
    for remark in change.remarks:
        click.secho(printable(f"  {remark}"), err=True, dim=True)


def _said(text: str | None) -> str:
    return NOTHING if text is None else text or '""'
