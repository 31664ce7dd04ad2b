"""What a session, a summary and a service map look like on a terminal: pure functions from data to lines.

One session is one line. The columns follow from the terminal's width alone, so they line up from the first line to the
last, whatever a line has to say; what is too long is cut with `…` (the JSON has it whole). Colour carries meaning only:
red failed, yellow was slow, dim is our own remark.

The summary and the map are told in terms of what they need (`Calls`), which `metrics.red.Edge` happens to have: the two
rooms do not know each other.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from clovisor_py.exporters._text import brief, cells, clip, duration, fit, percent
from clovisor_py.model.session import Outcome, Session, moment
from clovisor_py.model.text import printable
from clovisor_py.model.workload import Endpoint, Workload

NARROWEST: Final = 80
"""Columns that a line needs; a narrower terminal wraps it."""
NARROWEST_END: Final = len("10.0.0.9:41122")
WIDEST_END: Final = 32
"""Columns of FROM and TO at least and at most: what a wide terminal has more goes to the session."""
TIME: Final = len("10:04:11.482")
STATUS: Final = 9
TOOK: Final = len("212.0 ms")
ARROW: Final = " → "
GAPS: Final = 3 * len("  ") + len(ARROW)
SLOW_NS: Final = 100_000_000
"""100 ms: where people begin to notice that they wait."""
SHOWN_ERRORS: Final = 3
"""Statuses that the summary names."""
MAP_ROWS: Final = 40
"""Lines of a service map; the rest is summed up in one."""
MAP_NAME: Final = 24
INCOMPLETE: Final = " ·cut"
"""Behind numbers that are less than the truth, as behind a line of which not all was seen."""
EXPLAINED: Final = "·cut: part of it passed unseen; there were as many calls or more, and rates and errors are not exact"

RED: Final = "\x1b[31m"
YELLOW: Final = "\x1b[33m"
DIM: Final = "\x1b[2m"
RESET: Final = "\x1b[0m"


class Distribution(typing.Protocol):
    """Durations, as the summary and the map ask for them."""

    def quantile(self, q: float) -> int:
        """In ns."""


class Calls(typing.Protocol):
    """A count of calls, how many failed and why, how long they took, and the slowest."""

    @property
    def client(self) -> str: ...
    @property
    def server(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def calls(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def durations(self) -> Distribution: ...
    @property
    def error_statuses(self) -> Mapping[str, int]: ...
    @property
    def hidden(self) -> int: ...
    @property
    def slowest(self) -> Session | None: ...


@dataclass(frozen=True)
class Screen:
    """How lines are laid out. `width` in columns; `wide` cuts nothing (columns of ordinary lines have these widths all the
    same); `tz` None is the machine's own zone.
    """

    width: int = NARROWEST
    colour: bool = False
    wide: bool = False
    slow_ns: int = SLOW_NS
    tz: tzinfo | None = None

    @property
    def end(self) -> int:
        """Columns of FROM, and of TO."""
        return min(max((self._rest * 3) // 10, NARROWEST_END), WIDEST_END)

    @property
    def session(self) -> int:
        """Columns of SESSION."""
        return self._rest - 2 * self.end

    @property
    def _rest(self) -> int:
        return max(self.width, NARROWEST) - TIME - STATUS - TOOK - GAPS

    def paint(self, text: str, colour: str) -> str:
        """`text` in that colour, where there are colours."""
        return f"{colour}{text}{RESET}" if self.colour and text else text


def header_line(screen: Screen) -> str:
    """The names of the columns."""
    end, session = screen.end, screen.session
    cols = f"{'TIME':<{TIME}}  {'FROM':<{end}}{' ' * len(ARROW)}{'TO':<{end}}  {'SESSION':<{session}}  {'STATUS':<{STATUS}}"
    return screen.paint(f"{cols}{'TOOK':>{TOOK}}", DIM)


def day_of(time_ns: int, tz: tzinfo | None) -> str:
    """`2026-01-02`."""
    return f"{moment(time_ns // 1_000_000_000, tz):%Y-%m-%d}"


def day_line(day: str, screen: Screen) -> str:
    """Of which day the times below are. A line of its own: a column would cost every live line what hardly one needs."""
    return screen.paint(day, DIM)


def session_line(session: Session, screen: Screen) -> str:
    """One session, as long as the header (longer only on a `wide` screen)."""
    source = _client(session.client, session.client_workload, screen)
    target = _server(session.server, session.server_workload, screen)
    what = _what(session, screen)
    status = _fit(status_of(session), STATUS - 1, screen) + " "
    took = f"{duration(session.duration_ns):>{TOOK}}" if session.outcome is not Outcome.ONE_WAY else " " * TOOK
    if session.failed:
        status = screen.paint(status, RED)
    if session.duration_ns >= screen.slow_ns and not session.connection:
        took = screen.paint(took, YELLOW)
    return f"{_time(session.start_ns, screen)}  {source}{ARROW}{target}  {what}  {status}{took}"


def status_of(session: Session) -> str:
    """What the server said; where it said nothing, how the session ended."""
    if session.still_open:
        return "open"
    if session.attributes.get("clovisor.response") == "not seen":
        return session.status or "not seen"
    return session.word


def remark_of(session: Session) -> str:
    """The gravest thing that was not seen of it: ` ·gap` (lost bytes), ` ·cut` (no end captured), ` ·mid` (no beginning)."""
    marks = (("gap", session.gap_bytes), ("cut", session.truncated), ("mid", session.mid_stream))
    return next((f" ·{mark}" for mark, present in marks if present), "")


def summary_lines(total: Calls, seconds: float) -> list[str]:
    """How many in how long, how fast, how many failed; then the slowest, and what the failed ones failed with."""
    quantiles = "  ".join(f"p{q} {brief(total.durations.quantile(q / 100))}" for q in (50, 90, 99)) + " · "
    waited = quantiles if total.slowest is not None else ""  # for one-way messages and whole connections nobody did
    rate = f" ({total.calls / seconds:,.1f}/s)" if seconds >= 1 else ""  # of a moment there is none
    counts = f"{_plural(total.calls, 'session')} in {seconds:.0f} s{rate}"
    failed = _plural(total.errors, "error") + (f" ({percent(total.errors, total.calls)})" if total.errors else "")
    lines = [f"{counts} · {waited}{failed}{INCOMPLETE if total.hidden else ''}" if total.calls else counts]
    if total.slowest is not None:
        lines.append("  slowest  " + _slowest(total.slowest))
    if total.errors:
        hidden = len(total.error_statuses) - SHOWN_ERRORS
        lines.append("  errors   " + " · ".join([*_errors(total.error_statuses), *["…"] * (hidden > 0)]))
    return lines


def service_map_lines(rows: Sequence[Calls]) -> list[str]:
    """A table of who calls whom, in the order given, with its header; empty without rows.

    A row of which something passed unseen says so, and so do all between the same two: what was hidden may be any protocol's.
    """
    if not rows:
        return []
    shown = rows[:MAP_ROWS]
    unsure = {(row.client, row.server) for row in rows if row.hidden}
    ends = [(clip(row.client, MAP_NAME), clip(row.server, MAP_NAME)) for row in shown]
    cells_of = [(*pair, clip(row.protocol, 12), *_numbers(row)) for pair, row in zip(ends, shown, strict=True)]
    table = [("FROM", "TO", "PROTOCOL", "CALLS", "ERRORS", "P50", "P99"), *cells_of]
    widths = [max(cells(line[column]) for line in table) for column in range(len(table[0]))]
    lines = [_map_line(line, widths, ARROW if index else "   ") for index, line in enumerate(table)]
    for index, row in enumerate(shown, 1):
        lines[index] += INCOMPLETE if (row.client, row.server) in unsure else ""
    if len(rows) > MAP_ROWS:
        hidden = rows[MAP_ROWS:]
        lines.append(f"… and {len(hidden)} more, with {_plural(sum(row.calls for row in hidden), 'call')}")
    if unsure:
        lines.append(EXPLAINED)
    return lines


def _map_line(line: Sequence[str], widths: Sequence[int], arrow: str) -> str:
    left = [_pad(text, width) for text, width in zip(line[:3], widths[:3], strict=True)]
    right = [f"{text:>{width}}" for text, width in zip(line[3:], widths[3:], strict=True)]
    return f"{left[0]}{arrow}{left[1]}  {left[2]}  {'   '.join(right)}"


def _numbers(row: Calls) -> tuple[str, str, str, str]:
    fast, slow = brief(row.durations.quantile(0.50)), brief(row.durations.quantile(0.99))
    if row.slowest is None:
        fast = slow = "–"  # one-way messages, whole connections: nobody waited for them
    return f"{row.calls:,}", percent(row.errors, row.calls), fast, slow


def _slowest(session: Session) -> str:
    return f"{clip(_title(session), NARROWEST // 2)}  {duration(session.duration_ns)}"


def _errors(statuses: Mapping[str, int]) -> Iterable[str]:
    worst = sorted(statuses.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_ERRORS]
    return (f"{clip(status, 24)} × {count:,}" for status, count in worst)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _time(time_ns: int, screen: Screen) -> str:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{moment(seconds, screen.tz):%H:%M:%S}.{rest // 1_000_000:03d}"


def _title(session: Session) -> str:
    operation = session.operation or session.protocol
    said_already = session.resource.removeprefix("/") == operation  # a gRPC method is its own path
    return operation if said_already else f"{operation} {session.resource}".rstrip(" ")


def _what(session: Session, screen: Screen) -> str:
    remark = remark_of(session)
    title = _fit(_title(session), screen.session - len(remark), screen)
    if not remark:
        return title
    text = title.rstrip(" ")
    return text + screen.paint(remark, DIM) + " " * (len(title) - len(text))


def _client(end: Endpoint, workload: Workload | None, screen: Screen) -> str:
    """`10.0.0.9:41122`, or without its port where there is no room: nobody chose it."""
    name = _name(end, workload)
    whole = f"{name}:{end.port}"
    return _fit(whole if screen.wide or cells(printable(whole)) <= screen.end else name, screen.end, screen)


def _server(end: Endpoint, workload: Workload | None, screen: Screen) -> str:
    """`web:80`; where there is no room the name is cut, never the port."""
    name, port = _name(end, workload), f":{end.port}"
    return _fit(name + port if screen.wide else clip(name, screen.end - len(port)) + port, screen.end, screen)


def _name(end: Endpoint, workload: Workload | None) -> str:
    if workload is not None:
        return workload.name
    return f"[{end.ip}]" if ":" in end.ip else end.ip


def _fit(text: str, width: int, screen: Screen) -> str:
    return _pad(clip(text, len(text) * len("\\U000e0001")), width) if screen.wide else fit(text, width)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - cells(text))
