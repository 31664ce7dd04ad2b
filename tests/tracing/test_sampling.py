"""tracing/sampling.py: what becomes a span."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.model.session import END, Outcome, Side, TraceContext
from clovisor_py.model.workload import Endpoint
from clovisor_py.tracing.sampling import CONTEXT, ERROR, RATIO, SLOW, SLOW_NS, Sampler, verdict
from clovisor_py.tracing.spans import is_error
from tests.support.sessions import ANY_SESSION, session


def traced(sampled, trace_id=0xABC):
    return TraceContext(trace_id, 1, "traceparent", sampled)


@pytest.mark.parametrize(
    ("changes", "ratio", "expected"),
    [
        ({}, 1.0, (True, RATIO)),
        ({}, 0.0, (False, RATIO)),
        ({"trace": traced(True)}, 0.0, (True, CONTEXT)),
        ({"trace": traced(False)}, 1.0, (False, CONTEXT)),
        ({"trace": traced(None)}, 0.0, (False, RATIO)),
        ({"propagation": {"b3": "0"}}, 1.0, (False, CONTEXT)),
        ({"propagation": {"b3": "d"}}, 0.0, (True, CONTEXT)),
        ({"propagation": {"x-b3-sampled": "0"}}, 1.0, (False, CONTEXT)),
        ({"propagation": {"x-b3-flags": "1"}}, 0.0, (True, CONTEXT)),
        ({"propagation": {"traceparent": "void"}}, 0.0, (False, RATIO)),
        ({"outcome": Outcome.ERROR, "trace": traced(False)}, 0.0, (True, ERROR)),
        ({"outcome": Outcome.TIMEOUT}, 0.0, (True, ERROR)),
        ({"outcome": Outcome.CLOSED, "attributes": {END: "still open"}}, 0.0, (False, RATIO)),
        ({"duration_ns": SLOW_NS, "trace": traced(False)}, 0.0, (True, SLOW)),
        ({"duration_ns": SLOW_NS - 1}, 0.0, (False, RATIO)),
        ({"duration_ns": SLOW_NS, "connection": True}, 0.0, (False, RATIO)),
        ({"duration_ns": SLOW_NS, "outcome": Outcome.ONE_WAY}, 0.0, (False, RATIO)),
    ],
)
def test_the_order_of_reasons(changes, ratio, expected):
    assert verdict(session(**changes), ratio) == expected


@given(st.integers(1, (1 << 128) - 1), st.floats(0, 1), st.floats(0, 1))
def test_who_keeps_more_keeps_all_that_others_keep(trace_id, one, other):
    fewer, more = sorted((one, other))
    call = session(trace=traced(None, trace_id))
    assert verdict(call, more)[0] >= verdict(call, fewer)[0]


def test_a_ratio_is_a_ratio_and_both_ends_decide_alike():
    kept = 0
    for port in range(10_000):
        ends = [session(side=side, client=Endpoint("10.0.0.9", port), interface=port % 3) for side in Side]
        verdicts = {verdict(end, 0.1) for end in ends}
        assert len(verdicts) == 1
        kept += verdicts.pop()[0]
    assert 850 < kept < 1150


def test_all_calls_of_a_trace_are_kept_or_not():
    for trace_id in (1, (1 << 56) - 1, 0xFF << 56 | 7, 1 << 127):
        calls = [session(trace=traced(None, trace_id), seq=seq) for seq in range(20)]
        assert len({verdict(call, 0.5) for call in calls}) == 1


def test_the_rule_is_opentelemetrys():
    """The last 56 bits, at least the rejection threshold: so that collectors that sample again agree."""
    edge = 9 << 60 | (1 << 55)
    assert verdict(session(trace=traced(None, edge)), 0.5)[0]
    assert not verdict(session(trace=traced(None, edge - 1)), 0.5)[0]


def test_everything_is_counted_once():
    sampler = Sampler(0.5)
    calls = [session(seq=seq, trace=traced(flag, seq + 1)) for seq in range(100) for flag in (True, False, None)]
    calls += [session(outcome=Outcome.RESET), session(duration_ns=SLOW_NS)]
    kept = [sampler.keep(call) for call in calls]
    ledger = sampler.ledger()
    assert sum(ledger.kept.values()) == sum(kept)
    assert sum(ledger.kept.values()) + sum(ledger.left_out.values()) == len(calls)
    assert (ledger.kept[ERROR], ledger.kept[SLOW], ledger.kept[CONTEXT], ledger.left_out[CONTEXT]) == (1, 1, 100, 100)


def test_a_pods_own_ratio_comes_before_that_of_all():
    sampler = Sampler(0.0)
    sampler.ratios[7] = 1.0
    assert [sampler.keep(session(interface=interface)) for interface in (7, 8)] == [True, False]
    del sampler.ratios[7]
    assert not sampler.keep(session(interface=7))


def test_a_ledger_is_a_moment():
    sampler = Sampler(1.0)
    before = sampler.ledger()
    sampler.keep(session())
    assert (before.kept[RATIO], sampler.ledger().kept[RATIO]) == (0, 1)


@given(ANY_SESSION, st.floats(0, 1))
def test_any_session_has_a_verdict(one, ratio):
    kept, why = verdict(one, ratio)
    assert (kept, why) == verdict(one, ratio)
    assert kept or not is_error(one)
    assert (why == ERROR) is is_error(one)


@pytest.mark.parametrize(
    ("status", "attributes"),
    [
        ("404", {"http.request.method": "GET", "http.response.status_code": 404}),
        ("NOT_FOUND", {"rpc.system.name": "grpc", "rpc.method": "a/b", "rpc.response.status_code": "NOT_FOUND"}),
    ],
)
def test_the_callers_mistakes_are_kept_where_they_are_errors(status, attributes):
    calls = [
        session(side=side, status=status, outcome=Outcome.ERROR, attributes=attributes, seq=seq)
        for seq in range(100)
        for side in Side
    ]
    reasons = {(call.side, verdict(call, 0.0)) for call in calls}
    assert reasons == {(Side.CLIENT, (True, ERROR)), (Side.SERVER, (False, RATIO))}


@given(ANY_SESSION)
def test_no_error_of_a_server_is_kept_without_its_client(one):
    called = replace(one, side=Side.SERVER)
    assert is_error(replace(one, side=Side.CLIENT)) or not is_error(called)
