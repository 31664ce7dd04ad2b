"""`clovisor protocols`: the registry as a table; what each protocol is told by, how it pairs, and where its limits are.

Only a terminal has a width: there the table leaves out what matters least, and some of the ports. In a pipe it is whole.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from clovisor_py.cli._plugins import plugin_option
from clovisor_py.exporters._text import cells, clip, fit
from clovisor_py.model.text import printable
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._plugins import load

HEADINGS: Final = ("protocol", "what", "told by", "pairing", "ports", "captured")
WHAT: Final = "what"
PORTS: Final = "ports"
DROPPED: Final = ("captured", "told by", "pairing")
"""Columns that go, in this order, where a terminal has no room for all; `-o wide` has them."""
FEWEST: Final = len("443, 8443 +12")
"""Columns that ports need at least: two of them, and how many more there are."""
UNBOUNDED: Final = 1 << 16
GAP: Final = 2
PAIRING: Final = {"fifo": "in order", "id": "by id"}


def described(protocol: Protocol) -> dict[str, object]:
    """Everything that a protocol says of itself, as JSON."""
    return {
        "name": protocol.name,
        "title": protocol.title,
        "sessions": protocol.sessions,
        "other_names": list(protocol.hints),
        "over": protocol.over or None,
        "transports": _transports(protocol),
        "pairing": protocol.pairing.value,
        "capture": protocol.capture.value,
        "ports": list(protocol.ports),
        "attributes": list(protocol.attributes),
        "limits": dict(protocol.limits),
        "specification": protocol.specification,
    }


def rows(protocols: Mapping[str, Protocol]) -> list[tuple[str, ...]]:
    """One a protocol, in the order of HEADINGS."""
    return [
        (
            protocol.name,
            protocol.title,
            f"streams of {protocol.over}"
            if protocol.over
            else " and ".join(["bytes"] + ["datagrams"] * ("udp" in _transports(protocol))),
            PAIRING[protocol.pairing.value],
            ", ".join(map(str, protocol.ports)) or "–",
            protocol.capture.value,
        )
        for protocol in protocols.values()
    ]


def _transports(protocol: Protocol) -> list[str]:
    return ["tcp", "udp"] if protocol.recognise_datagram is not None else ["tcp"]


def table(protocols: Mapping[str, Protocol], width: int = UNBOUNDED) -> list[str]:
    """Aligned, in lines of at most so many columns of a terminal."""
    told = zip(HEADINGS, zip(*rows(protocols), strict=True), strict=True)
    columns = {heading: [heading.upper(), *map(printable, texts)] for heading, texts in told}
    widths = {heading: max(map(cells, texts)) for heading, texts in columns.items()}

    def room() -> int:
        return width - sum(widths[name] + GAP for name in columns if name != PORTS)

    for heading in DROPPED:
        if room() < min(widths[PORTS], FEWEST):
            del columns[heading]
    widths[WHAT] -= max(min(widths[PORTS], FEWEST) - room(), 0)  # narrower than anybody's: cut rather than wrapped
    columns[PORTS] = [_some(ports, max(room(), FEWEST)) for ports in columns[PORTS]]
    widths[PORTS] = max(map(cells, columns[PORTS]))
    lines = zip(*([fit(text, max(widths[name], 1)) for text in texts] for name, texts in columns.items()), strict=True)
    return [clip((" " * GAP).join(line).rstrip(), width) for line in lines]


def _some(ports: str, room: int) -> str:
    """As many of them as there is room for, then how many more there are."""
    words = ports.split(", ")
    shown, more = ports, 0
    while len(shown) > room and more < len(words) - 1:
        more += 1
        shown = f"{', '.join(words[:-more])} +{more}"
    return shown


def markdown(protocols: Mapping[str, Protocol]) -> list[str]:
    """The README's table, with links to the specifications."""
    lines = [f"| {' | '.join(HEADINGS)} |", "| --- " * len(HEADINGS) + "|"]
    for (name, title, *rest), protocol in zip(rows(protocols), protocols.values(), strict=True):
        lines.append(f"| {' | '.join((f'`{name}`', f'[{title}]({protocol.specification})', *rest))} |")
    return lines


@click.command(name="protocols")
@click.option("-o", "--output", type=click.Choice(["table", "wide", "json", "markdown"]), default="table", show_default=True)
@plugin_option
def COMMAND(output: str, plugins: tuple[Path, ...]) -> int:
    """List the protocols that Clovisor reads, with plugins.

    \b
    Examples:
      clovisor protocols                      as a table that fits the terminal
      clovisor protocols -o wide              with all its columns and ports
      clovisor protocols -o json              with attributes, limits and specifications
      clovisor protocols --plugin mine.py     is my file accepted?

    Exit status 1 if a plugin was refused.
    """
    loaded = load(plugins)
    protocols = dict(sorted(loaded.protocols.items()))
    if output == "json":
        click.echo(json.dumps([described(protocol) for protocol in protocols.values()], indent=2))
    else:
        for line in markdown(protocols) if output == "markdown" else table(protocols, _width(output)):
            click.echo(line)
    for sentence in loaded.refused:
        click.echo(f"clovisor: {printable(sentence)}", err=True)
    return 1 if loaded.refused else 0


def _width(output: str) -> int:
    """Columns that a line may take."""
    return shutil.get_terminal_size().columns if output == "table" and sys.stdout.isatty() else UNBOUNDED
