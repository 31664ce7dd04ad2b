"""The `clovisor` command: finds its subcommands, and turns every ClovisorError into one sentence and an exit status.

So it does where what is printed cannot be written (a full disk). Where a standard stream is closed (`>&-`) it is as if it led
to /dev/null: who closed it wants to read nothing.

A subcommand is a module of this package with a `COMMAND`. Modules are imported when their command is asked for, so that
`clovisor --version` does not pay for netlink and Thrift.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import signal
import sys
import threading
import traceback
from contextlib import suppress
from typing import Final, NoReturn

import click

from clovisor_py import __version__, cli
from clovisor_py.cli._until import INTERRUPTED
from clovisor_py.errors import ClovisorError
from clovisor_py.model.text import printable

COMPLETION: Final = "_CLOVISOR_COMPLETE"
"""The variable by which a shell asks for completions."""
STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


class Printable(logging.Formatter):
    """Log lines may quote what others wrote; no terminal obeys it. Line breaks stay: a traceback has several."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


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
      clovisor demo                          five small pods, traced
      clovisor trace web                     the sessions of the network namespace 'web'
      clovisor trace vethc1a2 --status 5xx   only what failed, by host veth
      clovisor replay pod.pcap               the sessions in a capture, without root
      clovisor top                           who calls whom on this node, as its agent counts it
      clovisor detach                        remove every trace of Clovisor from this node

    Shell completion: eval "$(_CLOVISOR_COMPLETE=bash_source clovisor)" (or zsh_source, fish_source).
    """
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    ):  # `_start` saw to that; from here on there may be something to clean up
        signal.signal(signal.SIGINT, signal.default_int_handler)
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Printable("clovisor: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level)


def main() -> None:
    """The whole of it, but for `_start`."""
    _replace_closed()
    if COMPLETION in os.environ:
        importlib.import_module(f"{cli.__name__}._completion").set_up()
    stdout, stderr = sys.stdout, sys.stderr
    try:
        status = clovisor.main(prog_name="clovisor", standalone_mode=False)
    except ClovisorError as error:
        _complain(printable(str(error)))
        status = error.exit_status
    except click.exceptions.Abort:
        status = INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        status = error.exit_code
    except click.ClickException as error:
        asked = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else _asked()
        said = error.format_message().replace("\n", " ").rstrip(".")  # click ends some of them with a full stop
        _complain(f"{printable(said)}. See {asked} --help.")
        status = error.exit_code
    except OSError as error:
        if not _printing(error):
            raise
        _complain(f"what was to be said could not be written ({error.strerror}): make room there, or send it elsewhere.")
        status = 1
    except SystemExit:
        if sys.stdout is stdout:
            raise
        sys.stdout, sys.stderr = stdout, stderr  # click wraps them where a pipe's reader has gone
        status = 0  # `clovisor --help | head -1`: it has seen enough
    _leave(status if isinstance(status, int) else 0)


def _replace_closed() -> None:
    """What Python leaves as None; in this order, so that each gets its own number back."""
    for name, mode in STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _complain(sentence: str) -> None:
    with suppress(OSError):  # nowhere left to say it; the exit status does
        click.echo(f"clovisor: {sentence}", err=True)


def _printing(error: OSError) -> bool:
    """Whether click failed to print something: anything else that gets here is a fault of ours, and needs its traceback."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).partition(".")[0] == click.__name__


def _asked() -> str:
    """The command, where click does not say which one it was."""
    known = clovisor.list_commands(click.Context(clovisor))
    return " ".join(["clovisor", *[word for word in sys.argv[1:] if word in known][:1]])


def _leave(status: int) -> NoReturn:
    """End, whatever has become of what it prints to: the interpreter's own end would flush it, and complain or hang."""
    if any(thread.daemon for thread in threading.enumerate()):
        os._exit(status)  # an exporter hangs, perhaps with standard output locked; its losses have been counted and said
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError):  # closed by somebody
            try:
                stream.flush()
            except OSError:  # nobody reads it, and so nobody shall be told
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)
