"""Marking on a real API server: it knows who owns what after an apply, and what a Deployment's controller copies."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from clovisor_py.errors import ApiRefused, ClovisorError
from clovisor_py.kube import read
from clovisor_py.kube.annotations import PORTS, REDACT, TRACE
from clovisor_py.kube.client import Client
from clovisor_py.kube.hints import hints_for
from clovisor_py.kube.marking import MANAGER, clear, mark
from clovisor_py.kube.objects import Json, Ref
from clovisor_py.kube.policy import Rules, decide
from clovisor_py.kube.resources import REPLICASETS, SLICES
from tests.support.control_plane import ControlPlane, control_plane, programs

CONTROLLERS = ("deployment-controller", "endpointslice-controller")
NAMES = frozenset({"http", "kafka", "redis", "kubernetes.io/h2c"})
TEMPLATE = {"metadata": {"labels": {"app": "cart"}}, "spec": {"containers": [{"name": "c", "image": "none"}]}}
PORTS_OF_WEB = [{"containerPort": 8080, "name": "front"}, {"containerPort": 6379, "name": "redis"}]

pytestmark = pytest.mark.cluster


Kubectl = Callable[..., object]


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    programs("kube-controller-manager", "kubectl")
    with control_plane() as one:
        one.start_controllers(*CONTROLLERS)
        yield one


@pytest.fixture
def client(plane: ControlPlane) -> Iterator[Client]:
    made = Client(plane.kubeconfig())
    yield made
    made.close()


@pytest.fixture
def kubectl(plane: ControlPlane) -> Kubectl:
    command = [programs() / "kubectl", "--kubeconfig", plane.kubeconfig()]
    return lambda *arguments: subprocess.run([*command, *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture
def namespace(client: Client) -> str:
    name = f"marking-{time.monotonic_ns()}"
    client.apply("Namespace", "", name, {}, "test")
    return name


def until(look):
    """What `look` finds, once it finds something."""
    for _ in range(100):
        with suppress(ClovisorError):
            if found := look():
                return found
        time.sleep(0.1)
    raise AssertionError("nothing came")


def written(json: Json) -> dict[str, str]:
    meta = json["metadata"]
    pairs = {**meta.get("labels", {}), **meta.get("annotations", {})}
    return {key: text for key, text in pairs.items() if key.startswith("clovisor.io/")}


@pytest.fixture
def cart(client: Client, namespace: str) -> Ref:
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "cart"}}, "template": TEMPLATE}
    client.apply("Deployment", namespace, "cart", {"spec": spec}, "test")
    return Ref("Deployment", namespace, "cart")


def test_a_deployment(client, cart):
    template = client.get(*cart)["spec"]["template"]
    mark(client, cart, True, {PORTS: "8080=http"})
    assert mark(client, cart, True, {REDACT: "strict"}, dry_run=True).rows[1].after == "8080=http", "what was written stays"
    assert written(client.get(*cart)) == {TRACE: "true", PORTS: "8080=http"}, "dry"
    mark(client, cart, False, {REDACT: "strict"})
    assert written(client.get(*cart)) == {TRACE: "false", PORTS: "8080=http", REDACT: "strict"}
    assert client.get(*cart)["spec"]["template"] == template, "nothing restarts"
    assert all(row.after is None for row in clear(client, cart).rows)
    assert written(client.get(*cart)) == {}


def test_another_managers_word_is_replaced_and_the_rest_left(client, kubectl, cart):
    kubectl("label", f"deployment/{cart.name}", "-n", cart.namespace, f"{TRACE}=false")
    kubectl("annotate", f"deployment/{cart.name}", "-n", cart.namespace, f"{PORTS}=80=http")
    assert mark(client, cart, True, {}).rows[0] == (TRACE, "false", "true")
    assert [row.after for row in clear(client, cart).rows] == [None, "80=http"]


def test_a_vanished_object_is_not_made(client, namespace):
    body = {"metadata": {"uid": "00000000-0000-0000-0000-000000000000", "labels": {TRACE: "true"}}}
    with pytest.raises(ApiRefused):
        client.apply("Namespace", "", f"{namespace}-gone", body, MANAGER, force=True)
    with pytest.raises(ApiRefused):
        client.get("Namespace", "", f"{namespace}-gone")


def test_what_a_deployment_copies_to_its_replicaset_is_not_believed(client, cart):
    def replicaset():
        items = client.get_page(REPLICASETS)["items"]  # null where there are none yet
        return next((one for one in items or () if one["metadata"]["namespace"] == cart.namespace), None)

    until(replicaset)
    mark(client, cart, True, {PORTS: "9092=kafka"})
    copy = until(lambda: found if PORTS in written(found := replicaset()) else None)
    clear(client, cart)
    owners = [read.owner("ReplicaSet", replicaset()), read.owner("Deployment", client.get(*cart))]
    assert owners[0].annotations == {PORTS: "9092=kafka"} and written(copy), "it stays there for good"
    pod = read.pod({"metadata": {"name": "x", "namespace": cart.namespace, "labels": {TRACE: "true"}}})
    assert decide(pod, owners, None, Rules(names=NAMES)).hints == {}


@pytest.fixture
def node(client: Client, namespace: str) -> str:
    """Pods of nodes that are unknown are behind no Service."""
    client.apply("Node", "", namespace, {}, "test")
    return namespace


def test_named_target_ports(client, kubectl, namespace, node):
    ports = [
        {"port": 80, "name": "web", "targetPort": "front", "appProtocol": "kubernetes.io/h2c"},
        {"port": 81, "name": "http-x", "targetPort": 9000},
    ]
    container = {"name": "c", "image": "none", "ports": PORTS_OF_WEB}
    client.apply("Service", namespace, "web", {"spec": {"selector": {"app": "web"}, "ports": ports}}, "test")
    body = {"metadata": {"labels": {"app": "web"}}, "spec": {"nodeName": node, "containers": [container]}}
    client.apply("Pod", namespace, "web", body, "test")
    status = '{"status":{"phase":"Running","podIP":"10.1.2.3","podIPs":[{"ip":"10.1.2.3"}]}}'
    kubectl("patch", "pod", "web", "-n", namespace, "--subresource=status", "--type=merge", "-p", status)
    pod = read.pod(client.get("Pod", namespace, "web"))
    decision = decide(pod, [], None, Rules(default=True, names=NAMES))

    def behind():
        slices = map(read.slice_, client.get_page(SLICES)["items"])
        return [one for one in slices if one.ref.namespace == namespace and one.addresses]

    hints = hints_for(pod, until(behind), decision, NAMES)
    assert hints == {8080: "kubernetes.io/h2c", 9000: "http", 6379: "redis"}
