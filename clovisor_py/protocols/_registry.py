"""Finds the protocols: every module of this package that has a `PROTOCOL`; adding a file is adding a protocol."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from clovisor_py import protocols
from clovisor_py.errors import UsageError
from clovisor_py.protocols._api import Protocol


@cache
def registry() -> Mapping[str, Protocol]:
    """Name to protocol, in alphabetical order (the order means nothing: evidence decides)."""
    found: dict[str, Protocol] = {}
    for module in pkgutil.iter_modules(protocols.__path__):
        if not module.name.startswith("_"):
            protocol = importlib.import_module(f"{protocols.__name__}.{module.name}").PROTOCOL
            found[protocol.name] = protocol
    return MappingProxyType(found)


def by_name(name: str) -> Protocol:
    """The protocol of that name or other name. Raises UsageError, naming those that exist."""
    wanted = name.strip().lower()
    for protocol in registry().values():
        if wanted == protocol.name or wanted in protocol.hints:
            return protocol
    raise UsageError(f"no protocol named '{name}'; known here: {', '.join(registry())}.")
