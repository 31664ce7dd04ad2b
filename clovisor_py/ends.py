"""Ends: who is at each end of a session, from what the API server says of addresses and what this node's kernel made of them.

The traced pod's own end is certain, as its veth is the pod; what the index says of it is taken where it is about that same pod
(it knows the Service, too). The other end is whoever had that address when the session began; an address outside of the
cluster has the name under which the pod was told it (`answered`); unknown stays an address.

On the way between two veths the kernel rewrites addresses. What the index alone leaves open, its table of connections tells
(`translation`): which pod got what was sent to a Service, who called a pod under the node's address, and through which of
several Services. A pod that is named so has the Service that was called as its `service`. Where the kernel cannot be asked,
or has no such connection, the Service and the node are what is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

from clovisor_py.answered import ANSWERS, Answered, IsExternal
from clovisor_py.kernel.conntrack import Entry
from clovisor_py.model.session import Session, Side
from clovisor_py.model.workload import Endpoint, Workload
from clovisor_py.translation import Translation

COMBINED: Final = 1024
"""Pods with the Service through which they were called, and nodes: one object each for all sessions that have them."""

Resolve = Callable[[str, int, int], Workload | None]
"""(ip, port, time in ns since the epoch): who had that address then."""


KEEP_NS: Final = 500_000_000
"""How long an answer holds for a connection, by when its sessions began: looking both ends up costs as much as the session
itself. Addresses and ports that are all the same again, for other pods, come later than this and `translation.KEEP_S`."""
MOST: Final = 4096
"""Connections whose ends are remembered, at 0.4 kB each; beyond it the oldest are looked up again."""


class Ends(NamedTuple):
    """Of one session. `alike`: both veths see the client under the same address, so that they compute the same ids."""

    client: Workload | None
    server: Workload | None
    alike: bool = True


class EndFinder:
    """Without a `translation` as far as addresses tell. `is_external`: see `answered`."""

    def __init__(
        self, resolve: Resolve, translation: Translation | None = None, is_external: IsExternal = lambda namespace, name: False
    ) -> None:
        self._resolve, self._translation = resolve, translation
        self._answered = Answered(is_external)
        self._kept: dict[tuple[int, Endpoint, Endpoint, str], tuple[int, Workload | None, Side, Ends]] = {}

    def find(self, session: Session, own: Workload | None) -> Ends:
        """`own`: the pod behind the session's veth. A masqueraded client's own address becomes an attribute."""
        if ANSWERS in session.attributes and session.side is Side.CLIENT:
            self._answered.learn(session)
        key = (session.interface, session.client, session.server, session.transport)
        if (kept := self._kept.get(key)) is not None:
            since, whose, side, ends = kept
            if 0 <= session.start_ns - since < KEEP_NS and whose is own and side is session.side:
                return ends
            del self._kept[key]
        ends = self._look(session, own)
        if ends.alike and ends.client is not None and ends.server is not None:
            self._kept[key] = (session.start_ns, own, session.side, ends)
            if len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]
        return ends

    def forget(self, interface: int) -> None:
        """The veth is another pod's from now on, or nobody's."""
        self._answered.forget(interface)

    def counts(self) -> dict[str, int]:
        """What was asked for and not to be had."""
        asked = self._translation
        found = {"answers forgotten": self._answered.forgotten}
        if asked is not None:
            found |= {f"translations {name}": getattr(asked, name) for name in ("asked", "failed", "skipped")}
        return found

    def _look(self, session: Session, own: Workload | None) -> Ends:
        client, server = self._at(session, session.client), self._at(session, session.server)
        if session.side is Side.CLIENT:
            if server is None:
                server = self._answered.at(session.interface, session.server.ip, session.start_ns)
            return Ends(_same(own, client), self._reached(session, server))
        return self._caller(session, client, _same(own, server))

    def _reached(self, session: Session, called: Workload | None) -> Workload | None:
        """Whom a call to a Service reached; the Service, where that is not known."""
        if called is None or called.kind != "service" or self._translation is None:
            return called
        entry = self._translation.of(session)
        if entry is None or entry.server == session.server:
            return called
        reached = self._at(session, entry.server)
        return called if reached is None or reached.kind != "pod" else _through(reached, called)

    def _caller(self, session: Session, client: Workload | None, server: Workload | None) -> Ends:
        """Both ends as the client meant them, whatever address it came with."""
        translation = self._translation
        if translation is None:
            return Ends(client, server)
        if client is None and server is not None and server.node and translation.is_here(session.client.ip):
            client = _node(server.node)
        masked = client is not None and client.kind == "node"
        if not masked and (server is None or server.service):
            return Ends(client, server)
        entry = translation.of(session)
        if entry is None:
            return Ends(client, server)
        server = self._called(session, entry, server)
        if entry.client == session.client:
            return Ends(client, server)
        session.attributes["client.address"], session.attributes["client.port"] = entry.client
        return Ends(self._at(session, entry.client) or client, server, alike=False)

    def _called(self, session: Session, entry: Entry, server: Workload | None) -> Workload | None:
        """The server, with the Service through which it was called."""
        if server is None or entry.called == session.server:
            return server
        called = self._at(session, entry.called)
        return server if called is None or called.namespace != server.namespace else _through(server, called)

    def _at(self, session: Session, end: Endpoint) -> Workload | None:
        return self._resolve(end.ip, end.port, session.start_ns)


@lru_cache(COMBINED)
def _through(reached: Workload, called: Workload) -> Workload:
    return replace(reached, service=called.service) if called.service else reached


@lru_cache(COMBINED)
def _node(name: str) -> Workload:
    return Workload(name, node=name, kind="node")


def _same(own: Workload | None, said: Workload | None) -> Workload | None:
    """What was said of an address, if it is about the pod that the veth leads to; else that pod."""
    return said if own is None or (said is not None and said.uid == own.uid) else own
