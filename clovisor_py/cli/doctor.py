"""`clovisor doctor`: what this machine lacks, if anything, a line for each check and what to do about it.

The checks are data of `kernel/probe`, and one of the cluster (`_access`); this file only draws them. Exit status: 0 when
Clovisor can start here, 1 when something needed is missing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from clovisor_py.cli._access import NAME as CLUSTER
from clovisor_py.cli._access import check_of
from clovisor_py.cli._running import NAME as AGENT
from clovisor_py.cli._running import checks_of
from clovisor_py.errors import UsageError
from clovisor_py.kernel.probe import CHECKS, JAEGER_PORT, Check, Machine, State, examine

MARKS: Final = {State.OK: ("✓", "green"), State.PROBLEM: ("✗", "red"), State.OPTIONAL: ("!", "yellow")}
LABEL_COLUMNS: Final = 18
"""Room for a check's name and version: the longest is a kernel's, `kernel 6.18.144`."""


_HOST_AND_PORT: Final = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]\s]+))(?::([0-9]{1,5}))?")


def host_and_port(text: str) -> tuple[str, int]:
    """Takes `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT` apart. Raises UsageError."""
    found = _HOST_AND_PORT.fullmatch(text)
    port = int(found[3] or JAEGER_PORT) if found else 0
    if found is None or not 0 < port < 1 << 16:
        raise UsageError(f"'{text}' is not HOST or HOST:PORT; write it as in 127.0.0.1:{JAEGER_PORT} or [::1]:{JAEGER_PORT}.")
    return found[1] or found[2], port


@click.command()
@click.option(
    "--jaeger",
    metavar="HOST[:PORT]",
    default=f"127.0.0.1:{JAEGER_PORT}",
    show_default=True,
    help="Where a Jaeger is looked for; ports other than 6831 and 6832 are tried over TCP.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The way to the API server that `clovisor agent` is to use.  [default: the pod's account, or kubectl's]",
)
@click.option("--context", metavar="NAME", help="Of the kubeconfig.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to say it.")
@click.pass_context
def doctor(ctx: click.Context, jaeger: str, kubeconfig: Path | None, context: str | None, output: str) -> None:
    """Say what this machine lacks, if anything, and how to repair it.

    ✓ is there, ✗ is needed and missing, ! is missing or untried and not needed. Nothing is changed and nothing left behind.
    The exit status is 1 if something needed is missing. Only `clovisor agent` needs a cluster: what that does not grant counts
    where --kubeconfig or --context asks for it, and in a pod.

    \b
    Examples:
      sudo clovisor doctor
      sudo clovisor doctor --jaeger jaeger.example:4317     look for Jaeger there, over TCP
      sudo clovisor doctor --kubeconfig agent.conf          what the API server grants its account
      kubectl exec -n clovisor daemonset/clovisor -- clovisor doctor
      sudo clovisor doctor -o json | jq '.checks[] | select(.state == "problem")'
    """
    findings = examine(Machine(jaeger=host_and_port(jaeger)), (*CHECKS, check_of(kubeconfig, context), *checks_of()))
    ctx.exit(report_json(findings) if output == "json" else report(findings))


def report(findings: Iterable[Check]) -> int:
    """Print each finding as it comes, then the verdict; returns the exit status."""
    color = False if os.environ.get("NO_COLOR") else None  # None: only on a terminal
    problems = []
    for finding in findings:
        if finding.state is State.PROBLEM:
            problems.append(finding)
        click.echo(line(finding), color=color)
    click.echo(verdict(problems))
    return int(bool(problems))


def report_json(findings: Iterable[Check]) -> int:
    """Print one object with every finding; returns the exit status."""
    checks = [asdict(finding) for finding in findings]
    problems = sum(check["state"] is State.PROBLEM for check in checks)
    click.echo(json.dumps({"ok": not problems, "problems": problems, "checks": checks}, ensure_ascii=False, indent=2))
    return int(problems > 0)


def line(finding: Check) -> str:
    """One finding, its mark coloured."""
    mark, color = MARKS[finding.state]
    remedy = f"  → {finding.remedy}" if finding.remedy else ""
    return f" {click.style(mark, fg=color)} {finding.label:<{LABEL_COLUMNS}}  {finding.detail}{remedy}"


def verdict(problems: Sequence[Check]) -> str:
    """The last line. Without the cluster's grants the agent does start: what it is not told of, it does not see."""
    if not problems:
        return "All is well."
    starts = all(problem.name in (CLUSTER, AGENT) for problem in problems)
    means = "`clovisor agent` sees less than it should" if starts else "Clovisor cannot start"
    if len(problems) == 1:
        return f"1 problem. {means} until it is repaired."
    return f"{len(problems)} problems. {means} until they are repaired."


COMMAND = doctor
