"""What happened between two moments: the difference of counts, each call once, through JSON and back."""

from __future__ import annotations

import json

import pytest

from clovisor_py.metrics.red import Red
from clovisor_py.metrics.routes import FANOUT
from clovisor_py.metrics.taken import Taken, take
from clovisor_py.metrics.tcp import Tcp
from clovisor_py.metrics.view import By, lines, untold
from clovisor_py.model.session import Outcome, Part, Side
from clovisor_py.snapshot import as_json, from_json
from tests.metrics.test_tcp import entry, name, place
from tests.support.sessions import pod, session

ENDS = {"client_workload": pod("web-1", "web"), "server_workload": pod("cart-1", "cart")}


def get(path, **changes):
    changes = {"resource": path, "attributes": {"http.request.method": "GET", "url.path": path}} | ENDS | changes
    return session(**changes)


def after(red, *sessions, at=100.0, tcp=None):
    for one in sessions:
        red.add(one)
    return take(red, tcp, 1.0)._replace(taken=at, clock=at)


def test_only_what_came_since():
    red = Red()
    before = after(red, *[get("/a", duration_ns=10**9)] * 5)
    now = after(red, *[get("/a", duration_ns=1_000_000)] * 30, get("/b", status="500", outcome=Outcome.ERROR), at=102.0)
    [line] = lines(before, now, By.LINK)
    assert (line.client, line.server, line.protocol, line.operation) == ("web", "cart", "http", "")
    assert (line.calls, line.errors, line.seconds, line.rate) == (31, 1, 2.0, 15.5)
    assert line.error_rate == pytest.approx(1 / 31)
    assert line.quantile(50) == pytest.approx(1_000_000, rel=0.04)
    assert line.quantile(99) == pytest.approx(4_100_000, rel=0.04)
    assert (line.sent, line.received) == (31 * 120, 31 * 230)
    found = {line.operation: (line.calls, line.errors) for line in lines(before, now, By.RPC)}
    assert found == {"GET /a": (30, 0), "GET /b": (1, 1)}
    assert lines(now, now, By.LINK) == []


def test_how_long_it_was_is_not_told_by_a_clock_that_is_set():
    red = Red()
    before, now = after(red), after(red, get("/a"), at=102.0)
    assert [line.rate for line in lines(before, now._replace(taken=90.0), By.LINK)] == [0.5]
    assert [line.rate for line in lines(before._replace(clock=0.0), now, By.LINK)] == [0.5], "an agent of before has none"
    assert take(red, None, 1.0).clock > 0


def test_what_passed_unseen_is_told_of_the_side_that_tells():
    red = Red()
    before = after(red, get("/a", gap_bytes=5))
    now = after(red, get("/a", gap_bytes=5), get("/b"), get("/b", side=Side.CLIENT, gap_bytes=5))
    assert [(line.calls, line.hidden) for line in lines(before, now, By.LINK)] == [(2, 1)]
    assert [(line.operation, line.hidden) for line in lines(before, now, By.RPC)] == [("GET /a", 1), ("GET /b", 1)]
    assert [line.hidden for line in lines(now, after(red, get("/a")), By.LINK)] == [0]
    assert from_json(Taken, as_json(now)) == now


def test_what_is_told_as_other_since():
    red = Red()
    before = after(red)._replace(overflowed=3, merged=10)
    now = after(red, get("/a"))._replace(overflowed=5, merged=17)
    assert (untold(before, now, By.LINK), untold(before, now, By.RPC)) == (2, 9)
    anew = now._replace(started=101.0)
    assert (untold(before, anew, By.LINK), untold(before, anew, By.RPC)) == (5, 22)


def test_through_json():
    taken = after(Red(), get("/a"), session(request=Part(0, 3), response=None))
    assert from_json(Taken, json.loads(json.dumps(as_json(taken)))) == taken


def test_an_agent_that_began_anew():
    red = Red()
    before, now = after(Red(), *[get("/a")] * 9), after(red, get("/a"), at=104.0)._replace(started=101.0)
    [line] = lines(before, now, By.LINK)
    assert (line.calls, line.seconds) == (1, 4.0)


def test_a_call_seen_at_both_ends_is_one_and_the_side_that_saw_more_tells():
    red = Red()
    before = after(red)
    both = [get("/a", side=side) for side in Side]
    assert [line.calls for line in lines(before, after(red, *both), By.LINK)] == [1]
    more = get("/a", side=Side.CLIENT, duration_ns=7)
    [line] = lines(before, after(red, more), By.LINK)
    assert (line.calls, line.quantile(1)) == (2, 7)


def test_nobody_waited():
    [line] = lines(Taken(), after(Red(), get("/a", outcome=Outcome.ONE_WAY)), By.LINK, 0.0)
    assert (line.quantile(50), line.rate) == (None, 0.0)
    assert line.as_dict()["p50_ns"] is None


def test_templates_that_changed_are_no_calls():
    red = Red()
    words = [f"{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(FANOUT + 1)]
    before = after(red, *(get(f"/{word}") for word in words[1:FANOUT]), get("/x/1"))
    now = after(red, get(f"/{words[FANOUT]}"))
    assert [line.calls for line in lines(before, now, By.LINK)] == [1]
    assert lines(before, now, By.RPC) == []
    later = after(red, get("/new"))
    assert [(line.operation, line.calls) for line in lines(now, later, By.RPC)] == [("GET /{name}", 1)]


def test_round_trips_of_the_pair():
    tcp = Tcp(name)
    tcp.look(place(), entry(rtt_us=300, to_pod={"packets": 1}), False, 0)
    taken = take(Red(), tcp, 1.0)
    assert taken.trips[0].ends == ("", "10.0.0.9", "shop", "cart")
    red = Red()
    red.add(session(server_workload=pod("cart-1", "cart")))
    [line] = lines(Taken(1.0), take(red, tcp, 1.0), By.LINK)
    assert line.rtt.quantile(0.5) == pytest.approx(300_000, rel=0.04)
    assert line.as_dict()["rtt_ns"] == line.rtt.quantile(0.5)
