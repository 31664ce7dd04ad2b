from __future__ import annotations

import dataclasses

import pytest

from clovisor_py.model.session import Outcome, Side
from clovisor_py.model.workload import Workload
from clovisor_py.naming import ClusterDirectory, Containers
from clovisor_py.tracing.sampling import SLOW_NS, verdict
from clovisor_py.tracing.spans import span_of
from tests.support.sessions import session

CART = Workload("cart", "shop", kind="pod", uid="1")
CART_BEHIND = Workload("cart", "shop", service="cart", kind="pod", uid="1")
WEB = Workload("web", "shop", kind="pod", uid="2")


def named(directory, side, interface=7):
    one = session(side=side, interface=interface, client_workload=None, server_workload=None)
    directory.name(one)
    return one


def test_the_pod_behind_the_veth_is_certain_and_the_index_says_more_of_it():
    asked = []

    def resolve(ip, port, time_ns):
        asked.append((ip, port, time_ns))
        return {"10.0.0.1": WEB, "10.0.0.2": CART_BEHIND}.get(ip)

    directory = ClusterDirectory(resolve)
    directory.assign(7, CART)
    one = session(side=Side.SERVER, interface=7, client_workload=None, server_workload=None)
    one.client, one.server = one.client._replace(ip="10.0.0.1"), one.server._replace(ip="10.0.0.2")
    directory.name(one)
    assert (one.client_workload, one.server_workload) == (WEB, CART_BEHIND)
    assert [time_ns for _, _, time_ns in asked] == [one.start_ns, one.start_ns]


def test_an_index_that_says_something_else_of_the_address_is_not_believed():
    directory = ClusterDirectory(lambda *_: WEB)
    directory.assign(7, CART)
    assert named(directory, Side.SERVER).server_workload is CART
    assert named(directory, Side.CLIENT).client_workload is CART


def test_whether_the_other_end_is_traced_here_too():
    directory = ClusterDirectory(lambda *_: WEB)
    directory.assign(7, CART)
    assert not named(directory, Side.SERVER).peer_traced
    directory.assign(8, WEB)
    assert named(directory, Side.SERVER).peer_traced
    directory.remove(8)
    assert not named(directory, Side.SERVER).peer_traced


def test_a_caller_whose_calls_are_not_all_told_of_is_no_parent():
    directory = ClusterDirectory(lambda *_: WEB)
    directory.assign(7, CART)
    directory.assign(8, WEB)
    directory.tell(8, True, calls=False)
    assert not named(directory, Side.SERVER).peer_traced
    assert named(directory, Side.CLIENT).peer_traced
    directory.tell(8, True)
    assert named(directory, Side.SERVER).peer_traced
    directory.tell(8, False)
    assert not named(directory, Side.SERVER).peer_traced
    assert not named(directory, Side.CLIENT).peer_traced


def test_whether_the_other_end_is_traced_on_its_own_node():
    asked = []
    directory = ClusterDirectory(lambda *_: WEB, elsewhere=lambda peer: asked.append(peer) or True)
    directory.assign(7, CART)
    assert named(directory, Side.SERVER).peer_traced
    assert asked == [WEB]
    one = session(interface=9, client_workload=None, server_workload=None)
    ClusterDirectory(lambda *_: None, elsewhere=lambda peer: True).name(one)
    assert not one.peer_traced


def sampled(ratio, seq, **changes):
    directory = ClusterDirectory(lambda *_: WEB, ratio=lambda peer: {WEB: ratio}[peer])
    directory.assign(7, CART)
    directory.assign(8, WEB)
    one = session(seq=seq, interface=7, client_workload=None, server_workload=None, **changes)
    directory.name(one)
    assert one.peer_traced
    return one


def test_a_callers_span_that_is_sampled_away_is_no_parent():
    for seq in range(100):
        server, client = sampled(0.3, seq), session(seq=seq, side=Side.CLIENT)
        assert span_of(server).parent_id == (span_of(client).span_id if verdict(client, 0.3)[0] else 0)


@pytest.mark.parametrize(
    "changes", [{"outcome": Outcome.ERROR, "status": "500"}, {"duration_ns": SLOW_NS}, {"side": Side.CLIENT}]
)
def test_a_callers_span_of_an_error_or_of_what_was_slow_is_always_there(changes):
    assert all(sampled(0.0, seq, **changes).peer_kept for seq in range(20))


@pytest.mark.parametrize(
    ("status", "attributes"),
    [
        ("404", {"http.request.method": "GET", "http.response.status_code": 404}),
        ("CANCEL", {"http.request.method": "GET", "http.response.status_code": 200}),
        ("NOT_FOUND", {"rpc.system.name": "grpc", "rpc.method": "Get"}),
    ],
)
def test_what_is_an_error_of_the_caller_alone_has_its_span(status, attributes):
    """Also where the server, whose fault it is not, is asked."""
    server = {"outcome": Outcome.ERROR, "status": status, "attributes": attributes}
    assert all(sampled(0.0, seq, **server).peer_kept for seq in range(20))


@pytest.mark.parametrize(("flag", "kept"), [("01", True), ("00", False)])
def test_the_callers_context_decides_before_its_ratio(flag, kept):
    headers = {"traceparent": f"00-{1:032x}-{2:016x}-{flag}"}
    assert sampled(0.5, 1, propagation=headers).peer_kept is kept


def test_unknown_stays_an_address():
    directory = ClusterDirectory(lambda *_: None)
    one = named(directory, Side.SERVER)
    assert (one.client_workload, one.server_workload) == (None, None)


def in_container(containers, cgroup_id, side=Side.SERVER):
    """What is said of both ends; the kernel knows two cgroups: 70 is `a1`, 80 is `b2`."""
    directory = ClusterDirectory(lambda *_: CART, {70: "a1", 80: "b2"}.get)
    directory.assign(7, CART)
    directory.contain(7, containers)
    one = session(side=side, interface=7, cgroup_id=cgroup_id, client_workload=None, server_workload=None)
    directory.name(one)
    return one


def test_the_only_container_needs_no_cgroup():
    one = in_container(Containers(only="web"), 0)
    assert one.server_workload == dataclasses.replace(CART, container="web")
    assert one.client_workload == CART


@pytest.mark.parametrize(("cgroup_id", "name"), [(70, "web"), (80, ""), (90, ""), (0, "")])
def test_of_several_the_one_whose_cgroup_sent(cgroup_id, name):
    containers = Containers(names={"a1": "web", "c3": "side"})
    assert in_container(containers, cgroup_id).server_workload.container == name
    assert in_container(containers, cgroup_id, Side.CLIENT).client_workload.container == name


def test_containers_that_come_later_and_a_veth_that_goes():
    directory = ClusterDirectory(lambda *_: CART, {70: "a1"}.get)
    directory.contain(7, Containers(only="too early"))
    directory.assign(7, CART)
    directory.contain(7, Containers())
    directory.contain(7, Containers(only="web"))
    assert named(directory, Side.SERVER).server_workload.container == "web"
    directory.assign(7, WEB)
    assert named(directory, Side.SERVER).server_workload.container == ""
