"""The engine with the real HTTP parser: the two are written apart and meet here."""

from __future__ import annotations

import pytest

from clovisor_py.flows import loop, stream
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.segment import TURN
from clovisor_py.protocols import http, http2
from clovisor_py.protocols._redaction import OFF
from tests.support.segments import MS, SECOND, Conversation

GET = "GET /greet?a=1 HTTP/1.1\r\nHost: web\r\n\r\n"
OK = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


PROTOCOLS = {each.name: each for each in (http.PROTOCOL, http2.PROTOCOL)}


def run(talk, **how):
    engine = Pipeline(protocols=PROTOCOLS, **how)
    sessions = engine.feed(talk.segments) + engine.close(talk.now)
    assert engine.ledger.buffered == 0
    return sessions, engine.ledger


def rows(sessions):
    return [(s.operation, s.resource, s.status, s.outcome.value) for s in sessions]


@pytest.mark.parametrize("chunks", [None, [1] * 100, [20, 30]])
def test_keep_alive(chunks):
    talk = Conversation().handshake()
    for _ in range(3):
        talk.client(GET, chunks=chunks).server(OK, chunks=chunks)
    sessions, ledger = run(talk.close())
    assert rows(sessions) == [("GET", "/greet", "200", "ok")] * 3
    assert sessions[0].head == GET.encode()[:64] and ledger.violations == ledger.gaps == 0


def test_a_long_body_of_which_the_head_was_captured():
    body = "HTTP/1.1 404 Not Found\r\nContent-Length: 20000\r\n\r\n" + "x" * 20000
    talk = Conversation().handshake().client(GET)
    talk.server(body[:4096]).server(body[4096:], chunks=[1448] * 20, captured=0)
    (session,), _ = run(talk)
    assert rows([session]) == [("GET", "/greet", "404", "error" if session.failed else "ok")]
    assert session.response.bytes == len(body) and not session.truncated and session.duration_ns == 13 * MS


def test_a_chunked_body_whose_end_was_not_captured_ends_with_the_turn():
    talk = Conversation().handshake().client(GET).server(CHUNKED + "fff0\r\nabc", captured=50).server("x" * 1000, captured=0)
    talk.client(GET).server(OK)
    (first, second), _ = run(talk)
    assert rows([first, second]) == [("GET", "/greet", "200", "ok")] * 2
    assert first.truncated and first.response.bytes == len(CHUNKED) + 1009 and not second.truncated


def test_an_upload_whose_end_was_not_captured_still_gets_its_answer():
    head = "POST /up HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n"
    talk = (
        Conversation().handshake().client(head + "3\r\nabc\r\n").client("x" * 500, captured=0).server(OK).client(GET).server(OK)
    )
    sessions, _ = run(talk)
    assert rows(sessions) == [("POST", "/up", "200", "ok"), ("GET", "/greet", "200", "ok")]
    assert sessions[0].truncated and sessions[0].request.bytes == len(head) + 508


def test_a_body_to_the_end_of_the_connection():
    talk = Conversation().handshake().client(GET).server("HTTP/1.0 200 OK\r\n\r\nabc").server("def").fin(1).fin(0)
    (session,), _ = run(talk)
    assert rows([session]) == [("GET", "/greet", "200", "ok")] and session.response.bytes == 25 and not session.truncated


def test_a_body_to_the_end_of_a_connection_that_stalls_is_not_whole():
    talk = Conversation().handshake().client(GET).server("HTTP/1.0 200 OK\r\n\r\nabc")
    engine = Pipeline(protocols=PROTOCOLS)
    engine.feed(talk.segments)
    (stalled,) = engine.tick(talk.now + 60 * SECOND)
    assert rows([stalled]) == [("GET", "/greet", "200", "timeout")] and stalled.truncated


def test_interim_responses_do_not_answer():
    head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    talk = Conversation().handshake().client(head)
    talk.server("HTTP/1.1 100 Continue\r\n\r\n").client("abc").server(OK)
    (session,), _ = run(talk)
    assert session.status == "200" and session.request.bytes == len(head) + 3


def test_the_first_byte_is_that_of_the_answer_not_of_an_interim_response():
    talk = Conversation().handshake().client("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    talk.server("HTTP/1.1 100 Continue\r\n\r\n").client("abc").wait(5 * MS).server(OK, chunks=[20])
    (session,), _ = run(talk)
    assert (session.ttfb_ns, session.duration_ns) == (8 * MS, 9 * MS)


def test_pipelined_requests_are_answered_in_order():
    asked = "HEAD /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n"
    answers = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + CHUNKED + "1;x\r\na\r\n0\r\nT: 1\r\n\r\nHTTP/1.1 304 x\r\n\r\n"
    sessions, ledger = run(Conversation().handshake().client(asked).server(answers, chunks=[50, 50]).close())
    assert [(s.resource, s.status) for s in sessions] == [("/1", "200"), ("/2", "200"), ("/3", "304")]
    assert ledger.violations == ledger.orphan_responses == 0


def test_an_empty_line_behind_a_body_begins_no_response():
    talk = Conversation().handshake()
    for _ in range(3):
        talk.client(GET).server(OK + "\r\n")
    sessions, ledger = run(talk.close())
    assert rows(sessions) == [("GET", "/greet", "200", "ok")] * 3
    assert [s.ttfb_ns for s in sessions] == [MS] * 3 and ledger.orphan_responses == 0


def test_the_pod_is_the_client_and_redaction_is_off():
    talk = Conversation(pod_is_client=True).handshake().client(GET).server(OK)
    (session,), _ = run(talk, redaction=OFF)
    assert (session.resource, session.attributes["url.query"], session.side.value) == ("/greet?a=1", "a=1", "client")


UPGRADE = "GET /up HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n"
SWITCH = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n"


@pytest.mark.parametrize("chunks", [None, [1] * 200, [90]])
def test_a_websocket_ends_the_http_part(chunks):
    talk = Conversation().handshake().client(UPGRADE % "websocket", chunks=chunks)
    talk.server((SWITCH % "websocket").encode() + b"\x81\x05hello", chunks=chunks)
    talk.client(b"\x81\x85masked").server(b"\x81\x02ok").client(GET).server(OK)
    (session, rest), ledger = run(talk.close())
    assert rows([session]) == [("GET", "/up", "101", "ok")]
    assert session.response.bytes == len(SWITCH % "websocket") and ledger.violations == 0
    assert rest.connection and rest.resource == "websocket"
    assert ledger.unparsed == {(8080, "websocket"): 1}


def test_the_answer_to_an_upgrade_to_h2c_comes_in_http2():
    talk = Conversation().handshake().client(UPGRADE % "h2c").server(SWITCH % "h2c")
    talk.server(b"\0\0\0\4\0\0\0\0\0").client(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    talk.server(b"\0\0\1\1\5\0\0\0\1\x88")  # HEADERS, the last of stream 1: status 200
    (session,), ledger = run(talk.close())
    assert rows([session]) == [("GET", "/up", "200", "ok")]
    assert ledger.violations == 0 and session.duration_ns == 4 * MS


def test_in_a_tunnel_somebody_else_is_recognised():
    talk = Conversation().handshake().client("CONNECT inner:80 HTTP/1.1\r\n\r\n")
    talk.server("HTTP/1.1 200 Connection established\r\n\r\n")
    talk.client(GET).server(OK)
    sessions, _ = run(talk.close())
    assert rows(sessions) == [("CONNECT", "inner:80", "200", "ok"), ("GET", "/greet", "200", "ok")]


def test_bytes_that_came_before_a_tunnel_was_granted_belong_to_it():
    talk = Conversation().handshake().client("CONNECT inner:80 HTTP/1.1\r\n\r\n" + GET)
    talk.server("HTTP/1.1 200 OK\r\n\r\n" + OK)
    sessions, _ = run(talk.close())
    assert rows(sessions) == [("CONNECT", "inner:80", "200", "ok"), ("GET", "/greet", "200", "ok")]


def test_a_refused_tunnel_stays_http():
    talk = Conversation().handshake().client("CONNECT inner:80 HTTP/1.1\r\n\r\n")
    talk.server("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n").client(GET).server(OK)
    sessions, ledger = run(talk.close())
    assert rows(sessions) == [("CONNECT", "inner:80", "407", "error"), ("GET", "/greet", "200", "ok")]
    assert ledger.violations == 0


def test_attached_in_the_middle_of_a_download():
    talk = Conversation(server_port=9999).server("x" * 900).server("y" * 900).client(GET).server(OK).client(GET).server(OK)
    sessions, _ = run(talk)
    assert rows(sessions) == [("GET", "/greet", "200", "ok")] * 2
    assert [s.mid_stream for s in sessions] == [True, False]
    assert str(sessions[0].server) == "10.0.0.2:9999"


def test_a_segment_lost_in_a_response_with_many_segments():
    body = "HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n"
    talk = Conversation().handshake().client(GET).server(body + "x" * 1000).server("x" * 1000, lost=True).server("x" * 1000)
    (first, second), ledger = run(talk.client(GET).server(OK))
    assert first.gap_bytes == 1000 == ledger.gap_bytes and first.response.bytes == len(body) + 3000
    assert second.gap_bytes == 0


def test_an_answer_that_comes_before_the_upload_is_over():
    head = "POST /up HTTP/1.1\r\nHost: web\r\nContent-Length: 1000\r\n\r\n"
    talk = Conversation().handshake().client(head + "x" * 100).server("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    (session,), ledger = run(talk.client("x" * 900).close())
    assert session.status == "413" and session.request.bytes == len(head) + 1000 and ledger.orphan_responses == 0


@pytest.mark.parametrize("shed", [1, 2, 7])
@pytest.mark.parametrize("told", [True, False])
def test_exchanges_that_were_only_counted_cost_no_other(shed, told):
    """The kernel sheds whole exchanges; the first record afterwards says that a turn begins with it, and how many were shed."""
    talk = Conversation().handshake().client(GET, flags=TURN).server(OK, flags=TURN)
    lost = 0
    for _ in range(3):
        for _ in range(shed):
            talk.client(GET, lost=True).server(OK, lost=True)
            lost += 2 if told else 0
        talk.client(GET, flags=TURN, **({"lost_before": lost})).server(OK, flags=TURN, **({"lost_before": lost}))
    sessions, ledger = run(talk.close())
    assert rows(sessions) == [("GET", "/greet", "200", "ok")] * 4
    assert ledger.gap_bytes == 3 * shed * (len(GET) + len(OK))
    assert ledger.orphan_responses == ledger.violations == 0
    assert not any(s.gap_bytes or s.truncated for s in sessions)


def test_a_request_that_was_lost_takes_its_own_answer_only():
    talk = Conversation().handshake().client(GET, flags=TURN).server(OK, flags=TURN)
    talk.client(GET, lost=True).server(OK, flags=TURN)
    talk.client(GET, flags=TURN).server(OK, flags=TURN)
    sessions, ledger = run(talk.close())
    assert rows(sessions) == [("GET", "/greet", "200", "ok")] * 2
    assert ledger.orphan_responses == 1


def test_a_download_that_is_on_its_way_does_not_time_out():
    """A minute of chunks of which only the first was captured: the answer comes, its end is unseen."""
    engine = Pipeline(protocols=PROTOCOLS, request_timeout_s=30)
    talk = Conversation().handshake().client(GET).server(CHUNKED + "3\r\nabc\r\n")
    sessions = engine.feed(talk.segments)
    for _ in range(60):
        talk.segments.clear()
        talk.wait(SECOND).server("x" * 1000, captured=0)
        sessions += engine.feed(talk.segments) + engine.tick(talk.now)
    assert sessions == []
    (session,) = engine.tick(talk.now + 3 * SECOND)
    assert rows([session]) == [("GET", "/greet", "200", "ok")]
    assert session.truncated and session.duration_ns > 59 * SECOND
    assert engine.ledger.late_responses == 0


def test_all_flows_together_keep_a_bounded_number_of_bytes(monkeypatch):
    for module in (loop, stream):
        monkeypatch.setattr(module, "BUFFERED_BYTES", 10_000)
    engine = Pipeline(protocols=PROTOCOLS)
    for number in range(100):
        talk = Conversation(flow_id=number).handshake().client("GET /half HTTP/1.1\r\nX: " + "x" * 500)
        engine.feed(talk.segments)
        assert engine.ledger.buffered <= 11_000
    assert engine.ledger.buffer_overflows > 50
    engine.close(talk.now)
    assert engine.ledger.buffered == 0


def test_what_is_held_for_earlier_bytes_is_bounded_in_all(monkeypatch):
    for module in (loop, stream):
        monkeypatch.setattr(module, "BUFFERED_BYTES", 10_000)
    engine = Pipeline(protocols=PROTOCOLS)
    for number in range(100):
        talk = Conversation(flow_id=number).handshake().client(GET).server("HTTP", lost=True).client("x" * 500)
        talk.client("y" * 10, lost=True).client("x" * 500)
        engine.feed(talk.segments)
        assert engine.ledger.buffered <= 11_000
    engine.close(talk.now)
    assert engine.ledger.buffered == 0


def test_datagrams_that_nobody_can_read_are_forgotten_soon():
    engine = Pipeline(request_timeout_s=30, flow_idle_s=120)
    for number in range(50):
        talk = Conversation(flow_id=number, udp=True, server_port=53).client("\x00\x01query").server("\x00\x01answer")
        engine.feed(talk.segments)
    assert engine.flows == 50
    for second in range(40):
        engine.tick(talk.now + second * SECOND)
    assert engine.flows == 0


def test_an_answer_that_stalls_tells_its_status():
    talk = Conversation().handshake().client(GET)
    talk.server(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + bytes(100))
    before = len(talk.segments)
    engine = Pipeline(protocols=PROTOCOLS)
    engine.feed(talk.segments)
    (stalled,) = engine.tick(talk.now + 60 * SECOND)
    assert rows([stalled]) == [("GET", "/greet", "200", "timeout")]
    assert stalled.truncated and stalled.response is not None
    assert stalled.start_ns + stalled.duration_ns == talk.now + 60 * SECOND  # so long somebody has waited
    talk.server(bytes(200)).client(GET).server(OK)  # it goes on after all, and so does the connection
    rest = [segment._replace(time_ns=segment.time_ns + 61 * SECOND) for segment in talk.segments[before:]]
    assert rows(engine.feed(rest)) == [("GET", "/greet", "200", "ok")]
    assert engine.ledger.violations == 0
