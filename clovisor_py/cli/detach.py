"""`clovisor detach`: every trace of Clovisor off this node."""

from __future__ import annotations

import click

from clovisor_py.config import Settings
from clovisor_py.demo.playground import remove_leftovers
from clovisor_py.kernel.probe import require_bpffs, require_root
from clovisor_py.kernel.removal import remove_all


@click.command(name="detach")
def COMMAND() -> int:
    """Remove every filter, link, map and pin of Clovisor from this node, and what a demo that was killed left.

    Filters, qdiscs and programs of others stay. Refuses while a Clovisor is tracing here.

    \b
    Example:
      clovisor detach
    """
    require_root()
    require_bpffs()
    interfaces = remove_all(Settings().pins)
    leftovers = remove_leftovers()
    for name in leftovers or ():
        click.echo(f"removed {name}")
    for number in interfaces:
        click.echo(f"detached from interface {number}")
    click.echo("Nothing of Clovisor is left on this node.")
    return 0
