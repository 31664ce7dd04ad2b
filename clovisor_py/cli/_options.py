"""Option types that several commands share: durations, `PORT=PROTOCOL`, and the filters, which become one predicate."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import click

from clovisor_py.errors import UsageError
from clovisor_py.model.session import Outcome, Session
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
        try:
            return int(port), by_name(name).name
        except UsageError as error:
            self.fail(str(error), param, ctx)


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
