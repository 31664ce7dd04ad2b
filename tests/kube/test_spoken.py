"""kube/spoken.py: what a server is said to speak, by the address under which it is called."""

from __future__ import annotations

import pytest

from clovisor_py.kube import spoken as module
from clovisor_py.kube.changes import Change
from clovisor_py.kube.index import Index
from clovisor_py.kube.objects import Owner, Pod, Port, Ref, Service, Slice
from clovisor_py.kube.policy import Rules, decide
from clovisor_py.kube.spoken import Spoken

NAMES = frozenset({"http", "grpc", "redis", "kafka"})
PORTS = "clovisor.io/ports"
WEB = Ref("Deployment", "shop", "web")


class World:
    def __init__(self):
        self.index, self.known = Index(), {}
        rules = Rules(names=NAMES)
        self.spoken = Spoken(self.index, lambda pod: decide(pod, self.index.chain(pod.owner), None, rules), NAMES)

    def put(self, *objects):
        """The version that each of them makes."""
        versions = []
        for new in objects:
            change = Change("w", new.ref, self.known.get(new.ref), new)
            self.known[new.ref] = new
            self.index.apply(change, 10**18)
            self.spoken.note(change)
            versions.append(self.spoken.version)
        return versions[-1]

    def at(self, ip, port):
        return self.spoken.at(ip, port)


def pod(name, ip, *ports, says="", owner=WEB, **more):
    annotations = {PORTS: says} if says else {}
    ref = Ref("Pod", "shop", name)
    return Pod(ref, f"u-{name}", ips=(ip,), phase="Running", owner=owner, annotations=annotations, ports=ports, **more)


def service(*ports, **more):
    return Service(Ref("Service", "shop", "web"), ips=("10.96.0.7",), ports=ports, **more)


def slice_(*ports, addresses=("10.0.0.1",)):
    return Slice(Ref("EndpointSlice", "shop", "web-1"), "web", addresses, ports)


@pytest.fixture
def world():
    return World()


def test_a_service_says_by_its_port(world):
    world.put(service(Port(80, "http"), Port(81, "x", app_protocol="grpc"), Port(82, "x")))
    assert [world.at("10.96.0.7", port) for port in (80, 81, 82, 83)] == ["http", "grpc", "", ""]
    assert world.at("10.96.0.8", 80) == ""


def test_two_transports_of_one_number_say_something_only_if_they_agree(world):
    world.put(service(Port(53, "http"), Port(53, "redis", "UDP"), Port(80, "http"), Port(80, "http-3", "UDP")))
    assert (world.at("10.96.0.7", 53), world.at("10.96.0.7", 80)) == ("", "http")


def test_what_is_annotated_on_the_servers_side_comes_first(world):
    world.put(service(Port(80, "http")), pod("a", "10.0.0.1", says="8080=redis"), slice_(Port(8080, "http")))
    assert (world.at("10.96.0.7", 80), world.at("10.0.0.1", 8080)) == ("redis", "redis")
    world.put(pod("a", "10.0.0.1"))
    assert (world.at("10.96.0.7", 80), world.at("10.0.0.1", 8080)) == ("http", "http")
    world.put(Owner(WEB, annotations={PORTS: "8080=kafka"}))
    assert (world.at("10.96.0.7", 80), world.at("10.0.0.1", 8080)) == ("kafka", "kafka")


def test_a_containers_port_name_is_the_last_word(world):
    world.put(service(Port(80, "main")), pod("a", "10.0.0.1", Port(8080, "redis")), slice_(Port(8080, "main")))
    assert (world.at("10.96.0.7", 80), world.at("10.0.0.1", 8080)) == ("redis", "redis")


def test_pods_of_different_owners_do_not_speak_for_their_service(world):
    other = pod("b", "10.0.0.2", owner=Ref("Deployment", "shop", "canary"))
    world.put(service(Port(80, "http")), pod("a", "10.0.0.1", says="8080=redis"), other)
    world.put(slice_(Port(8080, "http"), addresses=("10.0.0.1", "10.0.0.2")))
    assert (world.at("10.96.0.7", 80), world.at("10.0.0.1", 8080)) == ("http", "redis")


def test_on_a_node(world):
    world.put(Owner(Ref("Node", "", "n1"), ips=("10.1.0.1",)), service(Port(80, "http"), node_ports=(30080,)))
    world.put(pod("host", "10.1.0.1", Port(9092, "kafka"), host_network=True))
    assert [world.at("10.1.0.1", port) for port in (30080, 9092, 22)] == ["http", "kafka", ""]


def test_what_is_outside_but_behind_a_service(world):
    world.put(slice_(Port(6379, "redis"), addresses=("192.0.2.1",)))
    assert (world.at("192.0.2.1", 6379), world.at("192.0.2.1", 80)) == ("redis", "")


def test_a_change_is_heeded_and_told_only_if_it_is_about_words(world):
    world.put(service(Port(80, "http")))
    before = world.spoken.version
    assert world.at("10.96.0.7", 80) == "http"
    assert world.put(service(Port(80, "redis"))) == before + 1
    assert world.at("10.96.0.7", 80) == "redis"
    assert world.put(pod("quiet", "10.0.0.9"), pod("quiet", "10.0.0.10")) == before + 1
    assert world.put(Owner(WEB, labels={"a": "b"})) == before + 1
    assert world.put(slice_(Port(8080))) == before + 1
    assert world.put(slice_(Port(8080, "grpc"))) == before + 2
    assert world.put(pod("loud", "10.0.0.11", says="80=redis")) == before + 3


def test_memory_is_bounded(world, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 10)
    for port in range(100):
        world.at("10.0.0.1", port)
    assert len(world.spoken._kept) <= 10
