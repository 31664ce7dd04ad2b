"""Records: counted by heads alone, in every format and every piece; trace headers that all have, and nothing else of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.protocols import _kafka_records
from clovisor_py.protocols._kafka_records import COMPRESSED, SEVERAL, Context, Records, one_batch, tells_no_context
from tests.protocols.test_kafka import CONTEXT, TRACE, batch, old_message, record

CONTROL = 0x20
GZIP = 1


def count(data: bytes) -> int:
    records = Records(len(data))
    assert records.walk(data, 0) == len(data)
    assert records.left == 0
    return records.count


def context(data: bytes) -> dict[str, str]:
    return told(data).headers


def told(*fields: bytes) -> Context:
    found = Context()
    for data in fields:
        records = Records(len(data), found)
        assert records.walk(b"before" + data, 6) == len(data) + 6
        assert records.left == 0
    return found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(batch(record(), record()) + batch(record()), 3, id="batches"),
        pytest.param(batch(b"\x1f\x8b", attributes=GZIP, count=500), 500, id="compressed"),
        pytest.param(batch(record()) + batch(record(), attributes=CONTROL), 1, id="a transaction's marker"),
        pytest.param(batch(record()) + batch(record())[:-3], 1, id="a batch that the broker cut off"),
        pytest.param(batch(record()) + batch(record())[:30], 1, id="a head that it cut off"),
        pytest.param(batch(record()) + b"\0\0", 1, id="less than any head"),
        pytest.param(old_message(b"a", 0) + old_message(b"b", 1), 2, id="messages of before 0.11"),
        pytest.param(old_message(b"a") + old_message(b"b")[:-1], 1, id="an old one cut off"),
        pytest.param(old_message(b"wraps some", attributes=GZIP), -1, id="an old one that hides how many it wraps"),
        pytest.param(bytes(16) + b"\3" + bytes(60), -1, id="a format to come"),
        pytest.param(batch(record(), count=-5)[:57] + b"\xff\xff\xff\xff" + record(), -1, id="a negative count"),
        pytest.param(bytes(8) + b"\xff\xff\xff\xff" + batch(record())[12:], -1, id="a negative length"),
    ],
)
def test_how_many(data: bytes, expected: int) -> None:
    assert count(data) == expected


def test_more_batches_than_anyone_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kafka_records, "MAX_BATCHES", 3)
    assert count(batch(record()) * 3) == 3
    assert count(batch(record()) * 4) == -1


def test_the_trace_headers_that_all_records_have() -> None:
    alike = batch(record(headers=CONTEXT), record(b"another", headers=(("n", b"1"), *CONTEXT))) + batch(record(headers=CONTEXT))
    assert told(alike).headers == {"traceparent": TRACE, "b3": "0"} == told(alike, alike).headers
    assert told(alike).why_not == ""


@pytest.mark.parametrize("other", [(("sw8", b"1-x"),), (), CONTEXT[:1]])
def test_records_of_several_callers_have_no_context_in_common(other: tuple[tuple[str, bytes], ...]) -> None:
    one, two = record(headers=CONTEXT), record(headers=other)
    for fields in ([batch(one, one, two)], [batch(one) + batch(two)], [batch(one), batch(two)]):
        found = told(*fields)
        assert (found.headers, found.why_not) == ({}, SEVERAL)


def test_more_records_than_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kafka_records, "MAX_COMPARED", 3)
    assert told(batch(*[record(headers=CONTEXT)] * 3)).headers
    assert told(batch(*[record(headers=CONTEXT)] * 4)).why_not == SEVERAL


def test_where_the_first_record_has_none_no_other_is_looked_at() -> None:
    found = told(batch(record(), record(headers=CONTEXT)), batch(record(headers=CONTEXT)))
    assert (found.headers, found.why_not) == ({}, "")


def test_headers_cannot_be_read_where_they_are_compressed_or_not_wanted() -> None:
    hidden = batch(record(headers=CONTEXT), attributes=GZIP)
    assert (told(hidden).headers, told(hidden).why_not) == ({}, COMPRESSED)
    assert told(batch(record(headers=CONTEXT)), hidden).why_not == COMPRESSED
    assert Records(10).context is None


def test_what_looks_like_a_header_in_a_value_is_none() -> None:
    assert context(batch(record(value=record(headers=CONTEXT)))) == {}


def test_long_headers_are_cut_and_too_many_not_waited_for() -> None:
    long = context(batch(record(headers=(("tracestate", b"x" * 3000),))))
    assert long["tracestate"] == "x" * _kafka_records.MAX_VALUE
    many = tuple((f"h{n}", b"v" * 100) for n in range(100))
    assert context(batch(record(headers=(*CONTEXT, *many)))) == {"traceparent": TRACE, "b3": "0"}


@pytest.mark.parametrize("at", range(61, 61 + len(record(headers=CONTEXT))))
def test_a_record_that_contradicts_itself_has_no_headers_but_its_batch_counts(at: int) -> None:
    data = bytearray(batch(record(headers=CONTEXT), record()))
    for byte in (0, 1, 0x7F, 0x80, 0xFF):
        data[at] = byte
        assert count(bytes(data)) == 2
        assert set(context(bytes(data))) <= {"traceparent", "b3"}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1), st.integers(0, 400))
def test_in_pieces_and_past_the_end(sizes: list[int], value: int) -> None:
    data = batch(record(bytes(value), headers=CONTEXT), record(headers=CONTEXT)) + batch(record(headers=CONTEXT))
    found = Context()
    records, pos, end = Records(len(data), found), 0, 0
    while records.left:
        end = min(end + sizes[end % len(sizes)], len(data))
        if pos <= end:
            pos += records.walk(data[pos:end], 0)
    assert (pos, records.count, found.headers) == (len(data), 3, {"traceparent": TRACE, "b3": "0"})


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_come_to_an_end(data: bytes, at: int) -> None:
    whole = batch(record(headers=CONTEXT), record())
    data = whole[:at] + data + whole[at:]
    records = Records(len(data), Context())
    assert records.walk(data, 0) <= len(data)
    assert records.left == 0


ONE = st.builds(
    batch,
    *(st.builds(record, st.binary(max_size=200), headers=st.sampled_from(((), CONTEXT, (("n", b""),)))),) * 2,
    attributes=st.sampled_from((0, GZIP, CONTROL, GZIP | CONTROL)),
    count=st.sampled_from((0, 1, 2, 500)),
)
"""A batch of two records, whatever it says of them."""


def damaged(data: bytes, where: int, octet: int) -> bytes:
    return data[: where % len(data)] + bytes((octet,)) + data[where % len(data) + 1 :]


@given(st.lists(st.one_of(ONE, st.builds(damaged, ONE, st.integers(0, 500), st.integers(0, 255))), min_size=1, max_size=3))
@settings(max_examples=500, deadline=None)
def test_one_batch_at_hand_is_read_as_any_other(fields: list[bytes]) -> None:
    quick, slow = Context(), Context()
    for data in fields:
        found = one_batch(b"before" + data + b"behind", 6, len(data), quick)
        records, again = Records(len(data), slow), Records(len(data), quick)
        assert records.walk(b"before" + data, 6) == len(data) + 6
        if found < 0:
            again.walk(b"before" + data, 6)
            found = again.count
        assert found == records.count
        assert (quick.headers, quick.why_not, quick.wanted) == (slow.headers, slow.why_not, slow.wanted)


def test_one_batch_is_quick_only_where_it_is_at_hand_and_alone() -> None:
    one = batch(record(), record())
    assert one_batch(one, 0, len(one), None) == one_batch(one, 0, len(one), Context()) == 2
    assert one_batch(one[:-1], 0, len(one), None) == one_batch(one * 2, 0, 2 * len(one), None) == -1
    assert one_batch(batch(record(headers=CONTEXT)), 0, len(batch(record(headers=CONTEXT))), Context()) == -1


@given(
    value=st.one_of(st.binary(max_size=300), st.sampled_from([b"v" * size for size in (63, 64, 8190, 8192, 9000)])),
    key=st.binary(max_size=80),
    with_context=st.booleans(),
    at=st.integers(0, 6),
    byte=st.integers(-1, 255),
)
@settings(max_examples=300, deadline=None)
def test_the_short_look_never_overlooks_a_context(value: bytes, key: bytes, with_context: bool, at: int, byte: int) -> None:
    """Whatever it says no of is read the long way, so only its yes matters; a byte is another in some."""
    headers = CONTEXT if with_context else ()
    data = bytearray(batch(record(value, key, headers)))
    if byte >= 0:
        data[61 + at] = byte
    if tells_no_context(bytes(data), 0, len(data)):
        assert context(bytes(data)) == {}
        assert byte >= 0 or not with_context


def test_the_short_look_knows_the_usual_record() -> None:
    assert tells_no_context(batch(record(b"v" * 200)), 0, len(batch(record(b"v" * 200))))
    assert not tells_no_context(batch(record(), attributes=GZIP), 0, len(batch(record())))
