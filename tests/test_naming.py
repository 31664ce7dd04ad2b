from __future__ import annotations

from clovisor_py.model.session import Side
from clovisor_py.model.workload import Workload
from clovisor_py.naming import ClusterDirectory
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


def test_unknown_stays_an_address():
    directory = ClusterDirectory(lambda *_: None)
    one = named(directory, Side.SERVER)
    assert (one.client_workload, one.server_workload) == (None, None)
