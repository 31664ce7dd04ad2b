"""`clovisor explain POD`: why it is or is not traced, and what of its traffic is not seen; this file only draws the steps."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

import click

from clovisor_py import explain
from clovisor_py.cli import _agent, _completion
from clovisor_py.errors import ClovisorError, UsageError
from clovisor_py.explain import Mark, Step
from clovisor_py.exporters._text import fit
from clovisor_py.model.text import printable
from clovisor_py.snapshot import Pod, Snapshot, as_json

MARKS: Final = {Mark.OK: ("✓", "green"), Mark.PROBLEM: ("✗", "red"), Mark.NOTE: ("!", "yellow")}
TITLE_CELLS: Final = 14
"""The longest title is `one direction`."""


@click.command(name="explain")
@click.argument("pod", metavar="POD", shell_complete=_completion.pods)
@_agent.namespace_option
@_agent.output_option
@_agent.socket_option
@click.pass_context
def COMMAND(ctx: click.Context, pod: str, namespace: str | None, output: str, socket: Path) -> None:
    """Say step by step why a pod is or is not traced, and what of its traffic is not seen.

    Asks the agent that runs on this node. ✓ is well, ! is seen in part, ✗ is not seen. The exit status is 1 if there is a ✗.

    \b
    Examples:
      clovisor explain pod/shop/cart-7d9f
      clovisor explain cart-7d9f -n shop
      clovisor explain pod/shop/cart-7d9f -o json | jq '.steps[] | select(.mark == "problem")'
    """
    found = _agent.snapshot(socket)
    asked = _asked(found, *_agent.pod_name(pod, namespace), socket)
    steps = explain.steps(found, asked, time.time())
    if output == "json":
        click.echo(json.dumps({"pod": as_json(asked), "steps": [as_json(step) for step in steps]}, ensure_ascii=False))
    else:
        for text in (heading(asked), *map(line, steps), explain.verdict(asked, steps)):
            click.echo(text, color=_agent.colours())
    ctx.exit(int(any(step.mark is Mark.PROBLEM for step in steps)))


def heading(pod: Pod) -> str:
    """`pod shop/cart-7d9f on node n2, 10.244.1.17`."""
    where = f" on node {pod.node}" if pod.node else ""
    return printable(f"pod {pod.ref}{where}{', ' if pod.ips else ''}{' '.join(pod.ips)}")


def line(step: Step) -> str:
    """One step, its mark coloured."""
    mark, colour = MARKS[step.mark]
    remedy = f"  → {printable(step.remedy)}" if step.remedy else ""
    return f" {click.style(mark, fg=colour)} {fit(step.title, TITLE_CELLS)} {printable(step.text)}{remedy}"


def _asked(snapshot: Snapshot, namespace: str, name: str, path: Path) -> Pod:
    for pod in snapshot.pods:
        if (pod.namespace, pod.name) == (namespace, name):
            return pod
    if (elsewhere := _agent.elsewhere(path, namespace, name)) is not None:
        return elsewhere
    unknown = f"the agent of node {snapshot.node} knows no pod {namespace}/{name}"
    if untold := next((each.problem for each in snapshot.resources if each.name.startswith("pods") and each.problem), ""):
        raise ClovisorError(f"{unknown}: {untold}")
    if sentence := _agent.starting(snapshot):
        raise ClovisorError(f"{sentence} Ask again in a moment.")
    close = explain.similar(snapshot, namespace, name)
    meant = f"did you mean {' or '.join(close)}?" if close else "`clovisor pods -a` lists those of this node."
    raise UsageError(f"{unknown}; {meant}")
