"""What several commands share: types of options, the options that say what is shown of sessions, and the filters.

`session_options` puts them on a command, as one parameter `shown`: a command that shows sessions has all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from clovisor_py.cli._plugins import plugin_option
from clovisor_py.config import Settings
from clovisor_py.errors import UsageError
from clovisor_py.exporters._screen import status_of
from clovisor_py.model.session import Outcome, Session
from clovisor_py.model.text import printable
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._plugins import load
from clovisor_py.protocols._redaction import Level
from clovisor_py.protocols._registry import by_name, registry

SHOWN: Final = "line fits the terminal and shows a call once; wide cuts nothing and shows both its ends; json says everything."
CONSOLE: Final = {"line": "console:", "wide": "console:?format=wide", "json": "console:?format=json"}
MAX_UDP_PORTS: Final = 63
"""More are not possible beside port 53: the kernel's table holds 64."""

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
_STATUS: Final = re.compile(r"[1-5]xx", re.IGNORECASE)

Filter = Callable[[Session], bool]

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
        known = text.lower() in (*outcomes, *_SHOWN) or _STATUS.fullmatch(text) or _WORD.fullmatch(text)
        if not known:
            self.fail(f"'{text}' is no status: write 404, 5xx, a name, or an outcome ({', '.join(outcomes)}).", param, ctx)
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


@dataclasses.dataclass(frozen=True)
class Shown:
    """The options of `session_options`, as the user gave them."""

    output: str
    exports: tuple[str, ...]
    hints: tuple[tuple[int, str], ...]
    udp_ports: tuple[int, ...]
    plugins: tuple[Path, ...]
    redact: str
    ports: tuple[int, ...]
    path: str | None
    statuses: tuple[str, ...]
    slower_ns: int | None
    count: int | None
    quiet: bool

    @property
    def urls(self) -> list[str]:
        """Where sessions go."""
        return [CONSOLE[self.output], *self.exports]

    @property
    def filter(self) -> Filter | None:
        """Which of them."""
        return session_filter(self.ports, self.path, self.statuses, self.slower_ns)

    def settings(self) -> Settings:
        """The default settings, but for what was asked."""
        default = Settings()
        if len(set(self.udp_ports)) > MAX_UDP_PORTS:
            raise UsageError(f"{len(set(self.udp_ports))} UDP ports are too many; give {MAX_UDP_PORTS} at most.")
        udp_ports = tuple(dict.fromkeys((*default.udp_ports, *self.udp_ports)))
        return dataclasses.replace(default, redact=self.redact, udp_ports=udp_ports)

    def protocols(self) -> tuple[Mapping[str, Protocol], bool]:
        """With the plugins, and whether all of them were accepted; those that were not are said. Raises UsageError."""
        loaded = load(self.plugins)
        for sentence in loaded.refused:
            self.complain(sentence)
        return loaded.protocols, not loaded.refused

    @property
    def texts(self) -> bool:
        """Whether exceptions may be quoted, which may quote the wire: the operator asks for more, or hides nothing."""
        return self.redact == Level.OFF.value or bool(click.get_current_context().find_root().params.get("verbose"))

    def complain(self, sentence: str) -> None:
        """Something went wrong, and the rest goes on: on standard error, also where no remarks are wanted."""
        click.echo(f"clovisor: {printable(sentence)}", err=True)

    def say(self, text: str) -> None:
        """A remark, on standard error."""
        if not self.quiet:
            click.secho(printable(text), err=True, dim=True)


_OPTIONS: Final = (
    click.option("-o", "--output", type=click.Choice(list(CONSOLE)), default="line", show_default=True, help=SHOWN),
    click.option(
        "--export", "exports", multiple=True, metavar="URL", help="Send sessions there too (jsonl:FILE, jaeger://HOST)."
    ),
    click.option("--hint", "hints", multiple=True, type=Hint(), help="This server port speaks that protocol."),
    click.option(
        "--udp-port",
        "udp_ports",
        multiple=True,
        type=Port(),
        help="Look at UDP of this port, too (beside 53).",
    ),
    plugin_option,
    click.option(
        "--redact",
        type=click.Choice([level.value for level in Level]),
        default=Settings().redact,
        show_default=True,
        help="How much of what is private to hide.",
    ),
    click.option("--port", "ports", multiple=True, type=Port(), help="Only sessions of this server port."),
    click.option("--path", metavar="PATTERN", help="Only resources that begin so, or match (* ? [])."),
    click.option(
        "--status",
        "statuses",
        multiple=True,
        type=Status(),
        metavar="STATUS",
        help="Only this status (404), class (5xx) or outcome (timeout).",
    ),
    click.option("--slower-than", "slower_ns", type=Duration(), help="Only sessions that took as long (100ms, 2s, 1m)."),
    click.option("--count", type=click.IntRange(1), help="End after so many sessions."),
    click.option("-q", "--quiet", is_flag=True, help="No remarks: only sessions."),
)


def session_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command all of these options; its parameter `shown` is what they say."""
    names = {field.name for field in dataclasses.fields(Shown)}

    @functools.wraps(command)
    def call(**values: object) -> int:
        shown = Shown(**cast("dict[str, Any]", {name: values.pop(name) for name in names}))
        return command(shown=shown, **values)

    return functools.reduce(lambda made, option: option(made), reversed(_OPTIONS), call)


def session_filter(ports: tuple[int, ...], path: str | None, statuses: tuple[str, ...], slower_ns: int | None) -> Filter | None:
    """All that were given must hold; None where nothing was given."""
    tests: list[Filter] = []
    if ports:
        tests.append(lambda session: session.server.port in ports)
    if path:
        pattern = path if any(mark in path for mark in "*?[") else f"{path}*"
        tests.append(lambda session: fnmatchcase(session.resource, pattern))
    if statuses:
        tests.append(_has_status({status.lower() for status in statuses}))
    if slower_ns is not None:
        tests.append(lambda session: session.duration_ns >= slower_ns)
    if not tests:
        return None
    return lambda session: all(test(session) for test in tests)


def _has_status(wanted: set[str]) -> Filter:
    """A status itself (`404`), a class of them (`5xx`), an outcome (`timeout`, `error`), or what a line says (`open`)."""
    classes = {status[0] for status in wanted if _STATUS.fullmatch(status)}

    def test(session: Session) -> bool:
        status = session.status.lower()
        in_class = len(status) == 3 and status[:1] in classes
        return in_class or not wanted.isdisjoint((status, session.outcome.value, status_of(session).lower()))

    return test
