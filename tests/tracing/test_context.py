import base64
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.model.message import PROPAGATION_HEADERS
from clovisor_py.tracing.context import HEADER_LIMIT, STATE_LIMIT, Contexts, decision, read, void

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
ZEROS = "0" * 32
TRACE_ID, SPAN_ID = int(TRACE, 16), int(SPAN, 16)


def b64(text):
    return base64.b64encode(text.encode()).decode()


def sw8(sample="1", trace="abc.12.3", segment="abc.12.4", index="3", rest=("svc", "inst", "/x", "web:80")):
    return "-".join([sample, b64(trace), b64(segment), index, *map(b64, rest)])


@pytest.mark.parametrize(
    ("headers", "form", "sampled"),
    [
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, "traceparent", True),
        ({"traceparent": f"00-{TRACE}-{SPAN}-00"}, "traceparent", False),
        ({"traceparent": f" 00-{TRACE}-{SPAN}-03\t"}, "traceparent", True),
        ({"traceparent": f"cc-{TRACE}-{SPAN}-01"}, "traceparent", True),
        ({"traceparent": f"cc-{TRACE}-{SPAN}-01-what-the-future-brings"}, "traceparent", True),
        ({"b3": f"{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90"}, "b3", True),
        ({"b3": f"{TRACE}-{SPAN}-d"}, "b3", True),
        ({"b3": f"{TRACE}-{SPAN}-0"}, "b3", False),
        ({"b3": f"{TRACE}-{SPAN}"}, "b3", None),
        ({"x-b3-traceid": TRACE.upper(), "x-b3-spanid": SPAN}, "b3", None),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "0"}, "b3", False),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "true"}, "b3", True),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-flags": "1"}, "b3", True),
        ({"uber-trace-id": f"{TRACE}:{SPAN}:0:1"}, "uber-trace-id", True),
        ({"uber-trace-id": f"{TRACE}:{SPAN.lstrip('0')}:0:0"}, "uber-trace-id", False),
        ({"uber-trace-id": f"{TRACE}%3A{SPAN}%3a0%3A3"}, "uber-trace-id", True),
    ],
)
def test_a_context_is_read(headers, form, sampled):
    context = read(headers)
    assert (context.trace_id, context.parent_id) == (TRACE_ID, SPAN_ID)
    assert (context.format, context.sampled) == (form, sampled)


@pytest.mark.parametrize("header", ["b3", "x-b3-traceid"])
def test_b3_trace_ids_may_have_64_bits(header):
    headers = {"b3": f"{TRACE[:16]}-{SPAN}"} if header == "b3" else {"x-b3-traceid": TRACE[:16], "x-b3-spanid": SPAN}
    assert read(headers).trace_id == int(TRACE[:16], 16)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"traceparent": ""},
        {"traceparent": f"ff-{TRACE}-{SPAN}-01"},
        {"traceparent": f"00-{ZEROS}-{SPAN}-01"},
        {"traceparent": f"00-{TRACE}-{ZEROS[:16]}-01"},
        {"traceparent": f"00-{TRACE.upper()}-{SPAN}-01"},
        {"traceparent": f"00-{TRACE[1:]}-{SPAN}-01"},
        {"traceparent": f"00-{TRACE}0-{SPAN}-01"},
        {"traceparent": f"00-{TRACE[:-1]}g-{SPAN}-01"},
        {"traceparent": f"00-{TRACE}-{SPAN}-1"},
        {"traceparent": f"00-{TRACE}-{SPAN}-01-extra"},
        {"traceparent": f"cc-{TRACE}-{SPAN}-01extra"},
        {"traceparent": f"00-{TRACE}-{SPAN}-01\n"},
        {"traceparent": f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01"},
        {"traceparent": f"00-{'١' * 32}-{SPAN}-01"},
        {"tracestate": "a=b"},
        {"b3": "0"},
        {"b3": f"{TRACE}"},
        {"b3": f"{TRACE}-{SPAN}-2"},
        {"b3": f"{TRACE}-{SPAN}-1-"},
        {"b3": f"{TRACE[1:]}-{SPAN}"},
        {"b3": f"{ZEROS}-{SPAN}-1"},
        {"x-b3-traceid": TRACE},
        {"x-b3-traceid": TRACE, "x-b3-spanid": "0" * 16},
        {"x-b3-spanid": SPAN},
        {"uber-trace-id": f"{TRACE}:{SPAN}:0"},
        {"uber-trace-id": f"{TRACE}f:{SPAN}:0:1"},
        {"uber-trace-id": "0:0:0:1"},
        {"uber-trace-id": f"{TRACE}:0:0:1"},
        {"uber-trace-id": f"{TRACE}:{SPAN}:0:x"},
        {"sw8": sw8(sample="2")},
        {"sw8": sw8(index="x")},
        {"sw8": sw8(index="²")},
        {"sw8": sw8(trace="")},
        {"sw8": sw8(rest=("svc",))},
        {"sw8": sw8().replace("-", "-!", 1)},
        {"sw8": sw8(rest=("s", "i", "x" * HEADER_LIMIT, "a"))},
    ],
)
def test_half_a_context_is_none(headers):
    assert read(headers) is None


def test_precedence_and_a_void_header_makes_room_for_the_next():
    everything = {
        "traceparent": f"00-{'1' * 32}-{SPAN}-01",
        "b3": f"{'2' * 32}-{SPAN}-1",
        "x-b3-traceid": "3" * 32,
        "x-b3-spanid": SPAN,
        "uber-trace-id": f"{'4' * 32}:{SPAN}:0:1",
        "sw8": sw8(),
    }
    order = []
    for header in ("traceparent", "b3", "x-b3-traceid", "uber-trace-id", "sw8"):
        order.append(f"{read(everything).trace_id:032x}"[0])
        everything[header] = "void"
    assert order[:4] == ["1", "2", "3", "4"]
    assert read(everything) is None


def test_tracestate_belongs_to_traceparent_and_is_kept_in_whole_entries():
    parent = f"00-{TRACE}-{SPAN}-01"
    assert read({"traceparent": parent, "tracestate": "a=1,b=2"}).state == "a=1,b=2"
    assert read({"b3": f"{TRACE}-{SPAN}-1", "tracestate": "a=1"}).state == ""
    long = ",".join(f"k{i}={'v' * 90}" for i in range(20))
    kept = read({"traceparent": parent, "tracestate": long}).state
    assert len(kept) <= STATE_LIMIT
    assert long.startswith(kept + ",")


def test_sw8_ids_are_hashes_of_skywalkings_text():
    context = read({"sw8": sw8()})
    wanted = blake2b(b"abc.12.3", digest_size=16, person=b"clovisor.sw8").digest()
    assert context.trace_id == int.from_bytes(wanted, "big")
    assert (context.format, context.sampled, context.state) == ("sw8", True, "abc.12.3")
    assert read({"sw8": sw8(segment="other")}).trace_id == context.trace_id
    assert read({"sw8": sw8(segment="other")}).parent_id != context.parent_id
    assert read({"sw8": sw8(index="4")}).parent_id != context.parent_id
    assert read({"sw8": sw8(sample="0")}).sampled is False


@given(st.dictionaries(st.sampled_from(sorted(PROPAGATION_HEADERS)), st.text(st.characters()), max_size=4))
def test_any_headers_give_an_answer(headers):
    context = read(headers)
    assert context is None or (0 < context.trace_id < 1 << 128 and 0 < context.parent_id < 1 << 64)


@given(st.integers(1, (1 << 128) - 1), st.integers(1, (1 << 64) - 1))
def test_every_format_gives_back_the_ids(trace, span):
    for headers in (
        {"traceparent": f"00-{trace:032x}-{span:016x}-01"},
        {"b3": f"{trace:032x}-{span:016x}-1"},
        {"x-b3-traceid": f"{trace:032x}", "x-b3-spanid": f"{span:016x}"},
        {"uber-trace-id": f"{trace:x}:{span:x}:0:1"},
    ):
        context = read(headers)
        assert (context.trace_id, context.parent_id) == (trace, span)


GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"traceparent": GOOD}, ()),
        ({"traceparent": GOOD, "b3": "rubbish"}, ()),
        ({"traceparent": "rubbish"}, ("traceparent",)),
        ({"traceparent": "rubbish", "tracestate": "a=1"}, ("traceparent",)),
        ({"traceparent": "rubbish", "b3": f"{TRACE}-{SPAN}"}, ("traceparent",)),
        ({"b3": "rubbish", "x-b3-traceid": TRACE, "x-b3-spanid": SPAN}, ("b3",)),
        ({"b3": f"{TRACE}-{SPAN}", "x-b3-traceid": "rubbish"}, ()),
        ({"x-b3-traceid": TRACE}, ("x-b3-traceid",)),
        ({"b3": "0"}, ()),
        ({"b3": " d "}, ()),
        ({"x-b3-sampled": "0"}, ()),
        ({"tracestate": "a=1"}, ()),
        ({"uber-trace-id": "x", "sw8": "y"}, ("uber-trace-id", "sw8")),
    ],
)
def test_what_was_malformed_is_named_and_counted(headers, named):
    assert void(headers, read(headers)) == named
    contexts = Contexts()
    assert contexts.read(headers) == read(headers)
    assert contexts.malformed == dict.fromkeys(named, 1)
    assert sum(contexts.found.values()) == (read(headers) is not None)


def test_what_was_found_is_counted_by_format():
    contexts = Contexts()
    for headers in ({"traceparent": GOOD}, {"traceparent": GOOD}, {"b3": f"{TRACE}-{SPAN}"}, {"sw8": sw8()}, {}):
        contexts.read(headers)
    assert contexts.found == {"traceparent": 2, "b3": 1, "uber-trace-id": 0, "sw8": 1}


@pytest.mark.parametrize(
    ("headers", "sampled"),
    [
        ({"b3": "0"}, False),
        ({"b3": "1"}, True),
        ({"b3": "d"}, True),
        ({"x-b3-sampled": "True"}, True),
        ({"x-b3-sampled": "0"}, False),
        ({"x-b3-sampled": "0", "x-b3-flags": "1"}, True),
        ({}, None),
        ({"b3": "rubbish", "x-b3-sampled": "1"}, None),
        ({"traceparent": "rubbish"}, None),
    ],
)
def test_b3_may_decide_without_a_context(headers, sampled):
    assert decision(headers) is sampled


def test_the_same_header_is_read_once_and_a_long_one_is_not_kept():
    assert read({"traceparent": GOOD, "tracestate": "a=1"}) is read({"traceparent": GOOD, "tracestate": "a=1"})
    long = {"traceparent": f"cc-{TRACE}-{SPAN}-01-{'x' * 100}"}
    assert read(long) == read(long) and read(long) is not read(long)


@given(st.dictionaries(st.sampled_from(sorted(PROPAGATION_HEADERS)), st.text(st.characters()), max_size=4))
def test_any_headers_are_counted(headers):
    contexts = Contexts()
    contexts.read(headers)
    assert set(contexts.malformed) <= set(headers)
    assert decision(headers) in (True, False, None)


@pytest.mark.parametrize("header", sorted(PROPAGATION_HEADERS))
def test_a_megabyte_costs_no_more_than_its_limit(header):
    for filling in ("0", "-", "a=b,", ":", "%3A", " "):
        headers = {"traceparent": GOOD, "x-b3-traceid": TRACE, header: filling * (1_000_000 // len(filling))}
        found = read(headers)
        assert found is None or len(found.state) <= STATE_LIMIT
