"""Types of options that several commands have: what is accepted, what is said of the rest, and how a shell completes it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import click
from click.shell_completion import CompletionItem

from clovisor_py.cli import _filters
from clovisor_py.errors import UsageError
from clovisor_py.exporters import _registry as exporters
from clovisor_py.model.session import Outcome
from clovisor_py.protocols._registry import by_name, registry

UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([a-zµ]{1,2})", re.IGNORECASE)
LONGEST_NS: Final = 366 * 24 * UNITS["h"]
"""A year: who writes more has mistaken the unit."""
_WORD: Final = re.compile(r"[1-9][0-9]{2}|[A-Z][0-9A-Z_]*|[0-9][0-9A-Z]{4}", re.IGNORECASE)
"""An HTTP status, a name (NXDOMAIN), an SQLSTATE (23505)."""
_SHOWN: Final = ("not seen", "no answer")
"""What else may stand under STATUS."""

if TYPE_CHECKING:
    NanosecondsType = click.ParamType[int]
    HintType = click.ParamType[tuple[int, str]]
    TextType = click.ParamType[str]
else:  # generic since click 8.4 only
    NanosecondsType = HintType = TextType = click.ParamType


class Port(click.IntRange):
    """A port's number; its name (`http`) would mean another thing on each machine."""

    name = "port"

    def __init__(self) -> None:
        super().__init__(1, 65535)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(super().convert(cast("Any", value), param, ctx))
        except click.BadParameter:
            self.fail(f"'{value}' is no port: give a number from 1 to 65535.", param, ctx)


class Status(TextType):
    """`404`, `5xx`, `timeout`, or a status by its name (`NXDOMAIN`, `23505`); no matter in which case it is written."""

    name = "status"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        outcomes = [outcome.value for outcome in Outcome]
        known = text.lower() in (*outcomes, *_SHOWN) or _filters.STATUS_CLASS.fullmatch(text) or _WORD.fullmatch(text)
        if not known:
            self.fail(f"'{text}' is no status: write 404, 5xx, a name, or an outcome ({', '.join(outcomes)}).", param, ctx)
        return text


class Peer(TextType):
    """An address, a network, or a name that may have `*`, `?` and `[]` in it."""

    name = "peer"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not _filters.is_peer(text):
            self.fail(f"'{text}' is no peer: write 10.0.0.9, 10.0.0.0/8, a name, or KIND/NAME.", param, ctx)
        return text


class Duration(NanosecondsType):
    """`250ms`, `2s`, `1.5m` as nanoseconds, up to a year; `positive`: 0 is refused."""

    name = "duration"

    def __init__(self, positive: bool = False) -> None:
        self._positive = positive

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(str(value))
        if not match or match[2].lower() not in UNITS:
            self.fail(f"'{value}' is no duration: write 100ms, 2s or 1.5m ({', '.join(UNITS)}).", param, ctx)
        ns = int(float(match[1]) * UNITS[match[2].lower()])
        if self._positive and not ns:
            self.fail(f"'{value}' is no time at all: write 30s or 5m, or leave it out to go on until Ctrl-C.", param, ctx)
        if ns > LONGEST_NS:
            self.fail(f"'{value}' is more than a year: write 30s, 5m or 12h.", param, ctx)
        return ns


class Hint(HintType):
    """`8080=http` as (port, protocol name)."""

    name = "port=protocol"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, str]:
        if isinstance(value, tuple):
            return value
        port, _, name = str(value).partition("=")
        if not port.isdecimal() or not 0 < int(port) < 65536 or not name:
            self.fail(f"'{value}' is no hint: write PORT=PROTOCOL, like 8080={next(iter(registry()), 'http')}.", param, ctx)
        if ctx is not None and ctx.params.get("plugins"):
            return int(port), name.strip().lower()  # perhaps a plugin's; the engine knows
        try:
            return int(port), by_name(name).name
        except UsageError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """`80=` with each protocol."""
        port, equals, begun = incomplete.partition("=")
        if not equals or not port.isdecimal():
            return []
        return [CompletionItem(f"{port}={name}") for name in sorted(registry()) if name.startswith(begun)]


class Export(TextType):
    """An export URL; what it means is its exporter's business."""

    name = "url"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """How each begins (`jaeger://`, `jsonl:`); after `jsonl:` a file."""
        begins = {scheme: one.synopsis for scheme, one in exporters.registry().items()}
        scheme, colon, path = incomplete.partition(":")
        if colon and scheme == "jsonl":
            return [CompletionItem(path, type="file")]
        urls = (f"{scheme}://" if "://" in form else f"{scheme}:" for scheme, form in begins.items())
        return [CompletionItem(url) for url in sorted(urls) if url.startswith(incomplete)]
