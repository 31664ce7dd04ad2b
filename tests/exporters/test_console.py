import io
import json
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.errors import ExportFailed, SinkGone
from clovisor_py.exporters import console
from clovisor_py.exporters._registry import open_sink
from clovisor_py.exporters._screen import Screen
from clovisor_py.exporters.console import PIPED_WIDTH, ConsoleSink, screen_for
from clovisor_py.model.session import Side
from tests.support.sessions import ANY_SESSION, session


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_header_comes_once():
    stream = io.StringIO()
    sink = ConsoleSink(stream, Screen())
    assert sink.export([session(), session()]) == 2
    sink.export([session()])
    sink.close()
    assert [line.split()[0] for line in stream.getvalue().splitlines()].count("TIME") == 1
    assert len(stream.getvalue().splitlines()) == 4


def test_json_has_no_header_and_one_object_a_line():
    stream = io.StringIO()
    ConsoleSink(stream, Screen(), "json").export([session(), session(resource="a\nb")])
    assert [json.loads(line)["resource"] for line in stream.getvalue().splitlines()] == ["/reviews/0", "a\nb"]


@given(st.lists(ANY_SESSION, max_size=4), st.sampled_from(console.FORMATS))
def test_one_session_is_one_line_and_no_escape_gets_through(sessions, form):
    for one in sessions:
        one.peer_traced = False
    stream = io.StringIO()
    ConsoleSink(stream, Screen(colour=False, wide=form == "wide"), form).export([session(), *sessions])
    lines = stream.getvalue().split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(sessions) + 1 + (form != "json")
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("environ", "colour"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm"}, True)],
)
def test_colours_are_for_terminals_that_want_them(environ, colour):
    assert screen_for(Terminal(), environ).colour is colour
    assert screen_for(io.StringIO(), environ).colour is False


def test_the_width_is_the_terminals(monkeypatch):
    monkeypatch.setenv("COLUMNS", "97")
    assert screen_for(Terminal(), {}).width == 97
    assert screen_for(io.StringIO(), {}).width == PIPED_WIDTH


def test_an_old_encoding_gets_question_marks_in_the_same_columns():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    ConsoleSink(stream, Screen(width=80)).export([session(resource="/日", duration_ns=57_000)])
    header, line = raw.getvalue().decode("ascii").splitlines()
    assert " ? web:80" in line
    assert "57 ?s" in line
    assert len(header) == 80


def test_a_stream_that_is_gone():
    stream = io.StringIO()
    stream.close()
    with pytest.raises(SinkGone, match="console"):
        ConsoleSink(stream, Screen()).export([session()])


def test_a_pipe_whose_reader_is_gone():
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    with pytest.raises(SinkGone, match="nobody reads"):
        ConsoleSink(stream, Screen()).export([session()])
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_full_disk_may_have_room_again():
    stream = open("/dev/full", "w")  # noqa: PTH123, SIM115
    with pytest.raises(ExportFailed) as caught:
        ConsoleSink(stream, Screen()).export([session()])
    assert not isinstance(caught.value, SinkGone)
    with pytest.raises(OSError, match="No space"):
        stream.close()


def test_the_url(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    open_sink("console:").export([session()])
    open_sink("console:?format=wide").export([session(resource="/x" * 300)])
    open_sink("console:?format=json").export([session()])
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert "/x" * 300 in lines[3]
    assert json.loads(lines[4])["status"] == "200"


def both_ends(**changes):
    ends = {"peer_traced": True} | changes
    return [session(side=Side.SERVER, **ends), session(side=Side.CLIENT, **ends)]


@pytest.mark.parametrize(("form", "lines"), [("line", 1), ("wide", 2), ("json", 2)])
def test_a_call_between_traced_pods_is_one_line_for_people(form, lines):
    stream = io.StringIO()
    sink = ConsoleSink(stream, Screen(wide=form == "wide"), form)
    for one in both_ends():
        assert sink.export([one]) == 1
    assert len(stream.getvalue().splitlines()) == lines + (form != "json")


def test_only_the_same_call_is_held_back():
    stream = io.StringIO()
    sessions = [*both_ends(seq=1), *both_ends(seq=2), session(seq=1), session(seq=1), *both_ends(seq=0)]
    ConsoleSink(stream, Screen()).export(sessions)
    assert len(stream.getvalue().splitlines()) == 1 + 6


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(console, "REMEMBERED", 2)
    stream = io.StringIO()
    sink = ConsoleSink(stream, Screen())
    sink.export([both_ends(seq=number)[0] for number in range(1, 5)])
    assert len(sink._shown) == 2
