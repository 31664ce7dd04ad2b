"""What is said of servers by address (`Terms.said`): who is asked, who is believed first, and open connections that follow."""

from __future__ import annotations

import pytest

from clovisor_py.flows import retelling
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.protocols._redaction import DEFAULT
from tests.flows.test_following import CALL, GET, OK, PROTOCOLS, VETH, Bench
from tests.support.segments import Conversation

POD, PEER = "10.0.0.2", "10.0.0.1"


class Words(dict):
    """(ip, port) to name; remembers who was asked for."""

    asked: list[tuple[str, int]]

    def __init__(self, *args):
        super().__init__(*args)
        self.asked = []

    def __call__(self, ip, port):
        self.asked.append((ip, port))
        return self.get((ip, port), "")


def unreadable(talk):
    """Bytes that nobody recognises, so that only words decide."""
    return talk.client("\x00what is").server("\x00this")


@pytest.mark.parametrize(("pod_is_client", "server"), [(True, PEER), (False, POD)])
def test_only_the_server_is_asked_for_and_once(pod_is_client, server):
    words = Words()
    bench = Bench(Conversation(pod_is_client=pod_is_client))
    bench.terms(said=words)
    bench.talk.handshake().client(GET).server(OK).client(GET).server(OK)
    assert bench.rows() == [CALL, CALL]
    assert words.asked == [(server, 8080)]


def test_where_nobody_saw_who_opened_it_both_ends_are_asked_for():
    words = Words()
    bench = Bench(Conversation(pod_is_client=True))
    bench.terms(said=words)
    bench.talk.client(GET).server(OK)
    bench.flow()
    assert words.asked == [(PEER, 8080), (POD, 40000)]


def test_the_word_settles_it_and_the_operators_hint_comes_first():
    for hints, expected in (({}, "redis"), ({8080: "http"}, "http")):
        bench = Bench(Conversation(pod_is_client=True).handshake())
        bench.terms(hints, said=Words({(PEER, 8080): "redis"}))
        bench.talk.client("\x00?")
        bench.flow()
        (flow,) = bench.engine._table.flows.values()
        assert flow.told[8080].name == expected


def test_a_name_that_nobody_knows_is_no_word():
    bench = Bench(Conversation(pod_is_client=True).handshake())
    bench.terms(said=Words({(PEER, 8080): "gopher"}))
    bench.talk.client(GET).server(OK)
    assert bench.rows() == [CALL]


def test_words_that_change_reach_open_connections():
    words = Words()
    bench = Bench(Conversation(pod_is_client=True).handshake())
    bench.terms(said=words)
    unreadable(bench.talk)
    bench.flow()
    assert bench.engine.unparsed() == [(8080, "unknown protocol", 1)]
    words[(PEER, 8080)] = "http"
    bench.sessions += bench.engine.retell(bench.talk.now)
    bench.talk.client(GET).server(OK)
    assert bench.rows() == [CALL]
    assert bench.sessions[0].mid_stream


def test_words_that_stay_or_go_touch_nothing():
    words = Words({(PEER, 8080): "http"})
    bench = Bench(Conversation(pod_is_client=True).handshake())
    bench.terms(said=words)
    bench.talk.client(GET)
    bench.flow()
    for change in (words.copy, words.clear):
        change()
        bench.sessions += bench.engine.retell(bench.talk.now)
    bench.talk.server(OK)
    assert bench.rows() == [CALL]
    assert not bench.sessions[0].mid_stream


def test_a_veth_of_which_nobody_is_asked_is_passed_over():
    bench = Bench(Conversation(pod_is_client=True).handshake().client(GET))
    bench.flow()
    assert bench.engine.retell(bench.talk.now) == []
    bench.talk.server(OK)
    assert bench.rows() == [CALL]


def several(number, words):
    """An engine with so many connections to as many ports, all unread."""
    engine = Pipeline(protocols=PROTOCOLS)
    engine.set_terms(VETH, {}, DEFAULT, 0, said=words)
    for at in range(number):
        talk = unreadable(Conversation(pod_is_client=True, client_port=40000 + at, flow_id=at + 1).handshake())
        engine.feed(talk.segments)
    words.asked.clear()
    return engine


def test_a_walk_over_many_connections_takes_them_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(retelling, "SLICE", 3)
    words = Words()
    engine = several(8, words)
    asked = []
    engine.retell(1)
    for _ in range(4):
        asked.append(len(words.asked))
        engine.tick(1)
    assert asked == [3, 6, 8, 8]


def test_words_that_change_again_meanwhile_reach_all_without_end_or_beginning_anew(monkeypatch):
    """Else the last of them would never be reached where words change all the time."""
    monkeypatch.setattr(retelling, "SLICE", 3)
    words = Words()
    engine = several(8, words)
    for _ in range(4):
        engine.retell(1)
    assert len(words.asked) == 8 + 3
    for _ in range(9):
        engine.tick(1)
    assert len(words.asked) == 8 + 8 + 8  # the last news came during the second walk


def test_a_connection_that_ended_meanwhile_is_passed_over(monkeypatch):
    monkeypatch.setattr(retelling, "SLICE", 3)
    words = Words()
    engine = several(8, words)
    engine.retell(1)
    engine.drop(VETH, 1)
    engine.tick(1)
    assert len(words.asked) == 3


def test_new_terms_and_new_words_together():
    """An answer that changed before the terms did is followed then."""
    words = Words()
    engine = Pipeline(protocols=PROTOCOLS)
    engine.set_terms(VETH, {}, DEFAULT, 0, said=words)
    talk = unreadable(Conversation(pod_is_client=True).handshake())
    engine.feed(talk.segments)
    words[(PEER, 8080)] = "http"
    engine.set_terms(VETH, {}, DEFAULT, talk.now, said=words)
    talk.segments.clear()
    talk.client(GET).server(OK)
    assert [one.operation for one in engine.feed(talk.segments)] == ["GET"]
