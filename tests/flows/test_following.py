"""Terms of a veth that change while its flows are open: flows follow, the ledger stays balanced."""

from __future__ import annotations

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.flows.terms import MUTED, NOT_ASKED
from clovisor_py.protocols import http, redis
from clovisor_py.protocols._redaction import DEFAULT, OFF
from tests.support.segments import Conversation

PROTOCOLS = {each.name: each for each in (http.PROTOCOL, redis.PROTOCOL)}
GET = "GET /greet?a=1 HTTP/1.1\r\nHost: web\r\n\r\n"
OK = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
VETH = 7


class Control:
    """Writes down what is wanted of the kernel."""

    def __init__(self):
        self.modes = []

    def capture(self, flow_id, mode):
        self.modes.append(mode)

    def skip_until(self, flow_id, direction, seq):
        pass

    def counted(self, connection):
        return None


class Bench:
    def __init__(self, talk, **how):
        self.control, self.talk = Control(), talk
        self.engine = Pipeline(protocols=PROTOCOLS, control=self.control, **how)
        self.sessions = []

    def terms(self, hints=None, redaction=DEFAULT, **how):
        self.flow()
        self.sessions += self.engine.set_terms(VETH, hints or {}, redaction, self.talk.now, **how)

    def flow(self):
        """Feed what was said so far."""
        self.sessions += self.engine.feed(self.talk.segments)
        self.talk.segments.clear()

    def rows(self):
        """All sessions, the books closed."""
        self.flow()
        self.sessions += self.engine.close(self.talk.now)
        ledger = self.engine.ledger
        assert ledger.payload == ledger.parsed + ledger.duplicates + ledger.opaque + ledger.late
        assert ledger.buffered == 0
        return [(s.protocol, s.operation, s.resource, s.status) for s in self.sessions]


CALL = ("http", "GET", "/greet", "200")


def test_redaction_of_one_veth():
    bench = Bench(Conversation().handshake())
    bench.terms(redaction=OFF)
    bench.talk.client(GET).server(OK)
    bench.rows()
    assert bench.sessions[0].attributes["url.query"] == "a=1"


def test_hints_of_one_veth_do_not_concern_another():
    bench = Bench(Conversation().handshake().client("what is").server("this"))
    bench.engine.set_terms(8, {8080: "http"}, DEFAULT, bench.talk.now)
    bench.flow()
    assert bench.engine.unparsed() == [(8080, "unknown protocol", 1)]


def test_a_hint_takes_effect_on_a_connection_that_nobody_could_read():
    bench = Bench(Conversation().handshake())
    bench.talk.client("\x00what is").server("\x00this")
    bench.flow()
    assert bench.control.modes == ["none"]
    bench.terms({8080: "http"})
    assert bench.control.modes[-1] == "full"
    bench.talk.client(GET).server(OK).client(GET).server(OK)
    assert bench.rows() == [CALL, CALL]
    assert bench.sessions[0].mid_stream


def test_a_hint_takes_effect_on_one_that_is_still_undecided():
    bench = Bench(Conversation().handshake().client("GE"))
    bench.terms({8080: "http"})
    bench.talk.client("T / HTTP/1.1\r\n\r\n").server(OK).client(GET).server(OK)
    assert CALL in bench.rows()


def test_a_hint_that_changes_nothing_touches_nothing():
    bench = Bench(Conversation().handshake().client(GET))
    bench.terms({8080: "http", 9092: "redis"})
    bench.talk.server(OK)
    assert bench.rows() == [CALL]
    assert not bench.sessions[0].mid_stream


def test_what_was_taken_for_something_else():
    bench = Bench(Conversation().handshake())
    bench.terms({8080: "redis"})
    bench.talk.client("PING\r\n").server("+PONG\r\n")
    bench.terms({8080: "http"})
    bench.talk.client(GET).server(OK)
    assert [row[0] for row in bench.rows()] == ["redis", "http"]


def test_capture_of_one_veth_is_whatever_its_operator_says():
    bench = Bench(Conversation().handshake())
    bench.terms(capture="full")
    bench.talk.client(GET).server(OK)
    bench.flow()
    assert bench.control.modes[-1] == "full"
    bench.terms()
    assert bench.control.modes[-1] == "head"


def test_a_pod_that_is_only_counted_from_now_on_and_read_again():
    bench = Bench(Conversation().handshake().client(GET).server(OK))
    bench.terms(capture="none")
    assert bench.control.modes[-1] == "none"
    assert bench.engine.unparsed() == [(8080, MUTED, 1)]
    bench.talk.client(GET, captured=0).server(OK, captured=0)
    bench.terms()
    assert bench.control.modes[-1] == "full"
    bench.talk.client(GET).server(OK)
    assert bench.rows() == [CALL, CALL]


def only_redis(_ip, port):
    return port == 6379


def test_outgoing_connections_that_are_not_asked_for_leave_no_session():
    bench = Bench(Conversation(pod_is_client=True))
    bench.terms(permits=only_redis)
    bench.talk.handshake().client(GET).server(OK).close()
    assert bench.rows() == []
    assert bench.control.modes[0] == "none"
    assert bench.engine.ledger.flows_not_asked == 1
    assert bench.engine.unparsed() == []


def test_those_that_are_asked_for_and_those_that_come_in_are_read():
    bench = Bench(Conversation(pod_is_client=True, server_port=6379))
    bench.terms(permits=only_redis)
    bench.talk.handshake().client("PING\r\n").server("+PONG\r\n")
    assert [row[0] for row in bench.rows()] == ["redis"]
    bench = Bench(Conversation())
    bench.terms(permits=only_redis)
    bench.talk.handshake().client(GET).server(OK)
    assert bench.rows() == [CALL]


def test_one_whose_opening_was_not_seen_is_left_out_when_its_server_is_known():
    bench = Bench(Conversation(pod_is_client=True))
    bench.terms(permits=only_redis)
    bench.talk.client(GET).server(OK).client(GET).server(OK)
    assert bench.rows() == []
    bench = Bench(Conversation(pod_is_client=True))
    bench.terms(permits=only_redis)
    bench.talk.client("\x00\x01").server("\x00\x02")
    assert bench.rows() == []
    assert bench.engine.ledger.flows_not_asked == 1


def test_rules_that_change_reach_open_connections():
    bench = Bench(Conversation(pod_is_client=True).handshake().client(GET).server(OK))
    bench.terms(permits=only_redis)
    bench.talk.client(GET).server(OK)
    bench.flow()
    assert bench.engine.unparsed() == [(8080, NOT_ASKED, 1)]
    bench.terms()
    bench.talk.client(GET).server(OK)
    assert bench.rows() == [CALL, CALL]


def test_a_veth_that_is_dropped_ends_its_flows_and_forgets_its_terms():
    bench = Bench(Conversation().handshake())
    bench.terms(redaction=OFF)
    bench.talk.client(GET)
    bench.flow()
    bench.sessions += bench.engine.drop(VETH, bench.talk.now)
    assert [(s.status, s.outcome.value) for s in bench.sessions] == [("", "closed")]
    assert bench.engine.flows == 0 and bench.engine._delivery.terms == {}
