"""Real namespaces, wired as CNIs wire them; and what a kernel that does not tell, or two pods that say the same, make of it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from clovisor_py.errors import KernelRefused
from clovisor_py.kernel import netns, pod_veths, pods
from clovisor_py.kernel.links import link_names, netlink
from clovisor_py.kernel.pod_veths import PodVeths
from tests.support.kernel import node

pytestmark = pytest.mark.live

HOST = "10.88.0.1"


@pytest.fixture(autouse=True)
def own_node() -> Iterator[None]:
    with node():
        yield


@contextmanager
def sandbox(name: str, *addresses: str, bridge: int | None = None, route: bool = False) -> Iterator[int]:
    """A pod's namespace; the ifindex of its host veth. `route`: the host has a route to each address alone."""
    namespace = f"cvt{os.getpid()}-{name}"
    netns.create(namespace)
    try:
        ifindex = pods.add_pod(namespace, [f"{one}/{64 if ':' in one else 24}" for one in addresses], bridge=bridge)
        if route:
            with netlink("routing") as ip:
                for one in addresses:
                    family, length = (10, 128) if ":" in one else (2, 32)
                    ip.route("replace", dst=f"{one}/{length}", oif=ifindex, family=family, scope=0 if family == 10 else 253)
        yield ifindex
    finally:
        pods.delete_link(pods.link_name(namespace))
        netns.delete(namespace)


def found(veths: PodVeths, anew: bool = False) -> dict[str, int]:
    return {address: veth.ifindex for address, veth in veths.veths_by_address(anew).items()}


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that tells nothing of other namespaces."""

    def refuse(_: int | None) -> dict[int, tuple[str, ...]]:
        raise KernelRefused("not here; use another kernel.")

    monkeypatch.setattr(pod_veths, "addresses", refuse)


def test_both_families_of_two_pods() -> None:
    veths = PodVeths()
    with sandbox("a", "10.88.0.2", "fd00:88::2") as a, sandbox("b", "10.88.0.3") as b:
        assert found(veths) == {"10.88.0.2": a, "fd00:88::2": a, "10.88.0.3": b}
        one = veths.of(["10.88.0.2", "fd00:88::2"])
        assert not isinstance(one, str)
        assert (one.ifindex, one.peer_name, one.kind) == (a, "eth0", "veth")
        assert one.name == link_names()[a]
        assert "no veth of this node leads to 10.88.0.9" in str(veths.of(["10.88.0.9"]))
        assert "no veth" in str(veths.of([]))
        assert "different veths" in str(veths.of(["10.88.0.2", "10.88.0.3"]))
    assert found(veths) == {}


def test_a_restarted_pod_has_another_veth() -> None:
    veths = PodVeths()
    with sandbox("a", "10.88.0.2") as first:
        assert found(veths) == {"10.88.0.2": first}
    with sandbox("a", "10.88.0.2") as second:
        assert second != first
        assert found(veths) == {"10.88.0.2": second}


def test_an_address_that_comes_later_is_found() -> None:
    veths = PodVeths()
    with sandbox("a") as a:
        assert found(veths) == {}
        _add("a", "10.88.0.2")
        assert found(veths) == {"10.88.0.2": a}
        _add("a", "10.88.0.5")
        assert found(veths) == {"10.88.0.2": a}
        assert found(veths, anew=True) == {"10.88.0.2": a, "10.88.0.5": a}


def test_two_pods_with_one_address_are_none_until_the_host_tells_which() -> None:
    veths = PodVeths()
    with sandbox("a", "10.88.0.2") as a, sandbox("b", "10.88.0.2"):
        assert found(veths) == {}
        reason = str(veths.of(["10.88.0.2"]))
        assert reason.startswith("10.88.0.2 is behind several veths (")
        assert link_names()[a] in reason
        with netlink("routing") as ip:
            ip.route("add", dst="10.88.0.2/32", oif=a, scope=253)
        assert found(veths) == {"10.88.0.2": a}
    assert found(veths) == {}


def test_a_bridge_tells_which_of_two_has_the_address() -> None:
    veths = PodVeths()
    with ExitStack() as undo:
        bridge = pods.add_bridge("cvtbr", [f"{HOST}/24"])
        undo.callback(pods.delete_link, "cvtbr")
        a = undo.enter_context(sandbox("a", "10.88.0.2", bridge=bridge))
        undo.enter_context(sandbox("b", "10.88.0.3", bridge=bridge))
        _touch("10.88.0.2")
        _add("b", "10.88.0.2")  # it was not given that one
        assert found(veths)["10.88.0.2"] == a


@pytest.mark.usefixtures("mute")
def test_routes_where_the_kernel_does_not_tell() -> None:
    veths = PodVeths()
    with sandbox("a", "10.88.0.2", "fd00:88::2", route=True) as a, sandbox("b", "10.88.0.3"):
        assert found(veths) == {"10.88.0.2": a, "fd00:88::2": a}
        one = veths.of(["10.88.0.2"])
        assert not isinstance(one, str)
        assert (one.addresses, one.peer_name) == (("10.88.0.2", "fd00:88::2"), "")


@pytest.mark.usefixtures("mute")
def test_a_bridges_forwarding_table_where_the_kernel_does_not_tell() -> None:
    with ExitStack() as undo:
        bridge = pods.add_bridge("cvtbr", [f"{HOST}/24"])
        undo.callback(pods.delete_link, "cvtbr")
        a = undo.enter_context(sandbox("a", "10.88.0.2", bridge=bridge))
        b = undo.enter_context(sandbox("b", "10.88.0.3", bridge=bridge))
        _touch("10.88.0.2")
        _touch("10.88.0.3")
        assert found(PodVeths()) == {"10.88.0.2": a, "10.88.0.3": b}


def test_a_pair_within_the_host_is_no_pods() -> None:
    with netlink("making a veth") as ip:
        ip.link("add", ifname="cvta", kind="veth", peer={"ifname": "cvtb"})
        ip.route("add", dst="10.88.0.2/32", oif=_up(ip, "cvta"), scope=253)
    try:
        assert found(PodVeths()) == {}
    finally:
        pods.delete_link("cvta")


def test_a_hundred_pods_are_found_fast() -> None:
    veths = PodVeths()
    with ExitStack() as undo:
        for number in range(2, 62):
            undo.enter_context(sandbox(f"n{number}", f"10.88.0.{number}"))
        begin = time.perf_counter()
        assert len(found(veths)) == 60
        first = time.perf_counter() - begin
        begin = time.perf_counter()
        assert len(found(veths)) == 60
        again = time.perf_counter() - begin
    assert first < 0.5
    assert again < 0.05


def _up(ip: object, name: str) -> int:
    (ifindex,) = (index for index, known in link_names().items() if known == name)
    ip.link("set", index=ifindex, state="up")  # type: ignore[attr-defined]
    return ifindex


def _add(name: str, address: str) -> None:
    def inside() -> None:
        with netlink("adding an address") as ip:
            ip.addr("add", index=next(i for i, n in link_names().items() if n == "eth0"), address=address, prefixlen=24)

    netns.call_inside(f"cvt{os.getpid()}-{name}", inside)


def _touch(address: str) -> None:
    """Let the host have spoken with it, as the kubelet's probes do."""
    with socket.socket() as client:
        client.settimeout(5)
        assert client.connect_ex((address, 9)) == 111
