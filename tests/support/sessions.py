"""Sessions for tests: one builder with an ordinary session as its default, and hypothesis strategies for the others."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from clovisor_py.model.session import Outcome, Part, Session, Side
from clovisor_py.model.workload import Endpoint, Workload

START = 1_767_348_251_482_000_000
"""2026-01-02T10:04:11.482Z."""


def session(**changes: Any) -> Session:
    """`GET /reviews/0`, answered 200 after 4.1 ms, seen entering the pod `web`."""
    fields: dict[str, Any] = {
        "protocol": "http",
        "side": Side.SERVER,
        "interface": 7,
        "start_ns": START,
        "duration_ns": 4_100_000,
        "ttfb_ns": 3_900_000,
        "client": Endpoint("10.0.0.9", 41122),
        "server": Endpoint("10.0.0.2", 80),
        "operation": "GET",
        "resource": "/reviews/0",
        "status": "200",
        "outcome": Outcome.OK,
        "request": Part(START, 120),
        "response": Part(START + 3_900_000, 230),
        "attributes": {"http.request.method": "GET", "url.path": "/reviews/0", "http.response.status_code": 200},
        "seq": 1000,
        "head": b"GET /reviews/0 HTTP/1.1\r\nHost: web\r\n\r\n",
        "server_workload": Workload("web"),
    }
    return Session(**(fields | changes))


def pod(name: str, service: str = "") -> Workload:
    """A pod of the namespace `shop`."""
    return Workload(name, namespace="shop", node="n1", owner=f"deployment/{service}", service=service)


ANY_TEXT = st.text(st.characters(), max_size=60)
"""Anything that a str can hold, lone surrogates, control characters and wide letters included."""
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
ENDPOINTS = st.builds(Endpoint, ADDRESSES, st.integers(0, 65535))
WORKLOADS = st.none() | st.builds(Workload, ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT)
ATTRIBUTES = st.dictionaries(
    ANY_TEXT, ANY_TEXT | st.integers() | st.floats() | st.booleans() | st.lists(ANY_TEXT, max_size=3), max_size=8
)
ANY_SESSION = st.builds(
    session,
    side=st.sampled_from(Side),
    start_ns=st.integers(0, 4_000_000_000_000_000_000),
    duration_ns=st.integers(-5, 10**15),
    client=ENDPOINTS,
    server=ENDPOINTS,
    operation=ANY_TEXT,
    resource=ANY_TEXT,
    status=ANY_TEXT,
    outcome=st.sampled_from(Outcome),
    truncated=st.booleans(),
    gap_bytes=st.integers(0, 9),
    mid_stream=st.booleans(),
    attributes=ATTRIBUTES,
    client_workload=WORKLOADS,
    server_workload=WORKLOADS,
    peer_traced=st.booleans(),
)
