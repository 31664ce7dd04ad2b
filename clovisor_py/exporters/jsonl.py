"""`jsonl:FILE`: appends one JSON object a line to a file, flushed with every batch; `jsonl:-`: to standard output.

A line is written whole or not at all: the file is opened for appending, a batch is one write, and what a full disk let
through of it is taken back, so that a reader never meets half an object and a retry repeats none. (From a pipe nothing can be
taken back; there a batch fails only where nobody reads it any more. And a disk that refuses even to take back keeps half a
line, which is said, and ended by a line break before the next one.)

`jsonl:FILE?rotate=100MB&keep=5&gzip=1` begins a new file where lines would not fit any more: `_rotation` keeps the full ones,
and a batch that is longer than a file is written in several pieces. Where somebody else moves the file away (logrotate), the
next batch begins a new one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clovisor_py.errors import ClovisorError, ExportFailed, SinkGone, UsageError
from clovisor_py.exporters import _json
from clovisor_py.exporters._api import Delivery, Exporter, ExportUrl
from clovisor_py.exporters._parts import Parts
from clovisor_py.exporters._rotation import KEEP, MOST_KEPT, Plan, Rotation, open_locked, same, size
from clovisor_py.model.session import Session

STDOUT = Path("-")
OPTIONS = ("rotate", "keep", "gzip")
LOOK = 64
"""Bytes of a file by which it is known as one of lines."""

log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """Lines that go into one file, with one write."""

    data: bytes
    spans: int


class JsonlSink:
    """Appends to `path`; `-` is standard output.

    Raises UsageError where it cannot be opened, ExportFailed where another process is in the way. `plan`: None rotates nothing.
    """

    def __init__(self, path: Path, plan: Plan | None = None) -> None:
        self._path, self._plan = path, plan
        self._name = "standard output" if path == STDOUT else f"'{path}'"
        try:
            self._file = os.dup(sys.stdout.fileno()) if path == STDOUT else open_locked(path, alone=plan is not None)
        except BlockingIOError as error:
            doing = "rotated" if plan is None else "written"
            raise ExportFailed(
                f"{self._name} is {doing} by somebody else (a process, or another --export), and who rotates must be alone; "
                "choose another file."
            ) from error
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"cannot write to {self._name} ({why}); give jsonl: a file that you may write to.") from error
        self._regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        self._parts: Parts[Piece] = Parts()
        self._writer = _json.Writer()
        self.settled = self._parts.settled
        self._torn = False
        """The last line is half a line that could not be taken back: a line break comes first."""
        try:
            if self._regular and path != STDOUT and not _takes_lines(path):
                raise UsageError(f"{self._name} holds something else than JSON lines; give jsonl: another file.")
            self._rotation = self._begin(plan)
        except ClovisorError:
            os.close(self._file)
            raise

    def export(self, sessions: Sequence[Session]) -> Delivery:
        """Raises ExportInterrupted where not all could be written (the disk is full), SinkGone where nobody reads it.

        Given the same sequence again, goes on with the rest.
        """
        if not self._parts.holds(sessions):
            lines, _, fault = self._writer.lines(sessions)
            self._parts.begin(sessions, self._pieces(lines), fault, _json.NO_LINE)
        self._follow()
        for piece in self._parts.waiting():
            try:
                self._append(piece.data)
            except SinkGone:
                raise
            except ExportFailed as error:
                raise self._parts.interrupted(error) from error
            self._parts.settle(0, "")
        return self._parts.done()

    def _pieces(self, lines: list[str]) -> Iterator[Piece]:
        """All at once, unless files are full before that; a line is never divided."""
        most = sys.maxsize if self._plan is None else self._plan.bytes
        held: list[str] = []
        room = most
        for line in lines:
            if held and len(line) + 1 > room:
                yield _piece(held)
                held, room = [], most
            held.append(line)
            room -= len(line) + 1
        if held:
            yield _piece(held)

    def _append(self, data: bytes) -> None:
        start = self._place()
        try:
            self._end_torn()
            if self._rotation is not None and self._rotation.due(self._place(), len(data)):
                self._file = self._rotation.turn(self._file)
            start = self._place()
            self._write(data)
        except BrokenPipeError as error:
            if self._path == STDOUT:
                raise SinkGone("nobody reads standard output any more; start again with it open.") from error
            raise ExportFailed(f"nobody reads {self._name}; start a reader, or choose another.") from error
        except OSError as error:
            self._take_back(start)
            raise ExportFailed(f"cannot write to {self._name} ({error.strerror}); make room or choose another.") from error
        if self._rotation is not None:
            self._rotation.work(len(data))

    def _end_torn(self) -> None:
        """Half a line is a line of its own, not the beginning of the next one."""
        if self._torn:
            self._write(b"\n")
            self._torn = False

    def _follow(self) -> None:
        """Where somebody has moved the file away, begin a new one; where that cannot be had, the old one is as good."""
        if not self._regular or self._path == STDOUT or same(self._file, self._path):
            return
        try:
            if not _takes_lines(self._path):
                return
            fresh = open_locked(self._path, alone=self._plan is not None)
        except OSError as error:
            log.debug("%s was moved away, and no new one can be begun (%s).", self._name, error.strerror)
            return
        os.close(self._file)
        self._file, self._torn = fresh, False

    def close(self) -> None:
        """Let go of the file."""
        if self._rotation is not None:
            self._rotation.close()
        os.close(self._file)

    def _begin(self, plan: Plan | None) -> Rotation | None:
        """What rotates it, where that is asked for. Others may append beside us, but to nothing that is rotated."""
        if plan is not None and (not self._regular or self._path == STDOUT):
            raise UsageError(f"{self._name} is no file that can be rotated; leave out 'rotate', or choose another.")
        return None if plan is None else Rotation(self._path.resolve(), plan)

    def _place(self) -> int:
        """Where in a file the next byte goes: a shell's `> FILE` does not append."""
        appends = fcntl.fcntl(self._file, fcntl.F_GETFL) & os.O_APPEND
        return os.lseek(self._file, 0, os.SEEK_END if appends else os.SEEK_CUR) if self._regular else 0

    def _take_back(self, start: int) -> None:
        """What came after `start` goes. A disk that refuses that, too, keeps half a line."""
        if not self._regular:
            return
        end = self._place()
        try:
            os.ftruncate(self._file, start)
            os.lseek(self._file, start, os.SEEK_SET)
        except OSError as error:
            self._torn = self._torn or end > start
            log.warning("%s keeps a part of what could not be written whole (%s).", self._name, error.strerror)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]


def _takes_lines(path: Path) -> bool:
    """Whether a file is one of lines, empty, or not there: what holds a capture is not appended to by a slip of the hand."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return file.read(LOOK).lstrip(b"\n")[:1] in (b"", b"{")
    except (FileNotFoundError, PermissionError):  # what may be written and not read is nobody's capture
        return True


def _piece(lines: list[str]) -> Piece:
    return Piece("\n".join([*lines, ""]).encode("ascii"), len(lines))


def _create(url: ExportUrl) -> JsonlSink:
    if url.host or not url.path:
        raise UsageError(
            f"'{url.text}' names no file; write jsonl:FILE (jsonl:sessions.jsonl), or jsonl:- for standard output."
        )
    return JsonlSink(Path(url.path), _plan(url))


def _plan(url: ExportUrl) -> Plan | None:
    """How it is rotated; None where it is not."""
    query = url.query
    keep, packed = query.get("keep", str(KEEP)), query.get("gzip", "0")
    if set(query) - set(OPTIONS) or packed not in ("0", "1"):
        raise UsageError(f"'{url.text}' makes no sense; write jsonl:FILE, or jsonl:FILE?rotate=100MB&keep={KEEP}&gzip=1.")
    if not (keep.isascii() and keep.isdecimal() and len(keep) <= len(str(MOST_KEPT)) and int(keep) > 0):
        raise UsageError(f"'{keep}' is no number of files to keep; write keep=1 to keep={MOST_KEPT}.")
    if "rotate" not in query:
        if query:
            raise UsageError(f"'{url.text}' does not say when a file is full; add rotate=100MB.")
        return None
    return Plan(size(query["rotate"]), int(keep), packed == "1")


EXPORTER = Exporter(schemes=("jsonl",), synopsis="jsonl:FILE", create=_create)
