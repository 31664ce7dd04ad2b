"""One watch of the API server, kept alive; see watch.py for what can go wrong and what happens then."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from clovisor_py.errors import ApiUnavailable, ClovisorError, Forbidden, Gone, NotFound
from clovisor_py.kube._outages import Outages
from clovisor_py.kube._stream import EventStream
from clovisor_py.kube.changes import Changes, Object
from clovisor_py.kube.client import Client
from clovisor_py.kube.objects import Json, Ref
from clovisor_py.kube.resources import Resource

WATCH_S: Final = 300.0
"""How long a watch is asked for, at least (twice as long at most: not all at once): client-go's numbers."""
PAUSE_S: Final = 0.25
"""Before the second attempt; doubles with each further one. The restart of an API server takes seconds."""
LONGEST_PAUSE_S: Final = 15.0
"""A server that comes back is not met by everybody at once, and an operator's label does not wait longer than that."""
SHORTEST_WATCH_S: Final = 1.0
"""A watch that ends sooner, and brings nothing, is a failure, or two sides that agree on nothing would keep a core busy."""

NO_VERSION: Final = "the API server listed {} without a resourceVersion: check what proxy is in between."
SHORT: Final = "the API server ends watches of {} at once: its own log says why."

_log = logging.getLogger(__name__)


class Watch(NamedTuple):
    """What is watched: `read` makes the small tuple of an object's JSON. `name` tells two watches of one resource apart."""

    name: str
    resource: Resource
    read: Callable[[Json], Object]
    field_selector: str = ""
    label_selector: str = ""
    namespace: str = ""
    """Empty: all of them."""


class Pace(NamedTuple):
    """The pauses of a watcher, in seconds."""

    watch_s: float = WATCH_S
    pause_s: float = PAUSE_S
    longest_pause_s: float = LONGEST_PAUSE_S


@dataclass(frozen=True, slots=True)
class State:
    """A watch at this moment."""

    name: str
    synced_s: float | None
    """Seconds since it was complete for the first time; None: not yet."""
    heard_s: float | None
    """Seconds since the server last said something."""
    problem: str
    """Why it does not work at the moment, as a sentence; empty when it does."""
    objects: int
    lists: int
    watches: int
    gone: int
    """Times that the server answered 410."""
    events: int
    """Without bookmarks."""
    failures: int
    unreadable: int
    """Objects without a name: not delivered."""


class Reflector:
    """Keeps `changes` up to date with one watch; `run` is its thread."""

    def __init__(
        self, client: Client, watch: Watch, changes: Changes, pace: Pace | None = None, outages: Outages | None = None
    ) -> None:
        self.watch = watch
        self._outages = outages or Outages()
        self._client, self._changes, self._pace = client, changes, pace or Pace()
        self._version = ""
        """To go on from; empty: list first."""
        self._lists = self._watches = self._gone = self._events = self._failures = self._unreadable = 0
        self._in_a_row = 0
        self._problem = ""
        self._synced_at: float | None = None
        self._heard_at: float | None = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._stream: EventStream | None = None

    def run(self) -> None:
        """Until `stop`."""
        while not self._stopped.is_set():
            try:
                if not self._version:
                    self._list()
                self._follow()
            except Gone as error:
                self._begin_again(error)
            except (Forbidden, NotFound, ApiUnavailable) as error:
                self._fail(str(error))  # where it was is still good
            except ClovisorError as error:
                self._fail(str(error))
                self._version = ""
            except Exception as error:  # noqa: BLE001 (the thread must not end; it is said, counted and begun again)
                _log.warning("watching %s failed", self.watch.name, exc_info=error)
                self._fail(f"watching {self.watch.name} failed ({error!r}): report this, with the log.")
                self._version = ""

    def stop(self) -> None:
        """Ends `run`, at once if it waits for an event. Any thread."""
        self._stopped.set()
        with self._lock:
            if self._stream is not None:
                self._stream.close()

    def state(self) -> State:
        """Any thread."""
        now = time.monotonic()
        synced_at, heard_at = self._synced_at, self._heard_at
        return State(
            name=self.watch.name,
            synced_s=None if synced_at is None else now - synced_at,
            heard_s=None if heard_at is None else now - heard_at,
            problem=self._problem,
            objects=self._changes.count(self.watch.name),
            lists=self._lists,
            watches=self._watches,
            gone=self._gone,
            events=self._events,
            failures=self._failures,
            unreadable=self._unreadable,
        )

    def _list(self) -> None:
        """All objects, each page delivered as it comes; then the end of those that were known and are not there."""
        self._lists += 1
        vanished = self._changes.refs(self.watch.name)
        token, version = "", ""

        def each(item: Json) -> None:
            self._hear()  # before anybody sees the object
            vanished.discard(self._deliver(item))

        while True:
            page = self._client.get_page(
                self.watch.resource,
                namespace=self.watch.namespace,
                field_selector=self.watch.field_selector,
                label_selector=self.watch.label_selector,
                continue_=token,
                each=each,
            )
            self._hear()
            meta = page.get("metadata")
            token, version = _text(meta, "continue"), _text(meta, "resourceVersion")
            if not token:
                break
            if self._stopped.is_set():
                return
        if not version:
            raise ClovisorError(NO_VERSION.format(self.watch.name))
        for ref in vanished:
            self._changes.put(self.watch.name, ref, None)
        self._version = version
        if self._synced_at is None:
            self._synced_at = time.monotonic()

    def _deliver(self, item: Json) -> Ref:
        """Put an object of a page; what it is called."""
        new = self.watch.read(item)
        if new.ref.name:
            self._changes.put(self.watch.name, new.ref, new)
        else:
            self._unreadable += 1
        return new.ref

    def _follow(self) -> None:
        """One watch, to its end."""
        began, before = time.monotonic(), self._version
        length = self._pace.watch_s * random.uniform(1.0, 2.0)
        with self._client.watch(
            self.watch.resource,
            self._version,
            namespace=self.watch.namespace,
            field_selector=self.watch.field_selector,
            label_selector=self.watch.label_selector,
            timeout_s=length,
        ) as stream:
            self._watches += 1
            self._hear()
            with self._open(stream):
                for event in stream:
                    self._take(event)
        ended_at_once = time.monotonic() - began < min(SHORTEST_WATCH_S, length / 2)
        if ended_at_once and self._version == before and not self._stopped.is_set():
            self._fail(SHORT.format(self.watch.name))
        else:
            self._in_a_row = 0

    @contextlib.contextmanager
    def _open(self, stream: EventStream) -> Iterator[None]:
        """`stop` closes it meanwhile."""
        with self._lock:
            self._stream = stream
            if self._stopped.is_set():
                stream.close()
        try:
            yield
        finally:
            with self._lock:
                self._stream = None

    def _take(self, event: Json) -> None:
        self._hear()
        kind, json = event.get("type"), event["object"]
        if kind in {"ADDED", "MODIFIED", "DELETED"}:
            self._events += 1
            new = self.watch.read(json)
            if new.ref.name:
                self._changes.put(self.watch.name, new.ref, None if kind == "DELETED" else new)
            else:
                self._unreadable += 1
        version = _text(json.get("metadata"), "resourceVersion")
        if version and version != self._version:
            self._version, self._in_a_row = version, 0

    def _begin_again(self, error: Gone) -> None:
        """A watch that is too old is daily business; a list that is, makes no progress."""
        self._gone += 1
        if self._version:
            self._version = ""
            self._pause()
        else:
            self._fail(str(error))

    def _hear(self) -> None:
        self._heard_at = time.monotonic()
        if self._problem:
            self._outages.end(self.watch.name)
        self._problem = ""

    def _fail(self, problem: str) -> None:
        """Say it once, and pause."""
        if self._stopped.is_set():
            return  # closing is no failure
        self._failures += 1
        if problem != self._problem:
            self._outages.begin(self.watch.name, problem)
        self._problem = problem
        self._pause()

    def _pause(self) -> None:
        """Longer each time in a row; `stop` cuts it short."""
        pause = min(self._pace.pause_s * 2 ** min(self._in_a_row, 16), self._pace.longest_pause_s)
        self._in_a_row += 1
        self._stopped.wait(pause * random.uniform(0.5, 1.0))


def _text(json: object, key: str) -> str:
    value = json.get(key) if isinstance(json, dict) else None
    return value if isinstance(value, str) else ""
