from __future__ import annotations

from clovisor_py.model.session import Outcome
from clovisor_py.outlet import Outlet
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
