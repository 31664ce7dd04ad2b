"""The namespace of a context; where there is none, or no kubeconfig worth the name, it is `default`."""

import json

import pytest

from clovisor_py.kube.context import namespace_of

CLUSTER = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}


def kubeconfig(path, current="a", **namespaces):
    contexts = [
        {"name": name, "context": {"cluster": "c", **({"namespace": ns} if ns else {})}} for name, ns in namespaces.items()
    ]
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [CLUSTER],
                "users": [],
                "current-context": current,
                "contexts": contexts,
            }
        )
    )
    return path


def test_of_a_context(tmp_path, monkeypatch):
    path = kubeconfig(tmp_path / "k", a="shop", b=None, c="web")
    assert [namespace_of(path, context) for context in (None, "a", "b", "c", "d")] == [
        "shop",
        "shop",
        "default",
        "web",
        "default",
    ]
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert namespace_of(None, "c") == "web"


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "a: b", '{"contexts": 3}'])
def test_what_is_no_kubeconfig(tmp_path, text):
    (tmp_path / "k").write_text(text)
    assert namespace_of(tmp_path / "k", None) == "default"
    assert namespace_of(tmp_path / "none", None) == "default"


def test_in_a_pod_of_no_namespace(monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert namespace_of(None, None) == "default"
