"""What several commands share: the options that say what is shown of sessions, and where it goes.

`session_options` puts them on a command, as one parameter `shown`: a command that shows sessions has all of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import click

from clovisor_py.cli import _filters
from clovisor_py.cli._filters import Filter, Statuses
from clovisor_py.cli._plugins import plugin_option
from clovisor_py.cli._types import Duration, Export, Hint, Peer, Port, Status
from clovisor_py.config import Settings
from clovisor_py.errors import UsageError
from clovisor_py.exporters._registry import parse
from clovisor_py.model.text import printable
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._plugins import load
from clovisor_py.protocols._redaction import Level

SHOWN: Final = "line fits the terminal and shows a call once; wide cuts nothing and shows both its ends; json says everything."
CONSOLE: Final = {"line": "console:", "wide": "console:?format=wide", "json": "console:?format=json"}
MAX_UDP_PORTS: Final = 63
"""More are not possible beside port 53: the kernel's table holds 64."""

STDOUT: Final = "-"
"""As the path of a file: standard output."""
ONE_OUTPUT: Final = "standard output can take one thing, and was given to {} and {}: leave all but one out."


@dataclasses.dataclass(frozen=True)
class Shown:
    """The options of `session_options`, as the user gave them."""

    output: str
    exports: tuple[str, ...]
    hints: tuple[tuple[int, str], ...]
    udp_ports: tuple[int, ...]
    plugins: tuple[Path, ...]
    redact: str
    ports: tuple[int, ...] = ()
    path: str | None = None
    not_paths: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    not_peers: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    slower_ns: int | None = None
    count: int | None = None
    quiet: bool = False

    @property
    def urls(self) -> list[str]:
        """Where sessions go. Raises UsageError."""
        return urls_of(self.output, self.exports)

    @property
    def filter(self) -> Filter | None:
        """Which of them: all that was given must hold; None where nothing was given."""
        tests: list[Filter] = []
        tests += [_filters.ports(self.ports)] if self.ports else []
        tests += [_filters.path(self.path)] if self.path else []
        tests += [_filters.unless(_filters.path(text)) for text in self.not_paths]
        tests += [_filters.peer(self.peers)] if self.peers else []
        tests += [_filters.unless(_filters.peer(self.not_peers))] if self.not_peers else []
        tests += [_filters.slower(self.slower_ns)] if self.slower_ns is not None else []
        tests += [self._statuses] if self.statuses else []  # last: it tells what came instead, of all that else was asked for
        return (lambda session: all(test(session) for test in tests)) if tests else None

    @functools.cached_property
    def _statuses(self) -> Statuses:
        return Statuses(self.statuses)

    @property
    def missed(self) -> list[str]:
        """A remark at the end, for a filter that nothing passed because nothing is called so."""
        return [f"  {text}" for text in [self._statuses.missed()] if text]

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


export_option: Final = click.option(
    "--export",
    "exports",
    multiple=True,
    type=Export(),
    metavar="URL",
    help="Send sessions there too (jsonl:FILE, otlp+grpc://HOST).",
)

_OPTIONS: Final = (
    click.option("-o", "--output", type=click.Choice(list(CONSOLE)), default="line", show_default=True, help=SHOWN),
    export_option,
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
    click.option("--not-path", "not_paths", multiple=True, metavar="PATTERN", help="All but these (/healthz)."),
    click.option(
        "--peer",
        "peers",
        multiple=True,
        type=Peer(),
        metavar="PEER",
        help="Only with this other end: an address, a network (10.0.0.0/8), a name (web, 'shop/*', svc/web, 'node/*').",
    ),
    click.option(
        "--not-peer", "not_peers", multiple=True, type=Peer(), metavar="PEER", help="All but with these (a kubelet's probes)."
    ),
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


def urls_of(output: str, exports: Sequence[str], raw: bool = False) -> list[str]:
    """Where sessions go: to the console, too, unless an export, or a capture (`raw`), is written to standard output.

    Raises UsageError where two of them want it.
    """
    takers = [url for url in dict.fromkeys(exports) if parse(url).path == STDOUT] + ["-w -"] * raw
    if takers and output != "line":
        takers.insert(0, f"-o {output}")
    if len(takers) > 1:
        raise UsageError(ONE_OUTPUT.format(*takers[:2]))
    return list(exports) if takers else [CONSOLE[output], *exports]
