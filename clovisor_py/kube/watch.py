"""Watching the API server as client-go's reflector does: a list in pages, then its changes, for as long as the agent runs.

One thread for each resource, because a watch is one silent connection. What can go wrong is a row of this table:

    the server ends the watch      go on from the last version (bookmarks keep that young)
    it breaks, or cannot be had    the same, after a pause that doubles, with jitter
    410, as a status or an event   list again; what is not in that list was deleted meanwhile, and is delivered as that
    410 in the middle of a list    (the continue token expired) begin it again, after a pause
    401, 403, 404                  say so; ask again, because somebody may grant it
    any other refusal              say so; list again, after a pause

Objects become small tuples here, at once; the raw JSON is dropped. The reader takes the changes in its own thread and is
woken by a file descriptor (`changes.py`). Whatever happens, what is known stays known, and `states` says how old it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final

from clovisor_py.kube._outages import Outages
from clovisor_py.kube.changes import Change, Changes, Object
from clovisor_py.kube.client import Client
from clovisor_py.kube.objects import Ref
from clovisor_py.kube.reflector import Pace, Reflector, State, Watch

__all__ = ["CLOSE_S", "Change", "Object", "Pace", "State", "Watch", "Watcher"]

CLOSE_S: Final = 2.0
"""How long the end waits for all threads together; one in the middle of a list is left to its end, as a daemon."""


class Watcher:
    """Several watches and their threads, from `with` to its end; one reader at a time."""

    def __init__(self, client: Client, watches: Iterable[Watch], pace: Pace | None = None) -> None:
        self._changes, outages = Changes(), Outages()
        self._reflectors = [Reflector(client, watch, self._changes, pace, outages) for watch in watches]
        self._threads = [
            threading.Thread(target=one.run, name=f"watch {one.watch.name}", daemon=True) for one in self._reflectors
        ]

    def __enter__(self) -> Watcher:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one in self._reflectors:
            one.stop()
        until = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._changes.close()

    def fileno(self) -> int:
        """Readable while there are changes: for poll(2)."""
        return self._changes.fileno()

    def known(self, watch: str, ref: Ref) -> Object | None:
        """An object as it was told last. Any thread."""
        return self._changes.get(watch, ref)

    def changes(self) -> list[Change]:
        """Since the last call, joined by object; never blocks."""
        return self._changes.take()

    def objects(self, name: str) -> Mapping[Ref, Object]:
        """All that the watch of that name knows now: a copy."""
        return self._changes.objects(name)

    def states(self) -> list[State]:
        """Of all watches."""
        return [one.state() for one in self._reflectors]

    @property
    def synced(self) -> bool:
        """Every watch has been complete once."""
        return all(state.synced_s is not None for state in self.states())
