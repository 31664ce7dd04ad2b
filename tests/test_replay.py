"""Files in, sessions out, by the capture's clock."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from clovisor_py import replay as module
from clovisor_py.config import Settings
from clovisor_py.errors import CaptureBroken, UsageError
from clovisor_py.exporters._fanout import Fanout
from clovisor_py.exporters._worker import Worker
from clovisor_py.replay import BACK_NS, TICK_NS, Replay, _Clock
from clovisor_py.sources.pcapng import PcapngWriter
from tests.support.captures import REQUEST, RESPONSE, conversation, pcap, pcapng
from tests.support.segments import EPOCH, MS, SECOND, Conversation


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self):
        self.sessions = []

    def export(self, sessions):
        self.sessions += sessions
        return len(sessions)

    def close(self):
        pass


def replayed(paths, **how):
    """(sessions, report) of files that are captures."""
    sink = Kept()
    with Fanout([Worker("kept:", sink, queue_limit=module.QUEUE)]) as fanout:
        replay = Replay(how.pop("settings", Settings()), fanout, **how)
        for path in paths:
            replay.run(str(path))
        replay.finish()
        return sink.sessions, replay.report()


@pytest.fixture
def capture(tmp_path):
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(conversation()))
    return path


def test_a_capture(capture):
    (session,), report = replayed([capture])
    assert session.as_dict() | {"attributes": {}} == {
        "protocol": "http",
        "side": "server",
        "start": "2023-11-14T22:13:20.004000000Z",
        "duration_ns": 2 * MS,
        "ttfb_ns": 2 * MS,
        "client": {"ip": "10.0.0.1", "port": 40000},
        "server": {"ip": "10.0.0.2", "port": 8080},
        "operation": "GET",
        "resource": "/greet",
        "status": "200",
        "outcome": "ok",
        "request": {"time": "2023-11-14T22:13:20.004000000Z", "bytes": len(REQUEST)},
        "response": {"time": "2023-11-14T22:13:20.006000000Z", "bytes": len(RESPONSE)},
        "trace": None,
        "capture": {"truncated": False, "gap_bytes": 0, "mid_stream": False},
        "attributes": {},
    }
    assert (report.packets, report.passed_over, report.lost, report.engine["payload"]) == (8, {}, 0, 2)
    assert report.seconds == pytest.approx(0.007)
    kept = report.exporters["kept:"]
    assert (kept.offered, kept.sent, kept.error) == (1, 1, "")


def test_sessions_never_span_two_files(tmp_path):
    packets = conversation()
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(pcap(packets[:4]))
    second.write_bytes(pcapng(packets[4:]))
    sessions, report = replayed([first, second])
    said = [(session.operation, session.outcome.value, session.status) for session in sessions]
    assert said == [("GET", "closed", ""), ("unknown", "ok", "200")]
    assert report.engine["orphan_responses"] == 1
    assert report.packets == 8


def test_what_came_before_the_break_is_there(tmp_path, capture):
    data = capture.read_bytes()
    capture.write_bytes(data[:-1])
    sink = Kept()
    with Fanout([Worker("kept:", sink, queue_limit=module.QUEUE)]) as fanout:
        replay = Replay(Settings(), fanout)
        with pytest.raises(CaptureBroken):
            replay.run(str(capture))
        replay.finish()
        assert len(sink.sessions) == 1
        assert replay.report().packets == 7


@pytest.mark.parametrize(("later_ns", "outcome"), [(29 * SECOND, "closed"), (31 * SECOND, "timeout")])
def test_a_request_is_overdue_by_the_captures_clock(tmp_path, later_ns, outcome):
    other = [(time_ns + later_ns, data.replace(b"\x9c\x40", b"\x9c\x41"), wire) for time_ns, data, wire in conversation()]
    path = tmp_path / "x"
    path.write_bytes(pcap(conversation()[:4] + other))
    sessions, _ = replayed([path])
    assert sorted(session.outcome.value for session in sessions) == sorted(["ok", outcome])
    if outcome == "timeout":
        assert sessions[0].outcome.value == "timeout", "it ended before the other began"
        assert 30 * SECOND <= sessions[0].duration_ns <= 30 * SECOND + 3 * TICK_NS


def test_settings_and_filters(tmp_path, capture):
    keep = replayed([capture], keep=lambda session: session.status == "404")
    assert (keep[0], keep[1].filtered, keep[1].red.total().calls, keep[1].shown.total().calls) == ([], 1, 1, 0)
    path = tmp_path / "many"
    path.write_bytes(pcap([(t + n * SECOND, d, w) for n in range(5) for t, d, w in conversation()]))
    assert len(replayed([path])[0]) == 5
    assert len(replayed([path], limit=2)[0]) == 2
    with pytest.raises(UsageError, match="'gopher', which is no protocol"):
        replayed([], hints={70: "gopher"})


def test_it_can_be_stopped(capture):
    asked = iter([False, True, True, True])
    sink = Kept()
    with Fanout([Worker("kept:", sink, queue_limit=module.QUEUE)]) as fanout:
        replay = Replay(Settings(), fanout, stop=lambda: next(asked, True))
        assert not replay.ended
        replay.run(str(capture))
        assert replay.ended


def test_progress_is_told_in_bytes(capture):
    told = []
    with Fanout([Worker("kept:", Kept(), queue_limit=module.QUEUE)]) as fanout:
        Replay(Settings(), fanout).run(str(capture), lambda *position: told.append(position))
    size = capture.stat().st_size
    assert told[-1] == (size, size)


def test_what_trace_wrote_has_its_names_again(tmp_path):
    talk = Conversation().handshake().client(REQUEST).server(RESPONSE).close()
    with PcapngWriter(str(tmp_path / "x")) as writer:
        writer.add(7, "web", ["10.0.0.2"])
        writer.write(talk.segments)
    (session,), _ = replayed([tmp_path / "x"])
    assert session.server_workload.name == "web"
    assert session.client_workload is None
    assert replayed([tmp_path / "x", tmp_path / "x"])[1].shown.total().calls == 2


@pytest.mark.parametrize("known", [True, False])
def test_a_pod_whose_addresses_are_known_may_be_asked_at_one_and_call_from_another(tmp_path, known):
    headers = f"Host: x\r\ntraceparent: 00-{1:032x}-{2:016x}-01\r\n\r\n"
    into = Conversation().handshake().client(f"GET /in HTTP/1.1\r\n{headers}").wait(SECOND).server(RESPONSE)
    start_ns = into.segments[-1].time_ns - 100 * MS
    out = Conversation(flow_id=2, pod_is_client=True, client_port=50000, start_ns=start_ns)
    out.addresses = (IPv6Address("fd00::1").packed, IPv6Address("fd00::2").packed, 50000, 8080)
    out.handshake().client(f"GET /out HTTP/1.1\r\n{headers}").server(RESPONSE)
    with PcapngWriter(str(tmp_path / "x")) as writer:
        writer.add(7, "web", ["10.0.0.2", "fd00::1"] if known else ["10.0.0.2"])
        writer.write(sorted(into.segments + out.segments, key=lambda one: one.time_ns))
    sessions, _ = replayed([tmp_path / "x"])
    (call,) = [one for one in sessions if one.resource == "/out"]
    assert bool(call.caller_span) is known


def parts(clock, times):
    talk = Conversation().client("x").segments[0]
    out = []
    for part in clock.parts([talk._replace(time_ns=time_ns) for time_ns in times]):
        out.append((list(clock.ticks(part[0].time_ns)), [segment.time_ns for segment in part]))
    return out


def test_ticks_are_where_they_are_due():
    clock, start = _Clock(), EPOCH
    assert parts(clock, [start, start + 1, start + TICK_NS - 1]) == [([], [start, start + 1, start + TICK_NS - 1])]
    assert parts(clock, [start + TICK_NS - 1, start + TICK_NS]) == [
        ([], [start + TICK_NS - 1]),
        ([start + TICK_NS], [start + TICK_NS]),
    ]
    late = start + 5 * TICK_NS + 7
    assert parts(clock, [late]) == [([start + n * TICK_NS for n in (2, 3, 4, 5)], [late])]
    assert clock.last_ns == late
    assert clock.span_ns == late - start


def test_one_packet_with_another_time_amid_a_batch_moves_no_clock():
    clock = _Clock()
    parts(clock, [EPOCH])
    for odd in (EPOCH + 10**6 * SECOND, EPOCH - 2 * BACK_NS):
        times = [EPOCH + 1, odd, EPOCH + 2]
        assert parts(clock, times) == [([], times)]
    assert (clock.last_ns, clock.span_ns) == (EPOCH + 2, 2)


def test_a_long_silence_costs_so_many_ticks():
    clock = _Clock()
    parts(clock, [EPOCH])
    far = EPOCH + 10**9 * SECOND
    ((ticks, _),) = parts(clock, [far])
    assert len(ticks) == module.IDLE_TICKS + 1
    assert ticks[-1] == far


def test_a_clock_that_goes_back():
    clock = _Clock()
    parts(clock, [EPOCH, EPOCH + SECOND])
    assert parts(clock, [EPOCH]) == [([], [EPOCH])]
    assert clock.last_ns == EPOCH + SECOND, "a little: nothing happens"
    early = EPOCH - 2 * BACK_NS
    assert parts(clock, [early, early + TICK_NS]) == [([], [early]), ([early + TICK_NS], [early + TICK_NS])]
    assert clock.span_ns == SECOND + TICK_NS, "much: it begins again"
