import io
import json
import os
import sys
from datetime import timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.errors import ExportFailed, SinkGone
from clovisor_py.exporters import console
from clovisor_py.exporters._api import Delivery
from clovisor_py.exporters._registry import open_sink
from clovisor_py.exporters._screen import Screen
from clovisor_py.exporters.console import PIPED_WIDTH, TOGETHER, ConsoleSink, screen_for
from clovisor_py.model.session import Side
from tests.support.sessions import ANY_SESSION, START, session

TODAY = "2026-01-02"
"""The day of `session()`, in the machine's zone and in the one that `Screen` is given here."""


def sink_of(stream, form="line", today=TODAY, **screen):
    return ConsoleSink(stream, Screen(tz=timezone.utc, **screen), form, today)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_header_comes_once():
    stream = io.StringIO()
    sink = sink_of(stream)
    assert sink.export([session(), session()]) == Delivery(2)
    sink.export([session()])
    sink.close()
    assert [line.split()[0] for line in stream.getvalue().splitlines()].count("TIME") == 1
    assert len(stream.getvalue().splitlines()) == 4


def test_json_has_no_header_and_one_object_a_line():
    stream = io.StringIO()
    sink_of(stream, "json").export([session(), session(resource="a\nb")])
    assert [json.loads(line)["resource"] for line in stream.getvalue().splitlines()] == ["/reviews/0", "a\nb"]


@pytest.mark.parametrize("form", ["line", "json"])
@pytest.mark.parametrize("number", [TOGETHER - 1, TOGETHER, TOGETHER + 1, 3 * TOGETHER])
def test_a_long_batch_is_written_whole(number, form):
    stream = io.StringIO()
    sink_of(stream, form).export([session(resource=f"/{i:04}") for i in range(number)])
    written = stream.getvalue().splitlines()[-number:]
    assert [f"/{i:04}" in line for i, line in enumerate(written)] == [True] * number


def test_one_session_that_cannot_be_told_as_json_costs_no_other():
    stream = io.StringIO()
    delivery = sink_of(stream, "json").export([session(resource="/1"), session(attributes={"a": object()}), session()])
    assert (delivery.sent, delivery.dropped) == (2, {"no line": 1})
    assert [json.loads(line)["resource"] for line in stream.getvalue().splitlines()] == ["/1", "/reviews/0"]


@given(st.lists(ANY_SESSION, max_size=4), st.sampled_from(console.FORMATS))
def test_one_session_is_one_line_and_no_escape_gets_through(sessions, form):
    for one in sessions:
        one.peer_traced, one.start_ns = False, session().start_ns
    stream = io.StringIO()
    sink_of(stream, form, wide=form == "wide").export([session(), *sessions])
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
    on_screen, piped = screen_for(Terminal(), {}), screen_for(io.StringIO(), {})
    assert (on_screen.width, on_screen.wide) == (97, False)
    assert (piped.width, piped.wide) == (PIPED_WIDTH, True)


def test_what_is_piped_is_never_cut_and_a_call_is_still_shown_once(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "80")
    long = "/x" * 200
    open_sink("console:").export([session(resource=long), *both_ends()])
    assert [line.count(long) for line in stream.getvalue().splitlines() if "GET" in line] == [1, 0]


def test_the_date_comes_where_it_is_another_than_the_last():
    days = [session(start_ns=START + day * 86_400_000_000_000) for day in (0, 0, 1, 1, 3)]
    stream = io.StringIO()
    sink = sink_of(stream)
    sink.export(days[:3])
    sink.export(days[3:])
    lines = [line.split()[0] for line in stream.getvalue().splitlines()]
    assert lines == ["TIME", *["10:04:11.482"] * 2, "2026-01-03", *["10:04:11.482"] * 2, "2026-01-05", "10:04:11.482"]


def test_the_date_of_a_capture_comes_first():
    stream = io.StringIO()
    sink_of(stream, today="2026-07-01").export([session()])
    assert stream.getvalue().splitlines()[1] == TODAY


def test_a_batch_that_is_tried_again_tells_its_date_again():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    sink = sink_of(Full(), today="2026-07-01")
    with pytest.raises(ExportFailed):
        sink.export([session()])
    sink._stream = io.StringIO()
    sink.export([session()])
    assert TODAY in sink._stream.getvalue().splitlines()


class FullOnce(io.StringIO):
    """Takes so many writes, and none once."""

    def __init__(self, takes):
        super().__init__()
        self._takes = takes

    def write(self, text):
        self._takes -= 1
        if self._takes == -1:
            raise OSError(28, "No space left on device")
        return super().write(text)


@pytest.mark.parametrize("form", console.FORMATS)
@pytest.mark.parametrize("takes", [0, 2])
def test_a_batch_that_is_tried_again_goes_on_with_the_rest(takes, form):
    stream = FullOnce(takes)
    sink = sink_of(stream, form, wide=form == "wide")
    sessions = [session(resource=f"/{i:04}", peer_traced=True, seq=i + 1) for i in range(3 * TOGETHER)]
    with pytest.raises(ExportFailed):
        sink.export(sessions)
    assert sink.export(sessions) == Delivery(3 * TOGETHER)
    written = stream.getvalue().splitlines()[form != "json" :]
    assert [f"/{i:04}" in line for i, line in enumerate(written)] == [True] * (3 * TOGETHER)


def test_what_the_stream_took_and_could_not_pass_on_is_not_written_twice():
    class Slow(io.StringIO):
        stuck = True

        def flush(self):
            if self.stuck and self.getvalue():
                raise OSError(28, "No space left on device")

    stream, sessions = Slow(), [session()]
    sink = sink_of(stream, "json")
    with pytest.raises(ExportFailed):
        sink.export(sessions)
    stream.stuck = False
    assert sink.export(sessions) == Delivery(1)
    assert len(stream.getvalue().splitlines()) == 1


def test_an_old_encoding_gets_question_marks_in_the_same_columns():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    sink_of(stream, width=80).export([session(resource="/日", duration_ns=57_000)])
    header, line = raw.getvalue().decode("ascii").splitlines()
    assert " ? web:80" in line
    assert "57 ?s" in line
    assert len(header) == 80


def test_a_stream_that_is_gone():
    stream = io.StringIO()
    stream.close()
    with pytest.raises(SinkGone, match="console"):
        sink_of(stream).export([session()])


def test_a_pipe_whose_reader_is_gone():
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    with pytest.raises(SinkGone, match="nobody reads"):
        sink_of(stream).export([session()])
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_full_disk_may_have_room_again():
    stream = open("/dev/full", "w")  # noqa: PTH123, SIM115
    with pytest.raises(ExportFailed) as caught:
        sink_of(stream).export([session()])
    assert not isinstance(caught.value, SinkGone)
    with pytest.raises(OSError, match="No space"):
        stream.close()


def test_the_url(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(console, "day_of", lambda time_ns, tz: TODAY)
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
    sink = sink_of(stream, form, wide=form == "wide")
    for one in both_ends():
        assert sink.export([one]) == Delivery(1)
    assert len(stream.getvalue().splitlines()) == lines + (form != "json")


def test_only_the_same_call_is_held_back():
    stream = io.StringIO()
    sessions = [*both_ends(seq=1), *both_ends(seq=2), session(seq=1), session(seq=1), *both_ends(seq=0)]
    sink_of(stream).export(sessions)
    assert len(stream.getvalue().splitlines()) == 1 + 6


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(console, "REMEMBERED", 2)
    stream = io.StringIO()
    sink = sink_of(stream)
    sink.export([both_ends(seq=number)[0] for number in range(1, 5)])
    assert len(sink._shown) == 2
