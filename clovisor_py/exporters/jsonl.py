"""`jsonl:FILE`: appends one JSON object a line to a file, flushed with every batch.

A line is written whole or not at all: the file is opened for appending, a batch is one write, and what a full disk let
through of it is taken back, so that a reader never meets half an object and a retry repeats none.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from clovisor_py.errors import ExportFailed, UsageError
from clovisor_py.exporters import _json
from clovisor_py.exporters._api import Exporter, ExportUrl
from clovisor_py.model.session import Session

MODE = 0o600
"""Of a file that is made: what was said on the wire is for the operator alone."""


class JsonlSink:
    """Appends to `path`. Raises UsageError where it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"cannot write to '{path}' ({why}); give jsonl: a file that you may write to.") from error
        self._regular = stat.S_ISREG(os.fstat(self._file).st_mode)

    def export(self, sessions: Sequence[Session]) -> int:
        """Raises ExportFailed where the batch could not be written whole (the disk is full)."""
        data = "".join(_json.line(session) + "\n" for session in sessions).encode("ascii")
        start = os.fstat(self._file).st_size
        try:
            self._write(data)
        except OSError as error:
            if self._regular:
                os.ftruncate(self._file, start)
            raise ExportFailed(f"cannot write to '{self._path}' ({error.strerror}); make room or choose another.") from error
        return len(sessions)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]


def _create(url: ExportUrl) -> JsonlSink:
    if url.host or url.query or not url.path:
        raise UsageError(f"'{url.text}' names no file; write jsonl:FILE, for example jsonl:sessions.jsonl.")
    return JsonlSink(Path(url.path))


EXPORTER = Exporter(schemes=("jsonl",), synopsis="jsonl:FILE", create=_create)
