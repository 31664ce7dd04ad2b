"""The doctor's check of the cluster: a problem only where a cluster was asked for, and nothing false where there is none."""

from __future__ import annotations

import pytest

from clovisor_py.cli._access import NONE, check_of
from clovisor_py.kernel.probe import Machine, State
from tests.support.apiserver import ApiServer
from tests.support.nobody import as_nobody

ME = {"status": {"userInfo": {"username": "jane"}}}


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def check(kubeconfig=None):
    return check_of(kubeconfig, None)(Machine())


@pytest.fixture
def api():
    with ApiServer() as server:
        yield server


def grant(api, *refused):
    """Everything but what is named, to jane."""

    def answer(request):
        if request.path.endswith("/selfsubjectreviews"):
            return ME
        wanted = request.body["spec"]["resourceAttributes"]
        return {"status": {"allowed": f"{wanted['verb']} {wanted['resource']}" not in refused}}

    api.answers = answer


def test_no_cluster_is_no_problem():
    finding = check()
    assert finding.state is State.OPTIONAL
    assert "only `clovisor agent` needs one" in finding.detail and not finding.remedy


def test_all_is_granted(api, tmp_path):
    grant(api)
    finding = check(api.kubeconfig(tmp_path))
    assert finding.state is State.OK
    assert finding.detail.endswith("grants jane all that the agent asks for")


def test_what_is_not_granted_is_named_with_the_command_that_grants_it(api, tmp_path):
    grant(api, "list endpointslices", "watch endpointslices", "list jobs", "watch jobs", "watch pods", "create events")
    finding = check(api.kubeconfig(tmp_path))
    assert finding.sentence == (
        "cluster does not grant jane: watch on pods; list and watch on jobs.batch, endpointslices.discovery.k8s.io; "
        "create on events: kubectl auth reconcile -f manifests/base/rbac.yaml && "
        "kubectl create clusterrolebinding clovisor-jane --clusterrole=clovisor --user=jane"
    )
    assert finding.state is State.PROBLEM


def test_a_kubeconfig_that_lies_about_is_only_remarked_upon(api, monkeypatch, tmp_path):
    grant(api, "create events")
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path)))
    finding = check()
    assert (finding.state, finding.detail) == (
        State.OPTIONAL,
        "does not grant jane: create on events (optional, for `clovisor agent`)",
    )


def test_a_kubeconfig_that_may_not_be_read(api, monkeypatch, tmp_path):
    """Seen by an operator: `cluster could not be checked (PermissionError…): please report this`."""
    path = api.kubeconfig(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(path))
    tmp_path.chmod(0)
    with as_nobody():
        finding = check()
        monkeypatch.delenv("KUBECONFIG")
        usual = check()
    tmp_path.chmod(0o700)
    assert (finding.state, "permission denied" in finding.detail) == (State.OPTIONAL, True)
    assert usual.detail == NONE


@pytest.mark.parametrize("inside", [True, False])
def test_what_cannot_be_used_says_why(inside, monkeypatch, tmp_path):
    if inside:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        finding = check()
        assert "the pod's service account cannot be used" in finding.detail
    else:
        finding = check(tmp_path / "none")
        assert f"no kubeconfig at {tmp_path / 'none'}" in finding.detail
    assert finding.state is State.PROBLEM and finding.remedy and ": " not in finding.remedy
