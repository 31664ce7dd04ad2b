from __future__ import annotations

from clovisor_py.model.message import Kind, Message
from clovisor_py.model.session import Outcome, Side
from clovisor_py.outlet import Outlet
from clovisor_py.tracing.spans import span_of
from tests.support.sessions import session

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_all_count_and_what_matches_is_shown():
    shown = []
    outlet = Outlet(shown.extend, lambda one: one.failed)
    outlet.take([session(), session(outcome=Outcome.ERROR, status="503")])
    outlet.take([])
    assert [one.status for one in shown] == ["503"]
    assert (outlet.red.total().calls, outlet.shown.total().calls, outlet.filtered) == (2, 1, 1)
    assert not outlet.full


def test_a_limit():
    shown = []
    outlet = Outlet(shown.extend, limit=3)
    for _ in range(2):
        outlet.take([session(), session()])
    assert (len(shown), outlet.full, outlet.red.total().calls) == (3, True, 4)


def test_names_and_trace_contexts():
    shown = []
    outlet = Outlet(shown.extend)
    outlet.directory.add(7, "web", ["10.0.0.2"])
    outlet.take([session(server_workload=None, propagation={"traceparent": PARENT})])
    assert shown[0].server_workload.name == "web"
    assert shown[0].trace.trace_id == 0x4BF92F3577B34DA6A3CE929D0E0E4736


def test_what_became_of_contexts_is_counted_and_a_call_is_joined_to_its_request():
    shown = []
    outlet = Outlet(shown.extend)
    headers = {"traceparent": PARENT}
    outlet.take([session(side=Side.CLIENT, propagation=headers), session(propagation={"traceparent": "void"})])
    assert (outlet.contexts.found["traceparent"], outlet.contexts.malformed) == (1, {"traceparent": 1})
    assert shown[0].unlinked == "none"
    request = session(propagation=headers)
    message = Message(Kind.REQUEST, propagation=headers, start_ns=request.start_ns, seq=request.seq, head=request.head)
    outlet.joining.begun(request.interface, request.client, request.server, request.transport, message)
    own = request.server._replace(port=50000)
    outlet.take([session(side=Side.CLIENT, propagation=headers, client=own), request])
    assert span_of(shown[2]).parent_id == span_of(request).span_id


def test_what_a_pod_lost_is_said():
    shown = []
    outlet = Outlet(shown.extend)
    for lost in (0, 3):
        outlet.losses.look(7, session().start_ns, lost)
    outlet.take([session(), session(interface=8)])
    assert [one.pod_lost for one in shown] == [3, 0]
