"""How much of the payload goes up: modes, budgets, the ring; and what is counted for the rest.

test_run takes one page on many kernels; segments longer than one record are in test_gso.py.
"""

import pytest

from clovisor_py.kernel.layout import CUTS, DETECT_BYTES, RING_BYTES, Counter, Mode
from clovisor_py.model.segment import CONTINUED, CUT, FIN, FROM_POD, RST, TO_POD, TURN
from tests.support.kernel import LONGEST, LOOPBACK, SLOT, Talk, tcp

pytestmark = pytest.mark.live

SECOND = 1_000_000_000
EVERY = 4 * SECOND
"""ns per KiB: a budget that one record overdraws for longer than any test takes."""
HEAD = 4096
"""Bytes of each turn: the setting's default."""
TAIL = 256
"""The program's own CV_TAIL."""


def captured(records):
    return [len(record.data) for record in records]


def one(records):
    (record,) = records
    return record


def ends(rig):
    """Counters of where segments ended."""
    return {counter: number for counter, number in rig.counted().items() if Counter.CAPTURED <= counter <= Counter.LOST_LOAD}


def test_detection_has_64_kib_a_direction(rig):
    talk = Talk(rig)
    sizes = [len(one(talk.peer(b"x" * LONGEST, flags="A")).data) for _ in range(25)]
    whole, rest = divmod(DETECT_BYTES, LONGEST)
    assert sizes == [LONGEST] * whole + [rest] + [0] * (24 - whole)
    assert ends(rig) == {Counter.CAPTURED: whole, Counter.CUT_FLOW: 25 - whole}
    assert rig.counted()[Counter.CAPTURED_BYTES] == DETECT_BYTES
    assert captured(talk.pod(b"the other direction")) == [19]


def test_after_64_kib_detection_has_the_last_bytes_of_what_was_pushed(rig):
    """Nobody may have looked yet, and still an answer says how it ended."""
    talk = Talk(rig)
    for _ in range(25):
        talk.peer(b"x" * LONGEST, flags="A")
    cut, tail = talk.peer(b"x" * (LONGEST - TAIL) + b"y" * TAIL)
    assert (cut.data, tail.data) == (b"", b"y" * TAIL)
    assert one(talk.peer(b"COPY 3")).data == b"COPY 3"


def test_after_64_kib_detection_goes_on_with_the_heads_of_turns(rig):
    """A flow may say so much before user space looks at it; what it asks next must not be lost."""
    talk = Talk(rig)
    for _ in range(25):
        talk.peer(b"x" * LONGEST)
    for _ in range(2):
        assert captured(talk.pod(b"answer")) == [6]
        assert [captured(talk.peer(b"q" * 3000, flags="A"))[0] for _ in range(3)] == [3000, HEAD - 3000, 0]


def test_a_cut_segment_says_so_and_keeps_its_length(rig):
    rig.reset(Mode.HEAD, head_bytes=10)
    record = one(Talk(rig).peer(b"longer than its head"))
    assert (record.data, record.length, record.flags & CUT) == (b"longer tha", 20, CUT)
    record = one(Talk(rig, ports=(1, 2)).peer(b"shorter"))
    assert (record.data, record.flags & CUT) == (b"shorter", 0)


def test_heads_are_those_of_each_turn(rig):
    rig.reset(Mode.HEAD, head_bytes=100)
    talk = Talk(rig)
    for _ in range(3):
        assert [one(talk.peer(b"q" * 60)).data for _ in range(3)] == [b"q" * 60, b"q" * 40, b""]
        assert [one(talk.pod(b"a" * 70)).data for _ in range(3)] == [b"a" * 70, b"a" * 30, b""]
    assert ends(rig) == {Counter.CAPTURED: 6, Counter.CUT_BUDGET: 12}
    assert rig.counted()[Counter.RECORDS] == 18  # headers of all go up: sizes and gaps are exact


def test_full_is_everything(rig):
    rig.reset(Mode.FULL)
    talk = Talk(rig)
    assert {len(one(talk.peer(b"x" * LONGEST)).data) for _ in range(30)} == {LONGEST}
    assert ends(rig) == {Counter.CAPTURED: 30}


def test_none_is_counted_only(rig):
    rig.reset(Mode.NONE)
    talk = Talk(rig).opened_by_peer()
    assert talk.peer(b"question") + talk.pod(b"answer") == []
    assert ends(rig) == {Counter.MUTED: 2}
    assert rig.stats[Counter.TURNS] == rig.stats[Counter.TURNS_TO_POD] == 1
    assert sum(rig.stats.turn_ns[FROM_POD]) == 1
    assert one(talk.peer(flags="FA")).tcp_flags & 1  # the life of the connection is still told


def test_one_flow_may_be_asked_for_more_or_less(rig):
    rig.reset(Mode.HEAD, head_bytes=4)
    ours, other = Talk(rig), Talk(rig, ports=(1, 2))
    cookie = one(ours.peer(b"question")).flow_id
    for mode, expected in (("full", b"question"), ("none", None), ("head", b""), ("detect", b"question")):
        rig.datapath.capture(cookie, mode)
        assert [record.data for record in ours.peer(b"question")] == ([] if expected is None else [expected])
    assert one(other.peer(b"question")).data == b"ques"


def test_skipping_keeps_back_what_ends_there_or_before(rig):
    talk = Talk(rig)
    first = one(talk.peer(b"x" * 100))
    rig.datapath.capture(first.flow_id, "full")
    rig.datapath.skip_until(first.flow_id, TO_POD, first.seq + 300)
    assert [one(talk.peer(b"x" * 100)).data for _ in range(3)] == [b"", b"", b"x" * 100]
    assert one(talk.pod(b"answer")).data == b"answer"
    assert ends(rig) == {Counter.CAPTURED: 3, Counter.CUT_SKIP: 2}


def test_a_segment_that_goes_beyond_the_skip_comes_whole(rig):
    talk = Talk(rig)
    first = one(talk.peer(b"x" * 100))
    rig.datapath.skip_until(first.flow_id, TO_POD, first.seq + 150)
    assert one(talk.peer(b"y" * 100)).data == b"y" * 100


def test_skipping_wraps_with_the_sequence_numbers(rig):
    talk = Talk(rig, starts=(0, 2**32 - 150))
    first = one(talk.peer(b"x" * 100))
    rig.datapath.skip_until(first.flow_id, TO_POD, 50)
    assert [one(talk.peer(b"x" * 50)).data for _ in range(3)] == [b"", b"", b"x" * 50]


def test_a_skip_is_over_for_good_once_passed(rig):
    """2 GiB later its sequence number lies ahead again."""
    talk = Talk(rig)
    first = one(talk.peer(b"x" * 100))
    rig.datapath.capture(first.flow_id, "full")
    rig.datapath.skip_until(first.flow_id, TO_POD, first.seq + 200)
    places = [first.seq + 100, first.seq + 200, *((first.seq + at * 2**30) % 2**32 for at in range(1, 5))]
    assert captured([one(talk.peer(b"x" * 100, seq=place)) for place in places]) == [0] + [100] * 5
    rig.datapath.skip_until(first.flow_id, TO_POD, first.seq + 300)
    assert captured(talk.peer(b"x" * 100, seq=first.seq + 200)) == [0]  # the next one holds


def test_a_skip_is_passed_also_while_nothing_goes_up(rig):
    talk = Talk(rig)
    first = one(talk.peer(b"x" * 100))
    rig.datapath.skip_until(first.flow_id, TO_POD, first.seq + 100)
    rig.datapath.capture(first.flow_id, "none")
    assert talk.peer(b"x" * 100) == []
    rig.datapath.capture(first.flow_id, "full")
    assert captured(talk.peer(b"x" * 100, seq=(first.seq + 3 * 2**30) % 2**32)) == [100]


def test_a_flow_beyond_its_budget_sends_headers_only(rig):
    rig.reset(Mode.FULL, flow_ns_per_kib=EVERY, burst_ns=SECOND)
    busy, quiet = Talk(rig), Talk(rig, ports=(1, 2))
    records = [one(busy.peer(b"x" * LONGEST)) for _ in range(4)]
    assert captured(records) == [LONGEST, 0, 0, 0]
    assert [record.length for record in records] == [LONGEST] * 4
    assert captured(quiet.peer(b"x" * LONGEST)) == [LONGEST]
    assert ends(rig) == {Counter.CAPTURED: 2, Counter.CUT_FLOW: 3}


def test_a_flow_beyond_its_budget_sends_the_heads_of_new_turns_first(rig):
    """A long body uses up what there is; the short exchanges behind it must not be lost."""
    rig.reset(Mode.FULL, flow_ns_per_kib=EVERY, burst_ns=10 * SECOND)
    talk = Talk(rig)
    assert [captured(talk.peer(b"x" * LONGEST))[0] for _ in range(3)] == [LONGEST, HEAD - LONGEST, 0]
    assert captured(talk.pod(b"answer")) == [6]
    assert captured(talk.peer(b"x" * LONGEST)) == [LONGEST]
    assert captured(talk.pod(b"beyond two bursts")) == [0]


def test_a_flow_beyond_its_budget_sends_the_last_bytes_of_what_was_pushed(rig):
    """There an answer of unknown length says how it ended."""
    rig.reset(Mode.FULL, flow_ns_per_kib=EVERY, burst_ns=10 * SECOND)
    talk = Talk(rig)
    talk.peer(b"x" * LONGEST)
    talk.peer(b"x" * (HEAD - LONGEST))
    text = bytes(range(250)) * 4
    cut, tail = talk.peer(text)
    assert (cut.length, cut.data, bool(cut.flags & CUT), bool(cut.flags & CONTINUED)) == (1000 - TAIL, b"", True, False)
    assert (tail.seq, tail.length, tail.data) == (cut.seq + 1000 - TAIL, TAIL, text[-TAIL:])
    assert (bool(tail.flags & CUT), bool(tail.flags & CONTINUED), tail.packets, cut.packets) == (False, True, 0, 1)
    assert captured(talk.peer(text, flags="A")) == [0]  # not pushed: more will come
    whole = one(talk.peer(b"x" * TAIL))
    assert (len(whole.data), whole.length, whole.flags & CUT) == (TAIL, TAIL, 0)
    assert ends(rig) == {Counter.CAPTURED: 3, Counter.CUT_FLOW: 2}


@pytest.mark.parametrize("flags", ["FPA", "RA"])
def test_the_end_of_a_connection_goes_up_without_the_payload_that_brings_it(rig, flags):
    """Of a connection that is only counted: else it would stay open for ever."""
    rig.reset(Mode.NONE)
    talk = Talk(rig)
    assert talk.peer(b"counted") == []
    said = one(talk.peer(b"the last", flags=flags))
    assert (said.length, said.data, said.tcp_flags & (FIN | RST)) == (0, b"", FIN if "F" in flags else RST)
    assert rig.stats[Counter.BYTES_TO_POD] == len(b"countedthe last")
    assert ends(rig) == {Counter.MUTED: 2}


def test_a_pod_beyond_its_budget_sends_heads_and_then_nothing(rig):
    """Within a turn that was begun in time: first the rest of its head, then headers, then nothing."""
    rig.reset(Mode.FULL, pod_ns_per_kib=EVERY, burst_ns=10 * SECOND)
    talk = Talk(rig)
    seen = [captured(talk.peer(b"x" * LONGEST)) for _ in range(30)]
    headers = seen.count([0])
    assert seen == [[LONGEST], [HEAD - LONGEST]] + [[0]] * headers + [[]] * (28 - headers)
    assert 1 <= headers < 28
    assert ends(rig) == {Counter.CAPTURED: 1, Counter.CUT_POD: 1 + headers, Counter.SHED: 28 - headers}
    assert rig.send(TO_POD, tcp(TO_POD, flags="S", ports=(1, 2))) == []
    assert rig.counted()[Counter.CONTROLS_LOST] == 1
    assert rig.stats[Counter.BYTES_TO_POD] == 30 * LONGEST  # counters stay complete


def test_an_exchange_is_shed_whole_or_not_at_all(rig):
    """What decides is the budget when the client's turn begins; the answer shares the request's fate."""
    rig.reset(Mode.FULL, burst_ns=1)
    talk = Talk(rig).opened_by_peer()
    rig.records()
    assert captured(talk.peer(b"asked in time")) == [13]
    rig.configure(LOOPBACK, SLOT, Mode.FULL, pod_ns_per_kib=EVERY, burst_ns=10 * SECOND)
    rig.send(TO_POD, tcp(TO_POD, b"x" * LONGEST, ports=(1, 2)))  # another flow uses up the budget
    assert captured(talk.pod(b"answered")) == [8]
    assert [talk.peer(b"asked too late"), talk.pod(b"not told")] == [[], []]
    rig.configure(LOOPBACK, SLOT, Mode.FULL)
    assert talk.pod(b", all of it") == []
    again = one(talk.peer(b"asked again"))
    assert (again.data, again.lost, bool(again.flags & TURN)) == (b"asked again", 3, True)
    assert captured(talk.pod(b"and answered")) == [12]
    assert rig.stats[Counter.TURNS] == rig.stats[Counter.TURNS_TO_POD] - 1 == 3


def test_what_was_shed_is_told_by_the_next_record(rig):
    rig.reset(Mode.FULL, pod_ns_per_kib=EVERY, burst_ns=1)
    talk = Talk(rig)
    assert [record.lost for record in talk.peer(b"x" * LONGEST)] == [0]
    assert [talk.peer(b"shed") for _ in range(3)] == [[], [], []]
    rig.configure(LOOPBACK, SLOT, Mode.FULL)
    assert one(talk.peer(b"again")).lost == 3
    assert rig.session()["lost"] == 3


def test_a_budget_is_paid_off_by_time(rig):
    rig.reset(Mode.FULL, pod_ns_per_kib=1000, flow_ns_per_kib=1000, burst_ns=1)
    talk = Talk(rig)
    for _ in range(20):  # a few µs each, and Python takes longer than that between two
        assert captured(talk.peer(b"x" * 1024)) == [1024]


def test_the_datapath_lowers_and_raises_the_budget(rig):
    rig.reset(Mode.FULL, burst_ns=1)
    rig.datapath.budget(1)
    talk = Talk(rig)
    assert captured(talk.peer(b"x")) == [1]
    assert talk.peer(b"x") == []
    rig.datapath.budget(0)
    assert captured(talk.peer(b"x")) == [1]
    assert ends(rig) == {Counter.CAPTURED: 2, Counter.SHED: 1}


def test_a_full_ring_is_counted_and_told(rig):
    rig.reset(Mode.FULL)
    talk = Talk(rig)
    talk.peer(b"first")
    packet = tcp(TO_POD, b"x" * LONGEST, seq=talk.next[TO_POD])
    sent = RING_BYTES // LONGEST
    rig.run(TO_POD, packet, repeat=sent)
    lost = rig.counted()[Counter.LOST_RING]
    assert 0 < lost < sent
    rig.run(TO_POD, tcp(TO_POD, b"x" * LONGEST, flags="S", ports=(1, 2)))
    while rig.datapath.ring.waiting:
        assert {record.lost for record in rig.records()} == {0}
    assert one(talk.peer(b"later")).lost == lost
    assert ends(rig) == {Counter.CAPTURED: 2 + sent - lost, Counter.LOST_RING: lost + 1}


def test_a_control_packet_for_which_the_ring_has_no_room(rig):
    rig.reset(Mode.FULL)
    rig.run(TO_POD, tcp(TO_POD, b"x" * LONGEST), repeat=RING_BYTES // LONGEST)
    rig.run(TO_POD, tcp(TO_POD, b""), repeat=1)  # an ACK: needs none
    rig.run(TO_POD, tcp(TO_POD, flags="S"), repeat=RING_BYTES // 120)
    assert 0 < rig.counted()[Counter.CONTROLS_LOST] < RING_BYTES // 120


def test_only_cuts_lack_payload(rig):
    rig.reset(Mode.HEAD, head_bytes=7)
    talk = Talk(rig)
    records = [one(talk.peer(b"x" * size)) for size in range(1, 10)]
    cut = [record for record in records if record.flags & CUT]
    assert all(len(record.data) == record.length for record in records if record not in cut)
    assert len(cut) == sum(rig.counted().get(counter, 0) for counter in CUTS)
    assert records[0].flags & TURN


def test_without_a_lease_everything_passes_untouched(rig):
    maps = rig.datapath.maps
    before = maps.node_stats()["lease_off"]
    _, wake_bytes, build, _ = maps.settings()
    maps.set_settings(wake_bytes, build, 0)
    for direction in (FROM_POD, TO_POD):
        assert rig.send(direction, tcp(direction, b"question")) == []
    assert maps.node_stats()["lease_off"] == before + 2
    assert (rig.counted(), rig.sessions()) == ({}, [])
    rig.datapath.heartbeat()
    assert captured(rig.send(TO_POD, tcp(TO_POD, b"question"))) == [8]
    assert maps.node_stats()["lease_off"] == before + 2


def test_a_pod_that_nobody_asked_for_passes_untouched(rig):
    maps = rig.datapath.maps
    before = maps.node_stats()["not_asked"]
    maps.delete_pod(LOOPBACK)
    for direction in (FROM_POD, TO_POD):
        assert rig.send(direction, tcp(direction, b"question")) == []
    assert maps.node_stats()["not_asked"] == before + 2
    assert (rig.counted(), rig.sessions()) == ({}, [])
