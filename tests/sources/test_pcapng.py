"""What is written is what is read again: the same segments, and so the same sessions."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clovisor_py.errors import UsageError
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.segment import CONTINUED, CUT, PEER_OPENED, POD_OPENED, TURN
from clovisor_py.sources import pcapng
from clovisor_py.sources.pcap import CaptureSource
from clovisor_py.sources.pcapng import PcapngWriter
from tests.support.captures import REQUEST, RESPONSE
from tests.support.segments import Conversation


def written(path, segments, pods=((7, "web", ("10.0.0.2", "fd00::2")),)):
    with PcapngWriter(str(path)) as writer:
        for pod in pods:
            writer.add(*pod)
        writer.write(segments)
    return writer


def read(path):
    with CaptureSource(str(path), ()) as source:
        return [segment for batch in source.batches() for segment in batch], list(source.interfaces)


def told(segments):
    """But for who opened the connection, which the file's reader finds by itself, and ids."""
    return [segment._replace(flow_id=0, interface=0, flags=segment.flags & ~(POD_OPENED | PEER_OPENED)) for segment in segments]


def sessions(segments):
    pipeline = Pipeline()
    found = pipeline.feed(segments) + pipeline.close(segments[-1].time_ns)
    return [session.as_dict() for session in found]


def test_every_field_comes_back(tmp_path):
    talk = Conversation().handshake().client(REQUEST, flags=TURN | CUT, turn_age_ns=123, lost_before=2, vlan=9, captured=10)
    talk.server(RESPONSE, rtt_us=57, cgroup_id=1 << 63, packets=3).server("rest", flags=CONTINUED).fin(0, b"bye").rst(1)
    written(tmp_path / "x", talk.segments)
    found, interfaces = read(tmp_path / "x")
    assert told(found) == told(talk.segments)
    assert [(one.name, one.addresses, one.pod) for one in interfaces] == [("web", ("10.0.0.2", "fd00::2"), True)]
    assert {segment.flags & (POD_OPENED | PEER_OPENED) for segment in found} == {PEER_OPENED}


def test_the_pod_is_who_it_was(tmp_path):
    talk = Conversation(pod_is_client=True).handshake().client(REQUEST).server(RESPONSE)
    written(tmp_path / "x", talk.segments)
    assert told(read(tmp_path / "x")[0]) == told(talk.segments)


def test_two_veths_of_one_connection_stay_two(tmp_path):
    client, server = Conversation(pod_is_client=True), Conversation(pod_is_client=False)
    for talk in (client, server):
        talk.handshake().client(REQUEST).server(RESPONSE).close()
    mixed = [
        one for pair in zip((s._replace(interface=8) for s in client.segments), server.segments, strict=True) for one in pair
    ]
    # the two pods have swapped addresses: the same two ends
    mixed = [one if one.interface == 7 else one._replace(pod_ip=one.peer_ip, peer_ip=one.pod_ip) for one in mixed]
    written(tmp_path / "x", mixed, pods=((7, "web", ()), (8, "client", ())))
    found, interfaces = read(tmp_path / "x")
    assert told(found) == told(mixed)
    assert [one.name for one in interfaces] == ["web", "client"]
    assert len({segment.flow_id for segment in found}) == 2


def test_ipv6_datagrams_and_long_segments(tmp_path):
    talk = Conversation(udp=True, server_port=9999).client(b"query").server(b"answer" * 100, captured=20)
    long = Conversation().client(b"x" * 70_000).server(b"y" * 65_500)
    v6 = [s._replace(pod_ip=bytes(15) + b"\1", peer_ip=bytes(15) + b"\2") for s in long.segments]
    datagrams = [segment._replace(window=0) for segment in talk.segments]
    for segments in (datagrams, long.segments, v6):
        written(tmp_path / "x", segments)
        assert told(read(tmp_path / "x")[0]) == told(segments)


STEP = st.one_of(
    st.tuples(st.just("client"), st.sampled_from([REQUEST, REQUEST[:20], REQUEST * 2])),
    st.tuples(
        st.just("server"),
        st.sampled_from([RESPONSE, RESPONSE[:30], b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000]),
    ),
    st.tuples(st.just("wait"), st.sampled_from([1_000, 40_000_000])),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.booleans(),
    st.booleans(),
    st.lists(STEP, max_size=12),
    st.lists(st.sampled_from([1, 7, 60, 1400]), max_size=4),
    st.sampled_from([None, 0, 100, 4096]),
    st.randoms(use_true_random=False),
)
def test_replayed_it_gives_the_same_sessions(tmp_path, pod_is_client, begun, steps, chunks, captured, source):
    talk = Conversation(pod_is_client=pod_is_client)
    if begun:
        talk.handshake()
    for what, value in steps:
        if what == "wait":
            talk.wait(value)
        else:
            getattr(talk, what)(value, chunks=chunks, captured=captured, lost=source.random() < 0.1)
    talk.close()
    written(tmp_path / "x", talk.segments)
    found = read(tmp_path / "x")[0]
    assert told(found) == told(talk.segments)
    assert sessions(found) == sessions([s._replace(flags=f.flags) for s, f in zip(talk.segments, found, strict=True)])


def test_the_file_is_the_operators_alone(tmp_path):
    writer = written(tmp_path / "x", Conversation().client(REQUEST).segments)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600
    assert (writer.written, writer.lost) == (1, 0)


def test_what_cannot_be_written_is_said(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "x", "a\0b"):
        with pytest.raises(UsageError, match=r"^cannot write to '.*' \(.*\); give -w a file that you may write to\.$"):
            PcapngWriter(str(path))


def test_a_full_disk_ends_the_file_and_nothing_else(tmp_path, monkeypatch, caplog):
    talk = Conversation().handshake().client(REQUEST)
    whole = len(talk.segments)
    path = tmp_path / "x"
    with PcapngWriter(str(path)) as writer:
        writer.add(7, "web")
        writer.write(talk.segments)
        real = os.write

        def full(file, data):
            if len(data) > 100:
                return real(file, data[:100])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(pcapng.os, "write", full)
        for _ in range(2):
            writer.write(talk.segments)
        monkeypatch.undo()
        writer.write(talk.segments)
    assert (writer.written, writer.lost) == (whole, 3 * whole)
    assert [record.message for record in caplog.records] == [
        f"cannot write to '{path}' (No space left on device): the capture ends here, tracing goes on; "
        "make room and start again."
    ]
    assert told(read(path)[0]) == told(talk.segments), "up to its last whole batch"


def test_a_veth_that_nobody_announced(tmp_path):
    written(tmp_path / "x", Conversation().client(REQUEST).segments, pods=())
    assert [one.name for one in read(tmp_path / "x")[1]] == ["interface 7"]


def test_nothing_but_a_capture_is_replaced(tmp_path):
    path = tmp_path / "x"
    path.touch()
    talk = Conversation().client(REQUEST)
    assert not written(path, talk.segments).replaced, "an empty file held nothing"
    assert written(path, talk.segments).replaced
    assert told(read(path)[0]) == told(talk.segments)
    path.write_text("a letter")
    with pytest.raises(UsageError, match=r"is there already and is no pcapng capture: remove it, or give -w another name\.$"):
        PcapngWriter(str(path))
    assert path.read_text() == "a letter"


def test_a_reader_that_ends_is_no_failure(tmp_path, caplog):
    reader, writer = os.pipe()
    with PcapngWriter(f"/proc/self/fd/{writer}") as made:
        os.close(writer)
        made.write(Conversation().client(REQUEST).segments)
        assert (made.written, made.gone) == (1, False)
        os.close(reader)
        made.write(Conversation().client(REQUEST).segments)
    assert (made.written, made.lost, made.gone) == (1, 1, True)
    assert not caplog.records
