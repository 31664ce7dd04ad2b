"""kube/client.py against a scripted API server: what is asked, and the sentence for each way in which that fails."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from clovisor_py.errors import ApiRefused, ApiUnavailable, ClovisorError, Forbidden, Gone, NotFound
from clovisor_py.kube.client import Client
from clovisor_py.kube.objects import Ref
from clovisor_py.kube.resources import DEPLOYMENTS, PODS, REPLICASETS, RESOURCES
from tests.support.apiserver import ApiServer, Fault, write_kubeconfig
from tests.support.nobody import as_nobody


@pytest.fixture
def api():
    with ApiServer() as server:
        yield server


@pytest.fixture
def client(api, tmp_path):
    one = Client(api.kubeconfig(tmp_path))
    yield one
    one.close()


def pods(api, count, namespace="shop"):
    for number in range(count):
        api.put("pods", {"metadata": {"name": f"p{number:04}", "namespace": namespace}})


def test_a_page_is_what_the_server_sent(api, client):
    pods(api, 7)
    first = client.get_page(PODS, limit=5, field_selector="spec.nodeName=n1", label_selector="a=b")
    assert [one["metadata"]["name"] for one in first["items"]] == [f"p{n:04}" for n in range(5)]
    rest = client.get_page(PODS, limit=5, continue_=first["metadata"]["continue"])
    assert len(rest["items"]) == 2 and not rest["metadata"]["continue"]
    asked = api.asked("list")[0]
    assert asked.path == "/api/v1/pods" and asked.headers["authorization"].lower() == "bearer a-token"
    assert asked.query == {"limit": "5", "fieldSelector": "spec.nodeName=n1", "labelSelector": "a=b"}


def test_of_owners_only_the_metadata_is_asked_for(api, client):
    client.get_page(REPLICASETS)
    with client.watch(REPLICASETS, "100", timeout_s=1):
        pass
    assert "as=PartialObjectMetadataList;" in api.asked("list")[0].headers["accept"]
    assert "as=PartialObjectMetadata;" in api.asked("watch")[0].headers["accept"]


def test_a_watch_gives_events_as_they_come_and_ends_with_the_server(api, client):
    with client.watch(PODS, "100", timeout_s=1) as stream:
        events = iter(stream)
        pods(api, 1)
        began = time.monotonic()
        event = next(events)
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "p0000")
        assert time.monotonic() - began < 0.5
        assert list(events) == []


def test_a_watch_is_closed_from_another_thread(client):
    with client.watch(PODS, "100", timeout_s=60) as stream:
        timer = threading.Timer(0.1, stream.close)
        timer.start()
        began = time.monotonic()
        assert list(stream) == []
        assert time.monotonic() - began < 5
        timer.join()
        stream.close()


def test_closing_before_reading_is_an_end_too(client):
    with client.watch(PODS, "100", timeout_s=60) as stream:
        stream.close()
        assert list(stream) == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("watch", status=410), Gone),
        (Fault("watch", status=403), Forbidden),
        (Fault("watch", event={"type": "ERROR", "object": {"code": 410, "message": "too old"}}), Gone),
        (Fault("watch", event={"type": "ERROR", "object": {"code": 500}}), ApiRefused),
        (Fault("watch", event={"type": "ERROR", "object": {}}), ApiUnavailable),
        (Fault("watch", event={"type": "ADDED"}), ApiUnavailable),
        (Fault("watch", raw=b'{"type": "ADD'), ApiUnavailable),
        (Fault("watch", raw=b"<html>\n"), ApiUnavailable),
        (Fault("watch", drop=True), ApiUnavailable),
    ],
)
def test_a_watch_that_fails_says_how(api, client, fault, kind):
    api.faults.append(fault)
    with pytest.raises(kind) as failure, client.watch(PODS, "100", timeout_s=5) as stream:
        list(stream)
    assert_sentence(failure.value)


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (401, Forbidden, "401"),
        (403, Forbidden, "grant the verb 'list' on 'deployments.apps'"),
        (404, NotFound, "deployments"),
        (410, Gone, "from the start"),
        (409, ApiRefused, "409"),
        (500, ApiRefused, "500"),
        (503, ApiUnavailable, "list deployments"),
        (302, ApiRefused, "302"),
    ],
)
def test_a_refusal_names_what_was_tried(api, client, status, kind, says):
    api.faults.append(Fault("list", status=status))
    with pytest.raises(kind, match=says) as failure:
        client.get_page(DEPLOYMENTS)
    assert type(failure.value) is kind
    assert_sentence(failure.value)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null", b'{"a'])
def test_what_is_no_object_is_not_believed(api, client, body):
    api.faults.append(Fault("list", status=200, body=body))
    with pytest.raises(ApiUnavailable, match="proxy"):
        client.get_page(PODS)


def test_a_connection_that_drops_is_said_and_the_next_request_works(api, client):
    api.faults.append(Fault("list", drop=True))
    with pytest.raises(ApiUnavailable, match=r"does not answer"):
        client.get_page(PODS)
    assert client.get_page(PODS)["items"] == []


def test_apply_sends_the_whole_identity(api, client):
    client.apply("Deployment", "shop", "cart", {"metadata": {"labels": {"a": "b"}}}, "clovisor", dry_run=True)
    client.apply("Namespace", "", "shop", {}, "clovisor", force=True)
    first, second = api.asked("PATCH")
    assert first.path == "/apis/apps/v1/namespaces/shop/deployments/cart"
    assert first.query == {"fieldManager": "clovisor", "dryRun": "All"}
    assert first.headers["content-type"] == "application/apply-patch+yaml"
    meta = {"labels": {"a": "b"}, "name": "cart", "namespace": "shop"}
    assert first.body == {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta}
    assert second.path == "/api/v1/namespaces/shop" and second.query["force"] == "true"
    assert second.body["metadata"] == {"name": "shop"}


def test_an_event_is_about_its_object(api, client):
    client.create_event(Ref("Pod", "shop", "cart-1"), "u1", "AttachFailed", "x" * 5000, node="n1")
    client.create_event(Ref("Namespace", "", "shop"), "u2", "Bad", "why", warning=False)
    first, second = api.asked("POST")
    assert first.path == "/api/v1/namespaces/shop/events"
    assert first.body["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "cart-1",
        "uid": "u1",
        "namespace": "shop",
    }
    assert len(first.body["message"]) == 1024 and first.body["type"] == "Warning"
    assert second.path == "/api/v1/namespaces/default/events" and second.body["type"] == "Normal"


def test_names_cannot_leave_their_place_in_a_url():
    assert PODS.url("a/b", "../c?d") == "/api/v1/namespaces/a%2Fb/pods/..%2Fc%3Fd"
    assert RESOURCES["Node"].url("ignored", "n1") == "/api/v1/nodes/n1"


def test_nobody_listens(tmp_path):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    client = Client(write_kubeconfig(tmp_path / "k", f"http://127.0.0.1:{port}"))
    with pytest.raises(ApiUnavailable, match=r"does not answer \(connection refused\)") as failure:
        client.get_page(PODS)
    assert_sentence(failure.value)


def test_a_name_that_nobody_knows(tmp_path):
    client = Client(write_kubeconfig(tmp_path / "k", "https://nowhere.invalid:6443"))
    with pytest.raises(ApiUnavailable, match="not known") as failure:
        client.get_page(PODS)
    assert_sentence(failure.value)


def test_plain_http_where_tls_is_expected(api, tmp_path):
    client = Client(write_kubeconfig(tmp_path / "k", api.url.replace("http:", "https:")))
    with pytest.raises(ApiUnavailable, match="could not prove who it is") as failure:
        client.get_page(PODS)
    assert_sentence(failure.value)


def test_no_kubeconfig_at_all(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ApiUnavailable, match="no kubeconfig at") as failure:
        Client(tmp_path / "absent")
    assert_sentence(failure.value)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "also-absent"))
    with pytest.raises(ApiUnavailable, match="also-absent"):
        Client()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "apiVersion: v1", '{"clusters": 5}', "\x00", json.dumps({"current-context": "x"})]
)
def test_a_kubeconfig_that_is_none(tmp_path, text):
    path = Path(tmp_path / "k")
    path.write_text(text)
    with pytest.raises(ApiUnavailable) as failure:
        Client(path)
    assert_sentence(failure.value)


@pytest.mark.parametrize("hidden", ["folder", "file"])
def test_a_kubeconfig_that_is_somebody_elses(api, tmp_path, hidden):
    """Seen by an operator: KUBECONFIG names root's file, and `enable` ended in a traceback."""
    path = api.kubeconfig(tmp_path)
    (tmp_path if hidden == "folder" else path).chmod(0)
    with as_nobody(), pytest.raises(ApiUnavailable, match=r"cannot be used \(permission denied\)") as failure:
        Client(path)
    tmp_path.chmod(0o700)
    assert_sentence(failure.value)


def test_a_user_without_a_home(monkeypatch):
    for name in ("HOME", "KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)  # whom no list of users knows
    with pytest.raises(ApiUnavailable, match=r"no kubeconfig at ~"):
        Client()


def test_a_context_that_is_not_there(api, tmp_path):
    with pytest.raises(ApiUnavailable, match="elsewhere"):
        Client(api.kubeconfig(tmp_path), "elsewhere")


def test_a_pod_without_its_token(monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    if Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists():
        pytest.skip("this is a pod")
    with pytest.raises(ApiUnavailable, match="service account") as failure:
        Client()
    assert_sentence(failure.value)


def assert_sentence(error: ClovisorError) -> None:
    text = str(error)
    assert "\n" not in text and len(text) < 400 and "object at 0x" not in text
