"""What changed, from the threads that watch to the one that acts: nothing is lost, and nothing piles up.

Changes are joined by key: however often an object changed since the last look, the reader gets one Change from what it saw
then to what is now. What came and went in between is nothing to it. So memory is bounded by the number of objects, a
slow reader is late but never wrong, and writers never wait for it. A file descriptor becomes readable with the first change,
for the reader's poll(2).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeVar

from clovisor_py.kube.objects import Ref


class Object(Protocol):
    """What objects.py's tuples have in common."""

    @property
    def ref(self) -> Ref: ...


Known = TypeVar("Known", bound=Object)


class Change(NamedTuple):
    """An object of the watch called `watch`: what its reader knew (None: nothing), and what is now (None: it is gone)."""

    watch: str
    ref: Ref
    old: Object | None
    new: Object | None


class Changes:
    """Any number of threads `put`; one `take`s. Close it after them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, dict[Ref, Object]] = {}
        self._changed: dict[tuple[str, Ref], Object | None] = {}
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loud = False
        """The file descriptor is readable."""

    def fileno(self) -> int:
        """Readable while there is something to take."""
        return self._event

    def put(self, watch: str, ref: Ref, new: Object | None) -> bool:
        """An object as it is now, or None for one that is gone; says whether that is news."""
        with self._lock:
            objects = self._objects.setdefault(watch, {})
            old = objects.get(ref)
            if old == new:
                return False  # most updates change what nobody here reads
            if new is None:
                del objects[ref]
            else:
                objects[ref] = new
            self._note(watch, ref, old)
            return True

    def _note(self, watch: str, ref: Ref, old: Object | None) -> None:
        """Remember what the reader knows, if it is not noted yet; forget it if that is so again."""
        key = (watch, ref)
        if key not in self._changed:
            self._changed[key] = old
            if len(self._changed) == 1 and self._event >= 0:
                os.eventfd_write(self._event, 1)
                self._loud = True
        elif self._changed[key] is None and ref not in self._objects[watch]:
            del self._changed[key]  # it came and went unseen: else names that churn would pile up

    def take(self) -> list[Change]:
        """What changed since the last time, in the order of each one's first change. Never blocks."""
        with self._lock:
            if not self._changed:
                self._quiet()
                return []
            changed, self._changed = self._changed, {}
            self._quiet()
            changes = [Change(watch, ref, old, self._objects[watch].get(ref)) for (watch, ref), old in changed.items()]
        return [change for change in changes if change.old != change.new]

    def refs(self, watch: str) -> set[Ref]:
        """Of all objects that are there now."""
        with self._lock:
            return set(self._objects.get(watch, ()))

    def get(self, watch: str, ref: Ref) -> Object | None:
        """One of those that are there now."""
        with self._lock:
            return self._objects.get(watch, {}).get(ref)

    def objects(self, watch: str) -> Mapping[Ref, Object]:
        """All that are there now: a copy."""
        with self._lock:
            return dict(self._objects.get(watch, {}))

    def count(self, watch: str) -> int:
        """How many are there now."""
        with self._lock:
            return len(self._objects.get(watch, ()))

    def close(self) -> None:
        """Give the file descriptor back."""
        with self._lock:
            if self._event >= 0:
                os.close(self._event)
            self._event = -1

    def _quiet(self) -> None:
        if self._loud and self._event >= 0:
            os.eventfd_read(self._event)
        self._loud = False
