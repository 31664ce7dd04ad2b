"""The events of one watch, as the API server writes them: one JSON object a line, for as long as it likes.

An end between two lines is a normal one (the server's time-out). An end inside a line, a line that is no event, or a broken
connection is ApiUnavailable; an ERROR event is what it says: Gone for 410.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final

import orjson
import urllib3
from urllib3.exceptions import HTTPError

from clovisor_py.errors import ApiUnavailable, ClovisorError
from clovisor_py.kube.objects import Json

LONGEST_EVENT: Final = 16 * 1024 * 1024
"""Bytes of one event: etcd keeps 1.5 MiB an object, and JSON is longer than that by less than ten."""
_CHUNK: Final = 64 * 1024

NONSENSE: Final = "the API server {} sent something that is no event of a watch: check what proxy is in between."


class EventStream:
    """Iterates over events (`{"type": …, "object": …}`); `close` ends that, from any thread, also while it waits."""

    def __init__(
        self,
        response: urllib3.BaseHTTPResponse,
        host: str,
        unavailable: Callable[[Exception], ClovisorError],
        refusal: Callable[[int, str], ClovisorError],
    ) -> None:
        self._response, self._host = response, host
        self._unavailable, self._refusal = unavailable, refusal
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Json]:
        for line in self._lines():
            try:
                event = orjson.loads(line)
            except ValueError as error:
                raise ApiUnavailable(NONSENSE.format(self._host)) from error
            if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
                raise ApiUnavailable(NONSENSE.format(self._host))
            if event.get("type") == "ERROR":
                raise self._error(event["object"])
            yield event

    def close(self) -> None:
        """The iteration ends, without an error. May be called often."""
        self._closed.set()
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # it has ended by itself
            self._response.shutdown()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        with contextlib.suppress(HTTPError, OSError):
            self._response.close()  # not back to the pool: there may be half an event in it

    def _lines(self) -> Iterator[bytes]:
        rest = bytearray()
        for chunk in self._chunks():
            rest += chunk
            if b"\n" not in chunk:
                if len(rest) > LONGEST_EVENT:
                    raise ApiUnavailable(NONSENSE.format(self._host))
                continue
            *lines, last = rest.split(b"\n")
            rest = last
            yield from (bytes(line) for line in lines if line.strip())
        if rest.strip() and not self._closed.is_set():
            raise self._unavailable(ConnectionResetError(0, "connection lost"))

    def _chunks(self) -> Iterator[bytes]:
        """As they come, not when a buffer is full: an event must not wait for the next one."""
        try:
            yield from self._response.stream(_CHUNK)
        except (HTTPError, OSError, ValueError, AttributeError) as error:
            # Shutting a socket down under its reader surfaces as any of these.
            if not self._closed.is_set():
                raise self._unavailable(error) from error

    def _error(self, status: Json) -> ClovisorError:
        code = status.get("code")
        return self._refusal(code if isinstance(code, int) else 0, str(status.get("message", "")))
