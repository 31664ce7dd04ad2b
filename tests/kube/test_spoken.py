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


@pytest.fixture
def busy(world):
    """A Service `web` with one pod, a node, and answers that were given: of the Service, its node port, and the pod."""
    world.put(Owner(WEB), Owner(REPLICA, WEB), Owner(Ref("Node", "", "n1"), ips=("10.1.0.1",)))
    world.put(service(Port(80, "main"), node_ports=(30080,)), pod("a", "10.0.0.1", owner=REPLICA), slice_(Port(8080, "main")))
    assert [world.at(*place) for place in PLACES] == ["", "", ""]
    return world


PLACES = [("10.96.0.7", 80), ("10.1.0.1", 30080), ("10.0.0.1", 8080)]
REPLICA = Ref("ReplicaSet", "shop", "web-1")


@pytest.mark.parametrize(
    ("changed", "answers"),
    [
        pytest.param(service(Port(80, "http"), node_ports=(30080,)), ["http", "http", ""], id="the Service's port"),
        pytest.param(slice_(Port(8080, "main", app_protocol="grpc")), ["grpc"] * 3, id="the slice's port"),
        pytest.param(pod("a", "10.0.0.1", says="8080=redis", owner=REPLICA), ["redis"] * 3, id="the pod"),
        pytest.param(pod("a", "10.0.0.1", Port(8080, "kafka"), owner=REPLICA), ["kafka"] * 3, id="its port"),
        pytest.param(Owner(WEB, annotations={PORTS: "8080=redis"}), ["redis"] * 3, id="what controls it"),
    ],
)
def test_a_change_reaches_the_answers_that_hang_on_it(busy, changed, answers):
    before = busy.spoken.version
    assert busy.put(changed) == before + 1
    assert [busy.at(*place) for place in PLACES] == answers


def test_the_namespace_is_heeded_too():
    world = World()
    space = Ref("Namespace", "", "shop")
    world.spoken = Spoken(world.index, lambda pod: decide(pod, [], world.index.owner(space), Rules(names=NAMES)), NAMES)
    world.put(Owner(space), pod("a", "10.0.0.1"))
    assert world.at("10.0.0.1", 8080) == ""
    assert world.put(Owner(space, annotations={PORTS: "8080=redis"})) == 1
    assert world.at("10.0.0.1", 8080) == "redis"


def test_an_owner_that_becomes_known_late_is_heeded(world):
    world.put(pod("a", "10.0.0.1"))
    assert world.at("10.0.0.1", 8080) == ""
    assert world.put(Owner(WEB, annotations={PORTS: "8080=redis"})) == 1
    assert world.at("10.0.0.1", 8080) == "redis"


def test_an_address_that_another_has_now(world):
    world.put(pod("a", "10.0.0.1", says="8080=redis"))
    assert world.at("10.0.0.1", 8080) == "redis"
    assert world.put(pod("a", "10.0.0.9", says="8080=redis")) == 1
    assert world.at("10.0.0.1", 8080) == ""


def test_what_happens_elsewhere_changes_no_answer_and_is_not_told(busy, monkeypatch):
    before, kept = busy.spoken.version, dict(busy.spoken._kept)
    for number in range(50):
        owner = Ref("Job", "shop", f"job-{number}")
        busy.put(Owner(owner, annotations={PORTS: "8080=redis"}))
        busy.put(pod(f"job-{number}", f"10.0.1.{number}", Port(8080, "http"), says="9090=kafka", owner=owner))
    busy.put(Service(Ref("Service", "shop", "other"), ips=("10.96.0.8",), ports=(Port(80, "http"),), node_ports=(30081,)))
    busy.put(Slice(Ref("EndpointSlice", "shop", "other-1"), "other", ("10.0.1.1",), (Port(8080, "http"),)))
    assert busy.spoken.version == before
    assert busy.spoken._kept == kept


def test_what_says_nothing_of_ports_is_not_told_but_heeded(busy):
    before = busy.spoken.version
    assert busy.put(pod("a", "10.0.0.1", owner=Ref("Deployment", "shop", "other"))) == before
    assert busy.put(Owner(WEB, labels={"a": "b"})) == before
    assert busy.put(Owner(Ref("Deployment", "shop", "other"), annotations={PORTS: "8080=redis"})) == before
    assert busy.at("10.0.0.1", 8080) == "redis"


def test_who_goes_by_an_answer_that_is_kept_no_more_is_told_all_the_same(busy):
    before = busy.spoken.version
    for number, name in enumerate(("http", "grpc", "redis"), 1):  # nobody asks in between
        assert busy.put(service(Port(80, name), node_ports=(30080,))) == before + number


def test_memory_is_bounded_and_what_is_forgotten_is_told(world, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 10)
    for port in range(100):
        world.at("10.0.0.1", port)
    spoken = world.spoken
    assert len(spoken._kept) <= 10
    assert len(spoken._hangs_on) <= 10
    assert len(spoken._hanging) <= 11
    assert world.put(pod("a", "10.0.9.9", says="1=http")) == 1  # it may be anybody's
    assert world.put(pod("b", "10.0.9.8", says="1=http")) == 1


def test_asking_again_leaves_nothing_behind(busy):
    sizes = len(busy.spoken._hangs_on), len(busy.spoken._hanging)
    for number in range(20):
        busy.put(service(Port(80, ("http", "grpc")[number % 2]), node_ports=(30080,)))
        for place in PLACES:
            busy.at(*place)
    assert (len(busy.spoken._hangs_on), len(busy.spoken._hanging)) == sizes
