"""What collectors answer, well and badly."""

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.exporters import _otlp_reply
from clovisor_py.exporters._otlp_reply import Reply, Status, accepted, remark, retry_after_s, status
from clovisor_py.exporters._otlp_wire import sized
from tests.support.otlp_receiver import partial, retry_info


def test_no_message_is_a_success():
    assert accepted(b"") == accepted(partial(0)) == Reply()


def test_partial_success():
    assert accepted(partial(3, "too old")) == Reply(3, why="too old")
    assert accepted(partial(0, "slow down")) == Reply(why="slow down")
    assert accepted(partial(-3)) == Reply()


def test_a_delay():
    assert status(retry_info(2.5, "busy")) == Status("busy", 2.5)
    assert status(retry_info(-1.0)) == Status("", 0.0)
    assert status(b"") == Status()


def test_other_details_are_none():
    other = Any(type_url="type.googleapis.com/google.rpc.Help", value=Duration(seconds=9).SerializeToString())
    assert status(sized(2, b"busy") + sized(3, other.SerializeToString())) == Status("busy")


@given(st.binary(max_size=80))
def test_any_bytes_are_an_answer(data):
    assert accepted(data).rejected >= 0
    assert (status(data).retry_after_s or 0) >= 0
    wrapped = sized(3, sized(1, _otlp_reply.RETRY_INFO.encode()) + sized(2, data))
    assert (status(wrapped).retry_after_s or 0) >= 0


@pytest.mark.parametrize(("header", "seconds"), [(None, 0), ("", 0), ("7", 7), (" 7 ", 7), ("soon", 0), ("-3", 0), ("²", 0)])
def test_retry_after(header, seconds):
    assert retry_after_s(header) == seconds


def test_retry_after_a_date():
    soon = datetime.now(timezone.utc) + timedelta(seconds=100)
    assert 90 < retry_after_s(format_datetime(soon, usegmt=True)) <= 100
    assert 90 < retry_after_s(format_datetime(soon.replace(tzinfo=None))) <= 100
    assert retry_after_s(format_datetime(soon - timedelta(days=1))) == 0


@pytest.mark.parametrize(
    "header", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2026 00:00:00 +99999999999999", ",", "1.5"]
)
def test_a_date_that_is_none_is_no_wish(header):
    assert retry_after_s(header) == 0


@given(st.text("0123456789 ,:+-JanMonGT", max_size=40))
def test_any_retry_after_is_read(header):
    assert retry_after_s(header) >= 0


def test_others_words_are_one_bounded_line_that_no_terminal_obeys():
    assert remark(b"a\n\x1b[31mb\xff") == "a \\x1b[31mb\ufffd"
    assert len(remark("x" * 10_000)) == _otlp_reply.REMARK_CHARS
