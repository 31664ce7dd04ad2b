"""A session goes over the socket and comes out the same, but for what must stay; what is no line is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given

from clovisor_py.model.session import TraceContext
from clovisor_py.snapshot import Ended, as_json, from_json
from clovisor_py.tap_wire import Begun, Finished, Tapped, line, read_line, read_session, session_line
from tests.support.sessions import ANY_SESSION, pod, session


def there_and_back(one):
    kind, content = read_line(session_line(one).rstrip(b"\n"))
    assert kind == "session"
    return read_session(content)


def test_a_session_comes_out_the_same():
    trace = TraceContext(2**127 + 1, 2**63, "traceparent", True, "a=b")
    one = session(trace=trace, client_workload=pod("web", "front"), peer_traced=True, connection=True, truncated=True)
    one.head, one.propagation = b"", {}
    assert there_and_back(one) == one


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
    left = {"head", "propagation", "cgroup_id"}
    carried = len(json.loads(session_line(session()))["session"])
    assert carried == len(dataclasses.fields(session())) - len(left)


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
