"""20 MB over a veth with GSO: segments of up to 64 KiB, which become several records, and every byte accounted for."""

import hashlib
import random
import threading
from itertools import pairwise

import pytest

from clovisor_py.kernel.layout import CHUNK, Counter
from clovisor_py.model.segment import CONTINUED, CUT, FROM_POD, RETRANSMITTED, TO_POD
from tests.support.kernel import check_books, connection
from tests.support.netns import pod

pytestmark = pytest.mark.live

MB = 1 << 20
SIZE = 20 * MB
PIECE = 256 * 1024
PAYLOAD = random.Random(20).randbytes(SIZE)
LOST = (Counter.LOST_RING, Counter.LOST_QUOTA, Counter.LOST_MAP, Counter.LOST_LOAD, Counter.SHED)
MODULUS = 2**32


@pytest.fixture
def web(datapath):
    with pod("kt-gso") as made:
        yield made
        datapath.detach(made.ifindex)


def transfer(sender, receiver, ring, pause=None):
    """Send PAYLOAD and read the ring meanwhile: (the digest that arrived, all records)."""
    digest, records, done = hashlib.sha256(), [], threading.Event()

    def receive():
        try:
            while data := receiver.recv(1 << 20):
                digest.update(data)
        finally:
            done.set()

    def send():
        for at in range(0, SIZE, PIECE):
            while pause and pause():
                done.wait(0.001)
            sender.sendall(PAYLOAD[at : at + PIECE])
        sender.shutdown(1)

    threads = [threading.Thread(target=receive), threading.Thread(target=send)]
    for thread in threads:
        thread.start()
    while not done.is_set():
        ring.wait(0.005)
        records += ring.read(0)
    for thread in threads:
        thread.join()
    while batch := ring.read(0):
        records += batch
    return digest, records


def begins(records, direction):
    """The sequence number of the first byte: one after the SYN."""
    return next(record.seq for record in records if record.direction == direction and record.tcp_flags & 2) + 1


def reassembled(records, direction):
    """What the records of a direction say, at its place; and which bytes of it were covered."""
    data, covered = bytearray(SIZE), bytearray(SIZE)
    start = begins(records, direction)
    for record in records:
        if record.direction == direction and record.data:
            at = (record.seq - start) % MODULUS
            data[at : at + len(record.data)] = record.data
            covered[at : at + len(record.data)] = bytes([1]) * len(record.data)
    return data, covered


@pytest.mark.parametrize("direction", [FROM_POD, TO_POD], ids=["from the pod", "to the pod"])
def test_every_byte_of_a_transfer(datapath, web, direction):
    datapath.attach(web.ifindex, "full")
    datapath.ring.discard()
    with connection(web) as (client, server):
        ends = (server, client) if direction == FROM_POD else (client, server)
        # The sender waits for the reader, so that on most machines nothing is lost and the whole can be compared.
        digest, records = transfer(*ends, datapath.ring, pause=lambda: datapath.ring.waiting > 2 * MB)
        stats = datapath.stats(web.ifindex)
    assert digest.digest() == hashlib.sha256(PAYLOAD).digest()
    assert stats[(Counter.BYTES, Counter.BYTES_TO_POD)[direction]] == SIZE
    assert stats[(Counter.BYTES_TO_POD, Counter.BYTES)[direction]] == 0
    assert stats[Counter.RECORDS] == len(records)
    assert stats[Counter.CAPTURED_BYTES] == sum(len(record.data) for record in records)
    check_books(stats)
    data, covered = reassembled(records, direction)
    if not any(stats[counter] for counter in LOST):
        assert bytes(data) == PAYLOAD
    else:  # what came up is still what was sent
        assert all(not seen or data[at] == PAYLOAD[at] for at, seen in enumerate(covered))


def late(records, direction, stats):
    """Bytes, at most, of segments that others overtook on another CPU: below the high-water mark, and so not flagged as new.

    The record says so of each; where one was lost, it may have been such a segment, of 64 KiB at most.
    """
    told = sum(record.length for record in records if record.direction == direction and record.flags & RETRANSMITTED)
    return told + 65536 * sum(stats[counter] for counter in LOST)


def pieces(records):
    """Records of payload by the segment that they are of."""
    segments = []
    for record in records:
        if record.flags & CONTINUED:
            segments[-1].append(record)
        elif record.length:
            segments.append([record])
    return segments


def test_a_long_segment_becomes_several_records(datapath, web):
    datapath.attach(web.ifindex, "full")
    datapath.ring.discard()
    with connection(web) as (client, server):
        _, records = transfer(client, server, datapath.ring, pause=lambda: datapath.ring.waiting > 2 * MB)
        stats = datapath.stats(web.ifindex)
    lost = sum(stats[counter] for counter in LOST)  # some, where the reader cannot keep up
    segments = pieces([record for record in records if record.direction == TO_POD])
    assert stats[Counter.SEGMENTS] - lost <= len(segments) <= stats[Counter.SEGMENTS] < stats[Counter.PACKETS]
    if not lost:
        assert sum(segment[0].packets for segment in segments) == stats[Counter.PACKETS]
    longest = max(segments, key=len)
    assert len(longest) > 1
    for segment in segments:
        assert [record.length for record in segment[:-1]] == [CHUNK] * (len(segment) - 1)
        assert [len(record.data) for record in segment] == [record.length for record in segment]
        assert all(b.seq == (a.seq + a.length) % MODULUS for a, b in pairwise(segment))
        assert all((record.packets == 0 and not record.tcp_flags & 1) or record is segment[-1] for record in segment[1:])
        assert len({record.time_ns for record in segment}) == 1
    assert not any(record.flags & CUT for record in records)


def test_heads_of_a_transfer_cost_headers_only(datapath, web):
    datapath.attach(web.ifindex, "head")
    datapath.ring.discard()
    with connection(web) as (client, server):
        _, records = transfer(client, server, datapath.ring)
        stats = datapath.stats(web.ifindex)
    assert stats[Counter.BYTES_TO_POD] == SIZE
    assert stats[Counter.CAPTURED_BYTES] == datapath.settings.head_bytes
    check_books(stats)
    if not any(stats[counter] for counter in LOST):  # sizes are exact without the bytes
        fresh = [record for record in records if record.direction == TO_POD and not record.flags & RETRANSMITTED]
        assert SIZE - late(records, TO_POD, stats) <= sum(record.length for record in fresh) <= SIZE
