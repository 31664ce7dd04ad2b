"""kube/watch.py and client.py against a real API server: lists, events, refusals, restarts, compaction."""

from __future__ import annotations

import select
import time

import pytest

from clovisor_py.errors import ApiRefused, ApiUnavailable, Forbidden, Gone, NotFound
from clovisor_py.kube import read
from clovisor_py.kube.client import Client
from clovisor_py.kube.index import Index
from clovisor_py.kube.resources import DEPLOYMENTS, NAMESPACES, PODS, REPLICASETS, SERVICES, SLICES
from clovisor_py.kube.watch import Pace, Watch, Watcher
from tests.kube.test_watch import Reader
from tests.support.control_plane import NOBODY, control_plane

pytestmark = pytest.mark.cluster

QUICK = Pace(watch_s=30.0, pause_s=0.05, longest_pause_s=0.5)
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def plane():
    with control_plane() as one:
        yield one


@pytest.fixture
def client(plane):
    one = Client(plane.kubeconfig())
    yield one
    one.close()


@pytest.fixture
def shop(client, request):
    """A namespace of the test's own."""
    name = f"t{abs(hash(request.node.name)) % 10**8}"
    client.apply("Namespace", "", name, {}, "test")
    return name


def pod(client, namespace, name, **labels):
    spec = {"nodeName": "n1", "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "i"}]}
    return client.apply(
        "Pod", namespace, name, {"metadata": {"labels": labels} if labels else {}, "spec": spec}, "test", force=True
    )


def delete(client, namespace, name):
    url = PODS.url(namespace, name) + "?gracePeriodSeconds=0"
    response = client._connection.request("DELETE", url, read_s=10, accept="application/json")
    response.drain_conn()
    assert response.status in (200, 202)


def watch_of(namespace, name="pods"):
    return Watch(name, PODS, read.peer, namespace=namespace)


def test_pods_come_change_and_go(client, shop):
    for number in range(3):
        pod(client, shop, f"p{number}")
    with Watcher(client, [watch_of(shop)], QUICK) as watcher:
        reader = Reader(watcher)
        reader.sees("p0", "p1", "p2")
        reader.until(lambda: reader.state().watches == 1)
        took = []
        for turn in range(10):
            began = time.monotonic()
            pod(client, shop, "p0", **{"clovisor.io/trace": str(turn)})
            assert select.select([watcher], [], [], 5)[0]
            took.append(time.monotonic() - began)
            reader.until(lambda turn=turn: {"clovisor.io/trace": str(turn)} in [one.labels for one in reader.seen.values()])
        assert sorted(took)[5] < 0.05  # from before the write
        delete(client, shop, "p1")
        reader.sees("p0", "p2")
        assert reader.state().lists == 1 and reader.state().problem == ""


def test_lists_come_in_pages(client, shop):
    for number in range(7):
        pod(client, shop, f"p{number}")
    page = client.get_page(PODS, namespace=shop, limit=3)
    names = []
    while True:
        names += [read.pod(one).ref.name for one in page["items"]]
        if not page["metadata"].get("continue"):
            break
        page = client.get_page(PODS, namespace=shop, limit=3, continue_=page["metadata"]["continue"])
    assert names == [f"p{number}" for number in range(7)]


def test_metadata_alone_is_enough_for_owners(client, shop):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    client.apply("Deployment", shop, "cart", {"metadata": {"labels": {"clovisor.io/trace": "true"}}, "spec": spec}, "test")
    watches = [
        Watch(one.plural, one, lambda json, kind=one.kind: read.owner(kind, json))
        for one in (DEPLOYMENTS, REPLICASETS, NAMESPACES)
    ]
    with Watcher(client, watches, QUICK) as watcher:
        reader = Reader(watcher)
        reader.until(lambda: watcher.synced and {"cart", shop} <= reader.names())
        owners = watcher.objects("deployments").values()
        assert [one.labels for one in owners if one.ref.namespace == shop] == [{"clovisor.io/trace": "true"}]
        page = client.get_page(DEPLOYMENTS)
        assert "spec" not in page["items"][0] and page["kind"] == "PartialObjectMetadataList"


def test_a_compacted_history_lists_again_and_misses_no_deletion(plane, client, shop):
    for name in ("stays", "goes"):
        pod(client, shop, name)
    with Watcher(client, [watch_of(shop)], QUICK) as watcher:
        reader = Reader(watcher)
        reader.sees("stays", "goes")
        reader.until(lambda: reader.state().watches == 1)
        plane.kill_apiserver()
        reader.until(lambda: "does not answer" in reader.state().problem, PATIENCE_S)
        assert reader.names() == {"stays", "goes"}
        watcher._reflectors[0]._pace = Pace(30.0, 12.0, 12.0)  # it looks again only after all of this
        time.sleep(1)
        plane.start_apiserver()
        delete(client, shop, "goes")
        pod(client, shop, "comes")
        plane.compact()
        reader.sees("stays", "comes", patience_s=PATIENCE_S)
        assert reader.state().gone >= 1 and reader.state().problem == ""


def test_410_by_request(plane, client, shop):
    old = client.get_page(PODS, limit=1)["metadata"]["resourceVersion"]
    for number in range(3):
        pod(client, shop, f"p{number}")
    token = client.get_page(PODS, limit=1)["metadata"]["continue"]
    pod(client, shop, "last")
    plane.compact()
    with pytest.raises(Gone), client.watch(PODS, old, timeout_s=5) as stream:
        list(stream)
    with pytest.raises(Gone):
        client.get_page(PODS, limit=1, continue_=token)


def test_a_restart_is_survived(plane, client, shop):
    pod(client, shop, "a")
    with Watcher(client, [watch_of(shop)], QUICK) as watcher:
        reader = Reader(watcher)
        reader.sees("a")
        reader.until(lambda: reader.state().watches == 1)
        plane.kill_apiserver()
        plane.start_apiserver()
        pod(client, shop, "b")
        reader.sees("a", "b", patience_s=PATIENCE_S)


def test_without_a_grant_it_says_what_to_grant(plane):
    nobody = Client(plane.kubeconfig(NOBODY))
    with pytest.raises(Forbidden, match="grant the verb 'list' on 'pods'"):
        nobody.get_page(PODS)
    with pytest.raises(Forbidden, match=r"grant the verb 'watch' on 'endpointslices\.discovery\.k8s\.io'"):
        nobody.watch(SLICES, "1")
    nobody.close()
    stranger = Client(plane.kubeconfig("who"))
    with pytest.raises(Forbidden, match="401"):
        stranger.get_page(PODS)
    stranger.close()


def test_a_certificate_that_is_not_trusted(plane, tmp_path):
    path = tmp_path / "k"
    path.write_text(plane.kubeconfig().read_text().replace('"certificate-authority"', '"x-authority"'))
    client = Client(path)
    with pytest.raises(ApiUnavailable, match="could not prove who it is"):
        client.get_page(PODS)


def test_writes(client, shop):
    made = pod(client, shop, "a")
    label = {"metadata": {"uid": made["metadata"]["uid"], "labels": {"clovisor.io/trace": "true"}}}
    dry = client.apply("Pod", shop, "a", label, "clovisor", dry_run=True)
    assert dry["metadata"]["labels"] == {"clovisor.io/trace": "true"}
    assert not client.get("Pod", shop, "a")["metadata"].get("labels")
    client.apply("Pod", shop, "a", label, "clovisor")
    assert client.get("Pod", shop, "a")["metadata"]["labels"] == {"clovisor.io/trace": "true"}
    with pytest.raises(ApiRefused, match="409"):
        client.apply("Pod", shop, "a", {"metadata": {"labels": {"clovisor.io/trace": "no"}}}, "other")
    with pytest.raises(NotFound, match=f"pod/{shop}/b"):
        client.get("Pod", shop, "b")
    about = read.pod(made)
    event = client.create_event(about.ref, about.uid, "AttachFailed", "no veth was found.", node="n1")
    assert event["involvedObject"]["name"] == "a" and event["metadata"]["name"].startswith("a.")


def test_the_index_names_what_the_server_knows(client, shop):
    made = pod(client, shop, "web-1")
    status = {"phase": "Running", "podIP": "10.9.0.5", "podIPs": [{"ip": "10.9.0.5"}]}
    url = PODS.url(shop, "web-1") + "/status?fieldManager=kubelet&force=true"
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": shop}, "status": status}
    client._answer("PATCH", "patch", PODS, url, body=body)
    spec = {"ports": [{"port": 80, "name": "http"}], "selector": {"a": "b"}}
    ip = client.apply("Service", shop, "web", {"spec": spec}, "test")["spec"]["clusterIP"]
    labels = {"kubernetes.io/service-name": "web"}
    ends = {"addressType": "IPv4", "endpoints": [{"addresses": ["10.9.0.5"]}], "ports": [{"name": "http", "port": 8080}]}
    client.apply("EndpointSlice", shop, "web-x", {"metadata": {"labels": labels}, **ends}, "test")
    watches = [watch_of(shop), Watch("services", SERVICES, read.service), Watch("slices", SLICES, read.slice_)]
    index = Index()
    with Watcher(client, watches, QUICK) as watcher:
        end = time.monotonic() + PATIENCE_S
        while index.resolve("10.9.0.5", 8080, time.time_ns()) is None or not watcher.synced:
            assert time.monotonic() < end
            select.select([watcher], [], [], 0.1)
            for change in watcher.changes():
                index.apply(change, time.time_ns())
        for change in watcher.changes():
            index.apply(change, time.time_ns())
    found = index.resolve("10.9.0.5", 8080, time.time_ns())
    assert found is not None
    assert (found.name, found.namespace, found.service, found.node) == ("web-1", shop, "web", "n1")
    assert found.uid == made["metadata"]["uid"]
    behind = index.resolve(ip, 80, time.time_ns())
    assert behind is not None and (behind.name, behind.kind, behind.service) == ("web-1", "pod", "web")
