"""Rotation of a file of lines: what is full becomes FILE.1, what was FILE.1 becomes FILE.2, and the oldest goes.

No line is lost in it, whatever happens and when:

- The new file is there, and locked, before it takes the old one's name; where that is refused (no room, no right), writing goes
  on in the old one, which is said once.
- Names are moved up from the highest on, and only to the first gap: an end in the midst of it leaves a gap, which the next
  rotation fills instead of pushing the oldest out.
- A full file is compressed into FILE.1.gz.part, a piece with every batch, so that no batch waits long. It takes its name when
  it is whole and on the disk, and only then the plain file goes. What an end left plain is compressed by the next run.
- Who rotates a file is its only writer: a lock (flock) that the other `jsonl:` exporters respect.

What `keep` files cannot hold is deleted, as it was asked for: that is the only way a line goes.
"""

from __future__ import annotations

import fcntl
import gzip
import logging
import os
import re
import stat
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from clovisor_py.errors import UsageError

MODE: Final = 0o600
"""Of a file that is made: what was said on the wire is for the operator alone."""
KEEP: Final = 5
"""Full files that are kept, where nothing else is asked for."""
MOST_KEPT: Final = 999
LEAST_BYTES: Final = 1 << 16
"""Of a file: less would rotate with every batch."""
PACKED_AT_ONCE: Final = 4
"""Bytes that are compressed for each that was written: it is done long before the next file is full."""
LEAST_PACKED: Final = 1 << 18
"""Bytes that are compressed with a batch: some 10 ms."""
LAST_S: Final = 1.0
"""How long a rotation, or the end, may wait for the rest; the exporter has five seconds to close."""
OPENINGS: Final = 5
"""How often a file is opened that has another name afterwards: some file systems never say that two are the same."""
LEVEL: Final = 6
"""Of gzip: JSON lines shrink to a tenth."""

_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_SIZE: Final = re.compile(r"(\d{1,12})(|[kmg]i?)b?", re.IGNORECASE)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """When a file is full (bytes), how many full ones are kept, and whether they are compressed."""

    bytes: int
    keep: int = KEEP
    gzip: bool = False


def size(text: str) -> int:
    """Bytes of `100MB` (a million each), `64MiB`, `5000000`. Raises UsageError."""
    found = _SIZE.fullmatch(text)
    number = int(found[1]) * _UNITS[found[2].lower()] if found else 0
    if number < LEAST_BYTES:
        raise UsageError(f"'{text}' is no size of a file; write at least {LEAST_BYTES // 1024}KiB, for example 100MB or 1GiB.")
    return number


def lock(file: int, *, alone: bool) -> bool:
    """Whether this open file is ours now: `alone`, or with other writers that rotate nothing. It is let go with the file."""
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # where the file system knows no locks, nobody may be sure to be alone
        return not alone
    return True


def open_locked(path: Path, *, alone: bool) -> int:
    """The file at `path`, for appending; a lock on it (see `lock`) if it is a regular one.

    Whoever rotates may give it another name between our opening and our locking it: then the one that has its name now is
    opened, and most likely locked by who rotates. Raises OSError; BlockingIOError where another process is in the way.
    """
    for attempt in range(1, OPENINGS + 1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        with ExitStack() as undo:
            undo.callback(os.close, file)
            if stat.S_ISREG(os.fstat(file).st_mode):
                if not lock(file, alone=alone):
                    raise BlockingIOError(0, "another process writes to it")
                if attempt < OPENINGS and not same(file, path):
                    continue
            undo.pop_all()
            break
    return file


class Rotation:
    """Of the file at `path`, of which the caller holds the lock. For one thread."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self._path, self._plan = path, plan
        self._packing: _Packing | None = None
        self._failed = False
        self._recover()

    def due(self, written: int, more: int) -> bool:
        """Whether a file that has `written` bytes has no room for `more`; an empty one always has."""
        return written > 0 and written + more > self._plan.bytes

    def turn(self, file: int) -> int:
        """A new file in the place of this one, which becomes FILE.1 and is closed; this one, where that is refused."""
        self._finish()
        try:
            fresh = self._turn(file)
        except OSError as error:
            self._say("begin a new file", error)
            return file
        os.close(file)
        self._failed = False
        self._pack()
        return fresh

    def work(self, written: int) -> None:
        """Compress a piece, by how much was `written`. Never raises: where it fails, the plain file stays."""
        if self._packing is None:
            return
        try:
            done = self._packing.step(max(written * PACKED_AT_ONCE, LEAST_PACKED))
        except OSError as error:
            self._say("compress a full one", error)
            self._drop()
        else:
            if done:
                self._packing = None
                self._pack()

    def close(self) -> None:
        """Compress the rest, if that is soon done."""
        self._finish()

    def _finish(self) -> None:
        until = time.monotonic() + LAST_S
        while self._packing is not None and time.monotonic() < until:
            self.work(0)
        self._drop()

    def _turn(self, file: int) -> int:
        if not same(file, self._path):  # somebody moved it away: what is there now is not ours to move
            return open_locked(self._path, alone=True)
        fresh_path = _with(self._path, ".new")
        with ExitStack() as undo:
            fresh_path.unlink(missing_ok=True)
            fresh = open_locked(fresh_path, alone=True)
            undo.callback(os.close, fresh)
            undo.callback(fresh_path.unlink, missing_ok=True)
            self._move_up()
            full = self._path.rename(self._numbered(1))
            undo.callback(full.rename, self._path)
            fresh_path.replace(self._path)
            undo.pop_all()
        return fresh

    def _move_up(self) -> None:
        """FILE.1 is free afterwards, and FILE.keep at most is the highest."""
        gap = next((n for n in range(1, self._plan.keep) if not self._forms(n)), self._plan.keep)
        for form in self._forms(gap):
            form.unlink()
        for number in range(gap - 1, 0, -1):
            for form in self._forms(number):
                form.rename(self._numbered(number + 1, form.suffix == ".gz"))

    def _pack(self) -> None:
        """Begin to compress the newest full file that is not."""
        if not self._plan.gzip or self._packing is not None:
            return
        try:
            for number in range(1, self._plan.keep + 1):
                if (plain := self._numbered(number)).exists():
                    self._packing = _Packing(plain, self._numbered(number, packed=True))
                    return
        except OSError as error:
            self._say("compress a full one", error)

    def _drop(self) -> None:
        if self._packing is not None:
            self._packing.drop()
            self._packing = None

    def _recover(self) -> None:
        """What an earlier end left half done: a plain file whose compressed one is whole, parts, one not begun."""
        try:
            _with(self._path, ".new").unlink(missing_ok=True)
            for number in range(1, self._plan.keep + 1):
                plain, packed = self._numbered(number), self._numbered(number, packed=True)
                _with(packed, ".part").unlink(missing_ok=True)
                if plain.exists() and packed.exists():
                    plain.unlink()
        except OSError as error:
            self._say("look after the full ones", error)
        self._pack()

    def _forms(self, number: int) -> list[Path]:
        """The full file with that number, plain or compressed (both, where an end came between)."""
        return [path for path in (self._numbered(number), self._numbered(number, packed=True)) if path.exists()]

    def _numbered(self, number: int, packed: bool = False) -> Path:
        return _with(self._path, f".{number}.gz" if packed else f".{number}")

    def _say(self, doing: str, error: OSError) -> None:
        """Once, until it works again: nothing is lost by it, there is only more on the disk."""
        if not self._failed:
            why = error.strerror or error
            log.warning(
                "export jsonl:%s: cannot %s (%s), and goes on without; make room there, or allow it.", self._path, doing, why
            )
        self._failed = True


class _Packing:
    """A full file on its way into a compressed one. Raises OSError; `drop` then leaves the plain file as it is."""

    def __init__(self, plain: Path, packed: Path) -> None:
        self._plain, self._packed, self._part = plain, packed, _with(packed, ".part")
        with ExitStack() as undo:
            self._source: BinaryIO = undo.enter_context(plain.open("rb"))
            self._sink: BinaryIO = undo.enter_context(
                os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE), "wb")
            )
            self._gzip = gzip.GzipFile(plain.name, "wb", LEVEL, self._sink)
            undo.pop_all()

    def step(self, amount: int) -> bool:
        """Compress so many bytes; whether the file has its name now."""
        piece = self._source.read(amount)
        self._gzip.write(piece)
        if len(piece) == amount:
            return False
        self._gzip.close()
        self._sink.flush()
        os.fsync(self._sink.fileno())
        self._sink.close()
        self._source.close()
        self._part.rename(self._packed)
        self._plain.unlink()
        return True

    def drop(self) -> None:
        """Let go; what there is of the compressed file goes."""
        for let_go in (self._gzip.close, self._sink.close, self._source.close, partial(self._part.unlink, missing_ok=True)):
            try:
                let_go()
            except OSError as error:  # the disk is full: there is nothing more to be lost here
                log.debug("%s: %s", self._part, error)


def _with(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def same(file: int, path: Path) -> bool:
    """Whether this open file still has that name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
