"""Datagrams, read back with Thrift's own reader."""

import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaeger_client.thrift_gen.agent import Agent
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.transport.TTransport import TMemoryBuffer

from clovisor_py.exporters._bounds import ATTRIBUTES_BYTES, TEXT_CHARS, UNNAMED
from clovisor_py.exporters._thrift import DATAGRAM_BYTES, SERVICES, Encoder
from clovisor_py.model.session import Side
from clovisor_py.model.span import Span
from tests.support.sessions import ANY_TEXT, ATTRIBUTES, START

U64 = (1 << 64) - 1
TAGS = {"hostname": "n1", "ip": "127.0.0.1", "clovisor.version": "1"}


def span(**changes):
    fields = {
        "service": "web",
        "name": "GET",
        "side": Side.SERVER,
        "trace_id": 1 << 127 | 5,
        "span_id": 1 << 63,
        "parent_id": 7,
    }
    fields |= {"start_ns": START, "duration_ns": 57_508, "error": False, "attributes": {}}
    return Span(**(fields | changes))


def read(datagram):
    assert len(datagram.data) <= DATAGRAM_BYTES
    protocol = TCompactProtocol(TMemoryBuffer(datagram.data))
    name, _, _ = protocol.readMessageBegin()
    arguments = Agent.emitBatch_args()
    arguments.read(protocol)
    assert name == "emitBatch"
    assert protocol.trans.read(1) == b""
    assert len(arguments.batch.spans) == datagram.spans
    return arguments.batch


def tags_of(thing):
    return {tag.key: next(v for v in (tag.vStr, tag.vLong, tag.vDouble, tag.vBool) if v is not None) for tag in thing.tags}


def encoded(*spans):
    return [read(datagram) for datagram in Encoder(TAGS).datagrams(spans)[0]]


def test_everything_arrives():
    attributes = {"s": "x", "i": -3, "b": False, "f": 0.25, "l": ["a", "b"]}
    [batch] = encoded(span(error=True, attributes=attributes))
    [one] = batch.spans
    assert batch.process.serviceName == "web"
    assert tags_of(batch.process).items() >= TAGS.items()
    assert (one.traceIdHigh & U64, one.traceIdLow & U64, one.spanId & U64, one.parentSpanId) == (1 << 63, 5, 1 << 63, 7)
    assert (one.operationName, one.startTime, one.duration, one.flags) == ("GET", START // 1000, 57, 1)
    assert tags_of(one) == {"s": "x", "i": -3, "b": False, "f": 0.25, "l": '["a", "b"]', "span.kind": "server", "error": True}


def test_a_client_says_so_and_a_root_has_no_parent():
    [batch] = encoded(span(side=Side.CLIENT, parent_id=0))
    assert tags_of(batch.spans[0]) == {"span.kind": "client"}
    assert batch.spans[0].parentSpanId == 0


@given(st.integers(0, 4 * 10**18), st.integers(0, 10**14))
def test_times_are_right_to_the_microsecond(start, duration):
    [batch] = encoded(span(start_ns=start, duration_ns=duration))
    assert (batch.spans[0].startTime, batch.spans[0].duration) == (start // 1000, duration // 1000)


@pytest.mark.parametrize(("time", "told"), [(-(1 << 80), 0), (-1, 0), ((1 << 64) * 10**9, (1 << 63) // 1000)])
def test_a_time_that_is_none_is_the_nearest_that_is(time, told):
    """Floating seconds are that exact only near the present."""
    [batch] = encoded(span(start_ns=time), span(duration_ns=time))
    assert batch.spans[0].startTime == pytest.approx(told, rel=1e-9)
    assert batch.spans[1].duration == pytest.approx(told, rel=1e-9)


def test_one_that_cannot_be_encoded_is_in_no_datagram_then_or_later():
    encoder = Encoder(TAGS)
    bad = [span(span_id=2, attributes={5: "x"}), span(span_id=3, service=None), span(span_id="four")]
    [datagram], fault = encoder.datagrams([span(span_id=1), *bad, span(span_id=5)])
    assert [one.spanId for one in read(datagram).spans] == [1, 5]
    assert "cannot be told as a span" in fault
    assert encoder.datagrams(bad)[0] == []
    [datagram], fault = encoder.datagrams([span(span_id=6)])
    assert ([one.spanId for one in read(datagram).spans], fault) == ([6], "")


@given(st.lists(st.builds(span, service=ANY_TEXT, name=ANY_TEXT, attributes=ATTRIBUTES), max_size=5))
def test_any_attributes_arrive_and_harm_nobody(spans):
    batches = encoded(*spans)
    assert sum(len(batch.spans) for batch in batches) == len(spans)
    for batch in batches:
        for one in batch.spans:
            tags_of(one)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1 << 63, "0x8000000000000000"),
        (-(1 << 63), -(1 << 63)),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ("a\ud800b", "a?b"),
        ("x" * 9999, "x" * (TEXT_CHARS - 1) + "…"),
        pytest.param(1 << 99_999, "0x8" + "0" * (TEXT_CHARS - 4) + "…", id="a hundred thousand bits"),
    ],
)
def test_what_thrift_cannot_say_is_said_otherwise(value, said):
    [batch] = encoded(span(attributes={"key": value}))
    assert tags_of(batch.spans[0])["key"] == said


def test_our_own_tags_are_not_to_be_forged():
    [batch] = encoded(span(error=True, attributes={"span.kind": "client", "error": False}))
    assert tags_of(batch.spans[0]) == {"span.kind": "server", "error": True}
    assert len(batch.spans[0].tags) == 2


@pytest.mark.parametrize("attributes", [{f"{i}": "日" * 4000 for i in range(50)}, {f"{i}": True for i in range(9000)}])
def test_a_span_always_fits_and_says_what_it_left_out(attributes):
    [batch] = encoded(span(name="日" * 999, service="日" * 999, attributes=attributes))
    tags = tags_of(batch.spans[0])
    kept = len(tags) - 2
    assert 0 < kept < len(attributes)
    assert tags["clovisor.attributes_dropped"] == len(attributes) - kept
    assert ATTRIBUTES_BYTES < DATAGRAM_BYTES / 1.9


def test_datagrams_are_filled_to_the_byte_and_never_over_it():
    spans = [span(span_id=i, attributes={"text": "x" * (i * 37 % 3000)}) for i in range(1, 1000)]
    datagrams = Encoder(TAGS).datagrams(spans)[0]
    assert [one.spanId for datagram in datagrams for one in read(datagram).spans] == list(range(1, 1000))
    assert all(len(datagram.data) > DATAGRAM_BYTES - 3200 for datagram in datagrams[:-1])


def test_services_do_not_mix_and_keep_their_order():
    spans = [span(service=f"s{i % 3}", span_id=i) for i in range(1, 31)]
    batches = encoded(*spans)
    assert [batch.process.serviceName for batch in batches] == ["s1", "s2", "s0"]
    for batch in batches:
        ids = [one.spanId for one in batch.spans]
        assert ids == sorted(ids)
        assert {f"s{i % 3}" for i in ids} == {batch.process.serviceName}


def test_a_service_without_a_name_has_one():
    [batch] = encoded(span(service=""))
    assert batch.process.serviceName == UNNAMED


def test_tracers_are_bounded_and_come_back():
    encoder = Encoder(TAGS)
    for i in range(SERVICES + 20):
        assert len(encoder.datagrams([span(service=f"s{i}")])[0]) == 1
    assert len(encoder._tracers) == SERVICES
    [datagram], _ = encoder.datagrams([span(service="s0")])
    assert read(datagram).process.serviceName == "s0"


def test_no_loop_and_no_thread_is_started():
    before = threading.active_count()
    encoded(*(span(service=f"s{i}") for i in range(50)))
    assert threading.active_count() == before


def test_the_import_warns_nobody():
    code = "import clovisor_py.exporters._thrift"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
