"""Which sessions are shown; the options themselves are in test_options."""

from __future__ import annotations

import pytest

from clovisor_py.cli import _filters
from clovisor_py.cli._filters import Statuses, is_peer, peer
from clovisor_py.model.session import Outcome, Side
from clovisor_py.model.workload import Endpoint, Workload
from tests.support.sessions import session

KUBELET = Workload("n1", node="n1", kind="node")
WEB = Workload("web-7d9f-x2x", "shop", owner="Deployment/web", service="front", kind="pod")
CART = Workload("cart-0", "shop", owner="StatefulSet/cart", kind="pod")


def between(client: Workload | None, server: Workload | None, side: Side = Side.SERVER):
    ends = {"client": Endpoint("10.0.0.9", 4711), "server": Endpoint("10.0.0.2", 80)}
    return session(side=side, client_workload=client, server_workload=server, **ends)


@pytest.mark.parametrize(
    "text",
    ["web-7d9f-x2x", "web", "front", "shop/web", "shop/*", "deploy/web", "deployment/web", "svc/front", "ns/shop", "web-*"],
)
def test_a_peer_by_each_of_its_names(text: str) -> None:
    test = peer([text])
    assert test(between(WEB, CART))
    assert not test(between(KUBELET, CART))


def test_the_peer_is_the_other_end() -> None:
    assert peer(["cart"])(between(WEB, CART, Side.CLIENT))
    assert not peer(["cart"])(between(WEB, CART, Side.SERVER))
    assert peer(["10.0.0.9"])(between(None, CART))
    assert not peer(["10.0.0.2"])(between(None, CART))


def test_in_a_capture_that_names_no_pod_either_end_is() -> None:
    assert all(peer([text])(between(None, None)) for text in ("10.0.0.9", "10.0.0.2", "10.0.0.0/24"))
    assert not peer(["10.0.1.0/24", "fd00::/8", "web"])(between(None, None))


def test_a_kubelets_probes_can_be_left_out() -> None:
    rest = _filters.unless(peer(["node/*"]))
    assert not rest(between(KUBELET, CART)) and rest(between(WEB, CART))


def test_an_address_however_it_is_written() -> None:
    six = session(client=Endpoint("fd00::9", 4711), server=Endpoint("fd00::2", 80))
    assert peer(["FD00:0::9"])(six) and peer(["fd00::/64"])(six) and not peer(["fd01::/64"])(six)
    assert peer(["10.0.0.9"])(session(client=Endpoint("::ffff:10.0.0.9", 4711)))
    assert not peer(["10.0.0.9"])(session(client=Endpoint("no address", 1), server=Endpoint("10.0.0.2", 80)))


@pytest.mark.parametrize("text", ["10.0.0.300", "10.0.0", "10.0.0.0/33", "10.0.0.0/8x", "fd00::/129", "fd00:", "", " "])
def test_what_can_be_no_peer(text: str) -> None:
    assert not is_peer(text)


@pytest.mark.parametrize("text", ["10.0.0.9", "10.0.0.9/8", "fd00::/8", "web", "shop/web", "node/*", "web.example.org", "cafe"])
def test_what_can(text: str) -> None:
    assert is_peer(text)


def test_a_status_that_nothing_had_is_told_with_those_that_came() -> None:
    asked = Statuses(["foo", "bar"])
    for status in ("200", "404", "200", "A", "B", "C", "D", "E"):
        assert not asked(session(status=status))
    assert asked.missed() == ("no session had status foo or bar; there were 200 × 2, 404 × 1, A × 1, B × 1, C × 1, others × 2")
    assert asked(session(status="FOO"))
    assert asked.missed() == ""
    assert Statuses(["foo"]).missed() == "", "nothing came at all"


def test_a_refused_connection_is_called_so_everywhere() -> None:
    refused = session(status="refused", outcome=Outcome.RESET, connection=True)
    assert Statuses(["refused"])(refused) and Statuses(["reset"])(refused)
