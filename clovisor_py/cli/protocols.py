"""`clovisor protocols`: the registry as a table; what each protocol is told by, how it pairs, and where its limits are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from clovisor_py.cli._plugins import plugin_option
from clovisor_py.model.text import printable
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._plugins import load

HEADINGS: Final = ("protocol", "what", "told by", "pairing", "ports", "captured")
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


def table(protocols: Mapping[str, Protocol]) -> list[str]:
    """Aligned, for a terminal."""
    shown = [tuple(heading.upper() for heading in HEADINGS), *rows(protocols)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(HEADINGS))]
    return ["  ".join(f"{printable(cell):<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]


def markdown(protocols: Mapping[str, Protocol]) -> list[str]:
    """The README's table, with links to the specifications."""
    lines = [f"| {' | '.join(HEADINGS)} |", "| --- " * len(HEADINGS) + "|"]
    for (name, title, *rest), protocol in zip(rows(protocols), protocols.values(), strict=True):
        lines.append(f"| {' | '.join((f'`{name}`', f'[{title}]({protocol.specification})', *rest))} |")
    return lines


@click.command(name="protocols")
@click.option("-o", "--output", type=click.Choice(["table", "json", "markdown"]), default="table", show_default=True)
@plugin_option
def COMMAND(output: str, plugins: tuple[Path, ...]) -> int:
    """List the protocols that Clovisor reads, with plugins.

    \b
    Examples:
      clovisor protocols                      as a table
      clovisor protocols -o json              with attributes, limits and specifications
      clovisor protocols --plugin mine.py     is my file accepted?

    Exit status 1 if a plugin was refused.
    """
    loaded = load(plugins)
    protocols = dict(sorted(loaded.protocols.items()))
    if output == "json":
        click.echo(json.dumps([described(protocol) for protocol in protocols.values()], indent=2))
    else:
        for line in (markdown if output == "markdown" else table)(protocols):
            click.echo(line)
    for sentence in loaded.refused:
        click.echo(f"clovisor: {sentence}", err=True)
    return 1 if loaded.refused else 0
