"""tracing/identity.py: both ends of a call by OpenTelemetry's names."""

from __future__ import annotations

import pytest
from hypothesis import given

from clovisor_py.model.workload import Workload
from clovisor_py.tracing.identity import PEER, of_own, of_peer
from tests.support.sessions import WORKLOADS

CART = Workload("cart-7d9f-x", "shop", "n1", "deployment/cart", "cart", "pod", "u1", "main")


def test_a_pod_that_tells_the_span():
    assert dict(of_own(CART)) == {
        "service.namespace": "shop",
        "k8s.namespace.name": "shop",
        "k8s.node.name": "n1",
        "k8s.pod.name": "cart-7d9f-x",
        "k8s.pod.uid": "u1",
        "k8s.container.name": "main",
        "k8s.service.name": "cart",
        "k8s.deployment.name": "cart",
    }


def test_the_other_end_has_the_same_names_in_a_namespace_of_our_own():
    other = dict(of_peer(CART))
    assert (other.pop("service.peer.name"), other.pop("service.peer.namespace")) == ("cart", "shop")
    own = dict(of_own(CART))
    del own["service.namespace"]
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


def test_what_people_call_it():
    assert CART.title == "cart"
    assert Workload("worker-1-x", "shop", owner="deployment/worker").title == "worker"
    assert Workload("alone", "shop").title == "alone"


@given(WORKLOADS)
def test_nothing_unknown_is_told(workload):
    if workload is not None:
        assert all(of_own(workload).values()) and all(of_peer(workload).values())
