"""From a session to its span: name, parent, error, attributes; the same for every protocol and every exporter.

Nothing here asks which protocol it was. A protocol says what it has to say in attributes with OpenTelemetry's names, and
the few rules that OpenTelemetry makes for a family of protocols (how a span is named, which status is an error) are keyed
on the presence of such an attribute: they are in the first section of this page, and nowhere else.

The parent: a client's span hangs below the span of the request for which its pod made the call (`caller_span`), else below
the caller's own (the context that the request carried). A server's span hangs below the client's span of the same call where
that exists (`peer_traced`, `peer_kept`), else below the context's, else it is a root.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from clovisor_py.model.message import AttributeValue
from clovisor_py.model.session import Outcome, Session, Side, TraceContext
from clovisor_py.model.span import Span
from clovisor_py.model.workload import Endpoint
from clovisor_py.tracing import context as contexts
from clovisor_py.tracing import identity, ids

# What OpenTelemetry says of families of protocols, by attribute.

NAMES: Final = ("db.query.summary", "rpc.method", "rpc.system.name")
"""An attribute that is the name of the span by itself."""
OPERATION: Final = "messaging.operation.name"
"""The operation in the name, where OpenTelemetry has another word for it than the protocol."""
TARGETS: Final = (
    "http.route",
    "url.template",
    "db.collection.name",
    "db.stored_procedure.name",
    "messaging.destination.name",
)
"""Follows the operation in the name. Few values each, as a name must have: never a raw path, a key, a host."""
NAMESPACE: Final = "db.namespace"
"""Follows it too, where the operation is about it and nothing else."""
HTTP_ERRORS: Final = {Side.SERVER: 500, Side.CLIENT: 400}
"""The lowest HTTP status that is an error: a 404 is the caller's mistake, not the server's."""
CALLED_OFF: Final = "CANCEL"
"""Status of an HTTP/2 exchange that the client broke off: no error of the server, as CANCELLED is none of a gRPC call."""
GRPC_ERRORS: Final = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""Statuses of a gRPC call that are the server's error; to the client any but OK is one."""
OTHER_METHOD: Final = "_OTHER"
"""`http.request.method` of an unknown method; the span is then called `HTTP`."""
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
"""Ports that a URL leaves out."""


def _name(session: Session) -> str:
    attributes = session.attributes
    for key in NAMES:
        if attributes.get(key):
            return str(attributes[key])
    operation = str(attributes.get(OPERATION) or session.operation or session.protocol)
    if attributes.get("http.request.method") == OTHER_METHOD:
        operation = "HTTP"
    target = next((str(attributes[key]) for key in TARGETS if attributes.get(key)), "")
    if not target and session.resource and attributes.get(NAMESPACE) == session.resource:
        target = session.resource
    return f"{operation} {target}" if target else operation


def is_error(session: Session, side: Side | None = None) -> bool:
    """Whether its span is an error (or that of the other `side`): what is the caller's mistake is none of the server.

    An RPC over HTTP has a status of its own, and an HTTP exchange that was broken off after its status has another one.
    """
    attributes, side = session.attributes, side or session.side
    if session.outcome not in (Outcome.OK, Outcome.ERROR):
        return session.failed
    if "rpc.method" in attributes or "rpc.system.name" in attributes:
        if side is Side.SERVER and attributes.get("rpc.system.name") == "grpc":
            return session.failed and session.status in GRPC_ERRORS
        return session.failed
    code = attributes.get("http.response.status_code")
    if isinstance(code, int) and code >= HTTP_ERRORS[side]:
        return True
    if isinstance(code, int) and code >= HTTP_ERRORS[Side.CLIENT] and session.status == str(code):
        return False
    return session.failed and not _called_off(session, side)


def _called_off(session: Session, side: Side) -> bool:
    return side is Side.SERVER and session.status == CALLED_OFF and "http.request.method" in session.attributes


def _url(session: Session, attributes: Mapping[str, AttributeValue]) -> str:
    """The URL that a client asked for, with its query where that may be told; empty where it is not known."""
    path = attributes.get("url.path")
    if "http.request.method" not in attributes or not isinstance(path, str) or not path.startswith("/"):
        return ""
    scheme = str(attributes.get("url.scheme") or "http")
    host, port = str(attributes["server.address"]), attributes["server.port"]
    authority = f"[{host}]" if ":" in host else host
    if port != DEFAULT_PORTS.get(scheme):
        authority += f":{port}"
    query = attributes.get("url.query")
    return f"{scheme}://{authority}{path.partition('?')[0]}{f'?{query}' if query else ''}"


# What holds for every session.


def span_of(session: Session) -> Span:
    """The span of this session. Pure: the same session gives the same span, ids included."""
    context = session.trace or (contexts.read(session.propagation) if session.propagation else None)
    error = is_error(session)
    return Span(
        service=_service(session),
        name=_name(session),
        side=session.side,
        trace_id=context.trace_id if context else ids.trace_id(session),
        span_id=ids.span_id(session, session.side),
        parent_id=_parent(session, context),
        start_ns=session.start_ns,
        duration_ns=max(session.duration_ns, 0),
        error=error,
        sampled=context is None or context.sampled is not False,
        attributes=_attributes(session, context, error),
        trace_state=context.state if context and context.format == "traceparent" else "",
    )


def _service(session: Session) -> str:
    """The observed pod's: spans are told by the one who was watched."""
    own = identity.observed(session)
    return (own and own.called) or (session.client if session.side is Side.CLIENT else session.server).ip


def _parent(session: Session, context: TraceContext | None) -> int:
    if session.side is Side.SERVER and session.peer_traced and session.peer_kept and ids.shared(session):
        return ids.span_id(session, Side.CLIENT)
    return session.caller_span or (context.parent_id if context else 0)


def _attributes(session: Session, context: TraceContext | None, error: bool) -> dict[str, AttributeValue]:
    """What was on the wire, then what the protocol said of it (it may know better), then our own remarks."""
    attributes = _ends(session)
    attributes.update(session.attributes)
    if session.side is Side.CLIENT and "url.full" not in attributes:
        url = _url(session, attributes)
        if url:
            attributes["url.full"] = url
    if not error:
        attributes.pop("error.type", None)
    elif "error.type" not in attributes:
        attributes["error.type"] = _error_type(session)
    attributes.update(_remarks(session, context))
    return attributes


def _ends(session: Session) -> dict[str, AttributeValue]:
    here_is_client = session.side is Side.CLIENT
    peer: Endpoint = session.server if here_is_client else session.client
    attributes: dict[str, AttributeValue] = {
        "network.transport": session.transport,
        "network.type": "ipv6" if ":" in peer.ip else "ipv4",
        "network.peer.address": peer.ip,
        "network.peer.port": peer.port,
        "server.address": session.server.ip,
        "server.port": session.server.port,
    }
    if session.protocol != session.transport:
        attributes["network.protocol.name"] = session.protocol
    if here_is_client:
        own, other = session.client_workload, session.server_workload
    else:
        own, other = session.server_workload, session.client_workload
        attributes["client.address"] = session.client.ip
        attributes["client.port"] = session.client.port
    if own is not None:
        attributes.update(identity.of_own(own))
    if other is not None:
        attributes.update(identity.of_peer(other))
    return attributes


def _error_type(session: Session) -> str:
    if session.outcome in (Outcome.OK, Outcome.ERROR):
        return session.status or str(session.outcome.value)
    return str(session.outcome.value)


def _remarks(session: Session, context: TraceContext | None) -> dict[str, AttributeValue]:
    """What a reader of the span has to know of how it was seen; a remark that would say nothing is left out."""
    remarks: dict[str, AttributeValue] = {"clovisor.outcome": session.outcome.value}
    if session.ttfb_ns is not None:
        remarks["clovisor.ttfb_ns"] = session.ttfb_ns
    if session.truncated:
        remarks["clovisor.truncated"] = True
    if session.gap_bytes:
        remarks["clovisor.gap_bytes"] = session.gap_bytes
    if session.mid_stream:
        remarks["clovisor.mid_stream"] = True
    if session.pod_lost:
        remarks["clovisor.pod.lost_segments"] = session.pod_lost
    if context is not None:
        remarks["clovisor.trace_context"] = context.format
        if context.format == "sw8":
            remarks["clovisor.sw8.trace_id"] = context.state
    if session.propagation and (malformed := contexts.void(session.propagation, context)):
        remarks[contexts.MALFORMED] = list(malformed)
    if session.unlinked:
        remarks["clovisor.unlinked"] = session.unlinked
    return remarks
