"""Operations: what a session asked for, in words of which there are few, and how it ended, in even fewer.

A protocol tells by its attributes what it is like (as in `_families`): a path becomes a template (`routes`), a method of an
RPC, an SQL verb with its table and a topic stay as they are. Keys, names that DNS was asked for, texts and addresses never are
part of an operation. Words still come from the wire: who counts by them bounds how many (`red`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from clovisor_py.metrics.routes import OTHER, Trie
from clovisor_py.model.session import END, Outcome, Session

OPERATION_CHARS: Final = 128
"""Characters of an operation's verb or object that are kept; a Java package with its class and method has fewer."""
ROUTE: Final = "http.route"
METHOD: Final = "http.request.method"
RPC: Final = "rpc.method"
OBJECTS: Final = ("db.collection.name", "messaging.destination.name")
"""Attributes that name what an operation is about, where there are few of those."""
NAMES: Final = (RPC, "db.operation.name", "messaging.operation.name")
"""Attributes that name what was asked for; METHOD is that of HTTP alone."""
OK: Final = "ok"
_OK, _ERROR = Outcome.OK, Outcome.ERROR


class Operation(NamedTuple):
    """`verb` `what`: `GET` `/users/{id}`, `SELECT` `users`; `code` is the class of the status: `2xx`, `ok`, `error`…

    `name` is OpenTelemetry's word for the verb (`send` for Kafka's `Produce`), empty where it has none.
    """

    verb: str
    what: str
    code: str
    name: str = ""

    @property
    def title(self) -> str:
        return f"{self.verb} {self.what}" if self.what else self.verb


def operation(session: Session, trie: Trie | None) -> Operation:
    """`trie`: the routes of the session's server; None: there was no room for them."""
    attributes = session.attributes
    code = status_class(session)
    if METHOD in attributes and RPC not in attributes:
        path = attributes.get(ROUTE) or attributes.get("url.path") or ""
        what = OTHER if trie is None else trie.find(str(path))
        method = str(attributes[METHOD])[:OPERATION_CHARS]
        return Operation(method, what, code, method)
    name = next((str(attributes[each]) for each in NAMES if each in attributes), "")[:OPERATION_CHARS]
    about = next((str(attributes[name]) for name in OBJECTS if name in attributes), "")
    return Operation((session.operation or session.protocol)[:OPERATION_CHARS], about[:OPERATION_CHARS], code, name)


def status_class(session: Session) -> str:
    """`2xx` where statuses are three digits; else how it ended: `ok`, `error`, `timeout`, `reset`, `closed`, `one_way`."""
    outcome, status = session.outcome, session.status
    if END in session.attributes:
        return "open"
    if len(status) == 3 and (outcome is _OK or outcome is _ERROR) and status.isdigit() and status.isascii():
        return f"{status[0]}xx"
    return str(outcome.value)
