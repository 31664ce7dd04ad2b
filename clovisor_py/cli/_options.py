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
_WORD: Final = re.compile(r"[1-9][0-9]{2}|[0-9A-Z_]*[A-Z][0-9A-Z_]*")
_STATUS: Final = re.compile(r"[1-5]xx", re.IGNORECASE)

Filter = Callable[[Session], bool]

if TYPE_CHECKING:
    NanosecondsType = click.ParamType[int]
    HintType = click.ParamType[tuple[int, str]]
    TextType = click.ParamType[str]
else:  # generic since click 8.4 only
    NanosecondsType = HintType = TextType = click.ParamType


class Status(TextType):
    """`404`, `5xx`, `timeout`, or a status that is written in capitals and digits (`NXDOMAIN`)."""

    name = "status"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        outcomes = [outcome.value for outcome in Outcome]
        if text not in outcomes and not _STATUS.fullmatch(text) and not _WORD.fullmatch(text):
            self.fail(f"'{text}' is no status: write 404, 5xx, or an outcome ({', '.join(outcomes)}).", param, ctx)
        return text


class Duration(NanosecondsType):
    """`250ms`, `2s`, `1.5m` as nanoseconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(str(value))
        if not match or match[2].lower() not in UNITS:
            self.fail(f"'{value}' is no duration: write 100ms, 2s or 1.5m ({', '.join(UNITS)}).", param, ctx)
        return int(float(match[1]) * UNITS[match[2].lower()])


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
            click.echo(f"clovisor: {printable(sentence)}", err=True)
        return loaded.protocols, not loaded.refused

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
        type=click.IntRange(1, 65535),
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
    click.option("--port", "ports", multiple=True, type=click.IntRange(1, 65535), help="Only sessions of this server port."),
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
    """A status itself (`404`), a class of them (`5xx`), or an outcome (`timeout`, `error`)."""
    classes = {status[0] for status in wanted if _STATUS.fullmatch(status)}

    def test(session: Session) -> bool:
        status = session.status.lower()
        in_class = len(status) == 3 and status[:1] in classes
        return in_class or status in wanted or session.outcome.value in wanted

    return test
