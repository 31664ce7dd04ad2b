"""OpenTelemetry's semantic conventions as a table: what a span of each family of protocols must carry, and of which type.

Written down from the conventions themselves (https://opentelemetry.io/docs/specs/semconv/, 1.44), not from this project's code:
HTTP and database spans are stable, RPC is a release candidate, messaging, DNS and TLS are in development. What the conventions
say for the client alone (`CLIENT` spans of a database, of a broker) holds here for the server's span of the same call, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

TEXT, NUMBER, FLAG, TEXTS = str, int, bool, list

REGISTRY: Final[Mapping[str, type]] = {
    "client.address": TEXT,
    "client.port": NUMBER,
    "db.collection.name": TEXT,
    "db.namespace": TEXT,
    "db.operation.batch.size": NUMBER,
    "db.operation.name": TEXT,
    "db.query.summary": TEXT,
    "db.query.text": TEXT,
    "db.response.returned_rows": NUMBER,
    "db.response.status_code": TEXT,
    "db.stored_procedure.name": TEXT,
    "db.system.name": TEXT,
    "dns.answers": TEXTS,
    "dns.question.name": TEXT,
    "error.type": TEXT,
    "http.request.body.size": NUMBER,
    "http.request.header.authorization": TEXTS,
    "http.request.header.cookie": TEXTS,
    "http.request.method": TEXT,
    "http.request.method_original": TEXT,
    "http.response.body.size": NUMBER,
    "http.response.header.set-cookie": TEXTS,
    "http.response.status_code": NUMBER,
    "http.route": TEXT,
    "k8s.container.name": TEXT,
    "k8s.cronjob.name": TEXT,
    "k8s.daemonset.name": TEXT,
    "k8s.deployment.name": TEXT,
    "k8s.job.name": TEXT,
    "k8s.namespace.name": TEXT,
    "k8s.node.name": TEXT,
    "k8s.pod.name": TEXT,
    "k8s.pod.uid": TEXT,
    "k8s.replicaset.name": TEXT,
    "k8s.service.name": TEXT,
    "k8s.statefulset.name": TEXT,
    "messaging.batch.message_count": NUMBER,
    "messaging.client.id": TEXT,
    "messaging.consumer.group.name": TEXT,
    "messaging.destination.name": TEXT,
    "messaging.destination.partition.id": TEXT,
    "messaging.kafka.offset": NUMBER,
    "messaging.operation.name": TEXT,
    "messaging.operation.type": TEXT,
    "messaging.system": TEXT,
    "network.peer.address": TEXT,
    "network.peer.port": NUMBER,
    "network.protocol.name": TEXT,
    "network.protocol.version": TEXT,
    "network.transport": TEXT,
    "network.type": TEXT,
    "rpc.method": TEXT,
    "rpc.response.status_code": TEXT,
    "rpc.system.name": TEXT,
    "server.address": TEXT,
    "server.port": NUMBER,
    "service.namespace": TEXT,
    "service.instance.id": TEXT,
    "service.version": TEXT,
    "service.peer.name": TEXT,
    "service.peer.namespace": TEXT,
    "tls.cipher": TEXT,
    "tls.established": FLAG,
    "tls.next_protocol": TEXT,
    "tls.protocol.name": TEXT,
    "tls.protocol.version": TEXT,
    "tls.resumed": FLAG,
    "url.full": TEXT,
    "url.path": TEXT,
    "url.query": TEXT,
    "url.scheme": TEXT,
    "user_agent.original": TEXT,
}
"""Every name of the conventions that Clovisor uses. Deprecated ones (`net.peer.name`, `rpc.service`…) are not here."""
OWN: Final = "clovisor."
"""The prefix of names that the conventions do not have."""

VALUES: Final[Mapping[str, frozenset[Any]]] = {
    "network.transport": frozenset({"tcp", "udp"}),
    "network.type": frozenset({"ipv4", "ipv6"}),
    "http.request.method": frozenset(
        {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY", "_OTHER"}
    ),
    "url.scheme": frozenset({"http", "https"}),
    "db.system.name": frozenset({"postgresql", "redis"}),
    "messaging.system": frozenset({"kafka"}),
    "messaging.operation.type": frozenset({"create", "send", "receive", "process", "settle"}),
    "rpc.system.name": frozenset({"grpc"}),
    "tls.protocol.name": frozenset({"ssl", "tls"}),
}
"""Where the conventions list the values."""

ALWAYS: Final = frozenset({"network.transport", "network.type", "network.peer.address", "network.peer.port"})
ENDS: Final = frozenset({"server.address", "server.port"})


class Family(NamedTuple):
    """What a span of it must carry, on either side; `answered`: only where the answer was seen, whole."""

    always: frozenset[str]
    server: frozenset[str] = frozenset()
    client: frozenset[str] = frozenset()
    answered: frozenset[str] = frozenset()


HTTP: Final = Family(
    always=frozenset({"http.request.method", "network.protocol.version"}),
    server=frozenset({"url.path", "url.scheme", "client.address"}),
    client=ENDS | {"url.full"},
    answered=frozenset({"http.response.status_code"}),
)
RPC: Final = Family(
    always=frozenset({"rpc.system.name", "rpc.method"}),
    client=ENDS,
    answered=frozenset({"rpc.response.status_code"}),
)
DATABASE: Final = Family(always=ENDS | {"db.system.name"})
REDIS: Final = Family(always=ENDS | {"db.system.name", "db.operation.name"})
MESSAGING: Final = Family(always=ENDS | {"messaging.system", "messaging.operation.name"})
DNS: Final = Family(always=frozenset({"dns.question.name"}))
TLS: Final = Family(always=frozenset(), answered=frozenset({"tls.established"}))

FAMILIES: Final[Mapping[str, Family]] = {
    "http": HTTP,
    "grpc": RPC,
    "postgresql": DATABASE,
    "redis": REDIS,
    "kafka": MESSAGING,
    "dns": DNS,
    "tls": TLS,
    "tcp": Family(always=ENDS),
    "udp": Family(always=ENDS),
}
"""By a session's protocol. A new protocol need not be here: what it says of itself tells (`family_of`)."""
BY_AREA: Final[Mapping[str, Family]] = {"http": HTTP, "rpc": RPC, "db": DATABASE, "messaging": MESSAGING, "dns": DNS}
"""By the first word of a name of the conventions."""


def family_of(sessions: str, declared: Iterable[str]) -> Family:
    """Of the protocol of these sessions, which may carry these names."""
    areas = {name.partition(".")[0] for name in declared}
    return FAMILIES.get(sessions) or next((family for area, family in BY_AREA.items() if area in areas), FAMILIES["tcp"])


GRPC_SERVER_ERRORS: Final = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""A client's are all but OK."""


def failed(protocol: str, server: bool, attributes: Mapping[str, Any], status: str) -> bool | None:
    """Whether a span with an answer is an error, by the conventions' own rules; None where they have none.

    Below 400 HTTP's status leaves it open "unless there was another error (e.g. network error receiving the response body)":
    then the session's status is not the code. A caller that calls it off is no error of the server.
    """
    if protocol == "http":
        code = attributes.get("http.response.status_code")
        if code is None:
            return None
        if code >= 500 or (code >= 400 and not server):
            return True
        return status != str(code) and not (server and status == "CANCEL")
    if protocol == "grpc":
        code = attributes.get("rpc.response.status_code", "")
        return None if not code else code in GRPC_SERVER_ERRORS if server else code != "OK"
    if protocol in ("postgresql", "redis"):
        return True if attributes.get("db.response.status_code") else None
    if protocol == "kafka" and status:
        return status != "NONE"
    return None


def name(protocol: str, operation: str, attributes: Mapping[str, Any]) -> str:
    """The name of a span, by the conventions; of protocols for which they have none, the operation."""
    if protocol == "http":
        method = attributes["http.request.method"]
        method = "HTTP" if method == "_OTHER" else method
        return f"{method} {attributes['http.route']}" if "http.route" in attributes else method
    if protocol == "grpc":
        return attributes.get("rpc.method") or attributes["rpc.system.name"]
    if protocol in ("postgresql", "redis"):
        target = attributes.get("db.collection.name") or attributes.get("db.stored_procedure.name")
        return attributes.get("db.query.summary") or (f"{operation} {target}" if target else operation)
    if protocol == "kafka":
        verb, target = attributes["messaging.operation.name"], attributes.get("messaging.destination.name")
        return f"{verb} {target}" if target else verb
    return operation
