"""The playground: a node with five pods on this machine, made of network namespaces, and gone without a trace afterwards.

    with Playground() as playground:
        playground.pods            # client, productpage, details, reviews, ratings: up and reachable
        playground.start_traffic(200, rate=40)
        playground.wait(30)
        playground.truth()         # what really happened, to compare with what was seen

Every step registers its undoing before it is done, so an exception or Ctrl-C at any point removes all of it. Nothing is
left on disk: what processes write goes to memory files. Services die with this process even by kill -9; the namespaces
that this leaves are removed by the next playground or by `remove_leftovers`. A playground holds a lock that ends with its
process, so that leftovers are never mistaken for a demo that runs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import TracebackType
from typing import Final

from clovisor_py.demo.bookinfo import CALLS
from clovisor_py.demo.calls import PORT
from clovisor_py.demo.truth import Record, read
from clovisor_py.errors import ClovisorError, EnvironmentLacking, UsageError
from clovisor_py.kernel import netns, pods
from clovisor_py.kernel.links import networks_here, refusal

PREFIX: Final = "clovisor"
"""What the demo's namespaces and its bridge are called: `clovisor-client`, `clovisor-node`, …"""
CLIENT: Final = "client"
ROLES: Final = (CLIENT, *CALLS)

MAX_REQUESTS: Final = 20_000
"""Each request leaves about two kilobytes of truth in memory; the demo is no load test."""
MAX_RATE: Final = 200.0
"""Requests a second: more would measure the demo's Python servers."""

_PREFIX_LENGTH: Final = 10
"""With `-node` it is the bridge's name, which has 15 characters at most."""
_CANDIDATES: Final = 32
"""Address ranges to try until one clashes with no route of this machine."""
_START_S: Final = 10.0
"""The services listen after half a second; a machine may be busy."""
_POLL_S: Final = 0.02
_SETTLE_S: Final = 2.0
"""A server writes its record just after the client has the answer; so long `wait` waits for the last ones."""
_OVER_IPV6: Final = frozenset({("productpage", "details")})
"""Calls that go over IPv6 (the others over IPv4), so that the demo shows both."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod: its namespace, and the host's end of its veth. Addresses are text; `ipv6` is empty without IPv6."""

    name: str
    namespace: str
    veth: str
    ifindex: int
    ipv4: str
    ipv6: str


class Playground:
    """Context manager; enter it once. Enter it in a thread that outlives the `with`: its processes die with that thread."""

    def __init__(self, prefix: str = PREFIX) -> None:
        if not 0 < len(prefix) <= _PREFIX_LENGTH:
            raise UsageError(f"'{prefix}' cannot be a playground's prefix; take one to {_PREFIX_LENGTH} characters.")
        self.prefix = prefix
        self.run = secrets.token_hex(4)
        """Makes the trace ids of this run its own."""
        self.pods: list[Pod] = []
        self._undo = ExitStack()
        self._truth = self._errors = -1
        self._services: dict[str, subprocess.Popen[bytes]] = {}
        self._client: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Playground:
        """Everything is up when this returns: each pod reached from the client's, over both families."""
        with ExitStack() as undo:
            undo.callback(_lock(self.prefix).close)
            _remove(self.prefix)
            self._truth = _memory_file("truth", undo)
            self._errors = _memory_file("errors", undo)
            undo.callback(_remove, self.prefix)
            self._build()
            undo.callback(self._end_processes)
            self._start_services()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._undo.close()

    def start_traffic(self, requests: int = 200, rate: float = 40.0) -> None:
        """Let the client send so many requests, `rate` a second, and return at once."""
        if not 1 <= requests <= MAX_REQUESTS or not 0 < rate <= MAX_RATE:
            raise UsageError(f"the demo sends 1 to {MAX_REQUESTS:,} requests, at most {MAX_RATE:.0f} a second; ask for fewer.")
        if not self.traffic_done():
            raise UsageError("the demo's client is still sending; wait for it to end.")
        productpage = self._pod("productpage")
        addresses = [address for address in (productpage.ipv4, productpage.ipv6) if address]
        options = ["--requests", str(requests), "--rate", str(rate), "--run", self.run]
        self._client = self._spawn(CLIENT, "traffic", *options, *addresses)

    def traffic_done(self) -> bool:
        """No request is outstanding: the client has ended, or was never started."""
        return self._client is None or self._client.poll() is not None

    def wait(self, timeout_s: float) -> bool:
        """Wait for the client's end; False if it still sends. ClovisorError if it broke down."""
        if self._client is None:
            return True
        try:
            status = self._client.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        if status:
            raise ClovisorError(f"the demo's client broke down ({self._complaint()}); start the demo again.")
        deadline = time.monotonic() + _SETTLE_S
        while not _settled(self.truth()) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return True

    def truth(self) -> list[Record]:
        """Every request so far, as each of its two ends saw it; to be read inside the `with`."""
        return read(f"/proc/self/fd/{self._truth}")

    def _pod(self, name: str) -> Pod:
        return next(pod for pod in self.pods if pod.name == name)

    def _build(self) -> None:
        ipv4, ipv6 = _free_networks()
        gateways = [str(network[1]) for network in (ipv4, ipv6) if network]
        lengths = [network.prefixlen for network in (ipv4, ipv6) if network]
        bridge = pods.add_bridge(_bridge(self.prefix), [f"{a}/{length}" for a, length in zip(gateways, lengths, strict=True)])
        for number, name in enumerate(ROLES, start=2):
            namespace = _namespace(self.prefix, name)
            addresses = [str(network[number]) for network in (ipv4, ipv6) if network]
            netns.create(namespace)
            with_length = [f"{a}/{length}" for a, length in zip(addresses, lengths, strict=True)]
            ifindex = pods.add_pod(namespace, with_length, gateways=gateways, bridge=bridge)
            self.pods.append(Pod(name, namespace, pods.link_name(namespace), ifindex, *addresses, *[""] * (2 - len(addresses))))

    def _start_services(self) -> None:
        for role, callees in CALLS.items():
            peers = [f"--peer={callee}={self._address(role, callee)}" for callee in callees]
            self._services[role] = self._spawn(role, "bookinfo", role, *peers)
        netns.call_inside(self._pod(CLIENT).namespace, self._reach_all)

    def _address(self, caller: str, callee: str) -> str:
        pod = self._pod(callee)
        return pod.ipv6 if pod.ipv6 and (caller, callee) in _OVER_IPV6 else pod.ipv4

    def _spawn(self, pod: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Run a module of the demo in a pod, with this very package, whatever the current folder holds."""
        package = str(Path(__file__).resolve().parents[2])
        paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        return netns.spawn(
            self._pod(pod).namespace,
            [sys.executable, "-m", f"clovisor_py.demo.{module}", f"--truth=/proc/self/fd/{self._truth}", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"},
            stderr=self._errors,
            pass_fds=(self._truth,),
        )

    def _reach_all(self) -> None:
        """In the client's pod: until every service takes connections at each of its addresses."""
        missing = [
            (pod.name, address) for pod in self.pods if pod.name != CLIENT for address in (pod.ipv4, pod.ipv6) if address
        ]
        deadline = time.monotonic() + _START_S
        while missing:
            missing = [(name, address) for name, address in missing if not _listens(address)]
            for role, process in self._services.items():
                if process.poll() is not None:
                    raise ClovisorError(f"the demo's {role} did not start ({self._complaint()}); repair that and start again.")
            if missing and time.monotonic() > deadline:
                name, address = missing[0]
                raise EnvironmentLacking(
                    f"the demo's client does not reach {name} at {address}; if a firewall looks at bridged traffic, let it "
                    f"pass: iptables -I FORWARD -i {_bridge(self.prefix)} -j ACCEPT (and ip6tables)."
                )
            if missing:
                time.sleep(_POLL_S)

    def _complaint(self) -> str:
        """The last thing that a process said on its standard error."""
        lines = Path(f"/proc/self/fd/{self._errors}").read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def _end_processes(self) -> None:
        netns.end([*self._services.values(), *([self._client] if self._client else [])])


def remove_leftovers(prefix: str = PREFIX) -> list[str]:
    """Remove what a demo that was killed left behind, and return its names. ClovisorError if that demo still runs."""
    lock = _lock(prefix)
    try:
        return _remove(prefix)
    finally:
        lock.close()


def _lock(prefix: str) -> socket.socket:
    """Held as long as the socket is open: a name in the host's network namespace that needs no file and outlives nothing."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0clovisor-demo-{prefix}")
    except OSError as error:
        lock.close()
        if error.errno == errno.EADDRINUSE:
            raise ClovisorError("a demo is already running on this machine; end it first, with Ctrl-C.") from error
        raise refusal("locking the demo", error.errno or 0) from error
    return lock


def _remove(prefix: str) -> list[str]:
    """Remove the namespaces, veths and bridge with these names, of which any may be absent."""
    removed = []
    with ExitStack() as steps:  # each is tried, whatever becomes of the others
        for name in (_namespace(prefix, role) for role in ROLES):
            if netns.exists(name):
                removed.append(name)
            steps.callback(netns.delete, name)
            steps.callback(pods.delete_link, pods.link_name(name))
        steps.callback(pods.delete_link, _bridge(prefix))
    return removed


def _namespace(prefix: str, role: str) -> str:
    return f"{prefix}-{role}"


def _bridge(prefix: str) -> str:
    return f"{prefix}-node"


def _memory_file(name: str, undo: ExitStack) -> int:
    """A file without a name, which all processes append to."""
    fd = os.memfd_create(f"clovisor-demo-{name}")
    undo.callback(os.close, fd)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    return fd


def _free_networks() -> tuple[IPv4Network, IPv6Network | None]:
    """Private ranges that no route of this machine overlaps; no IPv6 one where the kernel has no IPv6."""
    taken = networks_here()
    for number in range(_CANDIDATES):
        ipv4, ipv6 = IPv4Network(f"10.211.{number}.0/24"), IPv6Network(f"fd00:c10:{number:x}::/64")
        if not any(_overlap(network, other) for network in (ipv4, ipv6) for other in taken):
            return ipv4, ipv6 if socket.has_dualstack_ipv6() else None
    raise EnvironmentLacking("all of 10.211.0.0/19 is routed on this machine already; free a part of it for the demo.")


def _overlap(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _listens(address: str) -> bool:
    try:
        socket.create_connection((address, PORT), timeout=1.0).close()
    except OSError:
        return False
    return True


def _settled(records: list[Record]) -> bool:
    """Whether both ends of every request have written their record."""
    answered = sum(record["side"] == "client" and record["outcome"] != "failed" for record in records)
    return answered <= sum(record["side"] == "server" for record in records)
