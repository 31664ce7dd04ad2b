"""Connections that nobody can read are sessions of their own; those that change their protocol go on in the new one."""

from dataclasses import replace

import pytest

from clovisor_py.flows.connection import Counted, Tally
from clovisor_py.flows.control import NoControl
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.message import Kind, Message
from tests.support.segments import MS, SECOND, Conversation
from tests.support.toy_protocol import IDS, LINES, TOYS, LineParser


def run(talk, until=0, **how):
    engine = Pipeline(protocols=how.pop("protocols", TOYS), **how)
    sessions = engine.feed(talk.segments)
    return sessions + engine.tick(talk.now + until) + engine.close(talk.now + until), engine.ledger


def test_an_encrypted_connection_is_one_session_with_its_turns_and_latency():
    talk = Conversation(server_port=443).handshake()
    for _ in range(3):
        talk.client(b"\x17\x03\x03" + bytes(100)).server(b"\x17\x03\x03" + bytes(400), chunks=[200])
    (whole,), ledger = run(talk.close())
    assert (whole.protocol, whole.operation, whole.status, whole.outcome.value) == ("tcp", "tcp", "closed", "ok")
    assert (whole.request.bytes, whole.response.bytes) == (309, 1209)
    assert whole.attributes == {
        "clovisor.client.turns": 3,
        "clovisor.server.turns": 3,
        "clovisor.server.latency_ns": MS,
    }
    assert whole.duration_ns == talk.now - talk.segments[0].time_ns and ledger.sessions == 1


def test_an_answer_that_only_the_kernel_saw_is_told_with_its_bytes():
    class Below(NoControl):
        def counted(self, connection):
            return Counted(7000, 5, 2, 0, 0, 9 * MS, 2), Counted(500, 1, 1, 0, 0, 0, 0)

    talk = Conversation().handshake().client(b"\x00" * 500).close()
    (whole,), _ = run(talk, control=Below())
    assert (whole.request.bytes, whole.response.bytes, whole.ttfb_ns) == (500, 7000, None)
    assert whole.response.time_ns == whole.request.time_ns
    assert whole.attributes["clovisor.server.latency_ns"] == 9 * MS // 2


def test_retransmissions_are_counted_once_each_and_their_bytes_never():
    talk = Conversation(server_port=443).handshake().client(b"\x00" * 50).server(b"\x01" * 50).client(b"\x02" * 50)
    again = talk.segments[2]._replace(time_ns=talk.now + MS)
    talk.segments.append(again)
    (whole,), _ = run(talk.close())
    assert whole.request.bytes == 100 and whole.attributes["clovisor.client.retransmissions"] == 1


@pytest.mark.parametrize(
    ("talk", "status", "outcome", "resource"),
    [
        (Conversation().handshake().close(), "closed", "ok", "nothing was said"),
        (Conversation().handshake().rst(1), "refused", "reset", "nothing was said"),
        (Conversation().handshake().client(b"\x00" * 9).rst(1), "reset", "reset", "unknown protocol"),
        (Conversation().handshake(), "open", "ok", "nothing was said"),
    ],
    ids=["closed", "refused", "reset", "open"],
)
def test_how_it_ended(talk, status, outcome, resource):
    (whole,), _ = run(talk)
    assert (whole.status, whole.outcome.value, whole.resource) == (status, outcome, resource)


def test_a_connection_that_nobody_accepts():
    talk = Conversation().handshake()
    del talk.segments[1]
    (whole,), _ = run(talk, until=3 * SECOND)
    assert (whole.status, whole.outcome.value, whole.response) == ("no answer", "timeout", None)


def test_what_was_read_is_no_session_of_its_own():
    sessions, _ = run(Conversation().handshake().client("ask a\n").server("ok a\n").close())
    assert [session.protocol for session in sessions] == ["lines"]


def test_datagrams_that_nobody_reads():
    (whole,), _ = run(Conversation(udp=True).client(b"\x00" * 9).server(b"\x00" * 20))
    assert (whole.protocol, whole.request.bytes, whole.response.bytes) == ("udp", 9, 20)


def test_a_tally_survives_a_wrap_of_the_numbers():
    tally = Tally(0)
    tally.add(0, 1, 0xFFFF_FFF0, 0x20, False)
    tally.add(0, 2, 0x10, 0x10, False)
    assert (tally.sides[0].bytes, tally.sides[0].retransmissions) == (0x30, 0)


# ---- one connection, two protocols ----


class Switching(LineParser):
    """`ok` to `ask switch…` hands the connection to whom it says."""

    hands_to = "ids"

    def parse(self, sender, cursor):
        message = super().parse(sender, cursor)
        if message and message.kind is Kind.RESPONSE and message.attributes.get("toy.answer") == "switch":
            message.hands_to = self.hands_to
        return message


def switching(name):
    parser = type("Switching", (Switching,), {"hands_to": name})
    return {"lines": replace(LINES, parser=parser), "ids": IDS}


def test_an_upgrade_hands_the_connection_on_in_both_directions():
    talk = Conversation().handshake().client("ask switch\n").server("ok switch\n")
    talk.client("#1 ask a\n#2 ask b\n").server("#2 ok b\n#1 ok a\n").close()
    sessions, ledger = run(talk, protocols=switching("ids"))
    assert [(s.protocol, s.resource) for s in sessions] == [("lines", "switch"), ("ids", "b"), ("ids", "a")]
    assert ledger.payload == ledger.parsed == 4 and not any(session.mid_stream for session in sessions)


@pytest.mark.parametrize("chunks", [None, [3], [10], [12], [14]])
def test_bytes_that_follow_at_once_are_the_new_protocols(chunks):
    talk = Conversation().handshake().client("ask switch\n#1 ask a\n")
    talk.server("ok switch\n#1 ok a\n", chunks=chunks)
    waiting = {"lines": replace(LINES, parser=type("Polite", (Polite,), {"hands_to": "ids"})), "ids": IDS}
    sessions, _ = run(talk.close(), protocols=waiting)
    assert [(s.protocol, s.resource, s.status) for s in sessions] == [("lines", "switch", "ok"), ("ids", "a", "ok")]


class Polite(Switching):
    """Leaves unread what follows the question, as HTTP does after CONNECT."""

    asked = False

    def parse(self, sender, cursor):
        if sender == 0 and self.asked:
            return None
        message = super().parse(sender, cursor)
        self.asked = self.asked or message is not None
        return message


def test_a_tunnel_is_whoevers_bytes_they_are():
    talk = Conversation().handshake().client("ask switch\n").server("ok switch\n")
    talk.client("#1 ask a\n").server("#1 ok a\n").close()
    sessions, _ = run(talk, protocols=switching(""))
    assert [(s.protocol, s.resource) for s in sessions] == [("lines", "switch"), ("ids", "a")]


def test_an_unknown_successor_is_only_counted_under_its_name():
    talk = Conversation().handshake().client("ask switch\n").server("ok switch\n" + "x" * 40)
    talk.client("y" * 50).server("z" * 60).close()
    sessions, ledger = run(talk, protocols=switching("websocket"))
    assert [(s.protocol, s.resource) for s in sessions] == [("lines", "switch"), ("tcp", "websocket")]
    assert (sessions[1].request.bytes, sessions[1].response.bytes) == (50, 100) and ledger.unparsed == {(8080, "websocket"): 1}


def test_a_request_that_the_new_protocol_answers_goes_with_it():
    class Upgrading(LineParser):
        def parse(self, sender, cursor):
            message = super().parse(sender, cursor)
            if message and message.kind is Kind.REQUEST:
                message.correlation = 1
            if message and message.kind is Kind.INTERIM:
                message.hands_to = "ids"
            return message

    talk = Conversation().handshake().client("ask a\n").server("wait\n#1 ok a\n").close()
    (session,), _ = run(talk, protocols={"lines": replace(LINES, parser=Upgrading), "ids": IDS})
    assert (session.protocol, session.resource, session.status) == ("ids", "a", "ok")
    assert session.duration_ns == MS


# ---- messages in parts ----


FRAME_KINDS = {ord("q"): Kind.REQUEST, ord("+"): Kind.PART, ord("p"): Kind.PART, ord("r"): Kind.RESPONSE}


class Frames:
    """Three bytes a frame: `q` request, `+` more of it, `p` part of a response, `r` its end; the stream's digit; filler."""

    def __init__(self, setup):
        pass

    def parse(self, sender, cursor):
        frame = cursor.read(3)
        if frame is None:
            return None
        message = Message(FRAME_KINDS[frame[0]], correlation=frame[1])
        if frame[:1] == b"q":
            message.operation = chr(frame[1])
        if frame[:1] == b"p":
            message.status = "begun"
        return message

    def gap(self, sender, size):
        return False

    def end(self, sender):
        return None

    def resync(self, sender, data):
        return 0


FRAMES = {
    "ids": replace(IDS, parser=Frames, recognise=lambda data: IDS.recognise(b"#1 ask a\n" if data[:1] in b"q+" else b"#1 ok\n"))
}


def test_interleaved_messages_keep_their_own_times_and_bytes():
    talk = Conversation().handshake().client("q1.q2.").server("p1.").client("+2.").server("p2.p1.").server("r2.").server("r1.")
    second, first = run(talk.close(), protocols=FRAMES)[0]
    assert (first.operation, first.request.bytes, first.response.bytes) == ("1", 3, 9)
    assert (second.operation, second.request.bytes, second.response.bytes) == ("2", 6, 6)
    assert (first.ttfb_ns, first.duration_ns) == (MS, 5 * MS)
    assert (second.ttfb_ns, second.duration_ns) == (3 * MS, 4 * MS)


def test_a_stream_that_still_says_something_has_not_timed_out():
    talk = Conversation().handshake().client("q1.q2.")
    engine = Pipeline(protocols=FRAMES, request_timeout_s=2)
    sessions = engine.feed(talk.segments)
    for _ in range(3):
        before = len(talk.segments)
        talk.wait(SECOND).server("p1.")
        sessions += engine.feed(talk.segments[before:]) + engine.tick(talk.now)
    assert [(s.operation, s.outcome.value) for s in sessions] == [("2", "timeout")]
    (rest,) = engine.close(talk.now)
    assert (rest.operation, rest.outcome.value, rest.status, rest.truncated) == ("1", "closed", "begun", True)
