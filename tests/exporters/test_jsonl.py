import json
import os
import sys
from pathlib import Path

import pytest

from clovisor_py.errors import ExportFailed, SinkGone, UsageError
from clovisor_py.exporters._api import Delivery
from clovisor_py.exporters._registry import open_sink
from clovisor_py.exporters.jsonl import JsonlSink
from tests.support.sessions import session

FULL = Path("/dev/full")


def test_it_appends_and_every_batch_is_there_at_once(tmp_path):
    path = tmp_path / "sessions.jsonl"
    path.write_text('{"older":true}\n')
    sink = open_sink(f"jsonl:{path}")
    assert sink.export([session(resource="/a"), session(resource="/b\nc")]) == Delivery(2)
    assert [json.loads(text).get("resource") for text in path.read_text().splitlines()] == [None, "/a", "/b\nc"]
    sink.export([session()])
    assert len(path.read_text().splitlines()) == 4
    sink.close()


def test_a_new_file_is_for_the_operator_alone(tmp_path):
    sink = JsonlSink(tmp_path / "x")
    assert (tmp_path / "x").stat().st_mode & 0o077 == 0
    sink.close()


@pytest.mark.parametrize("name", ["missing/x.jsonl", ".", "nul\0byte"])
def test_a_file_that_cannot_be_opened_is_a_sentence(tmp_path, name):
    with pytest.raises(UsageError, match=r"^cannot write to .*\.$"):
        open_sink(f"jsonl:{tmp_path}/{name}")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_disk():
    sink = JsonlSink(FULL)
    with pytest.raises(ExportFailed, match="No space left"):
        sink.export([session()])
    sink.close()


def test_half_a_batch_is_taken_back(tmp_path, monkeypatch):
    """A disk that fills up in the middle of a line: no reader meets half an object, and a retry repeats none."""
    path = tmp_path / "x"
    sink = JsonlSink(path)
    sink.export([session()])
    real, room = os.write, [700]

    def write(file, data):
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = real(file, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(ExportFailed):
        sink.export([session()] * 5)
    monkeypatch.undo()
    assert len(path.read_text().splitlines()) == 1
    sink.export([session()] * 5)
    sink.close()
    assert len([json.loads(text) for text in path.read_text().splitlines()]) == 6


def test_half_a_batch_that_cannot_be_taken_back_spoils_no_other_line(tmp_path, monkeypatch, caplog):
    """A disk that fails altogether: half a line stays, and is ended before the next."""
    path = tmp_path / "x"
    sink = JsonlSink(path)
    sink.export([session()])
    real, written = os.write, []

    def fail(*args):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", lambda file, data: fail() if written else written.append(1) or real(file, data[:50]))
        broken.setattr(os, "ftruncate", fail)
        for _ in range(2):
            with pytest.raises(ExportFailed, match=r"cannot write to .* make room"):
                sink.export([session()] * 2)
    assert "keeps a part" in caplog.text
    for _ in range(2):
        assert sink.export([session()] * 2) == Delivery(2)
    sink.close()
    lines = path.read_text().splitlines()
    assert [len(lines[1]), len(lines)] == [50, 6]
    assert len([json.loads(text) for text in lines if text != lines[1]]) == 5


def test_one_session_that_cannot_be_told_costs_no_other(tmp_path):
    path = tmp_path / "x"
    endless = []
    endless.append(endless)
    bad = [session(attributes={"a": object()}), session(attributes={"a": endless}), session(start_ns=None)]
    sink = JsonlSink(path)
    delivery = sink.export([session(resource="/1"), *bad, session(resource="/2")])
    assert (delivery.sent, delivery.dropped) == (2, {"no line": 3})
    assert "a http session cannot be told as JSON" in delivery.error
    assert sink.export([*bad]).sent == 0
    sink.close()
    assert [json.loads(text)["resource"] for text in path.read_text().splitlines()] == ["/1", "/2"]


@pytest.mark.parametrize("flags", [os.O_TRUNC, os.O_APPEND])
def test_standard_output_that_is_a_file(tmp_path, monkeypatch, flags):
    """`> FILE` and `>> FILE`: what is there stays, and a full disk leaves no half of a line."""
    path = tmp_path / "x"
    path.write_text("before\n" if flags == os.O_APPEND else "")
    with os.fdopen(os.open(path, os.O_WRONLY | flags), "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        sink = open_sink("jsonl:-")
        assert sink.export([session()]) == Delivery(1)
        kept = path.read_text()
        with monkeypatch.context() as full:
            real = os.write
            full.setattr(os, "write", lambda to, data: real(to if len(data) > 400 else -1, data[:50]))
            with pytest.raises(ExportFailed, match="cannot write to standard output"):
                sink.export([session()])
        assert path.read_text() == kept
        sink.export([session()])
        sink.close()
        stdout.write("after\n")
    lines = path.read_text().splitlines()
    assert lines[-1] == "after", "it is open still"
    assert [text for text in lines if text.startswith("{")] == [kept.splitlines()[-1]] * 2


def test_nobody_reads_standard_output(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        sink = open_sink("jsonl:-")
        with pytest.raises(SinkGone, match="nobody reads standard output"):
            sink.export([session()])
        sink.close()
