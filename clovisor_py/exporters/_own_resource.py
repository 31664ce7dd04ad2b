"""What the operator says of everything that is told: OTEL_RESOURCE_ATTRIBUTES, for every Resource and every Jaeger process.

The variable is made for a program that speaks of itself; Clovisor speaks of others' workloads. So what it knows itself comes
first, and spans' Resources go without the names that say who somebody is (`k8s.pod.name`, `service.version`: the agent's own,
where an operator put them into its pod): at a workload that is not known they would be another's. What holds for all that one
agent sees stays: `deployment.environment.name`, `k8s.cluster.name`, `cloud.region`. For the same reason nobody reads
OTEL_SERVICE_NAME. A value that makes no sense is said, and left out whole, as the specification asks.

Specification: https://opentelemetry.io/docs/specs/otel/resource/sdk/ ("Specifying resource information via…")
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

from clovisor_py.exporters import _bounds

VARIABLE: Final = "OTEL_RESOURCE_ATTRIBUTES"
CHARS: Final = 4096
"""Of the variable: it goes with each request, and with each datagram, which holds 65,000 bytes."""
SOMEBODYS: Final = ("service.", "container.", "process.", "telemetry.", "k8s.")
"""Beginnings of names that say who somebody is."""
EVERYBODYS: Final = "k8s.cluster."
"""But for this one."""
_BROKEN: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

log = logging.getLogger(__name__)


def said(environ: Mapping[str, str]) -> Mapping[str, str]:
    """All of it, percent-decoded; what is said twice as it is said last. Empty where it makes no sense, which is logged."""
    text = environ.get(VARIABLE, "")
    if len(text) > CHARS:
        return _refused(f"is longer than {CHARS} characters; leave out what not everything needs.")
    found = {}
    for pair in filter(str.strip, text.split(",")):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not name:
            return _refused("is not written as name=value,name=value; write it so.")
        try:
            decoded = _decoded(name), _decoded(value)
        except ValueError:
            return _refused("has a percent sign that does not stand for UTF-8; write %25 for the sign itself.")
        found[_bounds.text(decoded[0], _bounds.NAME_CHARS)] = _bounds.text(decoded[1], _bounds.TEXT_CHARS)
    return MappingProxyType(found)


def of_all(environ: Mapping[str, str]) -> Mapping[str, str]:
    """What of it holds for every workload."""
    return MappingProxyType(
        {name: value for name, value in said(environ).items() if not name.startswith(SOMEBODYS) or name.startswith(EVERYBODYS)}
    )


def _decoded(text: str) -> str:
    """Raises ValueError."""
    if _BROKEN.search(text):
        raise ValueError(text)
    return unquote(text, errors="strict")


def _refused(why: str) -> Mapping[str, str]:
    log.warning("%s %s Until then nothing of it is told.", VARIABLE, why)
    return MappingProxyType({})
