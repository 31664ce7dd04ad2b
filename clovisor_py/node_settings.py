"""The settings of a node's agent: those of config.Settings, and what it traces and tells; and how each is read from text.

Text is what a file, the environment and flags have in common, so there is one reader for all three. It is total: a value, or
a Misfit that says what is allowed. YAML's own idea of values is not used, as it reads `redact: off` as false.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, get_type_hints

from clovisor_py.config import CPU_SHARES, Settings
from clovisor_py.errors import ClovisorError
from clovisor_py.exporters import _otlp_settings
from clovisor_py.exporters._registry import parse
from clovisor_py.kube.annotations import hint_of
from clovisor_py.kube.egress import EgressRule, port_number, quoted, rule_of
from clovisor_py.kube.policy import Rules, Watched
from clovisor_py.protocols._redaction import Level

MAX_ITEMS: Final = 1024
"""Entries of one list: what can be checked for each pod without being felt."""

Raw = str | Sequence[str]
"""What was written: one text, or several where a list was."""

_MIB: Final = 1 << 20
_UNITS: Final[Mapping[str, Mapping[str, float]]] = {
    "seconds": {"": 1, "ms": 1e-3, "s": 1, "m": 60, "h": 3600},
    "bytes": {"": 1, "k": 1e3, "kb": 1e3, "ki": 1 << 10, "kib": 1 << 10, "m": 1e6, "mb": 1e6, "mi": _MIB, "mib": _MIB},
    "": {"": 1},
}
_NUMBER: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]{0,3})")
_TRUTH: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "lease_s": (2, 3600),  # it is renewed every second
    "poll_s": (0.001, 1),
    "busy_poll_s": (0, 1),
    "wake_bytes": (4096, 4 * _MIB),  # half of the ring
    "cpu_share": CPU_SHARES,
    "pod_bytes_per_s": (1024, 1 << 40),
    "flow_bytes_per_s": (1024, 1 << 40),
    "head_bytes": (64, 65536),  # of the longest segment there is
    "sessions_per_pod": (1, 65536),  # what the kernel's table holds for the node
    "request_timeout_s": (0.01, 86400),
    "flow_idle_s": (1, 86400),
    "export_queue": (1, 1 << 20),
    "sample": (0, 1),
    "http_port": (0, 65535),
}
"""Lowest and highest; a number that is not here is at least 0."""
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "hook": ("auto", "tcx", "clsact"),
    "redact": tuple(level.value for level in Level),
    "log_level": ("debug", "info", "warning", "error"),
}
LONGEST: Final[Mapping[str, int]] = {"udp_ports": 64}
"""Entries of a list that are possible: the kernel's table of UDP ports holds 64."""


@dataclass(frozen=True, slots=True)
class NodeSettings(Settings):
    """All settings of `clovisor agent`; immutable, so that a reload is a new one."""

    node: str = ""
    """This node's name, as its pods say it (in a DaemonSet: the downward API's spec.nodeName). Empty: the host's name."""

    kubeconfig: str = ""
    """File with the way to the API server; empty: the pod's own service account, or the usual places."""

    trace_by_default: bool = False
    """Whether pods are traced of which nobody says anything. Off: an operator asks for what is looked at."""

    watch: tuple[Watched, ...] = ()
    """Pods that are traced without a label, as in 2019: `NAMESPACE`, or `NAMESPACE:LABEL:VALUE` (`*`: any namespace)."""

    egress: tuple[EgressRule, ...] = ()
    """The only outgoing connections that are looked at, as in 2019: `IP:PORT[:POD-PREFIX]`. None given: all are."""

    hints: tuple[tuple[int, str], ...] = ()
    """`PORT=PROTOCOL` of every pod that does not say otherwise."""

    exports: tuple[str, ...] = ()
    """URLs of exporters: where sessions go."""

    metrics_export: str = ""
    """URL of the OTLP receiver to which metrics are pushed (`otlp+grpc://HOST`, `otlp:`); empty: they are only served."""

    http_port: int = 9464
    """Port of /healthz, /readyz and /metrics: the one that OpenTelemetry keeps for Prometheus. 0: none."""

    http_host: str = ""
    """The one address of this machine at which they are served; empty: all of them, which on a node is its network's, too."""

    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""

    def rules(self, names: Collection[str]) -> Rules:
        """What these settings say about pods; `names`: those of all protocols."""
        return Rules(self.trace_by_default, self.watch, self.egress, self.sample, frozenset(names))


class Misfit(ClovisorError):
    """A value that makes no sense; the text says what is wrong and what to write, without a full stop."""


FIELDS: Final[tuple[str, ...]] = tuple(field.name for field in fields(NodeSettings))
"""The keys of a settings file."""
DEFAULTS: Final = NodeSettings()
_TYPES: Final[Mapping[str, Any]] = MappingProxyType(get_type_hints(NodeSettings))


def read(name: str, raw: Raw, names: Collection[str]) -> object:
    """The value of the setting `name`, one of FIELDS. `names`: those of all protocols, for hints. Raises Misfit."""
    kind = _TYPES[name]
    if getattr(kind, "__origin__", None) is tuple:
        return _list(name, raw, names)
    if not isinstance(raw, str):
        raise Misfit("a list does not fit: write one value")
    text = raw.strip()
    if name in CHOICES:
        if text.lower() not in CHOICES[name]:
            raise Misfit(f"{quoted(raw)} does not fit: write {', '.join(CHOICES[name][:-1])} or {CHOICES[name][-1]}")
        return text.lower()
    if kind is bool:
        if text.lower() not in _TRUTH:
            raise Misfit(f"{quoted(raw)} does not fit: write true or false")
        return _TRUTH[text.lower()]
    if kind in (int, float):
        return _number(name, text, kind)
    if name == "http_host":
        return _address(text)
    if name == "metrics_export":
        return _metrics_export(text)
    if kind is Path:
        if not text.startswith("/"):
            raise Misfit(f"{quoted(raw)} does not fit: write a path that begins with /")
        return Path(text)
    return text


def differences(before: NodeSettings, after: NodeSettings) -> tuple[str, ...]:
    """What changed, for people: `cpu_share 0.5 → 0.8`."""
    pairs = [(name, getattr(before, name), getattr(after, name)) for name in FIELDS]
    return tuple(f"{name} {_written(old)} → {_written(new)}" for name, old, new in pairs if old != new)


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join("=".join(map(str, one)) if type(one) is tuple else str(one) for one in value) or "(none)"
    return str(value) if value != "" else "(none)"


def _address(text: str) -> str:
    """An address and not a name: nothing is to be looked up before the agent can tell of itself."""
    try:
        return str(ip_address(text)) if text else ""
    except ValueError as error:
        raise Misfit(f"{quoted(text)} does not fit: write an IP address of this machine, or nothing for all") from error


def _number(name: str, text: str, kind: type) -> float | int:
    unit = "bytes" if "bytes" in name else "seconds" if name.endswith("_s") else ""
    low, high = LIMITS.get(name, (0, float("inf")))
    match = _NUMBER.fullmatch(text)
    factor = _UNITS[unit].get(match[2].lower()) if match else None
    value = float(match[1]) * factor if match and factor is not None else -1.0
    if not low <= value <= high or (kind is int and value != int(value)):
        what = f"a {'whole ' if kind is int else ''}number{f' of {unit}' if unit else ''}"
        bounds = f"from {low:.15g} to {high:.15g}" if high != float("inf") else f"of at least {low:.15g}"
        raise Misfit(f"{quoted(text)} does not fit: write {what} {bounds}")
    return int(value) if kind is int else value


def _list(name: str, raw: Raw, names: Collection[str]) -> tuple[object, ...]:
    """Entries that were a list, or that commas part; doubles count once."""
    texts = [entry.strip() for entry in (raw.split(",") if isinstance(raw, str) else raw)]
    entries = [entry for entry in texts if entry]
    longest = LONGEST.get(name, MAX_ITEMS)
    if len(entries) > longest:
        raise Misfit(f"a list of {len(entries)} is too long: leave {len(entries) - longest} out")
    reader = _ITEMS[name]
    values = tuple(dict.fromkeys(reader(entry, names) for entry in entries))
    if name == "hints" and len(dict(values)) < len(values):  # type: ignore[arg-type]  # pairs
        raise Misfit("two protocols for one port: leave one out")
    return values


def _udp_port(text: str, _names: Collection[str]) -> int:
    port = port_number(text)
    if port is None:
        raise Misfit(f"{quoted(text)} does not fit: write a port from 1 to 65535")
    return port


def _watched(text: str, _names: Collection[str]) -> Watched:
    parts = text.replace("=", ":").split(":")
    if len(parts) not in (1, 3) or not all(parts[:2]):
        raise Misfit(f"{quoted(text)} does not fit: write NAMESPACE or NAMESPACE:LABEL:VALUE (* for any namespace)")
    namespace, key, value = (*parts, "", "")[:3]
    return Watched("" if namespace == "*" else namespace, key, value)


def _egress(text: str, _names: Collection[str]) -> EgressRule:
    rule = rule_of(text, prefixes=True)
    if isinstance(rule, str):
        raise Misfit(rule)
    return rule


def _hint(text: str, names: Collection[str]) -> tuple[int, str]:
    hint = hint_of(text, names)
    if isinstance(hint, str):
        raise Misfit(hint)
    return hint


def _export(text: str, _names: Collection[str]) -> str:
    try:
        parse(text)
    except ClovisorError as error:
        raise Misfit(str(error).rstrip(".")) from error
    return text


def _metrics_export(text: str) -> str:
    if text and _export(text, ()).partition(":")[0].lower() not in _otlp_settings.SCHEMES:
        raise Misfit(f"{quoted(text)} does not fit: write one of {_otlp_settings.SYNOPSIS}")
    return text


_ITEMS: Final[Mapping[str, Callable[[str, Collection[str]], object]]] = {
    "udp_ports": _udp_port,
    "watch": _watched,
    "egress": _egress,
    "hints": _hint,
    "exports": _export,
}
"""How an entry of each list is read."""
