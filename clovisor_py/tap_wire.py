"""What an agent and who taps it say to each other: lines of JSON, both ways, over the control socket.

The agent begins with `{"answer": Begun}` or `{"error": sentence}`. Then come, in any order, `{"session": […]}`,
`{"remark": sentence}`, and every second `{"beat": sessions lost so far}`; at the end `{"end": Ended}`. Who taps sends an empty
line a second, so that one that hangs is told from one that is content, and ends its sending half when it has seen enough.

A session is the list of its fields in a fixed order, times as they are: the other end makes the same Session of it, and
filters, counts, shows and exports it as if it had been seen there. Three fields stay behind. `head` is raw payload: the `ids`
that are made with it go instead. `propagation` is what somebody put into headers: it has become `trace`, and a remark which of
them were malformed. `peer_kept` is about what is sampled, and who taps gets all. Public functions raise ValueError for what is
no such line.
"""

from __future__ import annotations

import dataclasses
import json
from operator import attrgetter
from typing import Final, NamedTuple

import orjson

from clovisor_py.model.message import AttributeValue
from clovisor_py.model.session import Ids, Outcome, Part, Session, Side, TraceContext
from clovisor_py.model.workload import Endpoint, Workload
from clovisor_py.snapshot import Ended as Counted
from clovisor_py.snapshot import Json, as_json
from clovisor_py.tracing.context import MALFORMED, void
from clovisor_py.tracing.ids import to_take_along

TRACE: Final = "trace"
"""The request's `what`."""
BEAT_S: Final = 1.0
"""Between two words of each side."""
SILENCE_S: Final = 10.0
"""A side that has said nothing for so long hangs."""
_WHO: Final = attrgetter(*(field.name for field in dataclasses.fields(Workload)))


class Tapped(NamedTuple):
    """One pod that is tapped, as it stands at that moment."""

    namespace: str
    name: str
    veth: str = ""
    ips: tuple[str, ...] = ()
    enabled: bool = False
    """Somebody asked for it beside who looks."""
    because: str = ""
    redact: str = ""
    """The level that holds while it is looked at."""
    problem: str = ""
    """Why nothing is seen of it (yet): a sentence."""

    @property
    def ref(self) -> str:
        """`shop/cart-7d9f`."""
        return f"{self.namespace}/{self.name}"


class Begun(NamedTuple):
    """The agent's first word."""

    node: str = ""
    pods: tuple[Tapped, ...] = ()


class Finished(NamedTuple):
    """Its last: segments by stage and reason as they were counted meanwhile, and sessions that its queue had no room for."""

    lost: int = 0
    segments: tuple[Counted, ...] = ()
    why: str = ""
    """Why the agent ended it; empty where it was asked to."""


def line(kind: str, content: object) -> bytes:
    """One line that is not a session."""
    return json.dumps({kind: as_json(content)}).encode() + b"\n"


def session_line(session: Session) -> bytes:
    """One session."""
    request, response, trace = session.request, session.response, session.trace
    ids = to_take_along(session)
    fields = [
        session.protocol,
        session.side.value,
        session.interface,
        session.start_ns,
        session.duration_ns,
        session.ttfb_ns,
        list(session.client),
        list(session.server),
        session.operation,
        session.resource,
        session.status,
        session.outcome.value,
        None if request is None else list(request),
        None if response is None else list(response),
        session.truncated,
        session.gap_bytes,
        session.mid_stream,
        _attributes(session),
        session.seq,
        session.transport,
        _who(session.client_workload),
        _who(session.server_workload),
        None if trace is None else [f"{trace.trace_id:x}", trace.parent_id, trace.format, trace.sampled, trace.state],
        session.connection,
        session.peer_traced,
        session.caller_span,
        session.unlinked,
        session.pod_lost,
        None if ids is None else [f"{ids.trace:x}", ids.client, ids.server],
    ]
    try:
        return orjson.dumps({"session": fields}) + b"\n"
    except orjson.JSONEncodeError:  # a lone surrogate, an integer of more than 64 bits
        return json.dumps({"session": fields}).encode() + b"\n"


def read_line(text: bytes) -> tuple[str, Json]:
    """(kind, content) of a line; a session's content is for `read_session`."""
    found = json.loads(text)
    if not isinstance(found, dict) or len(found) != 1:
        raise ValueError("not one word")
    [(kind, content)] = found.items()
    return kind, content


def read_session(fields: Json) -> Session:
    """The session of `session_line`."""
    try:
        (protocol, side, interface, start, duration, ttfb, client, server, operation, resource, status, outcome, *rest) = fields
        (request, response, truncated, gap, mid, attributes, seq, transport, client_is, server_is, trace, *rest) = rest
        (whole, peer, caller_span, unlinked, pod_lost, ids) = rest
        return Session(
            protocol=protocol,
            side=Side(side),
            interface=interface,
            start_ns=start,
            duration_ns=duration,
            ttfb_ns=ttfb,
            client=Endpoint(*client),
            server=Endpoint(*server),
            operation=operation,
            resource=resource,
            status=status,
            outcome=Outcome(outcome),
            request=None if request is None else Part(*request),
            response=None if response is None else Part(*response),
            truncated=truncated,
            gap_bytes=gap,
            mid_stream=mid,
            attributes=attributes,
            seq=seq,
            transport=transport,
            client_workload=_named(client_is),
            server_workload=_named(server_is),
            trace=None if trace is None else TraceContext(int(trace[0], 16), *trace[1:]),
            connection=whole,
            peer_traced=peer,
            caller_span=caller_span,
            unlinked=unlinked,
            pod_lost=pod_lost,
            ids=None if ids is None else Ids(int(ids[0], 16), *ids[1:]),
        )
    except TypeError as error:
        raise ValueError(f"no session ({error})") from error


def _attributes(session: Session) -> dict[str, AttributeValue]:
    """With the one remark that a span could not make any more."""
    if session.propagation and (malformed := void(session.propagation, session.trace)):
        return {**session.attributes, MALFORMED: list(malformed)}
    return session.attributes


def _who(one: Workload | None) -> tuple[str, ...] | None:
    return None if one is None else _WHO(one)


def _named(fields: Json) -> Workload | None:
    return None if fields is None else Workload(*fields)
