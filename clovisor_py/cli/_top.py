"""`clovisor top`'s table: one line a pair or an operation, the columns lined up, as many lines as the terminal has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import click

from clovisor_py.exporters._text import brief, cells, clip
from clovisor_py.metrics.view import Line

NAME_CELLS: Final = 40
"""A name, or an operation, is cut there; `-o json` has it whole."""
SLOW_ERRORS: Final = 0.01
"""From one percent of errors on, a line is red."""
LEFT: Final = ("CLIENT → SERVER", "PROTOCOL", "OPERATION")
RIGHT: Final = ("REQ/S", "ERR", "P50", "P90", "P99", "RTT")
NOBODY: Final = "nothing was called"

Key = Callable[[Line], tuple[float | str, ...]]
SORTS: Final[Mapping[str, Key]] = MappingProxyType({
    "rate": lambda line: (-line.rate,),
    "errors": lambda line: (-line.error_rate, -line.errors),
    "p50": lambda line: (-(line.quantile(50) or 0),),
    "p90": lambda line: (-(line.quantile(90) or 0),),
    "p99": lambda line: (-(line.quantile(99) or 0),),
    "rtt": lambda line: (-line.rtt.quantile(0.5),),
    "name": lambda line: (),
})  # fmt: skip
"""Most first; names from a to z, as where the rest is equal."""


def ordered(lines: Sequence[Line], sort: str) -> list[Line]:
    """By one of SORTS, then by name."""
    key = SORTS[sort]
    return sorted(lines, key=lambda line: (*key(line), line[:6]))


def table(lines: Sequence[Line], rows: int | None = None) -> list[str]:
    """Its header and `rows` lines at most; the rest is summed up in one."""
    shown = lines if rows is None else lines[: max(rows, 1)]
    plain = not any(line.operation for line in lines)
    one_namespace = len({name for line in lines for name in (line.client_namespace, line.server_namespace) if name}) < 2
    cells_of = [_cells(line, one_namespace) for line in shown]
    header = (*LEFT, *RIGHT)
    columns = [at for at, title in enumerate(header) if not (plain and title == "OPERATION")]
    widths = [max(cells(row[at]) for row in (header, *cells_of)) for at in range(len(header))]
    out = [click.style(_joined(header, columns, widths), dim=True)]
    for line, row in zip(shown, cells_of, strict=True):
        text = _joined(row, columns, widths)
        out.append(click.style(text, fg="red") if line.error_rate >= SLOW_ERRORS else text)
    if not lines:
        out.append(click.style(NOBODY, dim=True))
    if rest := lines[len(shown) :]:
        out.append(click.style(f"… and {len(rest)} more, with {sum(line.rate for line in rest):,.1f} req/s", dim=True))
    return out


def _cells(line: Line, one_namespace: bool) -> tuple[str, ...]:
    client, server = line.client, line.server
    if not one_namespace:
        client, server = (f"{ns}/{name}" if ns else name for ns, name in (line[0:2], line[2:4]))
    waited = [_brief(line.quantile(q)) for q in (50, 90, 99)]
    pair = f"{clip(client, NAME_CELLS)} → {clip(server, NAME_CELLS)}"
    numbers = f"{line.rate:,.1f}", f"{100 * line.error_rate:.1f} %", *waited, _brief(line.rtt.quantile(0.5) or None)
    return pair, clip(line.protocol, NAME_CELLS), clip(line.operation, NAME_CELLS), *numbers


def _joined(row: Sequence[str], columns: Sequence[int], widths: Sequence[int]) -> str:
    parts = []
    for at in columns:
        space = " " * (widths[at] - cells(row[at]))
        parts.append(row[at] + space if at < len(LEFT) else space + row[at])
    return "  ".join(parts).rstrip()


def _brief(ns: int | None) -> str:
    return "–" if ns is None else brief(ns)
