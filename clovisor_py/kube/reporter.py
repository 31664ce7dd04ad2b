"""Events on objects, written by a thread of its own: the agent says what it has to say and never waits for the API server.

Each sentence about an object is said once, until it has been taken back and comes true again: a pod that cannot be traced is
one Event, not one for each attempt. An Event that cannot be written is counted and, once, logged; it is never tried again, as
the log has the sentence, too.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple

from clovisor_py.errors import ClovisorError
from clovisor_py.kube.objects import Ref

WAITING: Final = 256
"""Events that wait to be written: twice the pods of a node. Beyond: `dropped`."""
REMEMBERED: Final = 4096
"""Objects, for one reason each, about which nothing is said twice; the oldest are forgotten, at worst to be said once more."""
SENTENCES: Final = 16
"""About one object for one reason: more than its label and annotations can have wrong at once."""
CLOSE_S: Final = 2.0

Create = Callable[[Ref, str, str, str], object]
"""(object, uid, reason, sentence): writes a warning, or raises ClovisorError."""

_log = logging.getLogger(__name__)


class _Said(NamedTuple):
    about: Ref
    uid: str
    reason: str
    sentence: str


class Reporter:
    """From `with` to its end. `say` and `unsay` are for one thread."""

    def __init__(self, create: Create) -> None:
        self._create = create
        self._said: OrderedDict[tuple[Ref, str], dict[tuple[str, str], None]] = OrderedDict()
        """By object and reason: uids and sentences."""
        self._queue: queue.Queue[_Said | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._complained = ""
        self.written = self.failed = self.dropped = 0
        """Events that were written, that the API server would not have, and for which there was no room."""

    def say(self, about: Ref, uid: str, reason: str, sentence: str) -> bool:
        """Log it and write it down as an Event (`reason` is one word); False if that was said already."""
        said = self._said.setdefault((about, reason), {})
        self._said.move_to_end((about, reason))
        if (uid, sentence) in said:
            return False
        if len(said) >= SENTENCES:
            said.clear()
        said[uid, sentence] = None
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        _log.warning("%s: %s", about, sentence)
        try:
            self._queue.put_nowait(_Said(about, uid, reason, sentence))
        except queue.Full:
            self.dropped += 1
        return True

    def unsay(self, about: Ref, reason: str) -> None:
        """Nothing of what was said about it for this reason holds any more."""
        self._said.pop((about, reason), None)

    def counts(self) -> dict[str, int]:
        """What became of Events."""
        return {"events written": self.written, "events failed": self.failed, "events dropped": self.dropped}

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._queue.put(None, timeout=CLOSE_S)
        except queue.Full:
            self.dropped += self._queue.qsize()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (said := self._queue.get()) is not None:
            try:
                self._create(*said)
            except ClovisorError as error:
                self.failed += 1
                if str(error) != self._complained:
                    _log.warning("no Event could be written: %s", error)
                self._complained = str(error)
            except Exception as error:  # noqa: BLE001 (the thread must not end; it is said and counted)
                self.failed += 1
                _log.warning("no Event could be written", exc_info=error)
            else:
                self.written += 1
