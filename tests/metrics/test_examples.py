"""What an exemplar needs is kept of its session, and the session is not."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.metrics._examples import example
from clovisor_py.model.session import Session, TraceContext
from clovisor_py.tracing import ids
from clovisor_py.tracing.sampling import verdict
from tests.support.sessions import ANY_SESSION, session


@given(ANY_SESSION, st.sampled_from([None, True, False]), st.floats(0, 1))
def test_it_has_a_span_where_its_session_has_one(one, sampled, ratio):
    one.trace = TraceContext(0xABC << 80, 1, "traceparent", sampled=sampled)
    assert example(one).has_span(lambda _: ratio) is verdict(one, ratio)[0]
    one.trace = None
    assert example(one).has_span(lambda _: ratio) is verdict(one, ratio)[0]


def test_the_ratio_is_that_of_the_pod_that_was_looked_at():
    one = example(session(interface=9))
    assert one.has_span({9: 1.0}.__getitem__) and not one.has_span({9: 0.0}.__getitem__)


@pytest.mark.parametrize("trace", [None, TraceContext(0xABC, 1, "traceparent")])
def test_its_trace_is_that_of_the_span(trace):
    one = session(trace=trace)
    assert example(one).trace_id == (0xABC if trace else ids.trace_id(one))


def test_it_holds_nothing_of_the_wire():
    known = [example(session(attributes={"db.query.text": "x" * 4096}))]
    held = gc.get_referents(*known)
    assert not any(isinstance(one, (Session, dict, bytes, str)) for one in held)
