import os
import subprocess
import sys
import time
from collections import Counter
from ipaddress import ip_network
from pathlib import Path

import pytest

from clovisor_py.demo import playground as module
from clovisor_py.demo.playground import ROLES, Playground, remove_leftovers
from clovisor_py.demo.traffic import served
from clovisor_py.errors import ClovisorError, EnvironmentLacking, UsageError
from clovisor_py.kernel import netns, targets
from clovisor_py.kernel.links import link_names
from tests.support.netns import require_namespaces

PREFIX = f"cv{os.getpid()}"


def left_behind():
    """Whatever of the test's playground is still there."""
    bridge_and_veths = {f"{PREFIX}-node"} | {module.pods.link_name(f"{PREFIX}-{role}") for role in ROLES}
    return sorted(bridge_and_veths & set(link_names().values())) + [n for n in netns.names() if n.startswith(PREFIX)]


def processes():
    """Commands of the demo's modules that run in this test's playground or did."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            parent = path.with_name("stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == os.getpid() and any(word.startswith(b"clovisor_py.demo.") for word in words):
            found.append(words)
    return found


@pytest.fixture
def clean():
    require_namespaces()
    yield
    remove_leftovers(PREFIX)


@pytest.mark.live
def test_sixty_requests_and_nothing_left_behind(clean):
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with Playground(PREFIX) as playground:
        assert [pod.name for pod in playground.pods] == list(ROLES)
        for pod in playground.pods:
            (veth,) = targets.resolve(pod.namespace)
            assert (veth.ifindex, veth.name, veth.addresses) == (pod.ifindex, pod.veth, (pod.ipv4, pod.ipv6))
        assert playground.traffic_done()
        assert playground.truth() == []
        playground.start_traffic(60, rate=100)
        assert playground.wait(60)
        assert playground.traffic_done()
        records = playground.truth()
    assert Counter(record["service"] for record in records if record["side"] == "server") == served(60)
    calls = Counter((record["service"], record["peer"], record["family"]) for record in records if record["side"] == "client")
    assert calls == {
        ("client", "productpage", "ipv4"): 39,
        ("client", "productpage", "ipv6"): 21,
        ("productpage", "details", "ipv6"): 60,
        ("productpage", "reviews", "ipv4"): 59,
        ("reviews", "ratings", "ipv4"): 59,
    }
    statuses = Counter(record["status"] for record in records if record["service"] == "client")
    assert statuses == {200: 56, 503: 3, 404: 1}
    assert {record["request_id"].split("-")[0] for record in records} == {playground.run}
    assert left_behind() == []
    assert processes() == []
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


@pytest.mark.live
def test_an_exception_in_the_block_leaves_nothing_behind(clean):
    with pytest.raises(KeyboardInterrupt), Playground(PREFIX) as playground:
        playground.start_traffic(1000, rate=10)
        assert not playground.wait(0.05)
        with pytest.raises(UsageError, match="still sending"):
            playground.start_traffic()
        raise KeyboardInterrupt
    assert left_behind() == []
    assert processes() == []


@pytest.mark.live
@pytest.mark.parametrize("step", ["_build", "_start_services", "_reach_all"])
def test_an_exception_on_the_way_up_leaves_nothing_behind(clean, monkeypatch, step):
    real = getattr(Playground, step)

    def breaks(self):
        real(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Playground, step, breaks)
    with pytest.raises(KeyboardInterrupt), Playground(PREFIX):
        pass
    assert left_behind() == []
    assert processes() == []


@pytest.mark.live
def test_two_at_once_say_so(clean):
    with Playground(PREFIX):
        with pytest.raises(ClovisorError, match="already running"):
            Playground(PREFIX).__enter__()
        with pytest.raises(ClovisorError, match="already running"):
            remove_leftovers(PREFIX)
        assert left_behind()


@pytest.mark.live
def test_a_killed_demo_is_cleaned_up(clean):
    code = (
        "import sys; from clovisor_py.demo.playground import Playground\n"
        f"with Playground({PREFIX!r}) as playground:\n"
        "    print(*[process.pid for process in playground._services.values()], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        pids = process.stdout.readline().split()
        process.kill()
    assert len(pids) == 4
    deadline = time.monotonic() + 10
    while any(_runs(int(pid)) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_runs(int(pid)) for pid in pids)
    assert remove_leftovers(PREFIX) == [f"{PREFIX}-{role}" for role in ROLES]
    assert left_behind() == []
    assert remove_leftovers(PREFIX) == []


@pytest.mark.live
def test_a_service_that_does_not_start_says_why(clean, monkeypatch):
    monkeypatch.setattr(module, "CALLS", {"nonsense": ()})
    monkeypatch.setattr(module, "ROLES", ("client", "nonsense"))
    with pytest.raises(ClovisorError, match=r"nonsense did not start .*invalid choice"), Playground(PREFIX):
        pass
    assert left_behind() == []


@pytest.mark.live
def test_pods_that_do_not_reach_each_other(clean, monkeypatch):
    monkeypatch.setattr(module, "_START_S", 0.0)
    monkeypatch.setattr(module, "_listens", lambda _: False)
    with pytest.raises(EnvironmentLacking, match="iptables -I FORWARD"), Playground(PREFIX):
        pass
    assert left_behind() == []


@pytest.mark.live
def test_a_client_that_breaks_down_says_so(clean):
    with Playground(PREFIX) as playground:
        playground._client = playground._spawn("client", "traffic", "--nonsense")
        with pytest.raises(ClovisorError, match="client broke down"):
            playground.wait(30)


@pytest.mark.parametrize("prefix", ["", "eleven-char"])
def test_a_prefix_that_is_too_long(prefix):
    with pytest.raises(UsageError, match="prefix"):
        Playground(prefix)


@pytest.mark.parametrize(("requests", "rate"), [(0, 1), (module.MAX_REQUESTS + 1, 1), (1, 0), (1, 1000)])
def test_more_traffic_than_a_demo_has(requests, rate):
    with pytest.raises(UsageError, match="ask for fewer"):
        Playground().start_traffic(requests, rate)


def test_without_traffic_there_is_nothing_to_wait_for():
    assert Playground().traffic_done()
    assert Playground().wait(1)


def test_a_range_that_clashes_is_passed_over(monkeypatch):
    monkeypatch.setattr(module, "networks_here", lambda: [ip_network("10.211.0.0/24"), ip_network("fd00:c10:1::/48")])
    assert [str(network) for network in module._free_networks()] == ["10.211.2.0/24", "fd00:c10:2::/64"]
    monkeypatch.setattr(module, "networks_here", lambda: [ip_network("10.0.0.0/8")])
    with pytest.raises(EnvironmentLacking, match=r"10\.211"):
        module._free_networks()


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
