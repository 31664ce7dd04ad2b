"""`jsonl:FILE?rotate=…`: what its URL says, and what becomes of sessions when the disk is full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clovisor_py.errors import UsageError
from clovisor_py.exporters._registry import open_sink
from clovisor_py.exporters._rotation import KEEP, Plan
from clovisor_py.exporters._worker import Worker
from clovisor_py.exporters.jsonl import JsonlSink
from tests.exporters.test_rotation import BATCH, batch, files, limit, numbers


def planned(url: str) -> Plan | None:
    sink = open_sink(url)
    assert isinstance(sink, JsonlSink)
    sink.close()
    return None if sink._rotation is None else sink._rotation._plan


def test_what_the_url_says(tmp_path):
    path = tmp_path / "x.jsonl"
    assert planned(f"jsonl:{path}") is None
    assert planned(f"jsonl:{path}?rotate=100MB") == Plan(100_000_000, KEEP, gzip=False)
    assert planned(f"jsonl:{path}?rotate=100MB&keep=999&gzip=1") == Plan(100_000_000, 999, gzip=True)
    assert planned(f"jsonl:{path}?gzip=0&keep=1&rotate=1MiB") == Plan(1 << 20, 1, gzip=False)


@pytest.mark.parametrize(
    "query",
    [
        "rotate=",
        "rotate=10",
        "rotate=1MB&keep=0",
        "rotate=1MB&keep=1000",
        "rotate=1MB&keep=²",
        "rotate=1MB&gzip=yes",
        "keep=3",
        "x=1",
    ],
)
def test_what_makes_no_sense_is_a_sentence_and_leaves_no_file(tmp_path, query):
    with pytest.raises(UsageError, match=r"\.$"):
        open_sink(f"jsonl:{tmp_path}/x?{query}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["-", "/dev/null"])
def test_only_a_file_can_be_rotated(path):
    with pytest.raises(UsageError, match=r"no file that can be rotated.*\.$"):
        open_sink(f"jsonl:{path}?rotate=1MB")


def test_a_full_disk_is_counted_and_no_line_is_there_twice(tmp_path, monkeypatch):
    """In the midst of rotations: what the worker counts as sent is in the files, whole and once, and nothing else is."""
    path = tmp_path / "x"
    real, room = os.write, [limit(9.3)]

    def write(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = real(file, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", write)
    sink = JsonlSink(path, Plan(limit(2.5), keep=50, gzip=True))
    with Worker("jsonl:", sink, queue_limit=10_000, batch=BATCH, linger_s=0, attempts=2, pause_s=0.001) as worker:
        for number in range(15):
            worker.offer(batch(number * BATCH))
        while not sum(worker.ledger().dropped.values()):
            pass
        room[0] = limit(1000)
        ledger = worker.close()
    assert ledger.offered == 15 * BATCH == ledger.sent + ledger.dropped["failed"]
    assert ledger.dropped["failed"] >= BATCH
    there = numbers(Path(path))
    assert there == sorted(set(there))
    assert len(there) == ledger.sent
    assert len(files(path)) >= 4
