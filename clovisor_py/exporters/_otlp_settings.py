"""Where OTLP goes, and how: what the URL says, and where it says nothing, OpenTelemetry's own variables.

`otlp+grpc://HOST[:4317]` and `otlp+http://HOST[:4318][/v1/traces]` (for metrics `/v1/metrics`); with `otlps` in place of
`otlp`, over TLS. Without a host (`otlp+http:`), OTEL_EXPORTER_OTLP_ENDPOINT says where; `otlp:` leaves the protocol to
OTEL_EXPORTER_OTLP_PROTOCOL, too. After `?` come `compression=gzip`, `timeout=SECONDS`, and for TLS `ca=FILE`, `cert=FILE`,
`key=FILE`. Headers are in OTEL_EXPORTER_OTLP_HEADERS only: they are secrets, and a URL is shown in logs, metrics and the list
of processes.
Of each variable the one for the signal (OTEL_EXPORTER_OTLP_TRACES_…, …_METRICS_…) comes first. A proxy is never used.

Specification: https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from clovisor_py.errors import UsageError
from clovisor_py.exporters._api import ExportUrl

GRPC: Final = "grpc"
HTTP: Final = "http/protobuf"
SCHEMES: Final = {
    "otlp": ("", False),
    "otlp+grpc": (GRPC, False),
    "otlp+http": (HTTP, False),
    "otlps+grpc": (GRPC, True),
    "otlps+http": (HTTP, True),
}
"""Scheme to its protocol (empty: the variable's) and whether it asks for TLS."""
SYNOPSIS: Final = "otlp[s]+grpc://HOST[:4317], otlp[s]+http://HOST[:4318], otlp:"
PORTS: Final = {GRPC: 4317, HTTP: 4318}
WEB_PORTS: Final = {"http": 80, "https": 443}
"""Of a variable's URL for HTTP, which is an ordinary one."""
IN_PATH: Final = "/%:@!$&'()*+,;=~?"
"""What a path with its query holds as it is; everything else but letters and digits is percent-encoded."""
TIMEOUT_S: Final = 10.0
"""Of one request: the specification's."""
LONGEST_TIMEOUT_S: Final = 600.0
"""More is a mistake (milliseconds for seconds): the queue would be full long before."""
QUERY: Final = frozenset({"compression", "timeout", "ca", "cert", "key"})
COMPRESSIONS: Final = {"": False, "none": False, "gzip": True}
NO_HEADERS: Final = re.compile(r"(?i)content-.*|transfer-encoding|connection|te|host|grpc-.*|.*-bin")
"""What the protocols set themselves, or what is no text."""
TOKEN: Final = re.compile(r"[a-z0-9_.-]+")
"""A header's name, in what both HTTP and gRPC allow."""


class Signal(NamedTuple):
    """What is sent: how its own variables call it, its usual path for HTTP, and its method for gRPC."""

    word: str
    path: str
    method: str


TRACES: Final = Signal("TRACES", "/v1/traces", "/opentelemetry.proto.collector.trace.v1.TraceService/Export")
METRICS: Final = Signal("METRICS", "/v1/metrics", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")


@dataclass(frozen=True)
class Settings:
    """One receiver. `path` (with its query, which may be a secret) is for HTTP only, `signal.method` for gRPC.

    `ca`, `certificate` and `key` are files, empty where there is none.
    """

    protocol: str
    host: str
    port: int
    path: str = field(default=TRACES.path, repr=False)
    tls: bool = False
    gzip: bool = False
    timeout_s: float = TIMEOUT_S
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str = ""
    certificate: str = ""
    key: str = ""
    signal: Signal = TRACES

    @property
    def place(self) -> str:
        """`host:port`, for people and for Host headers."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def settings_of(url: ExportUrl, environ: Mapping[str, str], signal: Signal = TRACES) -> Settings:
    """What the URL and the environment say together. Raises UsageError."""
    variables = _Variables(environ, signal)
    protocol, tls = SCHEMES[url.scheme]
    protocol = protocol or variables.protocol()
    _check(url, protocol)
    host, port, path = url.host, url.port or PORTS[protocol], url.path if url.path.strip("/") else signal.path
    if not url.host:
        host, port, path, secure = variables.endpoint(protocol)
        tls = tls or secure
    files = [_file(url, variables, *names, tls=tls) for names in FILES]
    if bool(files[1]) != bool(files[2]):
        raise UsageError(f"'{url.shown}' has a client certificate or its key, not both; give cert=FILE and key=FILE.")
    return Settings(
        protocol=protocol,
        host=host,
        port=port,
        path=quote(path, safe=IN_PATH),
        tls=tls,
        gzip=_compression(url.query["compression"], url.shown) if "compression" in url.query else variables.compression(),
        timeout_s=_seconds(url.query["timeout"], 1.0, url.shown) if "timeout" in url.query else variables.timeout_s(),
        headers=variables.headers(),
        ca=files[0],
        certificate=files[1],
        key=files[2],
        signal=signal,
    )


FILES: Final = (("ca", "CERTIFICATE"), ("cert", "CLIENT_CERTIFICATE"), ("key", "CLIENT_KEY"))
"""As the query names them, and as the variables do."""


def _check(url: ExportUrl, protocol: str) -> None:
    if unknown := set(url.query) - QUERY:
        word = sorted(unknown)[0]
        raise UsageError(f"'{url.shown}' asks OTLP for '{word}', which it does not know; write {', '.join(sorted(QUERY))}.")
    if url.host and url.scheme == "otlp":
        raise UsageError(f"'{url.shown}' does not say how to send; write otlp+grpc://{url.host} or otlp+http://{url.host}.")
    if not url.host and url.path:
        raise UsageError(f"'{url.shown}' names no host; write one of {SYNOPSIS}.")
    if protocol == GRPC and url.path.strip("/"):
        raise UsageError(f"'{url.shown}' has a path, which gRPC does not use; leave it out, or write otlp+http.")


def _file(url: ExportUrl, variables: _Variables, word: str, variable: str, *, tls: bool) -> str:
    """A variable's certificate is for those who use TLS; one in a URL without TLS is a mistake."""
    named = url.query.get(word, "")
    if named and not tls:
        raise UsageError(f"'{url.shown}' has '{word}' but no TLS; write otlps in place of otlp.")
    return (named or variables.get(variable)[1]) if tls else ""


class _Variables:
    """OTEL_EXPORTER_OTLP_… of the environment; an empty one counts as not set."""

    def __init__(self, environ: Mapping[str, str], signal: Signal) -> None:
        self._environ, self._signal = environ, signal

    def get(self, name: str) -> tuple[str, str]:
        """The variable that is set, and its value; both empty where none is."""
        for variable in (f"OTEL_EXPORTER_OTLP_{self._signal.word}_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
            if value := self._environ.get(variable, "").strip():
                return variable, value
        return "", ""

    def protocol(self) -> str:
        variable, value = self.get("PROTOCOL")
        if value not in ("", GRPC, HTTP):
            raise UsageError(f"{variable} is '{value}', which Clovisor does not send; set it to {GRPC} or {HTTP}.")
        return value or HTTP

    def endpoint(self, protocol: str) -> tuple[str, int, str, bool]:
        """Host, port, path with its query, and whether TLS is asked for."""
        variable, value = self.get("ENDPOINT")
        if not value:
            return "localhost", PORTS[protocol], self._signal.path, False
        if "://" not in value:
            insecure = self.get("INSECURE")[1].lower() == "true"
            value = f"{'http' if insecure else 'https'}://{value}"
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{variable} is no URL with a host and a port; write http://HOST:{PORTS[protocol]}.") from error
        if parts.scheme not in WEB_PORTS or not parts.hostname or "@" in parts.netloc:
            raise UsageError(f"{variable} is not a URL of a collector; write http://HOST:{PORTS[protocol]}.")
        if protocol == GRPC and parts.query:
            raise UsageError(f"{variable} has a query, which gRPC does not use; leave it out, or set the protocol to {HTTP}.")
        usual = PORTS[GRPC] if protocol == GRPC else WEB_PORTS[parts.scheme]
        return parts.hostname, port or usual, self._path(parts, variable), parts.scheme == "https"

    def _path(self, parts: SplitResult, variable: str) -> str:
        """The variable for this signal alone is the whole URL; the one for all signals is where theirs begin."""
        path = (parts.path or "/") if f"_{self._signal.word}_" in variable else parts.path.rstrip("/") + self._signal.path
        return f"{path}?{parts.query}" if parts.query else path

    def compression(self) -> bool:
        variable, value = self.get("COMPRESSION")
        return _compression(value, variable)

    def timeout_s(self) -> float:
        variable, value = self.get("TIMEOUT")
        return _seconds(value, 1e-3, variable) if value else TIMEOUT_S

    def headers(self) -> Mapping[str, str]:
        """`name=value,name=value`, percent-encoded. A mistake is told without the value: it is a secret."""
        variable, value = self.get("HEADERS")
        found = {}
        for pair in filter(str.strip, value.split(",")):
            name, equals, text = (part.strip() for part in pair.partition("="))
            name, text = name.lower(), unquote(text)
            if not equals or not TOKEN.fullmatch(name) or NO_HEADERS.fullmatch(name):
                raise UsageError(f"{variable} has a header that cannot be sent; write it as name=value,name=value.")
            if not (text.isascii() and text.isprintable()):
                raise UsageError(f"{variable} has a value of '{name}' that no header can hold; write it in visible ASCII.")
            found[name] = text
        return MappingProxyType(found)


def _compression(value: str, where: str) -> bool:
    if value not in COMPRESSIONS:
        raise UsageError(f"'{where}' asks for a compression that is not known; write gzip or none.")
    return COMPRESSIONS[value]


def _seconds(value: str, unit_s: float, where: str) -> float:
    try:
        seconds = float(value) * unit_s
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_TIMEOUT_S:
        raise UsageError(f"'{where}' has no usable timeout; give one of at most {LONGEST_TIMEOUT_S:.0f} seconds.")
    return seconds
