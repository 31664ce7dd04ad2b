"""The wire format against protobuf's own."""

import contextlib

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BytesValue, UInt64Value
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.exporters._otlp_wire import BYTES, VARINT, Malformed, fields, sized, tag, varint


@given(st.integers(1, (1 << 64) - 1))
def test_numbers(number):
    written = tag(1, VARINT) + varint(number)
    assert UInt64Value.FromString(written).value == number
    assert list(fields(written)) == [(1, number)]


@given(st.binary(max_size=300))
def test_bytes(data):
    assert BytesValue.FromString(sized(1, data)).value == data
    assert list(fields(sized(1, data))) == [(1, data)]


def test_a_high_field_number():
    assert tag(16, BYTES) == b"\x82\x01"


def test_fields_of_a_message_that_protobuf_wrote():
    assert dict(fields(Duration(seconds=3, nanos=7).SerializeToString())) == {1: 3, 2: 7}
    assert dict(fields(Duration(seconds=-1).SerializeToString())) == {1: (1 << 64) - 1}
    assert list(fields(b"\x0d\x01\0\0\0\x11\x02\0\0\0\0\0\0\0")) == [(1, 1), (2, 2)]


@pytest.mark.parametrize("data", [b"\x08", b"\x08\xff", b"\x0a\x05abc", b"\x0b", b"\x0d\x01", b"\xff" * 20])
def test_nonsense_is_malformed(data):
    with pytest.raises(Malformed):
        list(fields(data))


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_malformed(data):
    with contextlib.suppress(Malformed):
        list(fields(data))
