"""`clovisor trace` as a child process, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CLOVISOR = str(Path(sys.executable).parent / "clovisor")
PATIENCE_S = 20.0


class Trace:
    """A running trace whose sessions go to a file as JSON."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process, self._out, self._err = process, out, err

    def sessions(self) -> list[dict[str, Any]]:
        whole, _, _ = self._out.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def remarks(self) -> str:
        return self._err.read_text()

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.sessions()) >= count, f"{count} sessions; remarks: {self.remarks()}")
        return self.sessions()

    def stop(self) -> str:
        """Ctrl-C; the summary."""
        self.process.send_signal(2)
        self.process.wait(PATIENCE_S)
        return self.remarks()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)


def wait_until(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.05)


@contextmanager
def tracing(folder: Path, *arguments: str) -> Iterator[Trace]:
    """Attached when the block begins; ended when it ends, in whatever way."""
    folder.mkdir(exist_ok=True)
    out, err = folder / "sessions.jsonl", folder / "remarks"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen([CLOVISOR, "trace", *arguments, "-o", "json"], stdout=stdout, stderr=stderr)
    trace = Trace(process, out, err)
    try:
        wait_until(lambda: "Ctrl-C" in trace.remarks() or process.poll() is not None, "the first remark")
        assert process.poll() is None, trace.remarks()
        yield trace
    finally:
        if process.poll() is None:
            trace.stop()
