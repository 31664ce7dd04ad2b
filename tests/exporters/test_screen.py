import re
from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.exporters import _screen
from clovisor_py.exporters._screen import Screen, header_line, service_map_lines, session_line, summary_lines
from clovisor_py.exporters._text import cells
from clovisor_py.metrics.red import Red
from clovisor_py.model.session import Outcome, Side
from clovisor_py.model.workload import Endpoint, Workload
from tests.support.sessions import ANY_SESSION, pod, session

COLOURS = re.compile(r"\x1b\[(31|33|2|0)m")
AT_100 = Screen(width=100, tz=timezone.utc)

LINES = """\
TIME          FROM                 TO                  SESSION                     STATUS       TOOK
10:04:11.482  10.0.0.9:41122     → web:80              GET /reviews/0              200        4.1 ms
10:04:11.482  web:53318          → 10.0.0.7:9080       GET /ratings/0              200         57 µs
10:04:11.482  10.0.0.9:41122     → web:80              POST /orders                503      212.0 ms
10:04:11.482  10.0.0.9:41122     → web:80              GET /slow                   timeout    30.0 s
10:04:11.482  10.0.0.9:41122     → web:80              GET /very/long/path/… ·gap  200        4.1 ms
10:04:11.482  [2001:db8:aaaa:bb… → [2001:db8:aa…:8080  PUBLISH \\x1b[2Jnews""".splitlines()

V6 = "2001:db8:aaaa:bbbb::1"


def ordinary():
    return [
        session(),
        session(
            side=Side.CLIENT,
            client=Endpoint("10.0.0.2", 53318),
            server=Endpoint("10.0.0.7", 9080),
            client_workload=Workload("web"),
            server_workload=None,
            resource="/ratings/0",
            duration_ns=57_000,
        ),
        session(operation="POST", resource="/orders", status="503", outcome=Outcome.ERROR, duration_ns=212_000_000),
        session(resource="/slow", status="", outcome=Outcome.TIMEOUT, duration_ns=30_000_000_000),
        session(resource="/very/long/path/that/does/not/fit", gap_bytes=7),
        session(
            operation="PUBLISH",
            resource="\x1b[2Jnews",
            status="",
            outcome=Outcome.ONE_WAY,
            duration_ns=0,
            client=Endpoint(V6, 40000),
            server=Endpoint(V6, 8080),
            server_workload=None,
        ),
    ]


def test_the_lines_that_a_user_sees():
    lines = [header_line(AT_100), *(session_line(one, AT_100) for one in ordinary())]
    assert [line.rstrip() for line in lines] == LINES
    assert {len(line) for line in lines} == {100}


@given(ANY_SESSION, st.integers(0, 300), st.booleans())
def test_columns_never_jump_whatever_was_on_the_wire(one, width, colour):
    screen = Screen(width=width, colour=colour, tz=timezone.utc)
    line = session_line(one, screen)
    plain = COLOURS.sub("", line)
    assert plain.isprintable()
    assert colour or plain == line
    assert cells(plain) == len(header_line(Screen(width=width))) == max(width, 80)
    assert plain[14 + screen.end :].startswith(" → ") or not plain.isascii()


def test_colour_only_where_it_means_something():
    screen = Screen(width=100, colour=True, tz=timezone.utc)
    good, _, bad, late, gap, _ = (session_line(one, screen) for one in ordinary())
    assert "\x1b" not in good
    assert COLOURS.findall(bad) == ["31", "0", "33", "0"]
    assert "\x1b[31m503" in bad
    assert "\x1b[31mtimeout" in late
    assert "\x1b[2m ·gap\x1b[0m" in gap
    assert header_line(screen).startswith("\x1b[2m")


def test_slow_is_a_setting():
    assert "\x1b[33m" in session_line(session(), Screen(colour=True, slow_ns=4_000_000))
    assert "\x1b[33m" not in session_line(session(), Screen(colour=True))


def test_a_narrow_line_keeps_the_servers_port_and_gives_up_the_clients():
    one = session(client=Endpoint("10.244.100.117", 47994), server_workload=Workload("productpage-v1-7d9f"))
    line = session_line(one, Screen(width=80, tz=timezone.utc))
    assert "10.244.100.117 → " in line
    assert "→ productpag…:80" in line
    assert len(line) == 80


def test_a_wide_screen_cuts_nothing():
    one = session(resource="/x" * 200, status="UNKNOWN_TOPIC_OR_PARTITION")
    line = session_line(one, Screen(width=80, wide=True))
    assert "/x" * 200 in line
    assert "UNKNOWN_TOPIC_OR_PARTITION" in line


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "200"),
        ({"status": "", "outcome": Outcome.OK}, "ok"),
        ({"status": "", "outcome": Outcome.ERROR}, "error"),
        ({"status": "200", "outcome": Outcome.RESET}, "reset"),
        ({"status": "", "outcome": Outcome.CLOSED}, "closed"),
        ({"status": "", "outcome": Outcome.ONE_WAY}, ""),
        ({"status": "refused", "outcome": Outcome.RESET, "connection": True}, "refused"),
    ],
)
def test_the_status_is_the_servers_word_or_how_it_ended(changes, status):
    assert _screen.status_of(session(**changes)) == status


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({}, ""),
        ({"mid_stream": True}, " ·mid"),
        ({"mid_stream": True, "truncated": True}, " ·cut"),
        ({"mid_stream": True, "truncated": True, "gap_bytes": 1}, " ·gap"),
    ],
)
def test_the_gravest_remark_is_made(changes, remark):
    assert _screen.remark_of(session(**changes)) == remark


def red(*sessions):
    out = Red()
    for one in sessions:
        out.add(one)
    return out


def test_the_summary():
    slow = session(operation="POST", resource="/orders", status="503", outcome=Outcome.ERROR, duration_ns=212_000_000)
    total = red(*[session()] * 1187, *[slow] * 12, *[session(status="", outcome=Outcome.TIMEOUT)] * 5).total()
    assert summary_lines(total, 62.0) == [
        "1,204 sessions in 62 s (19.4/s) · p50 4.1 ms  p90 4.1 ms  p99 4.1 ms · 17 errors (1.4 %)",
        "  slowest  POST /orders  212.0 ms",
        "  errors   503 × 12 · timeout × 5",
    ]


def test_the_summary_of_little():
    assert summary_lines(red().total(), 3.2) == ["0 sessions in 3 s (0.0/s)"]
    assert summary_lines(red(session()).total(), 0.0)[0] == "1 session in 0 s · p50 4.1 ms  p90 4.1 ms  p99 4.1 ms · 0 errors"


def test_where_nobody_waited_no_time_is_told():
    whole = red(session(protocol="tcp", connection=True, outcome=Outcome.OK, status="closed", resource="unknown protocol"))
    assert summary_lines(whole.total(), 2) == ["1 session in 2 s (0.5/s) · 0 errors"]
    assert service_map_lines(whole.calls())[1].endswith("1      0 %     –     –")


def test_the_summary_obeys_no_wire():
    hostile = session(resource="\x1b[31m" * 99, status="\x1b[0m", outcome=Outcome.ERROR)
    assert all(line.isprintable() for line in summary_lines(red(hostile).total(), 1))


def test_the_service_map():
    page, details = pod("productpage-1", "productpage"), pod("details-1", "details")
    calls = red(
        *[session(client_workload=Workload("client"), server_workload=page, duration_ns=8_100_000)] * 1200,
        *[session(client_workload=page, server_workload=details, outcome=Outcome.ERROR, duration_ns=1_000_000)] * 3,
    ).calls()
    assert service_map_lines(calls) == [
        "FROM          TO           PROTOCOL  CALLS   ERRORS      P50      P99",
        "client      → productpage  http      1,200      0 %   8.1 ms   8.1 ms",
        "productpage → details      http          3    100 %   1.0 ms   1.0 ms",
    ]
    assert service_map_lines([]) == []


def test_numbers_that_are_less_than_the_truth_say_so():
    details = pod("details-1", "details")
    rows = red(
        *[session(server_workload=details)] * 3,
        session(server_workload=details, protocol="tcp", connection=True, resource="not captured"),
        session(),
    )
    lines = service_map_lines(rows.calls())
    cut = {tuple(line.split()[2:4]): line.endswith(" ·cut") for line in lines[1:-1]}
    assert cut == {("details", "http"): True, ("details", "tcp"): True, ("web", "http"): False}
    assert lines[-1].startswith("·cut: part of it passed unseen")
    assert summary_lines(rows.total(), 2)[0].endswith("0 errors ·cut")


def test_a_long_map_says_what_it_leaves_out():
    calls = red(*(session(client=Endpoint(f"10.0.0.{i}", 1)) for i in range(100))).calls()
    lines = service_map_lines(calls)
    assert len(lines) == 1 + _screen.MAP_ROWS + 1
    assert lines[-1] == "… and 60 more, with 60 calls"


@pytest.mark.parametrize("hours", [-12, 0, 14])
@pytest.mark.parametrize("time_ns", [(1 << 64) * 10**9, -(1 << 80)])
def test_a_time_that_no_year_has_is_told_in_any_zone(hours, time_ns):
    """A capture file may say anything."""
    tz = timezone(timedelta(hours=hours))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", _screen.day_of(time_ns, tz))
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3}  ", session_line(session(start_ns=time_ns), Screen(tz=tz)))
