"""What a collector answers: how many spans (or points of metrics) it rejected, why it takes none, and when to come back.

A Transport sends one request and answers a Reply, or raises ExportInterrupted where sending the same again may help. Which
answers those are, the specification says; everything else is not tried again: the collector would say the same once more. The
sentences are in `_otlp_faults`.

Specification: https://opentelemetry.io/docs/specs/otlp/ ("Failures")
"""

from __future__ import annotations

import time
import typing
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Final

from clovisor_py.exporters._otlp_wire import Malformed, fields
from clovisor_py.model.text import printable

REPLY_BYTES: Final = 64 * 1024
"""An answer is a count and a sentence; of a longer one no more is read."""
REMARK_CHARS: Final = 200
"""Of what a collector says: one line in a log."""
RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"
_LONG: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Reply:
    """`rejected` spans or points of those sent, or all of them (`refused`); `why`: the collector's own words, or ours."""

    rejected: int = 0
    refused: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """Of google.rpc.Status: `retry_after_s` is None where there is no RetryInfo in it."""

    message: str = ""
    retry_after_s: float | None = None


class Transport(typing.Protocol):
    """A way to one collector, used by one thread."""

    def send(self, body: bytes) -> Reply:
        """One request. Raises ExportInterrupted where trying again may help."""

    def close(self) -> None:
        """Let go of the connection."""


def accepted(data: bytes) -> Reply:
    """The Reply that a successful answer's message is (Export…ServiceResponse; no message: all is well)."""
    rejected, why = 0, ""
    try:
        for field, partial in fields(data):
            if field == 1 and isinstance(partial, bytes):
                for number, value in fields(partial):
                    if number == 1 and isinstance(value, int):
                        rejected = value if value < _LONG else 0
                    elif number == 2 and isinstance(value, bytes):
                        why = remark(value)
    except Malformed:
        return Reply()  # it said that it took the spans, before it said nonsense
    return Reply(rejected, why=why)


def status(data: bytes) -> Status:
    """What a google.rpc.Status says; nothing where it is none."""
    message, retry_after_s = "", None
    try:
        for field, value in fields(data):
            if field == 2 and isinstance(value, bytes):
                message = remark(value)
            elif field == 3 and isinstance(value, bytes):
                detail = dict(fields(value))
                if detail.get(1) == RETRY_INFO.encode():
                    retry_after_s = _delay(detail.get(2, b""))
    except Malformed:
        return Status()
    return Status(message, retry_after_s)


def retry_after_s(header: str | None) -> float:
    """Of HTTP's Retry-After: seconds, or a date; 0 where it says nothing usable."""
    if not header:
        return 0.0
    if header.strip().isdecimal():
        return min(float(header), float(_LONG))
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, OverflowError):  # a year or a time zone beyond what a C int holds
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(moment.timestamp() - time.time(), 0.0)


def remark(said: bytes | str) -> str:
    """Somebody else's words, fit for a log: one line, bounded, nothing in it that a terminal obeys."""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return printable(" ".join(text[: REMARK_CHARS * 2].split()))[:REMARK_CHARS]


def _delay(data: int | bytes) -> float:
    """The seconds of a RetryInfo: a Duration in its field 1."""
    seconds = 0.0
    duration = dict(fields(data)).get(1, b"") if isinstance(data, bytes) else b""
    for field, value in fields(duration) if isinstance(duration, bytes) else ():
        if isinstance(value, int) and field in (1, 2):
            seconds += (value if value < _LONG else 0) * (1.0 if field == 1 else 1e-9)
    return seconds
