"""`tools/picture`: one trace as a picture, drawn from what Jaeger's query API says of it.

    tools/picture 4bf92f3577b34da6a3ce929d0e0e4736          # asks the Jaeger of this machine; text, for a terminal or a README
    tools/picture --svg trace.svg trace.json                # from what was kept of its answer; SVG, for light and dark pages

The same trace gives the same picture, whatever the order of its spans: children stand below their parent, by their beginning.
Nothing is added to what Jaeger has: names, statuses, times and parents are its spans'.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

QUERY: Final = "http://127.0.0.1:16686"
PATIENCE_S: Final = 10.0
BAR: Final = 48
"""Characters of the longest bar."""
TICKS: Final = 6
"""Marks on the time axis, at most."""

ROW, TOP, MARGIN, BARS, RIGHT = 28, 64, 16, 620, 84
"""Of the SVG, in pixels: a span's height, what is above the first, a margin, the longest bar, room for its duration."""
INDENT: Final = 18
LABEL, LETTER = 240, 7.5
"""Of the SVG, in pixels: room for labels, more where one is longer; a letter of the font, which is the reader's, or less."""
STYLE: Final = """\
text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #1f2328; }
.said { fill: #59636e; }
.title { font-weight: 600; font-size: 15px; }
.grid { stroke: #d1d9e0; }
.server { fill: #0969da; }
.client { fill: #0969da; fill-opacity: .35; }
.failed { fill: #cf222e; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .said { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .server, .client { fill: #4493f8; }
  .failed { fill: #f85149; }
}
"""


@dataclass(frozen=True)
class Row:
    """One span. Times in µs, `start` since the first span's; `depth`: spans above it in this trace."""

    depth: int
    label: str
    said: str
    start: int
    duration: int
    client: bool
    failed: bool


def rows(trace: Mapping[str, Any]) -> list[Row]:
    """The spans of one trace of the API, each below its parent. Raises ValueError where it has none."""
    spans = {span["spanID"]: span for span in trace["spans"]}
    if not spans:
        raise ValueError("the trace has no spans")
    children: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for span in sorted(spans.values(), key=lambda span: (span["startTime"], span["spanID"])):
        above = next((ref["spanID"] for ref in span["references"] if ref["refType"] == "CHILD_OF"), "")
        children[above if above in spans else ""].append(span)
    begin = min(span["startTime"] for span in spans.values())

    def below(parent: str, depth: int) -> Iterator[Row]:
        for span in children[parent]:
            yield _row(span, trace["processes"][span["processID"]], depth, begin)
            yield from below(span["spanID"], depth + 1)

    found = list(below("", 0))
    if len(found) < len(spans):
        raise ValueError("some of its spans are above themselves")
    return found


def _row(span: Mapping[str, Any], process: Mapping[str, Any], depth: int, begin: int) -> Row:
    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
    client = tags.get("span.kind") == "client"
    peer = tags.get("service.peer.name") or tags.get("server.address", "")
    status = tags.get("http.response.status_code") or tags.get("rpc.response.status_code") or ""
    return Row(
        depth=depth,
        label=f"{process['serviceName']} → {peer}" if client else process["serviceName"],
        said=f"{span['operationName']} {status}".rstrip(),
        start=span["startTime"] - begin,
        duration=span["duration"],
        client=client,
        failed=tags.get("error") is True,
    )


def _title(trace: Mapping[str, Any], found: Sequence[Row]) -> str:
    services = {process["serviceName"] for process in trace["processes"].values()}
    return f"trace {trace['traceID']}: {len(found)} spans of {len(services)} services, {_ms(_end(found))}"


def _end(found: Sequence[Row]) -> int:
    return max(*(row.start + row.duration for row in found), 1)


def _ms(micros: float) -> str:
    return f"{micros / 1000:,.2f} ms"


def _ticks(end: int) -> list[int]:
    """Round times from 0 to the end, in µs."""
    steps = (factor * 10**power for power in range(12) for factor in (1, 2, 5))
    step = next(step for step in steps if end / step < TICKS)
    return list(range(0, end + 1, step))


def text(trace: Mapping[str, Any]) -> str:
    """For a fixed-width font. `█` the called, `░` the caller, `✗` an error."""
    found = rows(trace)
    end = _end(found)
    labels = ["  " * row.depth + row.label for row in found]
    wide, said = max(map(len, labels)), max(len(row.said) for row in found)
    lines = [_title(trace, found), ""]
    for row, label in zip(found, labels, strict=True):
        first = min(row.start * BAR // end, BAR - 1)
        last = max((row.start + row.duration) * BAR // end, first + 1)
        bar = " " * first + ("░" if row.client else "█") * (last - first)
        lines.append(f"{label:{wide}}  {row.said:{said}} {'✗' if row.failed else ' '} {_ms(row.duration):>10}  {bar}")
    return "\n".join(lines) + "\n"


def svg(trace: Mapping[str, Any]) -> str:
    """One bar a span, the caller's paler; readable on light and dark pages, and by who hears it read."""
    found = rows(trace)
    scale = Scale(found)
    width, height = scale.left + BARS + RIGHT, TOP + ROW * len(found) + MARGIN
    title = escape(_title(trace, found))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>{title}</title>",
        f"<desc>{escape('; '.join(_heard(row) for row in found))}</desc>",
        f"<style>\n{STYLE}</style>",
        f'<text class="title" x="{MARGIN}" y="24">{title}</text>',
    ]
    for tick in _ticks(scale.end):
        x = scale.x(tick)
        out.append(f'<text class="said" x="{x}" y="{TOP - 12}" text-anchor="middle">{tick / 1000:g} ms</text>')
        out.append(f'<line class="grid" x1="{x}" y1="{TOP - 6}" x2="{x}" y2="{height - MARGIN}"/>')
    for number, row in enumerate(found):
        out += _bar(row, TOP + ROW * number, scale)
    return "\n".join([*out, "</svg>"]) + "\n"


class Scale:
    """Where a time is: `left` is where bars begin, `end` (µs) where the longest ends."""

    def __init__(self, found: Sequence[Row]) -> None:
        longest = max(INDENT * row.depth + LETTER * len(f"{row.label} {row.said}") for row in found)
        self.left = MARGIN + max(LABEL, round(longest)) + MARGIN
        self.end = _end(found)

    def x(self, micros: int) -> float:
        return round(self.left + BARS * micros / self.end, 1)


def _bar(row: Row, y: int, scale: Scale) -> Iterator[str]:
    kind = ("client" if row.client else "server") + (" failed" if row.failed else "")
    x, right = scale.x(row.start), scale.x(row.start + row.duration)
    label = f'{escape(row.label)} <tspan class="said">{escape(row.said)}</tspan>'
    yield f'<text x="{MARGIN + INDENT * row.depth}" y="{y + 19}">{label}</text>'
    yield f'<rect class="{kind}" x="{x}" y="{y + 5}" width="{max(right - x, 1):.1f}" height="{ROW - 10}" rx="3"/>'
    yield f'<text class="said" x="{right + 6:.1f}" y="{y + 19}">{_ms(row.duration)}</text>'


def _heard(row: Row) -> str:
    return f"{row.label}, {row.said}, {_ms(row.duration)} from {_ms(row.start)}" + (", an error" if row.failed else "")


def fetch(what: str, query: str) -> Mapping[str, Any]:
    """The trace with that id of the Jaeger at `query`, or of the answer that a file holds. Raises OSError, ValueError."""
    if re.fullmatch("[0-9a-fA-F]{16,32}", what):
        with urllib.request.urlopen(f"{query}/api/traces/{what.lower()}", timeout=PATIENCE_S) as answer:
            said = json.load(answer)
    else:
        said = json.loads(Path(what).read_text())
    if not said.get("data"):
        raise ValueError("there is no trace in the answer")
    trace: Mapping[str, Any] = said["data"][0]
    return trace


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tools/picture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trace", help="its id (16 or 32 hex digits), or a file with what /api/traces/ID answered")
    parser.add_argument("--query", default=QUERY, metavar="URL", help=f"Jaeger's query API (default {QUERY})")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw SVG into this file, and no text")
    args = parser.parse_args()
    try:
        trace = fetch(args.trace, args.query)
        if args.svg is None:
            sys.stdout.write(text(trace))
        else:
            args.svg.write_text(svg(trace))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"tools/picture: cannot draw '{args.trace}' ({error}); give the id of a trace that Jaeger shows.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
