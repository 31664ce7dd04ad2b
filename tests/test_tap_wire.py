"""A session goes over the socket and comes out the same, but for what must stay; what is no line is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given

from clovisor_py.model.session import Side, TraceContext
from clovisor_py.snapshot import Ended, as_json, from_json
from clovisor_py.tap_wire import Begun, Finished, Tapped, line, read_line, read_session, session_line
from clovisor_py.tracing.context import read
from clovisor_py.tracing.ids import span_id, trace_id
from clovisor_py.tracing.spans import span_of
from tests.support.sessions import ANY_SESSION, pod, session


def there_and_back(one):
    kind, content = read_line(session_line(one).rstrip(b"\n"))
    assert kind == "session"
    return read_session(content)


def test_a_session_comes_out_the_same():
    trace = TraceContext(2**127 + 1, 2**63, "traceparent", True, "a=b")
    one = session(trace=trace, client_workload=pod("web", "front"), peer_traced=True, connection=True, truncated=True)
    one.propagation = {}
    found = there_and_back(one)
    one.head, one.ids = b"", found.ids
    assert found == one


def test_raw_payload_and_headers_stay():
    one = session(head=b"GET /?password=x", propagation={"traceparent": "secret"})
    assert b"secret" not in session_line(one) and b"password" not in session_line(one)


@given(ANY_SESSION)
def test_whatever_was_on_the_wire_is_one_line(one):
    text = session_line(one)
    assert text.endswith(b"\n") and text.count(b"\n") == 1
    found = there_and_back(one)
    assert (found.resource, found.status, found.start_ns) == (one.resource, one.status, one.start_ns)
    assert found.client_workload == one.client_workload


def test_every_field_of_a_session_is_carried_or_left_on_purpose():
    left = {"head", "propagation", "cgroup_id", "peer_kept"}
    carried = len(json.loads(session_line(session()))["session"])
    assert carried == len(dataclasses.fields(session())) - len(left)


PARENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


@pytest.mark.parametrize(
    "one",
    [
        session(),
        session(peer_traced=True),
        session(side=Side.CLIENT, peer_traced=True),
        session(head=b"", seq=0, connection=True),
        session(trace=TraceContext(2**127 + 1, 2**63, "traceparent", False, "a=b")),
        session(side=Side.CLIENT, caller_span=2**64 - 1, pod_lost=3),
        session(side=Side.CLIENT, unlinked="several requests", trace=TraceContext(5, 6, "b3")),
        session(propagation={"traceparent": "nonsense", "b3": "0"}),
        session(propagation={"traceparent": "nonsense", "sw8": "x"}, attributes={}),
        session(trace=read(PARENT), propagation=PARENT | {"b3": "odd"}),
    ],
)
def test_its_span_is_the_agents_own(one):
    """Who sends sessions on from a tap adds to the traces that the agent exports, not others beside them."""
    agents = span_of(one)
    assert span_of(there_and_back(one)) == agents
    assert span_of(there_and_back(there_and_back(one))) == agents


@given(ANY_SESSION)
def test_so_are_the_ids_of_whatever_was_on_the_wire(one):
    found = there_and_back(one)
    assert trace_id(found) == trace_id(one)
    assert [span_id(found, side) for side in Side] == [span_id(one, side) for side in Side]


def test_facts():
    begun = Begun("n1", (Tapped("shop", "web", "veth7", ("10.0.0.2",), True, "a label", "default", ""),))
    assert read_line(line("answer", begun)) == ("answer", as_json(begun))
    assert from_json(Begun, as_json(begun)) == begun
    finished = Finished(3, (Ended("seen", "", 5),), "over")
    assert from_json(Finished, as_json(finished)) == finished


@pytest.mark.parametrize("text", [b"", b"x", b"[]", b"{}", b'{"a": 1, "b": 2}', b"3"])
def test_what_is_no_line(text):
    with pytest.raises(ValueError, match=r".*"):
        read_line(text)


@pytest.mark.parametrize("content", [None, 3, [], ["http"], [None] * 25, "x" * 25, {}])
def test_what_is_no_session(content):
    with pytest.raises(ValueError, match=r".*"):
        read_session(content)
