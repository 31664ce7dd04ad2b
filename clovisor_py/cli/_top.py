"""`clovisor top`'s table: one line a pair or an operation, the columns lined up, as many lines and cells as the terminal has.

Where a row is too wide, texts give way before numbers do: the operation first, then both names alike, then the protocol; a row
that is too wide even so is cut, and never wrapped: each line that wraps would push the header off the screen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import click

from clovisor_py.exporters._screen import INCOMPLETE
from clovisor_py.exporters._text import brief, cells, clip, fit
from clovisor_py.metrics.view import Line

NAME_CELLS: Final = 40
"""A name, or an operation, is cut there; `-o json` has it whole."""
SLOW_ERRORS: Final = 0.01
"""From one percent of errors on, a line is red."""
LEFT: Final = ("CLIENT → SERVER", "PROTOCOL", "OPERATION")
RIGHT: Final = ("REQ/S", "ERR", "", "P50", "P90", "P99", "RTT")
HEADER: Final = (*LEFT, *RIGHT)
MARK: Final = HEADER.index("")
"""The column of INCOMPLETE: beside the numbers that are not exact then, where no narrow terminal cuts it off."""
ARROW: Final = " → "
GAP: Final = "  "
PAIR, PROTOCOL, OPERATION = range(len(LEFT))
NARROWED: Final = ((OPERATION, 16), (PAIR, 27), (OPERATION, 9), (PAIR, 15), (PROTOCOL, 6))
"""What gives way to numbers, in this order, and down to how many cells: first what can still be read well."""
NOBODY: Final = "nothing was called"
EXPLAINED: Final = f"{INCOMPLETE.strip()}: part of it passed unseen; rates and errors are not exact"
UNTOLD: Final = "{:,} sessions are told as other: there is more than is kept apart"

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


def table(lines: Sequence[Line], rows: int | None = None, columns: int | None = None, untold: int = 0) -> list[str]:
    """A header, and `rows` lines at most of what was called and is to be known of it; the rest is summed up in one more.

    No line is wider than `columns` cells. `untold`: sessions that are told as other.
    """
    notes = [EXPLAINED] if any(line.hidden for line in lines) else []
    notes += [UNTOLD.format(untold)] if untold > 0 else []
    shown = lines if rows is None else lines[: max(rows - len(notes), 1)]
    if not lines:
        notes.insert(0, NOBODY)
    if rest := lines[len(shown) :]:
        notes.insert(0, f"… and {len(rest)} more, with {sum(line.rate for line in rest):,.1f} req/s")
    header, *found = _rows(shown, columns)
    out = [click.style(header, dim=True)]
    out += [
        click.style(row, fg="red") if line.error_rate >= SLOW_ERRORS else row for line, row in zip(shown, found, strict=True)
    ]
    return [*out, *(click.style(note if columns is None else clip(note, columns), dim=True) for note in notes)]


def _rows(lines: Sequence[Line], width: int | None) -> list[str]:
    """The header and each line, without colours."""
    one_namespace = len({name for line in lines for name in (line.client_namespace, line.server_namespace) if name}) < 2
    names = [_names(line, one_namespace) for line in lines]
    texts: list[tuple[str, ...]] = [
        HEADER,
        *(_cells(line, _pair(*pair, None)) for line, pair in zip(lines, names, strict=True)),
    ]
    empty = {OPERATION: not any(line.operation for line in lines), MARK: not any(line.hidden for line in lines)}
    shown = [at for at in range(len(HEADER)) if not empty.get(at)]
    widths = {at: max(cells(row[at]) for row in texts) for at in shown}
    if width is not None:
        _narrow(widths, width)
    for number, pair in enumerate(names, 1):
        texts[number] = (_pair(*pair, widths[PAIR]), *texts[number][1:])
    rows = [_joined(row, widths) for row in texts]
    return rows if width is None else [clip(row, width) for row in rows]


def _narrow(widths: dict[int, int], width: int) -> None:
    """Take from them, as NARROWED says, until there is room; they may still be too wide."""
    for at, least in NARROWED:
        over = sum(widths.values()) + len(GAP) * (len(widths) - 1) - width
        if over > 0 and at in widths:
            widths[at] = max(widths[at] - over, min(widths[at], least))


def _names(line: Line, one_namespace: bool) -> tuple[str, str]:
    if one_namespace:
        return line.client, line.server
    client, server = (f"{ns}/{name}" if ns else name for ns, name in (line[0:2], line[2:4]))
    return client, server


def _pair(client: str, server: str, width: int | None) -> str:
    """Both names; the longer one is cut first, then both alike."""
    client, server = clip(client, NAME_CELLS), clip(server, NAME_CELLS)
    room = 2 * NAME_CELLS if width is None else width - len(ARROW)
    half = room // 2
    first = max(room - cells(server), half) if cells(server) < half else room - half
    client = clip(client, first)
    return f"{client}{ARROW}{clip(server, room - cells(client))}"


def _cells(line: Line, pair: str) -> tuple[str, ...]:
    waited = [_brief(line.quantile(q)) for q in (50, 90, 99)]
    counts = f"{line.rate:,.1f}", f"{100 * line.error_rate:.1f} %", INCOMPLETE.strip() if line.hidden else ""
    times = *waited, _brief(line.rtt.quantile(0.5) or None)
    return pair, clip(line.protocol, NAME_CELLS), clip(line.operation, NAME_CELLS), *counts, *times


def _joined(row: Sequence[str], widths: Mapping[int, int]) -> str:
    parts = [
        fit(row[at], width) if at < len(LEFT) else " " * (width - cells(row[at])) + row[at] for at, width in widths.items()
    ]
    return GAP.join(parts).rstrip()


def _brief(ns: int | None) -> str:
    return "–" if ns is None else brief(ns)
