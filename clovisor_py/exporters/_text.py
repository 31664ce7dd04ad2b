"""Text for a terminal: widths in cells, durations and counts for people, and nothing that a terminal would obey.

What comes from the wire is hostile: `model.text.printable` is the one gate; everything shown passes it.
"""

from __future__ import annotations

from typing import Final
from unicodedata import combining, east_asian_width

from clovisor_py.model.text import printable

ELLIPSIS: Final = "…"
NS: Final = (("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000))
"""Units of a duration and their nanoseconds; the next one takes over at a thousand."""
HOUR: Final = 3_600 * 1_000_000_000
LONGEST_S: Final = 10_000
"""Seconds from which `duration` counts hours: so it never gets wider than 8 cells, up to a century."""
CHARS_IN_CELL: Final = 4
"""Characters that are shown in one cell at most: a letter and three combining marks."""


def cells(text: str) -> int:
    """Columns of a terminal that printable text takes: wide characters two, combining ones none."""
    return len(text) if text.isascii() else sum(map(_cell, text))


def _cell(char: str) -> int:
    if combining(char):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def fit(text: str, width: int) -> str:
    """`text` in exactly `width` cells: made printable, padded, or cut with an ellipsis."""
    shown = clip(text, width)
    return shown + " " * (width - cells(shown))


def clip(text: str, width: int) -> str:
    """As `fit`, without the padding."""
    begin = text[: width * CHARS_IN_CELL]  # no more than that is looked at of a very long one
    shown = printable(begin)
    return shown if cells(shown) <= width and len(begin) == len(text) else _cut(shown, width)


def _cut(text: str, width: int) -> str:
    room = width - len(ELLIPSIS)
    kept = []
    for char in text:
        room -= _cell(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept) + ELLIPSIS


def duration(ns: int) -> str:
    """With one decimal: `57 µs`, `4.1 ms`, `212.0 ms`, `30.0 s`, `3.5 h`."""
    if ns < 1_000_000:
        return f"{max(ns, 0) // 1_000} µs"
    if ns < 999_950_000:
        return f"{ns / 1e6:.1f} ms"
    if ns < LONGEST_S * 1_000_000_000 - 50_000_000:
        return f"{ns / 1e9:.1f} s"
    hours = ns / HOUR
    return f"{hours:.1f} h" if hours < 9_999 else f"{hours:.0f} h"


def brief(ns: int) -> str:
    """Two or three digits, for a summary: `57 µs`, `3.9 ms`, `11 ms`, `212 ms`, `30 s`."""
    ns = max(ns, 0)
    unit, size = next(((unit, size) for unit, size in NS if ns < 999.5 * size), NS[-1])
    value = ns / size
    return f"{value:.1f} {unit}" if 0 < value < 9.95 and unit != "µs" else f"{value:.0f} {unit}"


def percent(part: int, whole: int) -> str:
    """`0 %`, `1.4 %`, `12 %`; never `0 %` of something that happened, never `100 %` of something that did not always."""
    if not part or not whole:
        return "0 %"
    share = 100 * part / whole
    if share < 0.1:
        return "<0.1 %"
    if share < 9.95:
        return f"{share:.1f} %"
    return "100 %" if part == whole else f"{min(share, 99):.0f} %"
