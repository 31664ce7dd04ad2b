"""`jsonl:FILE`: appends one JSON object a line to a file, flushed with every batch; `jsonl:-`: to standard output.

A line is written whole or not at all: the file is opened for appending, a batch is one write, and what a full disk let
through of it is taken back, so that a reader never meets half an object and a retry repeats none. (From a pipe nothing can be
taken back; there a batch fails only where nobody reads it any more.)

`jsonl:FILE?rotate=100MB&keep=5&gzip=1` begins a new file where a batch would not fit any more: `_rotation` keeps the full ones.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from clovisor_py.errors import ClovisorError, ExportFailed, SinkGone, UsageError
from clovisor_py.exporters import _json
from clovisor_py.exporters._api import Exporter, ExportUrl
from clovisor_py.exporters._rotation import KEEP, MODE, MOST_KEPT, Plan, Rotation, lock, size
from clovisor_py.model.session import Session

STDOUT = Path("-")
OPTIONS = ("rotate", "keep", "gzip")


class JsonlSink:
    """Appends to `path`; `-` is standard output.

    Raises UsageError where it cannot be opened, ExportFailed where another process is in the way. `plan`: None rotates nothing.
    """

    def __init__(self, path: Path, plan: Plan | None = None) -> None:
        self._path = path
        self._name = "standard output" if path == STDOUT else f"'{path}'"
        try:
            self._file = _opened(path)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"cannot write to {self._name} ({why}); give jsonl: a file that you may write to.") from error
        self._regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        try:
            self._rotation = self._begin(plan)
        except ClovisorError:
            os.close(self._file)
            raise

    def export(self, sessions: Sequence[Session]) -> int:
        """Raises ExportFailed where the batch could not be written whole (the disk is full), SinkGone where nobody reads it."""
        data = "".join(_json.line(session) + "\n" for session in sessions).encode("ascii")
        if self._rotation is not None and self._rotation.due(self._place(), len(data)):
            self._file = self._rotation.turn(self._file)
        start = self._place()
        try:
            self._write(data)
        except BrokenPipeError as error:
            if self._path == STDOUT:
                raise SinkGone("nobody reads standard output any more; start again with it open.") from error
            raise ExportFailed(f"nobody reads {self._name}; start a reader, or choose another.") from error
        except OSError as error:
            if self._regular:
                os.ftruncate(self._file, start)
                os.lseek(self._file, start, os.SEEK_SET)
            raise ExportFailed(f"cannot write to {self._name} ({error.strerror}); make room or choose another.") from error
        if self._rotation is not None:
            self._rotation.work(len(data))
        return len(sessions)

    def close(self) -> None:
        """Let go of the file."""
        if self._rotation is not None:
            self._rotation.close()
        os.close(self._file)

    def _begin(self, plan: Plan | None) -> Rotation | None:
        """The lock, and what rotates where that is asked for. Others may append beside us, but to nothing that is rotated."""
        if plan is not None and (not self._regular or self._path == STDOUT):
            raise UsageError(f"{self._name} is no file that can be rotated; leave out 'rotate', or choose another.")
        if self._regular and self._path != STDOUT and not lock(self._file, alone=plan is not None):
            why = "is written by another process" if plan is not None else "is rotated by another process"
            raise ExportFailed(f"{self._name} {why}, and who rotates a file must be alone; end that one, or choose another.")
        return None if plan is None else Rotation(self._path.resolve(), plan)

    def _place(self) -> int:
        """Where in a file the next byte goes: a shell's `> FILE` does not append."""
        appends = fcntl.fcntl(self._file, fcntl.F_GETFL) & os.O_APPEND
        return os.lseek(self._file, 0, os.SEEK_END if appends else os.SEEK_CUR) if self._regular else 0

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]


def _opened(path: Path) -> int:
    """A descriptor that is ours to close."""
    if path != STDOUT:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
    return os.dup(sys.stdout.fileno())


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
