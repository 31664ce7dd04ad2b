"""What the operator says of everything that is told: OTEL_RESOURCE_ATTRIBUTES, for every Resource and every Jaeger process.

The variable is made for a program that speaks of itself; Clovisor speaks of others' workloads. So what it knows itself comes
first, and spans' Resources go without the names that say who somebody is (`k8s.pod.name`, `service.version`: the agent's own,
where an operator put them into its pod): at a workload that is not known they would be another's. What holds for all that one
agent sees stays: `deployment.environment.name`, `k8s.cluster.name`, `cloud.region`. For the same reason nobody reads
OTEL_SERVICE_NAME.

Specification: https://opentelemetry.io/docs/specs/otel/resource/sdk/ ("Specifying resource information via…")
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

from clovisor_py.errors import UsageError
from clovisor_py.exporters import _bounds

VARIABLE: Final = "OTEL_RESOURCE_ATTRIBUTES"
CHARS: Final = 4096
"""Of the variable: it goes with each request, and with each datagram, which holds 65,000 bytes."""
SOMEBODYS: Final = ("service.", "container.", "process.", "telemetry.", "k8s.")
"""Beginnings of names that say who somebody is."""
EVERYBODYS: Final = "k8s.cluster."
"""But for this one."""
_BROKEN: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def said(environ: Mapping[str, str]) -> Mapping[str, str]:
    """All of it, percent-decoded; what is said twice as it is said last. Raises UsageError where it makes no sense."""
    text = environ.get(VARIABLE, "")
    if len(text) > CHARS:
        raise UsageError(f"{VARIABLE} is longer than {CHARS} characters; leave out what not everything needs.")
    found = {}
    for pair in filter(str.strip, text.split(",")):
        name, equals, value = (_decoded(part.strip()) for part in pair.partition("="))
        if not equals or not name:
            raise UsageError(f"{VARIABLE} is not written as name=value,name=value; write it so.")
        found[_bounds.text(name, _bounds.NAME_CHARS)] = _bounds.text(value, _bounds.TEXT_CHARS)
    return MappingProxyType(found)


def of_all(environ: Mapping[str, str]) -> Mapping[str, str]:
    """What of it holds for every workload. Raises UsageError where it makes no sense."""
    return MappingProxyType(
        {name: value for name, value in said(environ).items() if not name.startswith(SOMEBODYS) or name.startswith(EVERYBODYS)}
    )


def _decoded(text: str) -> str:
    try:
        if _BROKEN.search(text) is None:
            return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise _undecodable() from error
    raise _undecodable()


def _undecodable() -> UsageError:
    return UsageError(f"{VARIABLE} has a percent sign that does not stand for UTF-8; write %25 for the sign itself.")
