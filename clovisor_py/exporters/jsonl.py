"""`jsonl:FILE`: appends one JSON object a line to a file, flushed with every batch; `jsonl:-`: to standard output.

A line is written whole or not at all: the file is opened for appending, a batch is one write, and what a full disk let
through of it is taken back, so that a reader never meets half an object and a retry repeats none. (From a pipe nothing can be
taken back; there a batch fails only where nobody reads it any more.)
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from clovisor_py.errors import ExportFailed, SinkGone, UsageError
from clovisor_py.exporters import _json
from clovisor_py.exporters._api import Exporter, ExportUrl
from clovisor_py.model.session import Session

MODE = 0o600
"""Of a file that is made: what was said on the wire is for the operator alone."""


STDOUT = Path("-")


class JsonlSink:
    """Appends to `path`; `-` is standard output. Raises UsageError where it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = "standard output" if path == STDOUT else f"'{path}'"
        try:
            self._file = _opened(path)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"cannot write to {self._name} ({why}); give jsonl: a file that you may write to.") from error
        self._regular = stat.S_ISREG(os.fstat(self._file).st_mode)

    def export(self, sessions: Sequence[Session]) -> int:
        """Raises ExportFailed where the batch could not be written whole (the disk is full), SinkGone where nobody reads it."""
        data = "".join(_json.line(session) + "\n" for session in sessions).encode("ascii")
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
        return len(sessions)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

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
    if url.host or url.query or not url.path:
        raise UsageError(
            f"'{url.text}' names no file; write jsonl:FILE (jsonl:sessions.jsonl), or jsonl:- for standard output."
        )
    return JsonlSink(Path(url.path))


EXPORTER = Exporter(schemes=("jsonl",), synopsis="jsonl:FILE", create=_create)
