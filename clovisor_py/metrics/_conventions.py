"""Conventions: what OpenTelemetry calls the operation of a row and how it ended, for who gets metrics as OTLP.

Prometheus' page has the same names for all protocols and keeps them short; OTLP's points have these beside them. What RED does
not keep is not said: of an HTTP status the class is known alone, and names that DNS was asked for and addresses not at all.

Specification: https://opentelemetry.io/docs/specs/semconv/general/metrics/ and the pages of each family
"""

from __future__ import annotations

from typing import Final, NamedTuple

from clovisor_py.metrics.operations import METHOD as HTTP_METHOD
from clovisor_py.metrics.operations import OK, ROUTE, Operation
from clovisor_py.metrics.operations import RPC as RPC_METHOD
from clovisor_py.metrics.routes import OTHER
from clovisor_py.model.session import Outcome, Side

UNKNOWN: Final = "_OTHER"
"""What OpenTelemetry says of an operation or an error for which there is no word."""
ERROR_TYPE: Final = "error.type"
FINE: Final = frozenset({"", OK, "open", Outcome.ONE_WAY.value})
"""Classes of status that are no error, beside those of three digits."""
ERRORS: Final = "4xx"
"""The lowest class of three digits that is one."""
SERVER_ERRORS: Final = "5xx"
"""The same at an HTTP server: a 404 is the caller's mistake."""


class Words(NamedTuple):
    """Names of a family's attributes, empty where it has none: of the system, of what was asked for, of what that is about.

    `about` may differ at the server and at the client. `scheme` is what `url.scheme` says.
    """

    system: str = ""
    name: str = ""
    about: tuple[str, str] = ("", "")
    scheme: str = ""
    server_errors: str = ERRORS

    def said(self, side: Side, system: str, what: Operation) -> dict[str, str]:
        """Of a row; always the same keys at one side, and an empty value is none."""
        server = side is Side.SERVER
        about = self.about[0 if server else 1]
        pairs = (
            (self.system, system),
            (self.name, UNKNOWN if what.verb == OTHER else what.name or UNKNOWN),
            (about, "" if what.what == OTHER else what.what),
            ("url.scheme" if self.scheme else "", self.scheme),
            (ERROR_TYPE, error_type(what.code, self.server_errors if server else ERRORS)),
        )
        return {key: value for key, value in pairs if key}


def error_type(code: str, lowest: str = ERRORS) -> str:
    """`error.type` for a class of status; empty where it is none. `lowest`: the lowest class of three digits that is one."""
    if code.endswith("xx"):
        return code if code >= lowest else ""
    if code in FINE:
        return ""
    return UNKNOWN if code == Outcome.ERROR.value else code


NONE: Final = Words()
"""Of DNS, where nothing else is known, and of what OpenTelemetry has no family for: `error.type` alone."""
HTTP: Final = Words(name=HTTP_METHOD, about=(ROUTE, "url.template"), scheme="http", server_errors=SERVER_ERRORS)
"""What could be read was not encrypted."""
RPC: Final = Words("rpc.system.name", RPC_METHOD)
DB: Final = Words("db.system.name", "db.operation.name", ("db.collection.name",) * 2)
MESSAGING: Final = Words("messaging.system", "messaging.operation.name", ("messaging.destination.name",) * 2)
