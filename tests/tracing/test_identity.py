"""tracing/identity.py: both ends of a call by OpenTelemetry's names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from clovisor_py.model.session import Side
from clovisor_py.model.workload import Workload
from clovisor_py.tracing.identity import INSTANCE, PEER, observed, of_own, of_peer, of_resource
from tests.support.sessions import WORKLOADS, pod, session

CART = Workload("cart-7d9f-x", "shop", "n1", "deployment/cart", "cart", "pod", "u1", "main")


def test_a_pod_that_tells_the_span():
    assert dict(of_own(CART)) == {
        "service.namespace": "shop",
        "service.instance.id": "shop.cart-7d9f-x.main",
        "k8s.namespace.name": "shop",
        "k8s.node.name": "n1",
        "k8s.pod.name": "cart-7d9f-x",
        "k8s.pod.uid": "u1",
        "k8s.container.name": "main",
        "k8s.service.name": "cart",
        "k8s.deployment.name": "cart",
    }


def test_the_service_that_was_called_is_of_the_span_alone():
    assert dict(of_resource(CART)) | {"k8s.service.name": "cart"} == of_own(CART)
    assert of_resource(CART) == of_resource(replace(CART, service="front"))


def test_the_other_end_has_the_same_names_in_a_namespace_of_our_own():
    other = dict(of_peer(CART))
    assert (other.pop("service.peer.name"), other.pop("service.peer.namespace")) == ("cart", "shop")
    own = dict(of_own(CART))
    del own["service.namespace"], own[INSTANCE]
    assert other == {PEER + key: value for key, value in own.items()}


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        (Workload("n1", node="n1", kind="node"), {"service.peer.name": "n1", f"{PEER}k8s.node.name": "n1"}),
        (Workload("ns1"), {"service.peer.name": "ns1"}),
        (
            Workload("web", "shop", service="web", kind="service"),
            {
                "service.peer.name": "web",
                "service.peer.namespace": "shop",
                f"{PEER}k8s.namespace.name": "shop",
                f"{PEER}k8s.service.name": "web",
            },
        ),
    ],
)
def test_what_is_no_pod(workload, expected):
    assert of_peer(workload) == expected


@pytest.mark.parametrize(
    ("owner", "key"),
    [("statefulset/db", "k8s.statefulset.name"), ("cronjob/db", "k8s.cronjob.name"), ("rollout/db", None), ("", None)],
)
def test_owners(owner, key):
    kinds = [one for one in of_own(Workload("db-0", "shop", owner=owner)) if one.endswith("set.name") or "job" in one]
    assert kinds == ([key] if key else [])


@pytest.mark.parametrize(
    ("workload", "title", "called"),
    [
        (CART, "cart", "cart"),
        (Workload("worker-1-x", "shop", owner="deployment/worker"), "worker", "worker"),
        (Workload("worker-1-x", "shop", owner="deployment/worker", service="front"), "front", "worker"),
        (Workload("worker-1-x", "shop", owner="deployment/worker", service_name="own"), "worker", "own"),
        (Workload("alone", "shop", service="front"), "front", "alone"),
    ],
)
def test_what_people_call_it_and_what_spans_do(workload, title, called):
    assert (workload.title, workload.called) == (title, called)
    assert of_peer(workload)["service.peer.name"] == called


def test_what_it_says_of_itself():
    said = Workload("cart-1", "shop", owner="deployment/cart", service_name="basket", service_version="1.2")
    assert of_own(said)["service.version"] == "1.2"
    assert of_peer(said)["service.peer.name"] == "basket"


@pytest.mark.parametrize(
    ("workload", "name"),
    [
        (Workload("web"), "web"),
        (pod("p"), "shop.p"),
        (Workload("web-x1", "shop", container="nginx", kind="pod"), "shop.web-x1.nginx"),
        (Workload("front", "shop", kind="service"), None),
    ],
)
def test_the_instance(workload, name):
    assert of_own(workload).get(INSTANCE) == name


def test_who_was_observed_tells_it():
    assert observed(session(client_workload=pod("a"), server_workload=pod("b"))) == pod("b")
    assert observed(session(side=Side.CLIENT, client_workload=pod("a"), server_workload=pod("b"))) == pod("a")
    assert observed(session(server_workload=None)) is None


@given(WORKLOADS)
def test_nothing_unknown_is_told(workload):
    if workload is not None:
        assert all(of_own(workload).values()) and all(of_peer(workload).values())
