"""Stream: order, first copy wins, holes become gaps for one of four reasons."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.stream import HELD_PIECES, Piece, Stream


def stream(seq=100):
    made = Stream(Ledger())
    made.open(seq - 1)
    return made


def piece(seq, data, time_ns=1, **fields):
    return Piece(seq & 0xFFFFFFFF, time_ns, fields.pop("length", len(data)), data, 1, **fields)


def text(pieces):
    return b"".join(b"?" * p.length if p.lost else p.data for p in pieces)


def test_in_order_passes_through_unchanged():
    first = piece(100, b"abc")
    assert stream().push(first) == [first]


def test_out_of_order_waits_and_keeps_its_own_time():
    s = stream()
    assert s.push(piece(103, b"def", 1)) == []
    ready = s.push(piece(100, b"abc", 2))
    assert [(p.data, p.time_ns) for p in ready] == [(b"abc", 2), (b"def", 1)]
    assert s._ledger.out_of_order == 1


def test_first_copy_wins_where_copies_overlap():
    s = stream()
    s.push(piece(102, b"CD"))
    assert text(s.push(piece(100, b"abcdef"))) == b"abCDef"
    assert text(s.push(piece(104, b"xxGH"))) == b"GH"


def test_retransmissions_are_duplicates():
    s = stream()
    s.push(piece(100, b"abc"))
    assert s.push(piece(100, b"abc")) == []
    assert s.push(piece(102, b"x")) == []  # a keep-alive probe
    assert s._ledger.duplicates == 2


def test_numbers_wrap():
    s = stream(0xFFFF_FFFE)
    assert text(s.push(piece(0xFFFF_FFFE, b"abcd"))) == b"abcd"
    s.push(piece(4, b"gh"))
    assert text(s.push(piece(2, b"ef"))) == b"efgh"


def test_without_syn_it_begins_in_the_middle():
    s = Stream(Ledger())
    assert text(s.push(piece(7, b"abc"))) == b"abc"
    assert s.mid_stream and not stream().mid_stream


def test_acknowledged_bytes_that_never_came_are_lost():
    s = stream()
    s.push(piece(105, b"fg"))
    ready = s.acknowledged(107, 9)
    assert text(ready) == b"?????fg"
    assert (s._ledger.gaps, s._ledger.gap_bytes) == (1, 5)
    assert text(s.acknowledged(110, 9)) == b"???"
    assert s.acknowledged(105, 9) == [] == s.acknowledged(110 - (1 << 31), 9)


def test_old_holes_are_gaps():
    s = stream()
    s.push(piece(101, b"b", 50))
    assert s.overdue(49) == []
    assert text(s.overdue(50)) == b"?b"


def test_too_much_held_is_a_gap():
    s = stream()
    ready = [p for i in range(HELD_PIECES + 1) for p in s.push(piece(102 + 2 * i, b"x"))]
    assert text(ready) == b"??x"
    assert s._ledger.held_evicted == 1


def test_a_late_segment_of_a_gap_is_late_not_duplicate():
    s = stream()
    s.push(piece(102, b"c"))
    s.give_up()
    assert s.push(piece(100, b"ab")) == []
    assert (s._ledger.late, s._ledger.duplicates) == (1, 0)


def test_fin_waits_for_its_bytes_and_ends():
    s = stream()
    assert s.push(piece(103, b"", fin=True)) == []
    ready = s.push(piece(100, b"abc"))
    assert text(ready) == b"abc" and ready[-1].fin and s.ended
    assert s.push(piece(104, b"x")) == []
    assert s._ledger.late == 1


def test_fin_with_payload_and_its_retransmission():
    s = stream()
    assert s.push(piece(100, b"ab"))[0].fin is False
    assert text(s.push(piece(100, b"abcd", fin=True))) == b"cd"
    assert s.ended


def test_a_jump_back_further_than_any_window_is_a_jump_ahead():
    s = stream(0x9000_0000)
    s.push(piece(0x9000_0000, b"a"))
    assert s.push(piece(0x1000_0000, b"b")) == []
    assert s.give_up()[-1].data == b"b"


def test_cut_pieces_keep_their_length():
    s = stream()
    assert [(p.length, p.data) for p in s.push(piece(100, b"ab", length=10))] == [(10, b"ab")]
    assert [(p.length, p.data) for p in s.push(piece(105, b"f", length=10))] == [(5, b"")]


@given(
    st.binary(min_size=1, max_size=60), st.lists(st.tuples(st.integers(0, 59), st.integers(1, 60)), max_size=60), st.randoms()
)
def test_any_overlapping_pieces_give_the_bytes_once(data, cuts, random):
    whole = [(at, data[at : at + size]) for at, size in cuts if at < len(data)]
    whole += [(at, data[at : at + 1]) for at in range(len(data))]
    random.shuffle(whole)
    s = stream(0xFFFF_FFF0)
    ready = [p for at, part in whole for p in s.push(piece(0xFFFF_FFF0 + at, part))]
    assert text(ready) == data and not s.held
    assert sum(p.weight for p in ready) + s._ledger.duplicates == len(whole)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=5), st.booleans(), st.integers(0, 2**32 - 1))))
def test_anything_goes(segments):
    s = Stream(Ledger())
    out = 0
    for seq, data, fin, ack in segments:
        if data or fin:
            out += sum(p.weight for p in s.push(Piece(seq, 1, len(data) + 3, data, 1, fin)))
        out += sum(p.weight for p in s.acknowledged(ack, 1))
    out += sum(p.weight for p in s.give_up())
    assert out + s._ledger.duplicates + s._ledger.late == sum(1 for _, data, fin, _ in segments if data or fin)
