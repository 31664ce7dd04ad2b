"""kube/read.py: real shapes, and any JSON whatsoever."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.kube import read
from clovisor_py.kube.objects import Owner, Pod, Port, Ref, Service, Slice

POD = {
    "metadata": {
        "name": "cart-7d9f-x",
        "namespace": "shop",
        "uid": "u1",
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {"app": "cart", "clovisor.io/trace": "true"},
        "annotations": {"clovisor.io/ports": "80=http", "other.io/large": "x" * 1000},
        "ownerReferences": [
            {"kind": "Config", "name": "no"},
            {"kind": "ReplicaSet", "name": "cart-7d9f", "controller": True},
        ],
        "managedFields": [{"manager": "kubelet"}],
    },
    "spec": {
        "nodeName": "n1",
        "containers": [
            {"name": "web", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}]}
        ],
        "initContainers": [{"name": "side", "ports": [{"containerPort": 15001}]}],
    },
    "status": {
        "phase": "Running",
        "podIP": "10.0.0.5",
        "podIPs": [{"ip": "10.0.0.5"}, {"ip": "FD00:0::5"}],
        "containerStatuses": [{"name": "web", "containerID": "containerd://abc"}],
        "initContainerStatuses": [{"name": "side", "containerID": "containerd://def"}, {"name": "waits"}],
    },
}


def test_a_pod():
    assert read.pod(POD) == Pod(
        Ref("Pod", "shop", "cart-7d9f-x"),
        uid="u1",
        node="n1",
        ips=("10.0.0.5", "fd00::5"),
        phase="Running",
        created="2026-01-02T03:04:05Z",
        owner=Ref("ReplicaSet", "shop", "cart-7d9f"),
        labels={"app": "cart", "clovisor.io/trace": "true"},
        annotations={"clovisor.io/ports": "80=http"},
        ports=(Port(80, "http"), Port(53, "", "UDP"), Port(15001)),
        containers={"abc": "web", "def": "side"},
    )


READY = {"type": "Ready", "status": "True"}


@pytest.mark.parametrize(
    ("labels", "on_host", "deleted", "conditions", "expected"),
    [
        ({"app.kubernetes.io/name": "clovisor"}, True, None, [READY], True),
        ({"app.kubernetes.io/name": "other"}, True, None, [READY], False),
        ({}, True, None, [READY], False),
        ({"app.kubernetes.io/name": "clovisor"}, False, None, [READY], False),
        ({"app.kubernetes.io/name": "clovisor"}, True, "2026-01-02T03:04:05Z", [READY], False),
        ({"app.kubernetes.io/name": "clovisor"}, True, None, [READY | {"status": "False"}], False),
        ({"app.kubernetes.io/name": "clovisor"}, True, None, [{"type": "Initialized", "status": "True"}], False),
        ({"app.kubernetes.io/name": "clovisor"}, True, None, None, False),
    ],
)
def test_an_agent_that_is_ready(labels, on_host, deleted, conditions, expected):
    meta = {"name": "x", "labels": labels, "deletionTimestamp": deleted}
    json = {"metadata": meta, "spec": {"hostNetwork": on_host}, "status": {"conditions": conditions}}
    assert read.pod(json).agent is read.peer(json).agent is expected


def test_the_manifests_agent_is_known_as_one():
    manifest = Path(__file__).parents[2] / "manifests" / "base" / "daemonset.yaml"
    template = yaml.safe_load(manifest.read_text())["spec"]["template"]
    assert read.pod({**template, "status": {"conditions": [READY]}}).agent


OTEL = "resource.opentelemetry.io/service"
APP = "app.kubernetes.io"


@pytest.mark.parametrize(
    ("annotations", "labels", "name", "version"),
    [
        ({f"{OTEL}.name": "a"}, {f"{APP}/instance": "b", f"{APP}/name": "c", f"{APP}/version": "1"}, "a", "1"),
        ({f"{OTEL}.name": ""}, {f"{APP}/instance": "b", f"{APP}/name": "c"}, "b", ""),
        ({f"{OTEL}.version": "2", f"{OTEL}.else": "x"}, {f"{APP}/name": "c", f"{APP}/version": "1"}, "c", "2"),
        ({}, {"app": "d"}, "", ""),
    ],
)
def test_what_a_pod_says_of_its_service(annotations, labels, name, version):
    """The OpenTelemetry operator's order."""
    pod = read.pod({"metadata": {"name": "x", "annotations": annotations, "labels": labels}})
    assert (pod.service_name, pod.service_version) == (name, version)
    assert f"{OTEL}.else" not in pod.annotations


def test_names_are_one_object_in_all_pods():
    first, second = (
        read.pod({"metadata": {"name": n, "labels": {f"{APP}/{'name'}": "-".join(("c", "d")), "n": n}}}) for n in "ab"
    )
    assert first.service_name is second.service_name


def test_a_peer_has_no_containers():
    assert read.peer(POD) == read.pod(POD)._replace(containers={})
    alone = {**POD, "spec": {"containers": [{"name": "web"}]}}
    assert read.peer(alone) == read.pod(alone)._replace(containers={}, only_container="")


@pytest.mark.parametrize(
    ("more", "only"),
    [
        ({}, "web"),
        ({"containers": [{"name": "web"}, {"name": "waits"}]}, ""),
        ({"initContainers": [{"name": "before"}]}, ""),
        ({"ephemeralContainers": [{"name": "debugger"}]}, ""),
        ({"containers": []}, ""),
    ],
)
def test_a_container_is_the_only_one_if_there_never_is_another(more, only):
    assert read.pod({"spec": {"containers": [{"name": "web"}], **more}}).only_container == only


def test_a_static_pod_belongs_to_its_node_which_has_no_namespace():
    meta = {"name": "etcd", "namespace": "kube-system", "deletionTimestamp": "now"}
    meta["ownerReferences"] = [{"kind": "Node", "name": "n1", "controller": True}]
    pod = read.pod({"metadata": meta, "spec": {"hostNetwork": True}, "status": {"podIP": "10.0.0.9"}})
    assert pod.owner == Ref("Node", "", "n1") and pod.host_network and pod.deleted and pod.ips == ("10.0.0.9",)


def test_replicas_share_what_they_have_in_common():
    one, other = read.pod(POD), read.pod({**POD, "metadata": {**POD["metadata"], "name": "cart-7d9f-y"}})
    assert one.labels is other.labels and one.owner is other.owner and one.ports is other.ports
    with pytest.raises(TypeError):
        one.labels["app"] = "x"  # type: ignore[index]


@pytest.mark.parametrize(
    ("spec", "status", "ips"),
    [
        ({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"]}, {}, ("10.96.0.1", "fd00::1")),
        ({"clusterIP": "10.96.0.1"}, {}, ("10.96.0.1",)),
        ({"clusterIP": "None", "clusterIPs": ["None"]}, {}, ()),
        (
            {"clusterIP": "10.96.0.1", "externalIPs": ["1.2.3.4"]},
            {"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}, {"hostname": "elb.example"}]}},
            ("10.96.0.1", "1.2.3.4", "5.6.7.8"),
        ),
    ],
)
def test_addresses_of_a_service(spec, status, ips):
    assert read.service({"metadata": {"name": "s"}, "spec": spec, "status": status}).ips == ips


def test_a_service():
    ports = [
        {"port": 80, "nodePort": 30080, "name": "http", "appProtocol": "kubernetes.io/h2c", "targetPort": "web"},
        {"port": 53},
    ]
    spec = {"type": "NodePort", "clusterIP": "10.96.0.7", "ports": ports}
    service = read.service({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})
    assert service == Service(
        Ref("Service", "shop", "web"),
        "NodePort",
        ("10.96.0.7",),
        (Port(80, "http", "TCP", "kubernetes.io/h2c"), Port(53)),
        (30080,),
    )
    named = read.service({"metadata": {"name": "db"}, "spec": {"type": "ExternalName", "externalName": "db.example"}})
    assert (named.kind, named.external_name, named.ips) == ("ExternalName", "db.example", ())


def test_a_slice():
    json = {
        "metadata": {"name": "web-abc", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.0.0.5"], "conditions": {"ready": True}},
            {"addresses": ["10.0.0.6"], "conditions": {"ready": False}},
        ],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "any", "port": None}],
    }
    expected = Slice(Ref("EndpointSlice", "shop", "web-abc"), "web", ("10.0.0.5", "10.0.0.6"), (Port(8080, "http"),))
    assert read.slice_(json) == expected
    assert read.slice_({**json, "addressType": "FQDN"}).addresses == ()


def test_owners():
    meta = {
        "name": "cart-7d9f",
        "namespace": "shop",
        "labels": {"app": "cart", "clovisor.io/trace": "true"},
        "ownerReferences": [{"kind": "Deployment", "name": "cart", "controller": True}],
    }
    assert read.owner("ReplicaSet", {"metadata": meta}) == Owner(
        Ref("ReplicaSet", "shop", "cart-7d9f"), Ref("Deployment", "shop", "cart"), {"clovisor.io/trace": "true"}
    )
    addresses = [{"type": "InternalIP", "address": "10.1.0.1"}, {"type": "Hostname", "address": "n1"}]
    node = read.owner("Node", {"metadata": {"name": "n1", "labels": {"a": "b"}}, "status": {"addresses": addresses}})
    assert node == Owner(Ref("Node", "", "n1"), labels={"a": "b"}, ips=("10.1.0.1",))


NAMES = """
metadata spec status name namespace uid labels annotations ownerReferences kind controller containers initContainers ports port
containerPort nodePort protocol appProtocol podIPs podIP ip clusterIPs clusterIP externalIPs loadBalancer ingress endpoints
addresses address addressType containerStatuses containerID creationTimestamp deletionTimestamp hostNetwork
"""
FIELDS = st.sampled_from(NAMES.split())
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
TEXTS = st.sampled_from(["10.0.0.1", "fd00::1", "None", "docker://", "://x", "1.2.3.4.5", "clovisor.io/trace"])
ANYTHING = st.recursive(
    LEAVES | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=4), inner, max_size=6),
    max_leaves=40,
)


@given(ANYTHING)
def test_any_json_is_read(json):
    for one in (read.pod(json), read.peer(json), read.service(json), read.slice_(json), read.owner("Job", json)):
        assert isinstance(one.ref.name, str) and isinstance(one.ref.namespace, str)
    assert all(0 < port.number < 65536 for port in read.pod(json).ports)


@given(st.dictionaries(FIELDS, ANYTHING), st.dictionaries(FIELDS, ANYTHING), st.dictionaries(FIELDS, ANYTHING))
def test_any_object_is_read(metadata, spec, status):
    json = {**spec, "metadata": metadata, "spec": spec, "status": status}
    assert read.pod(json) == read.pod(json)
    assert all(
        isinstance(ip, str) for ip in read.service(json).ips + read.slice_(json).addresses + read.owner("Node", json).ips
    )


def test_an_owner_has_a_uid_for_events_about_it():
    assert read.owner("Namespace", {"metadata": {"name": "shop", "uid": "u7"}}).uid == "u7"
