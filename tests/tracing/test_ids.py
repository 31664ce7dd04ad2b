from dataclasses import replace

import pytest
from hypothesis import given

from clovisor_py.model.session import Side
from clovisor_py.model.workload import Endpoint
from clovisor_py.tracing import ids
from tests.support.sessions import ANY_SESSION, pod, session


def test_both_ends_work_out_the_same_ids():
    """What differs between the two veths (DNAT, times, the interface, who was recognised) must not matter."""
    here = session(side=Side.CLIENT, server=Endpoint("10.96.0.1", 80), start_ns=1, interface=3)
    there = session(side=Side.SERVER, server=Endpoint("10.244.1.7", 8080), start_ns=99, interface=8, client_workload=pod("x"))
    assert ids.trace_id(here) == ids.trace_id(there)
    for side in Side:
        assert ids.span_id(here, side) == ids.span_id(there, side)
    assert ids.shared(here)


@pytest.mark.parametrize(
    "change",
    [{"client": Endpoint("10.0.0.8", 41122)}, {"client": Endpoint("10.0.0.9", 41123)}, {"seq": 1001}, {"head": b"POST"}],
)
def test_another_call_has_other_ids(change):
    one, other = session(), session(**change)
    assert ids.trace_id(one) != ids.trace_id(other)
    assert ids.span_id(one, Side.SERVER) != ids.span_id(other, Side.SERVER)


SECOND = ids.STEP_NS


def question(at, **changes):
    """Of a client that asks with one id from one port."""
    return session(**({"transport": "udp", "seq": 0, "head": b"\0\0\1\0example", "start_ns": at} | changes))


def test_the_same_question_in_another_second_is_another_call():
    at = 1_700_000_000 * SECOND
    asked = [question(at + number * SECOND) for number in range(3)]
    assert len({ids.trace_id(one) for one in asked}) == len({ids.span_id(one, Side.CLIENT) for one in asked}) == 3


def test_both_ends_of_a_datagram_see_it_in_the_same_second():
    at = 1_700_000_000 * SECOND + SECOND // 2
    here, there = question(at, side=Side.CLIENT, interface=3), question(at + 400_000_000, interface=8)
    assert ids.shared(here) and ids.trace_id(here) == ids.trace_id(there)
    assert all(ids.span_id(here, side) == ids.span_id(there, side) for side in Side)


def test_where_there_is_a_sequence_number_time_does_not_matter():
    assert ids.trace_id(session(seq=0)) == ids.trace_id(session(seq=0, start_ns=99 * SECOND))


def test_the_sides_of_a_call_are_two_spans():
    one = session()
    assert ids.span_id(one, Side.CLIENT) != ids.span_id(one, Side.SERVER)
    assert ids.trace_id(one) & (1 << 64) - 1 not in (ids.span_id(one, Side.CLIENT), ids.span_id(one, Side.SERVER))


def test_the_ids_never_change_between_versions():
    """Two agents of different versions must still meet in one trace during an upgrade."""
    assert f"{ids.trace_id(session()):032x}" == TRACE
    assert f"{ids.span_id(session(), Side.CLIENT):016x}" == CLIENT


TRACE, CLIENT = "450a5feea0866b033f34dee7f6627362", "ee9c3433f513002a"


@pytest.mark.parametrize(
    "spellings",
    [
        ["10.0.0.9", "::ffff:10.0.0.9", "::FFFF:0a00:0009", "0:0:0:0:0:ffff:10.0.0.9"],
        ["fd00::1", "FD00:0:0::0001", "fd00:0000:0000:0000:0000:0000:0000:0001", "fd00::1%eth0"],
    ],
)
def test_an_address_hashes_alike_however_it_is_spelt(spellings):
    assert len({ids.packed(text) for text in spellings}) == 1
    assert len({ids.trace_id(session(client=Endpoint(text, 1))) for text in spellings}) == 1


@pytest.mark.parametrize("text", ["", "web", "10.0.0", "::g", "\ud800", "a\0b"])
def test_what_is_no_address_still_has_sixteen_bytes(text):
    assert len(ids.packed(text)) == 16


def test_a_session_without_a_head_has_unique_ids_that_the_other_end_cannot_know():
    one = session(head=b"", seq=0)
    later = replace(one, start_ns=one.start_ns + 1)
    assert not ids.shared(one)
    assert ids.trace_id(one) != ids.trace_id(later)
    assert ids.span_id(one, Side.SERVER) != ids.span_id(later, Side.SERVER)


def test_only_the_first_64_bytes_count():
    head = b"x" * 64
    assert ids.trace_id(session(head=head)) == ids.trace_id(session(head=head + b"y"))


@given(ANY_SESSION)
def test_ids_are_in_range_and_never_zero(one):
    assert 0 < ids.trace_id(one) < 1 << 128
    for side in Side:
        assert 0 < ids.span_id(one, side) < 1 << 64
