"""Finds the exporters and takes their URLs apart; adding a file is adding an exporter.

An exporter is a module of this package with an `EXPORTER`, or an entry point `clovisor.exporters` of an installed package
(looked at only for a scheme that no module here has; a broken one costs nobody else anything: it is passed over and said).

A mistake in a URL is said without what may be a secret: of a place on the network, scheme and host.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from clovisor_py import exporters
from clovisor_py.errors import EnvironmentLacking, UsageError
from clovisor_py.exporters._api import Exporter, ExportUrl, Sink

ENTRY_POINTS: Final = "clovisor.exporters"
HIGHEST_PORT: Final = 65535
_PLACE: Final = re.compile(r"//[^/?#]*")

log = logging.getLogger(__name__)


@cache
def registry() -> Mapping[str, Exporter]:
    """Scheme to exporter, of the modules of this package."""
    found: dict[str, Exporter] = {}
    for module in pkgutil.iter_modules(exporters.__path__):
        if not module.name.startswith("_"):
            exporter = importlib.import_module(f"{exporters.__name__}.{module.name}").EXPORTER
            found.update(dict.fromkeys(exporter.schemes, exporter))
    return MappingProxyType(found)


def forms() -> str:
    """How the URLs are written, for help texts and mistakes: `console:, jaeger://HOST[:6831], jsonl:FILE`."""
    return ", ".join(dict.fromkeys(exporter.synopsis for exporter in registry().values()))


def parse(url: str) -> ExportUrl:
    """`scheme:path?query` or `scheme://host:port/path?query`, taken apart. Raises UsageError, naming the known forms.

    The scheme is known afterwards; what its exporter makes of the rest, `open_sink` tells.
    """
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if not colon or exporter_of(scheme) is None:
        raise UsageError(f"there is no exporter for '{_shown(url)}'; write one of {forms()}.")
    if not rest.startswith("//"):
        path, _, query = rest.partition("?")  # a file's name: nothing else in it has a meaning
        return ExportUrl(text=url, scheme=scheme, path=path, query=_query(query))
    if (place := _PLACE.match(rest)) is not None and "@" in place[0]:
        raise UsageError(f"'{_shown(url)}' has a user name in it, which no exporter uses; write one of {forms()}.")
    try:
        parts = urlsplit(url, allow_fragments=False)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"'{_shown(url)}' is no URL with a host and a port; write one of {forms()}.") from error
    host = _host(url, parts, port)
    return ExportUrl(text=url, scheme=scheme, host=host, port=port, path=parts.path, query=_query(parts.query))


def open_sink(url: str) -> Sink:
    """The sink of that URL, ready. Raises UsageError where the URL makes no sense, ExportFailed where it cannot start."""
    parsed = parse(url)
    exporter = exporter_of(parsed.scheme)
    assert exporter is not None, "parse answers known schemes only"
    return exporter.create(parsed)


def makes_spans(url: str) -> bool:
    """Whether the exporter of that URL makes spans of sessions. Raises UsageError where there is none."""
    exporter = exporter_of(parse(url).scheme)
    return exporter is not None and exporter.spans


def exporter_of(scheme: str) -> Exporter | None:
    """The exporter of that scheme, here or in an installed package; None where there is none.

    Raises EnvironmentLacking where there is none, and a package that may have it cannot be loaded.
    """
    return registry().get(scheme) or _outside(scheme)


def _shown(url: str) -> str:
    """Of a URL that nobody has taken apart: wherever there is an `@`, anything before it may be a password."""
    scheme, colon, rest = url.partition(":")
    if "@" in url:
        return f"{scheme}://…@…" if colon and "@" not in scheme else "…@…"
    place = _PLACE.match(rest)
    return f"{scheme}{colon}{place[0] if place else ''}"


def _host(url: str, parts: SplitResult, port: int | None) -> str:
    if port is not None and not 0 < port <= HIGHEST_PORT:
        raise UsageError(f"'{_shown(url)}' has no usable port; give one from 1 to {HIGHEST_PORT}.")
    if parts.netloc and not parts.hostname:
        raise UsageError(f"'{_shown(url)}' names no host; write one of {forms()}.")
    return parts.hostname or ""


def _query(text: str) -> Mapping[str, str]:
    return MappingProxyType(dict(parse_qsl(text, keep_blank_values=True)))


def _outside(scheme: str) -> Exporter | None:
    broken: EnvironmentLacking | None = None
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            exporter = entry.load()
        except Exception as error:  # noqa: BLE001 (somebody else's module: anything may come out of it)
            broken = EnvironmentLacking(
                f"the exporter '{entry.name}' of another package cannot be loaded ({error}); repair or uninstall it."
            )
            broken.__cause__ = error
            log.info("%s", broken)
            continue
        if isinstance(exporter, Exporter) and scheme in exporter.schemes:
            return exporter
    if broken is not None:
        raise broken
    return None
