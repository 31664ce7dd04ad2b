"""gRPC through the kernel: every kind of call and every status, as the client noted them, and calls that it ends itself."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc")

from tests.support.live_grpc_peer import DEADLINE_S, FAILURES, calls
from tests.support.live_truth import Json, Truth, settled
from tests.support.live_web import Live, module, traced_pod
from tests.support.secrets import Secrets
from tests.support.servers import serving

pytestmark = pytest.mark.live

PORT = 8201
SERVER = module("tests.support.live_grpc_peer", "server")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with traced_pod(tmp_path_factory.mktemp("trace"), "grpc") as made:
        yield made


def by_method(session: Json) -> Hashable:
    """Every call has a name of its own."""
    return session["server"]["port"], session["resource"]


def noted(made: list[dict[str, Any]]) -> Truth:
    truth = Truth(began_ns=0)  # what a client in another process noted
    for one in made:
        method, status = one["method"], one["status"]
        outcome = "ok" if status == "OK" else "error"
        call = truth.note((PORT, method), method[1:], method, status, outcome=outcome)
        call.start_ns, call.duration_ns = one["start_ns"], one["duration_ns"]
        if status == "OK":
            call.attributes = {
                "clovisor.grpc.request.messages": one["sent"],
                "clovisor.grpc.response.messages": one["received"],
            }
    return truth


def test_every_kind_of_call(live: Live) -> None:
    with serving(live.pod, SERVER, port=PORT) as server:
        truth = noted(calls(server.address, "usual"))
        live.check(truth, by_method)
    assert len(truth.calls) == 158


def test_a_message_beyond_the_budget(live: Live) -> None:
    """What was not captured is said; the calls around it are there."""
    with serving(live.pod, SERVER, port=PORT) as server:
        made = calls(server.address, "huge")
        truth = noted(made)
        for call in truth.calls[1:]:
            call.status, call.attributes = None, {}
        found = {s["resource"]: s for s in settled(live.trace.sessions, truth, by_method)}
    before, huge, after = (found[call.resource or ""] for call in truth.calls)
    assert [one["status"] for one in made] == ["OK"] * 3
    assert (before["status"], before["capture"]["truncated"]) == ("OK", False)
    assert (huge["status"] in ("", "OK"), huge["capture"]["truncated"], huge["outcome"]) == (True, True, "ok")
    assert huge["attributes"].get("clovisor.grpc.request.messages", 1) == 1  # told where its end was seen, and right then
    assert (after["status"] in ("", "OK"), after["outcome"]) == (True, "ok")
    if not after["status"]:  # `grpc-status: 0` has a number only, and who knows what stands there since
        assert after["attributes"]["clovisor.http.unknown_headers"] > 0


def test_every_status_and_calls_that_the_client_ends(live: Live) -> None:
    with serving(live.pod, SERVER, port=PORT) as server:
        truth = noted(calls(server.address, "failing"))
        late, cancelled = truth.calls[-3:-1]
        assert (late.status, cancelled.status) == ("DEADLINE_EXCEEDED", "CANCELLED")
        late.status = None  # on the wire a deadline of the client's is a reset, unless the server is quicker
        live.check(truth, by_method)
    (session,) = [s for s in live.trace.sessions() if s["resource"] == late.resource]
    assert session["status"] in ("CANCELLED", "DEADLINE_EXCEEDED")
    assert session["attributes"]["clovisor.grpc.timeout_ms"] == pytest.approx(DEADLINE_S * 1000, rel=0.1)
    assert session["duration_ns"] >= 0.9e9 * DEADLINE_S
    assert {call.status for call in truth.calls} >= set(FAILURES) - {"DEADLINE_EXCEEDED"}


def test_what_is_secret_is_in_no_output(tmp_path: Path) -> None:
    secrets = Secrets()
    words = [secrets.new(name) for name in ("metadata", "bearer", "message", "status message")]
    with traced_pod(tmp_path, "secret3") as live, serving(live.pod, SERVER, port=PORT) as server:
        live.check(noted(calls(server.address, "secret", *words)), by_method)
        live.trace.stop()
        secrets.check(live.trace.outputs())
