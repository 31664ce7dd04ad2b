"""Who is at both ends, through a real kube-proxy's rules, with the objects of a real API server and its controllers.

Pods are network namespaces with nginx; every path is asked for once, so nginx's own log says which pod served it.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import dns.message
import dns.rrset
import pytest

from clovisor_py.kernel import netns
from clovisor_py.kernel.links import netlink
from tests.live.test_agent_cluster import NODE, Agent, Operator, agent, uplink
from tests.live.test_node import off, on, within
from tests.support.control_plane import control_plane, programs
from tests.support.kernel import node
from tests.support.netns import Pod
from tests.support.netns import pod as sandbox
from tests.support.nginx import Nginx, nginx_in
from tests.support.services import become_ready, deployment, iptables, kube_proxy, run_pods, service, until

pytestmark = [pytest.mark.live, pytest.mark.cluster, pytest.mark.slow]
SHOP = "shop"
NODE_IP, OUTSIDE = "192.0.2.1", "198.51.100.7"
SERVICE_PORT, NODE_PORT = 8000, 30080


@dataclass
class Town:
    """A node with two pods of `web`, one of `client`, and a machine outside of the cluster."""

    kubectl: Operator
    webs: list[Nginx]
    client: Pod
    outside: Pod
    web_names: list[str] = field(default_factory=list)
    client_name: str = ""
    cluster_ip: str = ""
    running: Agent | None = None
    asked: int = 0

    def trace(self, *names: str) -> None:
        """Just these pods."""
        for name in self.sandboxes():
            value = "true" if name in names else "false"
            self.kubectl("label", "pod", name, "-n", SHOP, f"clovisor.io/trace={value}", "--overwrite")
        for name, pod in self.sandboxes().items():
            within(10, lambda name=name, pod=pod: (on if name in names else off)(pod.ifindex))

    def sandboxes(self) -> dict[str, Pod]:
        return dict(zip(self.web_names, (one.pod for one in self.webs), strict=True)) | {self.client_name: self.client}

    def call(self, ip: str, port: int, caller: Pod | None = None, source: str = "") -> str:
        """A path that nobody has asked for before, and now is."""
        self.asked += 1
        path = f"/status/404?call={self.asked}"
        (caller or self.client).call(lambda: fetch(ip, port, path, source))
        return path

    def served(self, path: str) -> str:
        """The pod that served it, by what nginx says."""

        def who() -> list[str]:
            pairs = zip(self.web_names, self.webs, strict=True)
            return [name for name, web in pairs if any(path in one.request for one in web.served())]

        return str(until(who, bool)[0])

    def sessions(self, path: str, count: int) -> list[dict[str, Any]]:
        assert self.running is not None
        number = path.partition("=")[2]

        def found() -> list[dict[str, Any]]:
            return [one for one in self.running.sessions() if one["attributes"].get("url.query") == f"call={number}"]

        until(found, lambda them: len(them) >= count)
        time.sleep(0.3)
        assert len(found()) == count, found()
        return sorted(found(), key=lambda one: one["side"])


def fetch(ip: str, port: int, path: str, source: str) -> None:
    connection = http.client.HTTPConnection(ip, port, timeout=10, source_address=(source, 0) if source else None)
    connection.request("GET", path)
    connection.getresponse().read()
    connection.close()


def who(session: dict[str, Any], end: str) -> tuple[str, str, str, str]:
    """Kind, name, owner and Service of one end."""
    known = session[end].get("workload", {})
    return tuple(known.get(key, "") for key in ("kind", "name", "owner", "service"))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (Debian: util-linux)")
    programs("kubectl", "kube-controller-manager", "kube-proxy", "iptables")
    with ExitStack() as stack:
        for context in (node(), uplink()):
            stack.enter_context(context)
        plane = stack.enter_context(control_plane())
        webs = [stack.enter_context(nginx_in(stack.enter_context(sandbox(f"web{n}")))) for n in (1, 2)]
        client, outside = (stack.enter_context(sandbox(name)) for name in ("client", "outside"))
        made = Town(Operator(plane), webs, client, outside)
        plane.start_controllers("deployment", "replicaset", "endpointslice")
        stack.enter_context(kube_proxy(plane, NODE))
        _furnish(made)
        options = ("--redact", "off", "--export", "console:")
        made.running = stack.enter_context(agent(tmp_path_factory.mktemp("agent"), made.kubectl, *options))
        yield made


def _furnish(town: Town) -> None:
    kubectl = town.kubectl
    kubectl.create("Node", NODE)
    addresses = {"status": {"addresses": [{"type": "InternalIP", "address": NODE_IP}]}}
    kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", json.dumps(addresses))
    kubectl.create("Namespace", SHOP)
    for body in (
        deployment("web", SHOP, NODE, 2),
        deployment("client", SHOP, NODE),
        service("web", SHOP, "web", SERVICE_PORT, 80),
        service("front", SHOP, "web", SERVICE_PORT, 80, type="NodePort"),
    ):
        kubectl("create", "-f", "-", given=body)
    port = json.dumps([{"op": "add", "path": "/spec/ports/0/nodePort", "value": NODE_PORT}])
    kubectl("patch", "service", "front", "-n", SHOP, "--type=json", "-p", port)
    town.web_names = run_pods(kubectl, SHOP, "web", [one.pod.ipv4 for one in town.webs])
    (town.client_name,) = run_pods(kubectl, SHOP, "client", [town.client.ipv4])
    town.cluster_ip = kubectl("get", "service", "web", "-n", SHOP, "-o", "jsonpath={.spec.clusterIP}")
    with netlink("routing to the outside") as ip:
        ip.route("add", dst=f"{OUTSIDE}/32", gateway=town.outside.ipv4)
    netns.call_inside(town.outside.namespace, _add_outside)
    until(lambda: iptables("-t", "nat", "-S"), lambda rules: rules.count(f"--to-destination {town.webs[1].pod.ipv4}:80") >= 2)


def _add_outside() -> None:
    with netlink("adding an address") as ip:
        ip.addr("add", index=ip.link_lookup(ifname="eth0")[0], address=OUTSIDE, prefixlen=32)


def test_only_the_client_is_traced(town: Town) -> None:
    """Its veth sees nothing but the Service's address, and there are two pods behind it."""
    town.trace(town.client_name)
    for _ in range(8):
        path = town.call(town.cluster_ip, SERVICE_PORT)
        (session,) = town.sessions(path, 1)
        assert (session["side"], session["server"]["ip"]) == ("client", town.cluster_ip)
        assert who(session, "client") == ("pod", town.client_name, "deployment/client", "")
        assert who(session, "server") == ("pod", town.served(path), "deployment/web", "web")


def test_only_the_server_is_traced(town: Town) -> None:
    """Two Services lead to this port: the one that was called is named."""
    town.trace(*town.web_names)
    front = town.kubectl("get", "service", "front", "-n", SHOP, "-o", "jsonpath={.spec.clusterIP}")
    for called, name in ((town.cluster_ip, "web"), (front, "front")):
        path = town.call(called, SERVICE_PORT)
        (session,) = town.sessions(path, 1)
        assert session["side"] == "server"
        assert who(session, "client") == ("pod", town.client_name, "deployment/client", "")
        assert who(session, "server") == ("pod", town.served(path), "deployment/web", name)


def test_both_are_traced_and_the_call_is_shown_once(town: Town) -> None:
    town.trace(town.client_name, *town.web_names)
    path = town.call(town.cluster_ip, SERVICE_PORT)
    first, second = town.sessions(path, 2)
    assert (first["side"], second["side"]) == ("client", "server")
    for end in ("client", "server"):
        assert who(first, end) == who(second, end)
        assert first[end]["workload"]["uid"] == second[end]["workload"]["uid"]
    assert town.running is not None
    lines = [line for line in town.running.log.read_text().splitlines() if path in line]
    assert len(lines) == 1, lines


def test_a_node_port_from_outside(town: Town) -> None:
    """kube-proxy masquerades it: the pod sees an address of the node, and the kernel still knows whose call it was."""
    town.trace(*town.web_names)
    path = town.call(NODE_IP, NODE_PORT, town.outside, OUTSIDE)
    (session,) = town.sessions(path, 1)
    assert session["client"]["ip"] in {one.pod.host_ipv4 for one in town.webs}
    assert who(session, "client") == ("node", NODE, "", "")
    assert session["attributes"]["client.address"] == OUTSIDE
    assert who(session, "server") == ("pod", town.served(path), "deployment/web", "front")


def test_a_pod_that_calls_a_node_port(town: Town) -> None:
    town.trace(town.client_name)
    path = town.call(NODE_IP, NODE_PORT)
    (session,) = town.sessions(path, 1)
    assert who(session, "server") == ("pod", town.served(path), "deployment/web", "front")


def test_a_pods_own_address_and_one_that_nobody_knows(town: Town) -> None:
    town.trace(town.client_name)
    path = town.call(town.webs[0].pod.ipv4, 80)
    (session,) = town.sessions(path, 1)
    assert who(session, "server")[:3] == ("pod", town.web_names[0], "deployment/web")
    with nginx_in(town.outside):
        path = town.call(OUTSIDE, 80)
        (session,) = town.sessions(path, 1)
    assert session["server"] == {"ip": OUTSIDE, "port": 80}
    assert who(session, "client")[1] == town.client_name


def test_an_address_that_is_used_again_within_a_second(town: Town) -> None:
    """The session that began before keeps the first one's name, though it ends when the other has the address."""
    kubectl = town.kubectl
    town.trace(town.client_name)
    with sandbox("reused") as reused, reused.call(lambda: socket.create_server(("0.0.0.0", 80))) as listener:
        kubectl.run_pod("first", SHOP, reused.ipv4)
        time.sleep(1)
        before = slow_call(town, reused, listener)
        began = time.monotonic()
        kubectl("delete", "pod", "first", "-n", SHOP, "--force", "--grace-period=0")
        kubectl.create("Pod", "second", SHOP, {"nodeName": NODE, "containers": [{"name": "nginx", "image": "none"}]})
        become_ready(kubectl, SHOP, "second", reused.ipv4)
        took = time.monotonic() - began
        time.sleep(0.2)
        after = slow_call(town, reused, listener)
        for answer in (before, after):
            answer()
        kubectl("delete", "pod", "second", "-n", SHOP, "--force", "--grace-period=0")
    names = [who(town.sessions(f"/?call={town.asked - 1 + n}", 1)[0], "server")[1] for n in (0, 1)]
    assert names == ["first", "second"], f"reused after {took:.1f} s"


def test_an_address_outside_has_the_name_under_which_the_pod_was_told_it(town: Town) -> None:
    """Of an ExternalName Service that is the Service; else what it asked for; two names are none."""
    town.trace(town.client_name)
    external = service("db", SHOP, "none", 80, 80, type="ExternalName", externalName="db.example")
    town.kubectl("create", "-f", "-", given=external)
    address = town.outside.ipv4
    expected = {
        f"db.{SHOP}.svc.cluster.local": ("service", "db", "", "db"),
        "db.example": ("", "", "", ""),
    }
    with nginx_in(town.outside):
        for name, ends in expected.items():
            look_up(town, name, address)
            path = town.call(address, 80)
            (session,) = town.sessions(path, 1)
            assert who(session, "server") == ends


def look_up(town: Town, name: str, address: str) -> None:
    """The pod asks a resolver outside of the cluster, and is told this address."""
    with (
        town.outside.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as resolver,
        town.client.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asker,
    ):
        resolver.bind((address, 53))
        asker.settimeout(5)
        asker.sendto(dns.message.make_query(name, "A").to_wire(), (address, 53))
        data, whose = resolver.recvfrom(4096)
        answer = dns.message.make_response(dns.message.from_wire(data))
        answer.answer.append(dns.rrset.from_text(f"{name}.", 30, "IN", "CNAME", "real.example."))
        answer.answer.append(dns.rrset.from_text("real.example.", 30, "IN", "A", address))
        resolver.sendto(answer.to_wire(), whose)
        asker.recv(4096)


def test_what_a_service_says_of_its_port_reaches_an_open_connection(town: Town) -> None:
    """On the client's veth, where only the Service's address is seen; the server's pod is not traced."""
    kubectl = town.kubectl
    town.trace(town.client_name)
    with sandbox("raw") as raw, raw.call(lambda: socket.create_server(("0.0.0.0", 7000))) as listener:
        kubectl("create", "-f", "-", given=service("raw", SHOP, "raw", 7000, 7000))
        kubectl("create", "-f", "-", given=deployment("raw", SHOP, NODE))
        (name,) = run_pods(kubectl, SHOP, "raw", [raw.ipv4])
        ip = kubectl("get", "service", "raw", "-n", SHOP, "-o", "jsonpath={.spec.clusterIP}")
        until(lambda: iptables("-t", "nat", "-S"), lambda rules: f"{raw.ipv4}:7000" in rules)
        ours = town.client.call(lambda: socket.create_connection((ip, 7000), timeout=5))
        theirs, _ = listener.accept()
        with ours, theirs:
            talk(ours, theirs, b"\0what is", b"\0this")
            time.sleep(0.5)
            patch = json.dumps([{"op": "replace", "path": "/spec/ports/0/name", "value": "redis"}])
            kubectl("patch", "service", "raw", "-n", SHOP, "--type=json", "-p", patch)
            time.sleep(2)
            talk(ours, theirs, b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")
            assert town.running is not None
            running = town.running
            (session,) = until(lambda: [one for one in running.sessions() if one["protocol"] == "redis"], bool)
    assert (session["operation"], session["side"], session["server"]["ip"]) == ("PING", "client", ip)
    assert who(session, "server") == ("pod", name, "deployment/raw", "raw")


def talk(ours: socket.socket, theirs: socket.socket, question: bytes, answer: bytes) -> None:
    ours.sendall(question)
    theirs.recv(65536)
    theirs.sendall(answer)
    ours.recv(65536)


def slow_call(town: Town, server: Pod, listener: socket.socket) -> Any:
    """A request that has been read; call the answer to have it answered."""
    town.asked += 1
    caller = town.client.call(lambda: socket.create_connection((server.ipv4, 80), timeout=5))
    caller.sendall(f"GET /?call={town.asked} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    peer, _ = listener.accept()
    peer.recv(65536)

    def answer() -> None:
        with caller, peer:
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            caller.recv(65536)

    return answer
