"""Where the bytes come from, and everything that can be wrong with that."""

from __future__ import annotations

import gzip
import io
import os
import random
import sys
import threading

import pytest

from clovisor_py.errors import CaptureBroken
from clovisor_py.sources import _capture_input
from clovisor_py.sources._capture_input import CHUNK, Input


def everything(path):
    source = Input(str(path))
    try:
        return b"".join(iter(source.read, b""))
    finally:
        source.close()


NOISE = random.Random(1).randbytes(3 * CHUNK + 5)


@pytest.mark.parametrize("data", [b"", b"x", NOISE, bytes(5 * CHUNK)], ids=["empty", "one", "noise", "zeros"])
def test_a_file_as_it_is_and_zipped(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    assert everything(path) == data
    path.write_bytes(gzip.compress(data))
    assert everything(path) == data
    path.write_bytes(gzip.compress(data) + gzip.compress(data) + bytes(512))
    assert everything(path) == 2 * data


def test_little_is_unpacked_at_once(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(bytes(50 * CHUNK)))
    source = Input(str(path))
    assert max(len(data) for data in iter(source.read, b"")) <= CHUNK
    source.close()


def test_of_a_zip_that_breaks_off_all_that_there_is(tmp_path):
    path = tmp_path / "x"
    packed = gzip.compress(NOISE)
    path.write_bytes(packed[: len(packed) // 2])
    source, found = Input(str(path)), b""
    with pytest.raises(CaptureBroken, match="compressed data break off"):
        while data := source.read():
            found += data
    source.close()
    assert len(found) > len(NOISE) // 2 - CHUNK // 4
    assert NOISE.startswith(found)


def test_a_damaged_zip(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\x1f\x8b" + bytes(100))
    with pytest.raises(CaptureBroken, match="compressed data break off or are damaged"):
        everything(path)


def test_exactly(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    source = Input(str(path))
    assert (source.exactly(4), source.exactly(6, b"ab"), source.exactly(9)) == (b"0123", b"ab4567", b"89")
    assert (source.size, source.position) == (10, 10)
    source.close()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.symlink_to(path), "symbolic links"),
    ],
)
def test_what_cannot_be_opened_is_said(tmp_path, make, why):
    path = tmp_path / "x"
    make(path)
    with pytest.raises(CaptureBroken, match=rf"^it cannot be read \(.*{why}.*\); give a capture file that you may read\.$"):
        Input(str(path))


def test_a_name_that_no_file_can_have():
    with pytest.raises(CaptureBroken, match="it cannot be read"):
        Input("a\0b")


def test_a_file_that_fails_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(bytes(2 * CHUNK))
    source = Input(str(path))
    source.read()

    def fails(size):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(source, "_stream", type("Broken", (), {"read1": staticmethod(fails)}))
    with pytest.raises(CaptureBroken, match="Input/output error"):
        source.read()
    source.close()


def test_a_pipe_is_read_as_it_fills(monkeypatch):
    reader, writer = os.pipe()
    stdin = io.TextIOWrapper(io.FileIO(reader))
    monkeypatch.setattr(sys, "stdin", stdin)
    os.write(writer, b"first")
    source = Input("-")
    assert (source.read(), source.size) == (b"first", None)
    later = threading.Timer(0.05, lambda: (os.write(writer, b"second"), os.close(writer)))
    later.start()
    assert (source.read(), source.read()) == (b"second", b"")
    later.join()
    source.close()
    stdin.close()  # raises where somebody else has


def test_no_standard_input(monkeypatch):
    monkeypatch.setattr(_capture_input.sys, "stdin", None)
    with pytest.raises(CaptureBroken, match="it cannot be read"):
        Input("-")
