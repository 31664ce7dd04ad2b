"""What changes of the API server's objects mean for the pods of this node; the watches are played."""

from __future__ import annotations

import pytest

from clovisor_py.kube import cluster as module
from clovisor_py.kube.cluster import OWN_PODS, Cluster, watches
from clovisor_py.kube.objects import Owner, Pod, Port, Ref, Slice
from clovisor_py.kube.policy import Rules
from clovisor_py.kube.reflector import State
from clovisor_py.kube.watch import Change
from clovisor_py.model.workload import Workload

TRACE = {"clovisor.io/trace": "true"}
NAMES = frozenset({"http", "redis"})


class Watcher:
    def __init__(self, client, watches, pace=None):
        self.news, self.watches, self.nodes = [], watches, []
        self.synced = {watch.name: (1.0, "") for watch in watches}

    def changes(self):
        news, self.news = self.news, []
        return news

    def objects(self, name):
        return dict.fromkeys(Ref("Node", "", one) for one in self.nodes)

    def known(self, name, ref):
        return ref if ref in self.objects(name) else None

    def states(self):
        return [State(name, synced, None, problem, 0, 0, 0, 0, 0, 0, 0) for name, (synced, problem) in self.synced.items()]


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(module, "Watcher", Watcher)
    return Cluster(None, "n1", Rules(names=NAMES), NAMES, clock=lambda: 10**18)


def put(cluster, watch, new, old=None):
    cluster._watcher.news.append(Change(watch, (new or old).ref, old, new))


def pod(name="cart", namespace="shop", ips=("10.0.0.1",), **more):
    made = Pod(Ref("Pod", namespace, name), f"uid-{name}", "n1", ips, phase="Running")
    return made._replace(**more)


def owner(kind, name, namespace="shop", **more):
    return Owner(Ref(kind, namespace, name), **more)


def test_a_node_that_nobody_knows(cluster):
    """Seen by an operator: `agent --node nosuch` said that none of no pods was traced, and nothing else."""
    watcher = cluster._watcher
    assert cluster.unknown_node().endswith("CLOVISOR_NODE (there is none).")
    watcher.nodes = [f"lab-{number}" for number in range(7)]
    assert "knows no node n1, " in cluster.unknown_node()
    assert cluster.unknown_node().endswith("(there are lab-0, lab-1, lab-2, lab-3, lab-4 and 2 more).")
    watcher.synced["nodes"] = (None, "it is forbidden.")
    assert cluster.unknown_node() == "", "who was not told does not know"
    watcher.synced["nodes"], watcher.nodes = (1.0, ""), ["n1"]
    assert cluster.unknown_node() == ""


def test_a_pod_of_this_node_comes_and_goes(cluster):
    cart = pod(labels=TRACE)
    put(cluster, OWN_PODS, cart)
    assert cluster.take() == {cart.ref}
    wanted = cluster.wanted(cart.ref)
    assert wanted.traced and wanted.pod is cart and set(cluster.pods()) == {cart.ref}
    assert cluster.wanted(cart.ref) is wanted
    put(cluster, OWN_PODS, None, cart)
    assert cluster.take() == {cart.ref}
    assert cluster.wanted(cart.ref) is None
    assert cluster.take() == set()


def test_a_label_on_the_owner_and_on_the_namespace_concerns_its_pods(cluster):
    rs = owner("ReplicaSet", "cart-1", owner=Ref("Deployment", "shop", "cart"))
    cart, other = pod(owner=rs.ref), pod("other", "else", ("10.0.0.2",))
    put(cluster, OWN_PODS, cart)
    put(cluster, OWN_PODS, other)
    cluster.take()
    assert not cluster.wanted(cart.ref).traced
    put(cluster, "replicasets", rs)
    assert cluster.take() == {cart.ref}
    put(cluster, "deployments", owner("Deployment", "cart", labels=TRACE))
    assert cluster.take() == {cart.ref}
    assert cluster.wanted(cart.ref).traced
    put(cluster, "namespaces", Owner(Ref("Namespace", "", "else"), labels=TRACE))
    assert cluster.take() == {other.ref}
    assert cluster.wanted(other.ref).traced
    assert cluster.workload(cart).owner == "deployment/cart"


def test_an_owner_that_says_nothing_concerns_nobody(cluster):
    put(cluster, OWN_PODS, pod())
    cluster.take()
    put(cluster, "replicasets", owner("ReplicaSet", "quiet"))
    put(cluster, "pods", pod("elsewhere", node="n2", ips=("10.0.9.9",)))
    assert cluster.take() == set()


def test_hints_come_from_the_slices_with_its_address(cluster):
    cart = pod(labels=TRACE)
    put(cluster, OWN_PODS, cart)
    cluster.take()
    behind = Slice(Ref("EndpointSlice", "shop", "cart-x"), "cart", ("10.0.0.1",), (Port(8080, "http"),))
    put(cluster, "endpointslices", behind)
    assert cluster.take() == {cart.ref}
    before = cluster.wanted(cart.ref)
    assert before.hints == {8080: "http"}
    put(cluster, "endpointslices", None, behind)
    assert cluster.take() == {cart.ref}
    assert cluster.wanted(cart.ref).hints == {}
    assert cluster.wanted(cart.ref).settings != before.settings
    assert cluster._slices == {}


def test_it_is_ready_when_everything_was_listed_or_refused(cluster):
    assert cluster.ready
    cluster._watcher.synced["deployments"] = (None, "")
    assert not cluster.ready
    cluster._watcher.synced["deployments"] = (None, "the API server forbids it.")
    assert cluster.ready
    cluster._watcher.synced[OWN_PODS] = (None, "the API server is away.")
    assert not cluster.ready


def test_the_pods_of_other_nodes_are_waited_for_only_to_name_them(cluster):
    assert cluster.named
    cluster._watcher.synced["pods"] = (None, "")
    assert cluster.ready and not cluster.named
    cluster._watcher.synced["pods"] = (None, "the API server forbids it.")
    assert cluster.named


def test_settings_that_change_concern_all(cluster):
    cart = pod()
    put(cluster, OWN_PODS, cart)
    cluster.take()
    assert not cluster.wanted(cart.ref).traced
    assert cluster.set_rules(Rules(default=True, names=NAMES)) == {cart.ref}
    assert cluster.wanted(cart.ref).traced


def test_only_this_nodes_pods_are_watched_whole():
    found = {watch.name: watch for watch in watches("n1")}
    assert found[OWN_PODS].field_selector == "spec.nodeName=n1"
    assert len(found) == 12


def put_agent(cluster, node="n2", old=None, ready=True):
    """An agent's pod as it is now."""
    new = pod(f"clovisor-{node}", "clovisor", ("192.0.2.2",), node=node, host_network=True, agent=ready)
    put(cluster, "pods", new, old)
    cluster.take()
    return new


def test_a_pod_of_another_node_is_traced_there_by_the_same_rules(cluster):
    put_agent(cluster)
    far = pod("far", ips=("10.1.0.1",), node="n2", labels=TRACE)
    known = {far.ref: far}
    cluster._watcher.known = lambda watch, ref: known.get(ref)
    named = Workload("far", "shop", "n2", kind="pod", uid="uid-far")
    assert cluster.traced_elsewhere(named)
    assert not cluster.traced_elsewhere(Workload("far", "shop", "n2", kind="pod", uid="another of that name"))
    assert not cluster.traced_elsewhere(Workload("near", "shop", "n1", kind="pod", uid="uid-near"))
    assert not cluster.traced_elsewhere(Workload("web", "shop", kind="service"))
    assert not cluster.traced_elsewhere(Workload("gone", "shop", "n2", kind="pod", uid="uid-gone"))


def test_nobody_traces_it_where_no_agent_is_ready(cluster):
    far = pod("far", ips=("10.1.0.1",), node="n2", labels=TRACE)
    cluster._watcher.known = lambda watch, ref: far
    named = Workload("far", "shop", "n2", kind="pod", uid="uid-far")
    put_agent(cluster, node="n3")
    assert not cluster.traced_elsewhere(named)
    agent = put_agent(cluster)
    assert cluster.traced_elsewhere(named)
    agent = put_agent(cluster, old=agent, ready=False)
    assert not cluster.traced_elsewhere(named)
    put_agent(cluster, old=agent)
    assert cluster.traced_elsewhere(named)


@pytest.mark.parametrize("said", [{"clovisor.io/capture": "none"}, {"clovisor.io/egress": "10.0.0.5:5432"}])
def test_nobody_counts_on_calls_that_are_not_all_read(cluster, said):
    far = pod("far", ips=("10.1.0.1",), node="n2", labels=TRACE, annotations=said)
    cluster._watcher.known = lambda watch, ref: far
    put_agent(cluster)
    assert not cluster.traced_elsewhere(Workload("far", "shop", "n2", kind="pod", uid="uid-far"))


def test_what_was_decided_of_it_lasts_until_something_changes(cluster):
    put_agent(cluster)
    far = pod("far", ips=("10.1.0.1",), node="n2")
    known = {far.ref: far}
    cluster._watcher.known = lambda watch, ref: known.get(ref)
    named = Workload("far", "shop", "n2", kind="pod", uid="uid-far")
    assert not cluster.traced_elsewhere(named)
    known[far.ref] = far._replace(labels=TRACE)
    put(cluster, "pods", known[far.ref], far)
    cluster.take()
    assert cluster.traced_elsewhere(named)
    known[far.ref] = far._replace(labels=TRACE, host_network=True)
    put(cluster, "pods", known[far.ref], far)
    cluster.take()
    assert not cluster.traced_elsewhere(named)
    known[far.ref] = far
    cluster.set_rules(Rules(default=True, names=NAMES))
    assert cluster.traced_elsewhere(named)


def test_how_many_of_a_pods_sessions_become_spans(cluster):
    far, near = pod("far", node="n2"), pod("near")
    known = {one.ref: one for one in (far, near)}
    cluster._watcher.known = lambda watch, ref: known.get(ref)
    names = [Workload(one.ref.name, "shop", one.node, kind="pod", uid=one.uid) for one in (far, near)]
    cluster.set_rules(Rules(sample=0.5, names=NAMES))
    assert [cluster.sampled(one) for one in names] == [0.5, 0.5]
    known[far.ref] = far._replace(annotations={"clovisor.io/sample": "0.1"})
    put(cluster, "pods", known[far.ref], far)
    cluster.take()
    assert [cluster.sampled(one) for one in names] == [0.1, 0.5]
    cluster.set_rules(Rules(names=NAMES))
    assert [cluster.sampled(one) for one in names] == [0.1, 1.0]


def test_what_a_pod_of_this_node_says_of_itself_goes_with_it(cluster):
    said = {"app.kubernetes.io/name": "basket", "app.kubernetes.io/version": "1.2"}
    found = cluster.workload(pod(labels=TRACE | said, owner=Ref("Deployment", "shop", "cart")))
    assert (found.owner, found.called, found.service_version) == ("deployment/cart", "basket", "1.2")
