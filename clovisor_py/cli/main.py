"""The `clovisor` command: finds its subcommands, and turns every ClovisorError into one sentence and an exit status.

A subcommand is a module of this package with a `COMMAND`. Modules are imported when their command is asked for, so that
`clovisor --version` does not pay for netlink and Thrift.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys

import click

from clovisor_py import __version__, cli
from clovisor_py.errors import ClovisorError

INTERRUPTED = 130
"""Exit status after Ctrl-C where a command has no better answer (128 + SIGINT)."""


class Commands(click.Group):
    """Subcommands by module name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name for m in pkgutil.iter_modules(cli.__path__) if not m.name.startswith("_") and m.name != "main")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{cli.__name__}.{cmd_name}").COMMAND
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="clovisor")
@click.option("-v", "--verbose", count=True, help="Say more of what happens (twice: everything).")
def clovisor(verbose: int) -> None:
    """See what a pod says on the wire, to whom, how fast, and what fails.

    \b
    Examples:
      clovisor doctor                        what this machine lacks, if anything
      clovisor demo                          four small pods, traced
      clovisor trace web                     the sessions of the network namespace 'web'
      clovisor trace vethc1a2 --status 5xx   only what failed, by host veth
      clovisor detach                        remove every trace of Clovisor from this node

    Shell completion: eval "$(_CLOVISOR_COMPLETE=bash_source clovisor)" (or zsh_source, fish_source).
    """
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(stream=sys.stderr, level=level, format="clovisor: %(message)s")


def main() -> None:
    """Entry point of the console script."""
    try:
        status = clovisor.main(prog_name="clovisor", standalone_mode=False)
    except ClovisorError as error:
        click.echo(f"clovisor: {error}", err=True)
        status = error.exit_status
    except click.exceptions.Abort:
        status = INTERRUPTED
    except click.ClickException as error:
        asked = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "clovisor"
        click.echo(f"clovisor: {error.format_message().replace(chr(10), ' ')} See {asked} --help.", err=True)
        status = error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # `clovisor trace … | head`: the reader has seen enough
        status = 0
    sys.exit(status if isinstance(status, int) else 0)
