"""On a real node: installed by `kubectl apply -k manifests/base`, an operator labels one of two pods behind a Service.

The DaemonSet runs as it is shipped (capabilities, seccomp, read-only root, service account, probes); see `real_node` for what
stands for its image. Once with a bridge, once with routed veths.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from clovisor_py.kernel.probe import CAPABILITIES
from tests.support.real_node import RealNode, real_node, within

pytestmark = [pytest.mark.live, pytest.mark.cluster, pytest.mark.slow]
CALLS = 24


@pytest.fixture(scope="module", params=["bridge", "ptp"])
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNode]:
    with real_node(tmp_path_factory.mktemp("overlay"), request.param) as running:
        yield running


@pytest.fixture
def web(node: RealNode) -> Iterator[str]:
    """One of the two, labelled."""
    name = node.names("app=web")[0]
    node.label(name, "clovisor.io/trace=true")
    within(lambda: node.attached(name)[0] == [1, 1])
    yield name
    node.label(name, "clovisor.io/trace-")
    within(lambda: node.attached(name)[0] == [0, 0])


def seen(node: RealNode, path: str) -> dict[str, dict[str, Any]]:
    """Sessions whose path begins so, by path."""
    return {session["resource"]: session for session in node.sessions() if session["resource"].startswith(path)}


def workload(session: dict[str, Any], end: str) -> dict[str, str]:
    return session[end].get("workload", {})


def test_it_is_confined_as_the_manifest_says(node: RealNode) -> None:
    status = node.kubectl("-n", "clovisor", "exec", "daemonset/clovisor", "--", "cat", "/proc/1/status")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    granted = sum(1 << CAPABILITIES[name] for name in ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"))
    assert int(fields["CapBnd"], 16) == int(fields["CapEff"], 16) == granted
    assert (fields["Seccomp"].strip(), fields["NoNewPrivs"].strip()) == ("2", "1")
    assert [line for line in node.log() if line["level"] != "info"] == []


def test_one_of_two_pods_behind_a_service(node: RealNode, web: str) -> None:
    service = node.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    node.call("client", *(f"http://{service}:8080/one-{number}" for number in range(CALLS)))
    served = {path for path in node.served(web) if path.startswith("/one-")}
    assert 0 < len(served) < CALLS, "kube-proxy gave all of them to one pod, which happens once in eight million times"
    within(lambda: seen(node, "/one-").keys() >= served)
    found = seen(node, "/one-")
    assert found.keys() == served
    for session in found.values():
        server, client = workload(session, "server"), workload(session, "client")
        assert (server["name"], server["container"], server["service"]) == (web, "nginx", "web")
        assert (server["owner"], server["namespace"], server["node"]) == ("deployment/web", "default", "lab")
        assert (client["name"], client["namespace"]) == ("client", "default")
        assert (session["side"], session["status"]) == ("server", "404")
    within(lambda: f"default/{web}" in node.clovisor("pods"))  # what it tells is a second old at most


def test_the_label_removed(node: RealNode, web: str) -> None:
    node.label(web, "clovisor.io/trace-")
    within(lambda: node.attached(web)[0] == [0, 0], 5)
    node.call("client", f"http://{node.address(web)}/gone")
    node.label(web, "clovisor.io/trace=true")
    within(lambda: node.attached(web)[0] == [1, 1])
    node.call("client", f"http://{node.address(web)}/here-again")
    within(lambda: seen(node, "/here-again"))
    assert not seen(node, "/gone")


def test_which_container_it_was(node: RealNode) -> None:
    node.label("two", "clovisor.io/trace=true")
    within(lambda: node.attached("two")[0] == [1, 1])
    address, web = node.address("two"), node.address(node.names("app=web")[0])
    node.call("client", f"http://{address}/to-nginx", f"http://{address}:8081/to-httpd")
    node.call("two", f"http://{web}/from-httpd", container="httpd")
    node.call("two", f"http://{web}/from-nginx", container="nginx")
    paths = {"/to-nginx", "/to-httpd", "/from-nginx", "/from-httpd"}
    within(lambda: (seen(node, "/to-") | seen(node, "/from-")).keys() >= paths)
    for path, session in (seen(node, "/to-") | seen(node, "/from-")).items():
        here = workload(session, session["side"])
        assert (here["name"], here["container"]) == ("two", path.rpartition("-")[2])
    node.label("two", "clovisor.io/trace-")


def test_a_rolling_restart_adopts_filters_and_open_connections(node: RealNode, web: str) -> None:
    before, address = node.attached(web), node.address(web)
    ask = [f"printf 'GET /{when} HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n'" for when in ("restart-before", "restart-after")]
    wait = "while [ ! -e /tmp/go ]; do sleep 0.1; done"
    with node.spawn("client", f"rm -f /tmp/go; ({ask[0]}; {wait}; {ask[1]}; sleep 1) | nc {address} 80") as caller:
        try:
            within(lambda: seen(node, "/restart-before"))
            node.kubectl("-n", "clovisor", "rollout", "restart", "daemonset/clovisor")
            node.wait_for_agent()
            assert node.attached(web) == before
        finally:
            node.kubectl("exec", "client", "--", "touch", "/tmp/go")
            caller.wait(20)
    within(lambda: len(seen(node, "/restart-")) == 2)
    first, second = seen(node, "/restart-").values()
    assert first["client"] == second["client"]
    assert workload(second, "server")["container"] == "nginx"
