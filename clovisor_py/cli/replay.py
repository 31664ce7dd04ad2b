"""`clovisor replay`: the sessions in capture files."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from clovisor_py.cli import _summary
from clovisor_py.cli._options import Shown, session_options
from clovisor_py.cli._until import INTERRUPTED, until
from clovisor_py.errors import CaptureBroken
from clovisor_py.exporters._fanout import open_urls
from clovisor_py.model.text import printable
from clovisor_py.replay import QUEUE, Replay
from clovisor_py.sources._capture_input import STANDARD_INPUT, end_standard_input

GARBAGE: Final = 50_000
"""New objects between two looks for cycles. Flows and sessions are many, live long and are no cycles: with the interpreter's
700 a third of the time would go into looking at 10,000 open connections again and again."""


@contextmanager
def _progress(path: str, quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """A bar by bytes read, where somebody looks at standard error and standard output goes elsewhere."""
    if quiet or not sys.stderr.isatty() or sys.stdout.isatty():
        yield None
        return
    with click.progressbar(length=1, label=printable(Path(path).name), file=sys.stderr) as bar:

        def show(position: int, size: int | None) -> None:
            if size:
                bar.length = size
                bar.update(max(min(position, size) - bar.pos, 0))

        yield show


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """While the block lasts; what is there already is looked at no more."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(GARBAGE, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@click.command(name="replay")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(allow_dash=True, readable=False))
@session_options
def COMMAND(files: tuple[str, ...], shown: Shown) -> int:
    """Show what was said in captures; then a summary.

    A FILE is pcap or pcapng, gzip'd or not, of tcpdump, Wireshark or clovisor trace -w; - is standard input. Needs no root.

    \b
    Examples:
      clovisor replay pod.pcap
      clovisor replay monday.pcapng tuesday.pcap.gz --status 5xx
      clovisor replay pod.pcap --port 5432 --slower-than 100ms -o json
      clovisor replay pod.pcap --not-peer 10.244.1.1 --not-path /healthz
      clovisor replay pod.pcap --export jaeger://127.0.0.1
      tcpdump -i any -w - port 80 | clovisor replay -

    Sessions go to standard output, remarks and the summary to standard error. A file that is no capture, or that breaks off,
    is said, and the others go on; the exit status is 1 then, where a --plugin was refused or a parser failed, and where an
    exporter did not deliver all; it is 130 after Ctrl-C.
    """
    settings = shown.settings()
    protocols, whole = shown.protocols()
    piped = STANDARD_INPUT in files
    with (
        until(None, end_standard_input if piped else None) as stop,
        _seldom_collected(),
        open_urls(shown.urls, queue_limit=QUEUE) as fanout,
        stop.work(),
    ):
        replay = Replay(
            settings,
            fanout,
            protocols=protocols,
            hints=dict(shown.hints),
            keep=shown.filter,
            limit=shown.count,
            stop=stop,
        )
        whole = _replayed(replay, files, shown) and whole
        replay.finish()
        fanout.close()
    report = replay.report()
    if replay.read:
        for line in (*_summary.replay_lines(report, shown.texts), *shown.missed):
            shown.say(line)
    for sentence in (failed := [*_summary.undelivered(report), *_summary.crashed(report.crashes)]):
        shown.complain(sentence)
    if stop.asked:
        shown.say("interrupted: this is a part of what the files hold")
        return stop.exit_status(INTERRUPTED)
    return 0 if whole and not failed else 1


def _replayed(replay: Replay, files: tuple[str, ...], shown: Shown) -> bool:
    """Whether all of them could be read to their ends; what could not is said."""
    whole = True
    for path in files:
        try:
            with _progress(path, shown.quiet) as progress:
                replay.run(path, progress)
        except CaptureBroken as error:
            if not replay.ended:  # what was broken off by the operator is no news to him
                shown.complain(f"{path}: {error}")
                whole = False
        if replay.ended:
            break
    return whole
