from __future__ import annotations

from clovisor_py.directory import Directory
from clovisor_py.model.session import Side
from clovisor_py.model.workload import Endpoint
from tests.support.sessions import session


def filled() -> Directory:
    directory = Directory()
    directory.add(7, "web", ["10.0.0.2", "fd00::2"])
    directory.add(8, "cart", ["10.0.0.9"])
    return directory


def test_both_ends_where_both_are_traced() -> None:
    one = session(interface=7, client_workload=None, server_workload=None)
    filled().name(one)
    assert (one.client_workload.name, one.server_workload.name, one.peer_traced) == ("cart", "web", True)


def test_the_interface_is_certain_whatever_the_address() -> None:
    one = session(interface=7, side=Side.CLIENT, client=Endpoint("192.0.2.1", 1), server=Endpoint("192.0.2.2", 80))
    filled().name(one)
    assert one.client_workload.name == "web"
    assert one.server_workload is None
    assert not one.peer_traced


def test_a_pod_that_left_is_no_peer_any_more_and_keeps_its_own_name() -> None:
    directory = filled()
    directory.remove(8)
    one, own = session(interface=7), session(interface=8, side=Side.CLIENT)
    directory.name(one)
    directory.name(own)
    assert one.client_workload is None
    assert own.client_workload.name == "cart"


def test_an_unknown_interface_stays_an_address() -> None:
    one = session(interface=99, client=Endpoint("192.0.2.1", 1))
    filled().name(one)
    assert one.client_workload is None
    assert one.server_workload is None
