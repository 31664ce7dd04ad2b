"""Turns: what begins one, what does not, and the latencies that the kernel keeps of them."""

import time

import pytest

from clovisor_py.kernel import bpf, layout
from clovisor_py.kernel.layout import BUCKETS, Counter
from clovisor_py.model.segment import CONTINUED, CUT, FROM_POD, PEER_OPENED, RETRANSMITTED, TO_POD, TURN, UDP
from tests.support.kernel import Talk

pytestmark = pytest.mark.live

KINDS = TURN | RETRANSMITTED | CONTINUED | CUT


@pytest.fixture
def talk(rig):
    """A connection to the pod, opened."""
    talk = Talk(rig).opened_by_peer()
    rig.records()
    return talk


def kind(records):
    (record,) = records
    return record.flags & KINDS


def turns(rig):
    """From the pod and to it, alike in the pod's counters and the session."""
    counted = (rig.stats[Counter.TURNS], rig.stats[Counter.TURNS_TO_POD])
    assert counted == tuple(side["turns"] for side in rig.session()["side"])
    return counted


def buckets(rig, direction):
    """Log2 of the latencies of its turns."""
    return [bucket for bucket, number in enumerate(rig.stats.turn_ns[direction]) for _ in range(number)]


def test_request_and_response_take_turns(talk, rig):
    for _ in range(5):
        assert kind(talk.peer(b"question")) == TURN
        assert kind(talk.pod(b"answer")) == TURN
        assert kind(talk.pod(b", and more")) == 0
    assert turns(rig) == (5, 5)
    assert len(buckets(rig, FROM_POD)) == 5
    assert len(buckets(rig, TO_POD)) == 4  # the first follows nothing


def test_pipelined_requests_are_one_turn(talk, rig):
    assert [kind(talk.peer(b"question")) for _ in range(4)] == [TURN, 0, 0, 0]
    assert [kind(talk.pod(b"answer")) for _ in range(4)] == [TURN, 0, 0, 0]
    assert turns(rig) == (1, 1)


def test_the_latency_is_from_the_others_last_payload(talk, rig):
    (early,) = talk.peer(b"question, ")
    time.sleep(0.020)
    (late,) = talk.peer(b"second half")
    (answer,) = talk.pod(b"answer")
    assert buckets(rig, FROM_POD) == [(answer.time_ns - late.time_ns).bit_length() - 1]
    assert answer.turn_age_ns == answer.time_ns - early.time_ns  # while this is from the beginning of the turn


def test_the_age_of_a_turn_is_0_before_the_other_spoke(talk):
    (question,) = talk.peer(b"question")
    assert question.turn_age_ns == 0


def test_the_age_goes_on_through_a_long_answer(talk):
    (question,) = talk.peer(b"question")
    ages = [record.turn_age_ns - (record.time_ns - question.time_ns) for _ in range(3) for record in talk.pod(b"part")]
    assert ages == [0, 0, 0]


@pytest.mark.parametrize("wait", [0.0, 0.005, 0.05])
def test_a_latency_falls_into_the_bucket_of_its_logarithm(talk, rig, wait):
    (question,) = talk.peer(b"question")
    time.sleep(wait)
    (answer,) = talk.pod(b"answer")
    (bucket,) = buckets(rig, FROM_POD)
    assert 1 << bucket <= answer.time_ns - question.time_ns < 2 << bucket
    assert bucket < BUCKETS


def test_a_retransmission_is_no_turn(talk, rig):
    talk.peer(b"question")
    talk.pod(b"answer")
    assert kind(talk.peer(b"question", seq=5001)) == RETRANSMITTED
    assert kind(talk.pod(b", and more")) == 0
    assert turns(rig) == (1, 1)
    assert rig.stats[Counter.RETRANSMITS] == 1
    assert rig.stats[Counter.BYTES_TO_POD] == len(b"question")
    side = rig.session()["side"][TO_POD]
    assert (side["segments"], side["retransmits"], side["bytes"]) == (2, 1, len(b"question"))


def test_a_segment_with_old_and_new_bytes_counts_the_new_ones(talk, rig):
    talk.peer(b"question")
    assert kind(talk.peer(b"tion and more", seq=5005)) == 0
    assert rig.stats[Counter.BYTES_TO_POD] == len(b"question and more")
    assert rig.stats[Counter.RETRANSMITS] == 0


def test_a_segment_that_comes_late_has_nothing_beyond_what_was_sent(talk, rig):
    """Out of order on one path is indistinguishable from a retransmission by sequence numbers; its bytes still go up."""
    talk.peer(b"first")
    talk.peer(b"third", seq=5001 + 11)
    (late,) = talk.peer(b"second", seq=5001 + 5)
    assert late.data == b"second"
    assert late.flags & KINDS == RETRANSMITTED
    assert rig.session()["side"][TO_POD]["high_seq"] == 5001 + 16
    assert turns(rig) == (0, 1)


def test_what_one_of_two_cpus_carries_is_counted_with_what_overtook_it(talk, rig):
    talk.peer(b"first")
    talk.peer(b"third", seq=5001 + 11)
    talk.peer(b"second", seq=5001 + 5)
    assert rig.stats[Counter.BYTES_TO_POD] == len(b"first") + len(b"second") + len(b"third")


@pytest.mark.parametrize("silence_s", [1.1, 60])
def test_what_passed_while_nobody_looked_was_not_seen(talk, rig, silence_s):
    """After a lapse of the lease the next segment is further ahead, as if it had overtaken others: those passed long ago."""
    talk.peer(b"question")
    age(rig, silence_s)
    assert kind(talk.peer(b"more", seq=5001 + (1 << 20))) == 0
    assert rig.stats[Counter.BYTES_TO_POD] == len(b"question") + len(b"more")
    assert rig.session()["side"][TO_POD]["high_seq"] == 5001 + (1 << 20) + len(b"more")
    talk.peer(b"and on", seq=5001 + (1 << 20) + len(b"more"))
    assert rig.stats[Counter.BYTES_TO_POD] == len(b"question") + len(b"more") + len(b"and on")


def test_a_retransmission_with_new_bytes_after_a_silence_counts_those(talk, rig):
    talk.peer(b"question")
    age(rig, 2)
    talk.peer(b"tion and more", seq=5005)
    assert rig.stats[Counter.BYTES_TO_POD] == len(b"question and more")


def age(rig, silence_s):
    """As if nothing had been said for so long."""
    maps = rig.datapath.maps
    ((key, value),) = list(maps.sessions())
    fields = list(layout.SESSION.unpack(value))
    for at in layout.SIDES_AT:
        place = at + layout.SIDE_FIELDS.index("last_ns")
        fields[place] = max(fields[place] - int(silence_s * 1e9), 0)
    bpf.map_update(maps.fds["sessions"], key, layout.SESSION.pack(*fields))


def test_a_keep_alive_probe_is_no_turn(talk, rig):
    talk.peer(b"question")
    talk.pod(b"answer")
    assert kind(talk.peer(b"\0", seq=5001 + len(b"question") - 1)) == RETRANSMITTED
    assert talk.peer(seq=5001 + len(b"question") - 1, flags="A") == []
    assert turns(rig) == (1, 1)


@pytest.mark.parametrize("before_end", [1, 4, 8])
def test_sequence_numbers_wrap(rig, before_end):
    talk = Talk(rig, starts=(2**32 - 1 - before_end, 2**32 - 1 - before_end)).opened_by_peer()
    rig.records()
    for _ in range(3):
        assert kind(talk.peer(b"questions")) == TURN
        assert kind(talk.pod(b"answers")) == TURN
    assert rig.stats[Counter.RETRANSMITS] == 0
    assert rig.stats[Counter.BYTES_TO_POD] == 3 * len(b"questions")
    assert kind(talk.peer(b"questions", seq=(talk.next[TO_POD] - 9) % 2**32)) == RETRANSMITTED


def test_a_connection_older_than_we_are(rig):
    talk = Talk(rig)
    (first,) = talk.pod(b"the rest of an answer")
    assert first.flags == TURN  # nobody was seen opening it
    assert kind(talk.peer(b"question")) == TURN
    assert kind(talk.pod(b"answer")) == TURN
    assert rig.stats[Counter.RETRANSMITS] == 0
    assert turns(rig) == (2, 1)


def test_the_records_say_who_opened(talk):
    assert talk.peer(b"question")[0].flags == PEER_OPENED | TURN


def test_datagrams_take_turns_too(rig):
    from scapy.layers.inet import IP
    from scapy.layers.inet import UDP as Datagram

    from tests.support.kernel import ETHER, PEER_IP, POD_IP

    query = ETHER / IP(src=POD_IP, dst=PEER_IP) / Datagram(sport=999, dport=53) / b"query"
    reply = ETHER / IP(src=PEER_IP, dst=POD_IP) / Datagram(sport=53, dport=999) / b"reply"
    (asked,) = rig.send(FROM_POD, query)
    (answered,) = rig.send(TO_POD, reply)
    assert (asked.flags, answered.flags, answered.transport) == (TURN, TURN, UDP)
    assert answered.turn_age_ns == answered.time_ns - asked.time_ns
    assert turns(rig) == (1, 1)
