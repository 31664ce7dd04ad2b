"""Rotation: every line that was written is in one of the files, in order, whatever failed and wherever it ended."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clovisor_py.errors import ExportFailed, ExportInterrupted, UsageError
from clovisor_py.exporters import _json, _rotation, jsonl
from clovisor_py.exporters._api import Delivery
from clovisor_py.exporters._rotation import LEAST_BYTES, Plan, size
from clovisor_py.exporters.jsonl import JsonlSink
from tests.support.sessions import session

BATCH = 20


def batch(start: int, count: int = BATCH):
    return [session(resource=f"/{number}") for number in range(start, start + count)]


def limit(batches: float) -> int:
    """Bytes of so many batches, about."""
    return int(sum(len(_json.Writer().line(one)) + 1 for one in batch(100)) * batches)


def files(path: Path) -> list[Path]:
    """The full ones from the oldest to the newest, then the file itself."""
    numbered = [
        other for other in path.parent.iterdir() if other.name.removeprefix(f"{path.name}.").removesuffix(".gz").isdecimal()
    ]
    numbered.sort(key=lambda other: -int(other.name.removeprefix(f"{path.name}.").removesuffix(".gz")))
    return [*numbered, *([path] if path.exists() else [])]


def numbers(path: Path) -> list[int]:
    """What is in all of them, in order."""
    texts = [gzip.decompress(one.read_bytes()) if one.suffix == ".gz" else one.read_bytes() for one in files(path)]
    assert all(text.endswith(b"\n") or not text for text in texts)
    return [int(line.partition(b'"resource":"/')[2].partition(b'"')[0]) for text in texts for line in text.splitlines()]


def write(sink: JsonlSink, batches: int, start: int = 0) -> None:
    for number in range(batches):
        assert sink.export(batch(start + number * BATCH)) == Delivery(BATCH)


@pytest.mark.parametrize("packed", [False, True])
def test_no_line_is_lost_and_no_file_is_too_long(tmp_path, packed):
    path = tmp_path / "x.jsonl"
    path.write_text("")
    sink = JsonlSink(path, Plan(limit(3.5), keep=50, gzip=packed))
    write(sink, 40)
    sink.close()
    assert numbers(path) == list(range(40 * BATCH))
    full = files(path)[:-1]
    assert len(full) >= 10
    assert {one.suffix == ".gz" for one in full} == {packed}
    assert all(one.stat().st_size <= limit(3.5) for one in files(path))
    assert all(one.stat().st_mode & 0o077 == 0 for one in full[1:])
    assert len(list(tmp_path.iterdir())) == len(full) + 1


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_oldest_goes(tmp_path, keep, packed):
    path = tmp_path / "x"
    sink = JsonlSink(path, Plan(limit(2.5), keep=keep, gzip=packed))
    write(sink, 20)
    sink.close()
    kept = numbers(path)
    assert kept == list(range(kept[0], 20 * BATCH))
    assert len(files(path)) == keep + 1


@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_that_is_longer_than_a_file_fills_several(tmp_path, packed):
    path = tmp_path / "x"
    sink = JsonlSink(path, Plan(limit(0.3), keep=50, gzip=packed))
    write(sink, 4)
    sink.close()
    assert len(files(path)) >= 12
    assert all(one.stat().st_size <= limit(0.3) for one in files(path))
    assert numbers(path) == list(range(4 * BATCH))


def test_a_line_that_is_longer_than_a_file_is_written_whole(tmp_path):
    sink = JsonlSink(tmp_path / "x", Plan(10, keep=50))
    write(sink, 2)
    sink.close()
    assert len(files(tmp_path / "x")) == 2 * BATCH
    assert numbers(tmp_path / "x") == list(range(2 * BATCH))


def test_what_is_left_of_a_batch_when_the_disk_is_full_is_written_by_the_next_attempt(tmp_path, monkeypatch):
    path, one, write_ = tmp_path / "x", batch(0), os.write
    sink = JsonlSink(path, Plan(limit(0.3), keep=50))
    writes = 0

    def full_at_the_third(file, data):
        nonlocal writes
        writes += 1
        if writes == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_(file, data)

    monkeypatch.setattr(jsonl.os, "write", full_at_the_third)
    with pytest.raises(ExportInterrupted) as interrupted:
        sink.export(one)
    assert 0 < interrupted.value.sent < BATCH
    assert sink.settled(one) == Delivery(interrupted.value.sent)
    assert sink.export(one) == Delivery(BATCH)
    sink.close()
    assert numbers(path) == list(range(BATCH))


@pytest.mark.parametrize("plan", [None, Plan(limit(2.5), keep=9)])
def test_who_moves_the_file_away_gets_a_new_one(tmp_path, plan):
    """As logrotate does: nothing is told to the process."""
    path = tmp_path / "x"
    sink = JsonlSink(path, plan)
    write(sink, 1)
    path.rename(tmp_path / "moved")
    write(sink, 1, BATCH)
    sink.close()
    assert (numbers(tmp_path / "moved"), numbers(path)) == (list(range(BATCH)), list(range(BATCH, 2 * BATCH)))


def test_what_took_the_files_place_and_holds_something_else_is_let_be(tmp_path):
    path = tmp_path / "x"
    sink = JsonlSink(path)
    write(sink, 1)
    path.rename(tmp_path / "moved")
    path.write_bytes(b"\n\r\r\n")
    write(sink, 1, BATCH)
    sink.close()
    assert path.read_bytes() == b"\n\r\r\n"
    assert numbers(tmp_path / "moved") == list(range(2 * BATCH))


def test_half_a_line_is_ended_where_it_is_and_not_in_the_next_file(tmp_path, monkeypatch):
    path, write_ = tmp_path / "x", os.write
    lines = [len(_json.Writer().line(one)) + 1 for one in (*batch(0), *batch(BATCH))]
    sink = JsonlSink(path, Plan(sum(lines) + 20, keep=9))
    write(sink, 1)

    def half(file, data):
        if len(data) > 100:
            write_(file, data[:50])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_(file, data)

    def refuse(file, size):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(jsonl.os, "write", half)
        patch.setattr(jsonl.os, "ftruncate", refuse)
        with pytest.raises(ExportInterrupted):
            sink.export(batch(BATCH))
    write(sink, 1, BATCH)
    sink.close()
    full, now = files(path)
    assert full.read_bytes().endswith(b"\n") and len(full.read_bytes().splitlines()) == BATCH + 1
    assert now.read_bytes().startswith(b"{") and len(now.read_bytes().splitlines()) == BATCH
    JsonlSink(path).close()


def test_what_holds_something_else_is_not_appended_to(tmp_path):
    path = tmp_path / "x.pcap"
    path.write_bytes(b"\n\r\r\n")
    with pytest.raises(UsageError, match=r"x\.pcap' holds something else than JSON lines; give jsonl: another file\.$"):
        JsonlSink(path)
    assert path.read_bytes() == b"\n\r\r\n"


def test_it_goes_on_where_another_run_ended(tmp_path):
    path = tmp_path / "x"
    for run in range(7):
        sink = JsonlSink(path, Plan(limit(2.5), keep=50, gzip=run % 2 == 1))
        write(sink, 3, run * 3 * BATCH)
        sink.close()
    assert numbers(path) == list(range(21 * BATCH))


def test_a_gap_is_filled_before_the_oldest_goes(tmp_path):
    """What an end in the midst of moving names up leaves."""
    path = tmp_path / "x"
    for number in (1, 2, 4):
        (tmp_path / f"x.{number}").write_text(f'{{"resource":"/{4 - number}"}}\n')
    sink = JsonlSink(path, Plan(limit(1.5), keep=4))
    write(sink, 2, 10)
    sink.close()
    assert [one.name for one in files(path)] == ["x.4", "x.3", "x.2", "x.1", "x"]
    assert numbers(path) == [0, 2, 3, *range(10, 10 + 2 * BATCH)]


def test_what_an_end_left_half_compressed_is_begun_anew(tmp_path):
    path = tmp_path / "x"
    (tmp_path / "x.1").write_text('{"resource":"/1"}\n')
    (tmp_path / "x.1.gz.part").write_bytes(b"\x1f\x8b")
    (tmp_path / "x.2").write_text('{"resource":"/0"}\n')
    (tmp_path / "x.2.gz").write_bytes(gzip.compress(b'{"resource":"/0"}\n'))
    (tmp_path / "x.new").write_text("")
    sink = JsonlSink(path, Plan(LEAST_BYTES, gzip=True))
    write(sink, 1, 2)
    sink.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x", "x.1.gz", "x.2.gz"]
    assert numbers(path) == [0, 1, *range(2, 2 + BATCH)]


@pytest.mark.parametrize("name", ["rename", "replace", "open"])
def test_where_a_new_file_is_refused_the_old_one_takes_all(tmp_path, monkeypatch, caplog, name):
    path = tmp_path / "x"
    sink = JsonlSink(path, Plan(limit(1.5), keep=50))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os if name == "open" else Path, name, refuse)
        write(sink, 3)
    assert len(files(path)) == 1
    (record,) = caplog.records
    said = "cannot begin a new file (No space left on device), and goes on without; make room there, or allow it."
    assert record.getMessage() == f"export jsonl:{path}: {said}"
    assert numbers(path) == list(range(3 * BATCH))
    write(sink, 3, 3 * BATCH)
    sink.close()
    assert numbers(path) == list(range(6 * BATCH))
    assert len(files(path)) == 4


def test_where_compressing_is_refused_the_plain_file_stays(tmp_path, monkeypatch, caplog):
    path = tmp_path / "x"
    sink = JsonlSink(path, Plan(limit(2.5), keep=50, gzip=True))
    real = os.fsync

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with caplog.at_level(logging.WARNING):
        monkeypatch.setattr(os, "fsync", full)
        write(sink, 8)
        monkeypatch.setattr(os, "fsync", real)
        assert all(one.suffix != ".gz" for one in files(path))
    assert "cannot compress a full one (No space left" in caplog.text
    write(sink, 8, 8 * BATCH)
    sink.close()
    assert numbers(path) == list(range(16 * BATCH))
    assert all(one.suffix == ".gz" for one in files(path)[:-1])
    assert not list(tmp_path.glob("*.part"))


def test_a_long_one_is_compressed_in_pieces(tmp_path, monkeypatch):
    """No batch waits for all of it."""
    monkeypatch.setattr(_rotation, "LEAST_PACKED", 4096)
    monkeypatch.setattr(_rotation, "PACKED_AT_ONCE", 1)
    monkeypatch.setattr(_rotation, "LAST_S", 0.0)
    path = tmp_path / "x"
    sink = JsonlSink(path, Plan(limit(4.5), keep=50, gzip=True))
    write(sink, 6)
    assert (tmp_path / "x.1.gz.part").exists()
    assert (tmp_path / "x.1").exists()
    sink.close()
    assert [one.name for one in files(path)] == ["x.1", "x"]
    assert not list(tmp_path.glob("*.part"))
    assert numbers(path) == list(range(6 * BATCH))


def test_a_file_that_somebody_moved_away_is_not_moved_again(tmp_path):
    path = tmp_path / "x"
    sink = JsonlSink(path, Plan(limit(2.5), keep=50))
    write(sink, 2)
    path.rename(tmp_path / "away")
    write(sink, 2, 2 * BATCH)
    sink.close()
    assert numbers(path) == list(range(2 * BATCH, 4 * BATCH))
    assert len((tmp_path / "away").read_text().splitlines()) == 2 * BATCH


def test_who_rotates_is_alone(tmp_path):
    path = tmp_path / "x"
    plain, other = JsonlSink(path), JsonlSink(path)
    with pytest.raises(ExportFailed, match=r"written by somebody else.*\.$"):
        JsonlSink(path, Plan(LEAST_BYTES))
    plain.close()
    other.close()
    rotating = JsonlSink(path, Plan(limit(1.5)))
    write(rotating, 3)
    with pytest.raises(ExportFailed, match=r"rotated by somebody else.*\.$"):
        JsonlSink(path)
    rotating.close()
    JsonlSink(path).close()


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "x")
    sink = JsonlSink(tmp_path / "link", Plan(limit(1.5)))
    write(sink, 3)
    sink.close()
    assert (tmp_path / "link").is_symlink()
    assert numbers(tmp_path / "there" / "x") == list(range(3 * BATCH))


@pytest.mark.parametrize("plan", [None, Plan(limit(2.5), keep=9)])
def test_who_comes_while_another_rotates_does_not_write_to_a_full_file(tmp_path, monkeypatch, plan):
    """Between its opening and its locking the file got another name, and may be compressed and deleted."""
    path, first = tmp_path / "x", JsonlSink(tmp_path / "x", Plan(limit(1.5), keep=9, gzip=True))
    write(first, 1)
    real = _rotation.lock

    def late(file: int, *, alone: bool) -> bool:
        monkeypatch.undo()
        write(first, 1, BATCH)
        return real(file, alone=alone)

    monkeypatch.setattr(_rotation, "lock", late)
    with pytest.raises(ExportFailed, match="by somebody else"):
        JsonlSink(path, plan)
    first.close()
    assert numbers(path) == list(range(2 * BATCH))


def test_who_comes_while_a_file_is_moved_away_writes_to_the_new_one(tmp_path, monkeypatch):
    path, real = tmp_path / "x", _rotation.lock
    monkeypatch.setattr(
        _rotation, "lock", lambda file, alone: real(file, alone=alone) and (path.rename(tmp_path / "y"), monkeypatch.undo())
    )
    sink = JsonlSink(path)
    write(sink, 1)
    sink.close()
    assert (tmp_path / "y").stat().st_size == 0
    assert numbers(path) == list(range(BATCH))


def test_a_file_system_that_gives_no_file_the_same_number_twice_is_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(_rotation, "same", lambda file, path: False)
    sink = JsonlSink(tmp_path / "x")
    write(sink, 1)
    sink.close()
    assert numbers(tmp_path / "x") == list(range(BATCH))


ENDLESS = """
import itertools, sys
from pathlib import Path
from clovisor_py.exporters.jsonl import JsonlSink
from clovisor_py.exporters._rotation import Plan
from tests.exporters.test_rotation import BATCH, batch, limit
sink = JsonlSink(Path(sys.argv[1]), Plan(limit(2.5), keep=900, gzip=True))
for number in itertools.count(int(sys.argv[2]), BATCH):
    sink.export(batch(number))
    print(number + BATCH, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_has_lost_nothing(tmp_path):
    """What was said to be written is there afterwards, in order, and the next run goes on."""
    path, said = tmp_path / "x", 0
    for round_ in range(6):
        command = [sys.executable, "-c", ENDLESS, str(path), str(said)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert process.stdout is not None
        for line in process.stdout:
            said = int(line)
            if said % 1000 > 900:
                break
        time.sleep(0.003 * round_)
        process.send_signal(signal.SIGKILL)
        said = max([said, *map(int, process.stdout.read().split())])
        process.stdout.close()
        process.wait()
        there = numbers(path)
        assert there[:said] == list(range(said))
        said = len(there)
        assert there == list(range(said))
    assert len(files(path)) > 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [("100MB", 100_000_000), ("1GiB", 1 << 30), ("64KiB", 65536), ("2m", 2_000_000), ("70000", 70_000), ("99kb", 99_000)],
)
def test_sizes(text, expected):
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "MB", "10", "1.5MB", "-1MB", "10TB", "1 MB", "63KiB", "9" * 30])
def test_what_is_no_size(text):
    with pytest.raises(UsageError, match=r"\.$"):
        size(text)
