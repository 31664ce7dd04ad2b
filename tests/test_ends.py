"""ends.py: who is at both ends, where addresses are rewritten on the way."""

from __future__ import annotations

import pytest

from clovisor_py import ends as module
from clovisor_py.ends import EndFinder
from clovisor_py.kernel.conntrack import Entry
from clovisor_py.model.session import Side
from clovisor_py.model.workload import Endpoint, Workload
from clovisor_py.translation import Translation
from tests.support.sessions import START, session

CART = Workload("cart-x", "shop", "n1", "deployment/cart", kind="pod", uid="u-cart")
WEB = Workload("web-x", "shop", "n1", "deployment/web", kind="pod", uid="u-web")
WEB_BEHIND = Workload("web-x", "shop", "n1", "deployment/web", "web", "pod", "u-web")
SERVICE = Workload("web", "shop", service="web", kind="service")
FRONT = Workload("front", "shop", service="front", kind="service")
NODE = Workload("n1", node="n1", kind="node")
ADDRESSES = {
    "10.0.0.1": CART,
    "10.0.0.2": WEB,
    "10.0.0.3": WEB_BEHIND,
    "10.96.0.7": SERVICE,
    "10.96.0.8": FRONT,
    "192.0.2.1": NODE,
}
CLIENT, CALLED, POD = Endpoint("10.0.0.1", 40000), Endpoint("10.96.0.7", 80), Endpoint("10.0.0.2", 8080)
BRIDGE, OUTSIDE = Endpoint("10.244.0.1", 555), Endpoint("198.51.100.7", 4000)


class Table:
    """Conntrack's, with at most one connection in it."""

    def __init__(self, *parts):
        self.entry = Entry(*parts) if parts else None
        self.asked = 0

    def of_client(self, client, called, transport):
        self.asked += 1
        return self.entry if self.entry and (client, called) == self.entry[:2] else None

    def of_server(self, seen_client, server, transport):
        self.asked += 1
        return self.entry if self.entry and (server, seen_client) == self.entry[2:] else None


def find(table, side, client, server, own):
    one = session(side=side, client=client, server=server, attributes={})
    finder = EndFinder(
        lambda ip, port, time_ns: ADDRESSES.get(ip), table and Translation(table, lambda _: {1: [BRIDGE.ip]}, lambda: 0.0)
    )
    return finder.find(one, own), one.attributes


def test_a_client_that_calls_a_service_reaches_a_pod():
    ends, attributes = find(Table(CLIENT, CALLED, POD, CLIENT), Side.CLIENT, CLIENT, CALLED, CART)
    assert ends == (CART, WEB_BEHIND, True)
    assert attributes == {}


@pytest.mark.parametrize(
    "table",
    [
        None,
        Table(),
        Table(CLIENT, CALLED, CALLED, CLIENT),
        Table(CLIENT, CALLED, OUTSIDE, CLIENT),
    ],
    ids=["cannot be asked", "not there", "not translated", "to nobody that is known"],
)
def test_where_the_pod_is_not_known_the_service_is(table):
    assert find(table, Side.CLIENT, CLIENT, CALLED, CART)[0] == (CART, SERVICE, True)


def test_a_pods_own_address_needs_no_question():
    table = Table()
    assert find(table, Side.CLIENT, CLIENT, POD, CART)[0] == (CART, WEB, True)
    assert find(table, Side.CLIENT, CLIENT, OUTSIDE, CART)[0] == (CART, None, True)
    assert find(table, Side.SERVER, CLIENT, Endpoint("10.0.0.3", 8080), WEB)[0] == (CART, WEB_BEHIND, True)
    assert table.asked == 0


def test_through_which_of_several_services_a_server_was_called():
    front = Endpoint("10.96.0.8", 80)
    ends, _ = find(Table(CLIENT, front, POD, CLIENT), Side.SERVER, CLIENT, POD, WEB)
    assert (ends.server and ends.server.service, ends.server and ends.server.name) == ("front", "web-x")
    assert find(Table(CLIENT, POD, POD, CLIENT), Side.SERVER, CLIENT, POD, WEB)[0] == (CART, WEB, True)


def test_a_service_of_another_namespace_is_not_the_pods():
    there = Endpoint("10.96.0.9", 80)
    ADDRESSES[there.ip] = Workload("web", "other", service="web", kind="service")
    try:
        assert find(Table(CLIENT, there, POD, CLIENT), Side.SERVER, CLIENT, POD, WEB)[0].server == WEB
    finally:
        del ADDRESSES[there.ip]


@pytest.mark.parametrize("seen", [BRIDGE, Endpoint("192.0.2.1", 555)])
def test_a_masqueraded_client_is_told_as_what_it_is(seen):
    """From outside: the node, and the client's own address beside it; a pod of the cluster: that pod."""
    ends, attributes = find(Table(OUTSIDE, CALLED, POD, seen), Side.SERVER, seen, POD, WEB)
    assert ends == (NODE, WEB_BEHIND, False)
    assert attributes == {"client.address": OUTSIDE.ip, "client.port": OUTSIDE.port}
    ends, attributes = find(Table(CLIENT, CALLED, POD, seen), Side.SERVER, seen, POD, WEB)
    assert ends == (CART, WEB_BEHIND, False)
    assert attributes == {"client.address": CLIENT.ip, "client.port": CLIENT.port}


def test_the_node_itself_calls():
    ends, attributes = find(Table(BRIDGE, POD, POD, BRIDGE), Side.SERVER, BRIDGE, POD, WEB)
    assert (ends, attributes) == ((NODE, WEB, True), {})
    assert find(Table(), Side.SERVER, BRIDGE, POD, WEB)[0] == (NODE, WEB, True)


def test_an_outside_client_that_is_not_masqueraded():
    table = Table()
    assert find(table, Side.SERVER, OUTSIDE, Endpoint("10.0.0.3", 8080), WEB)[0] == (None, WEB_BEHIND, True)
    assert table.asked == 0


def test_nobody_is_known():
    assert find(Table(), Side.SERVER, OUTSIDE, Endpoint("203.0.113.9", 1), None)[0] == (None, None, True)


class Names(dict):
    """Who has an address, and how often that was asked."""

    asked = 0

    def __call__(self, ip, port, time_ns):
        self.asked += 1
        return self.get(ip)


def test_the_ends_of_a_connection_are_looked_up_once_in_a_while():
    names = Names(ADDRESSES)
    finder = EndFinder(names)

    def at(ms, own=CART, **changes):
        fields = {"side": Side.CLIENT, "client": CLIENT, "server": POD, "start_ns": START + ms * 1_000_000}
        before = names.asked
        found = finder.find(session(**fields | changes), own)
        return found.server, names.asked - before

    assert at(0) == (WEB, 2)
    assert at(1) == at(499) == (WEB, 0)
    assert at(-1) == (WEB, 2)  # it began before what was looked up
    names[POD.ip] = CART
    assert at(100) == (WEB, 0)
    assert at(600) == (CART, 2)
    assert at(601, own=WEB) == (CART, 2)  # the veth is another pod's
    assert at(602, client=Endpoint("10.0.0.1", 40001)) == (CART, 2)


def test_what_is_not_known_may_be_a_moment_later():
    names = Names({CLIENT.ip: CART})
    finder = EndFinder(names)
    assert finder.find(session(side=Side.CLIENT, client=CLIENT, server=POD), CART).server is None
    names[POD.ip] = WEB
    assert finder.find(session(side=Side.CLIENT, client=CLIENT, server=POD), CART).server == WEB


def test_every_session_of_a_masqueraded_connection_says_so():
    table = Table(OUTSIDE, CALLED, POD, BRIDGE)
    finder = EndFinder(lambda ip, *_: ADDRESSES.get(ip), Translation(table, lambda _: {1: [BRIDGE.ip]}, lambda: 0.0))
    for _ in range(2):
        one = session(client=BRIDGE, server=POD, attributes={})
        assert finder.find(one, WEB) == (NODE, WEB_BEHIND, False)
        assert one.attributes["client.address"] == OUTSIDE.ip
    assert table.asked == 1


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MOST", 10)
    finder = EndFinder(lambda ip, *_: ADDRESSES.get(ip))
    for port in range(50):
        finder.find(session(client=CLIENT._replace(port=port), server=POD), WEB)
    assert len(finder._kept) == 10


def test_an_address_outside_has_the_name_under_which_this_pod_was_told_it():
    finder = EndFinder(lambda ip, *_: ADDRESSES.get(ip))
    answer = {"dns.question.name": "api.example", "dns.answers": [OUTSIDE.ip, POD.ip]}
    finder.find(session(side=Side.CLIENT, client=CLIENT, server=CALLED, attributes=answer), CART)

    def called(server, **how):
        return finder.find(session(side=Side.CLIENT, client=CLIENT, server=server, attributes={}, **how), CART).server

    assert called(OUTSIDE) == Workload("api.example", kind="external")
    assert called(POD) == WEB
    assert called(OUTSIDE, interface=8) is None
    finder.forget(7)
    assert called(OUTSIDE._replace(port=1)) is None
