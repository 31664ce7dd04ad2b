"""`console:`: one line a session on standard output, for people; `?format=json` one object a line, for programs.

A call between two traced pods is two sessions, one at each end. A person wants it once: the end that is heard of first
speaks for both, and only `wide` and `json` show every session.

How a line looks is in `_screen`; this module decides the width and whether there are colours, once, at the start: columns
that change their place while somebody reads are worse than columns that do not use a new width. Only a terminal has a width
that a line must fit; into a file or a pipe goes all of it.

A line tells the time of the day. Where that is not today's (a capture), or the day changes, a line with the date comes before.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

from clovisor_py.errors import ExportFailed, SinkGone, UsageError
from clovisor_py.exporters import _json
from clovisor_py.exporters._api import Delivery, Exporter, ExportUrl
from clovisor_py.exporters._screen import SLOW_NS, Screen, day_line, day_of, header_line, session_line
from clovisor_py.model.session import Session

FORMATS: Final = ("line", "wide", "json")
"""`line` cuts what is too long for the terminal, `wide` does not."""
PIPED_WIDTH: Final = 140
"""Columns of an ordinary line where standard output is no terminal: a file or a pager has room."""
TOGETHER: Final = 64
"""Lines of one write. The text of a whole batch is a third of a MB, which the allocator would give back to the kernel and get
again with each batch: that took as long as a quarter of making the lines."""
REMEMBERED: Final = 4096
"""Calls whose other end may still come: both ends are heard of within some milliseconds of each other."""


class ConsoleSink:
    """Writes to `stream`, and flushes it with every TOGETHER lines; `form` is one of FORMATS.

    `today`: the day that goes without saying, `2026-01-02`; "": none does.
    """

    def __init__(self, stream: TextIO, screen: Screen, form: str = "line", today: str = "") -> None:
        self._stream = stream
        self._screen = screen
        self._json = _json.Writer() if form == "json" else None
        self._headed = form == "json"
        self._once = form == "line"
        self._day = today
        """Of the line that was written last."""
        self._coming = today
        """Of the last line that is being written."""
        self._shown: dict[tuple[str, int, int], None] = {}
        self._batch: Sequence[Session] | None = None
        """The one that is being written; kept, so that another attempt at it is known."""
        self._told = Delivery(0)
        """What becomes of it."""
        self._waiting: list[str] = []
        """Its lines that the stream has not taken yet."""

    def export(self, sessions: Sequence[Session]) -> Delivery:
        """Raises SinkGone where nobody reads the stream any more, ExportFailed where it takes nothing now (a full disk).

        Given the same sequence again, goes on with the rest.
        """
        if self._batch is not sessions:
            self._begin(sessions)
        try:
            self._stream.flush()  # what it took at the last attempt, and could not pass on
            while part := self._waiting[:TOGETHER]:
                self._stream.write(self._encodable("\n".join([*part, ""])))
                del self._waiting[:TOGETHER]
                self._headed = True
                self._stream.flush()
        except (OSError, ValueError) as error:
            if isinstance(error, ConnectionError) or self._stream.closed:
                raise SinkGone("nobody reads the console any more; start again with its output open.") from error
            raise ExportFailed(f"cannot write to the console ({error}); start again with its output open.") from error
        self._batch = None
        self._day = self._coming
        return self._told

    def _begin(self, sessions: Sequence[Session]) -> None:
        """A new batch: which calls were shown, and how each reads, is asked once, however often it is tried."""
        dropped: dict[str, int] = {}
        fault = ""
        if self._json is not None:
            self._waiting, dropped, fault = self._json.lines(sessions)
        else:
            self._waiting = self._lines([session for session in sessions if not self._repeated(session)])
        self._batch, self._told = sessions, Delivery(len(sessions) - sum(dropped.values()), dropped, fault)

    def close(self) -> None:
        """Nothing to do: the stream belongs to whoever opened it, and every batch was flushed."""

    def _lines(self, sessions: Sequence[Session]) -> list[str]:
        """The header once, the date where it is another. `_day` follows when they are written: a batch may be given up."""
        screen, day = self._screen, self._day
        lines = [] if self._headed or not sessions else [header_line(screen)]
        for session in sessions:
            if (its := day_of(session.start_ns, screen.tz)) != day:
                lines.append(day_line(its, screen))
                day = its
            lines.append(session_line(session, screen))
        self._coming = day
        return lines

    def _repeated(self, session: Session) -> bool:
        """Whether the call's other end has been shown. Both see its client and the sequence number alike."""
        if not self._once or not session.peer_traced or not session.seq:
            return False
        call = (session.client.ip, session.client.port, session.seq)
        if call in self._shown:
            del self._shown[call]
            return True
        self._shown[call] = None
        if len(self._shown) > REMEMBERED:
            del self._shown[next(iter(self._shown))]
        return False

    def _encodable(self, text: str) -> str:
        """What the stream's encoding has no letter for becomes `?`, in the same number of columns."""
        encoding = self._stream.encoding or "utf-8"
        return text if encoding.lower() in ("utf-8", "utf8") else text.encode(encoding, "replace").decode(encoding)


def screen_for(stream: TextIO, environ: Mapping[str, str], *, wide: bool = False, slow_ns: int = SLOW_NS) -> Screen:
    """The width of the terminal; colours only on one that has them, and where NO_COLOR (no-color.org) is not set.

    COLUMNS is heard on a terminal only: a shell that exports it must not cut what is piped.
    """
    terminal = stream.isatty()
    colour = terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    width = shutil.get_terminal_size().columns if terminal else PIPED_WIDTH
    return Screen(width=width, colour=colour, wide=wide or not terminal, slow_ns=slow_ns)


def _create(url: ExportUrl) -> ConsoleSink:
    form = url.query.get("format", "line")
    if url.host or url.path or set(url.query) - {"format"} or form not in FORMATS:
        raise UsageError(f"'{url.text}' makes no sense to the console; write console: or console:?format={'|'.join(FORMATS)}.")
    screen = screen_for(sys.stdout, os.environ, wide=form == "wide")
    return ConsoleSink(sys.stdout, screen, form, day_of(time.time_ns(), screen.tz))


EXPORTER = Exporter(schemes=("console",), synopsis="console:", create=_create)
