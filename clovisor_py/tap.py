"""Tap: one who looks at pods of this node through its agent, which has the only datapath there is. `taps` has all of them.

The engine's thread only puts references into a bounded queue; writing is done by a thread of the tap's own. So one who reads
slowly loses sessions, which are counted and said, and costs the agent nothing; one who goes away, is killed, or hangs is gone
within SILENCE_S, and what was traced for him alone is traced no more.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Final

from clovisor_py.errors import ClovisorError
from clovisor_py.kube.objects import Ref
from clovisor_py.model.session import Session
from clovisor_py.protocols._redaction import Level
from clovisor_py.snapshot import Ended
from clovisor_py.tap_wire import BEAT_S, SILENCE_S, Begun, Finished, line, session_line

QUEUE: Final = 2048
"""Sessions that wait for one tap, at about 2 kB each: a second of a busy node. Beyond, the oldest are lost and counted."""
WORDS: Final = 256
"""Remarks that wait for one tap: twice the pods of a node. Further ones are counted."""
BATCH: Final = 128
"""Sessions of one write."""
LINGER_S: Final = 0.02
"""How long a tap's thread gathers sessions before it writes: a line on a screen is still 'now'."""
LOOK_S: Final = 0.1
"""How late it notices that who taps has had enough."""
ANSWER_S: Final = 8.0
"""The engine's thread comes round every 20 ms; one that has not for so long hangs."""

NO_THREAD: Final = "the agent may start no further thread: give it more (the pids limit of its container, or ulimit -u)."
HANGS: Final = "the agent does not come round: its log says why."

_log = logging.getLogger(__name__)


class Stage(Enum):
    """How far a tap is. It goes from each to the next, and from any to the last two."""

    ASKED = "asked"
    """Nobody has looked yet what its targets mean."""
    AWAITED = "awaited"
    """Its pods are being attached; who taps has no answer yet."""
    OPEN = "open"
    LEAVING = "leaving"
    """Who taps wants no more, or the agent ends: what was open is still told, and counted for the last time."""
    OVER = "over"
    """Nobody is told anything any more; whatever was begun for it is to be undone."""


class Tap:
    """One who looks. `targets`: pods, what controls them, namespaces; `level`: how much is hidden from him at least."""

    def __init__(self, sock: socket.socket, targets: Sequence[Ref], level: Level) -> None:
        self.targets, self.level = tuple(targets), level
        self.refs: frozenset[Ref] = frozenset()
        """Pods that the targets mean now. The engine's thread writes what follows up to `counted`, which is all that is its."""
        self.interfaces: frozenset[int] = frozenset()
        self.began = self.since = 0.0
        """When that was done for the first time: monotonic, and since the epoch; s."""
        self.counted: dict[tuple[Ref, int], tuple[Mapping[tuple[str, str], int], Mapping[tuple[str, str], int]]] = {}
        """(pod, ifindex) to the kernel's counts when it began and when they were read last."""
        self.leaving = threading.Event()
        """Who taps wants no more: the engine's thread is to count for the last time."""
        self.let_go = threading.Event()
        """It has."""
        self.over = threading.Event()
        """The thread has ended."""
        self._sock = sock
        self._readable = select.poll()
        self._queue: deque[Session] = deque(maxlen=QUEUE)
        self._words: deque[bytes] = deque()
        self._unsaid = 0
        self._changed = threading.Condition()
        self._lost = 0
        self._why = ""
        self._answered = threading.Event()
        self._refused = False
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)

    def start(self) -> None:
        """Raises ClovisorError where there is no room for a thread; the socket is still the caller's then."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise ClovisorError(NO_THREAD) from error

    # The engine's thread.

    def may_see(self, session: Session) -> bool:
        """Whether it is of one of its pods. It hides enough: an interface is put here when those who read it know how much."""
        return session.interface in self.interfaces

    def offer(self, sessions: Sequence[Session]) -> None:
        """Take these. Never blocks."""
        with self._changed:
            free = QUEUE - len(self._queue)
            self._lost += max(len(sessions) - free, 0)
            self._queue.extend(sessions)
            self._changed.notify()

    def answer(self, begun: Begun) -> None:
        """It has begun."""
        self._words.append(line("answer", begun))
        self._answered.set()

    def refuse(self, sentence: str) -> None:
        """There is nothing to be seen."""
        self._words.append(line("error", sentence))
        self._refused = True
        self._answered.set()

    @property
    def answered(self) -> bool:
        return self._answered.is_set()

    @property
    def stage(self) -> Stage:
        """As the engine's thread sees it."""
        if self.over.is_set():
            return Stage.OVER
        if self.leaving.is_set():
            return Stage.LEAVING
        if not self.began:
            return Stage.ASKED
        return Stage.OPEN if self.answered else Stage.AWAITED

    @property
    def lost(self) -> int:
        """Sessions that who taps was too slow for."""
        return self._lost

    def remark(self, sentence: str) -> None:
        """Something that who taps should read."""
        if len(self._words) < WORDS:
            self._words.append(line("remark", sentence))
        else:
            self._unsaid += 1

    def end(self, why: str) -> None:
        """From the agent's side. Any thread."""
        self._why = why
        self.leaving.set()
        self.let_go.set()
        self._answered.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    # Its own thread.

    def _run(self) -> None:
        try:
            self._sock.settimeout(SILENCE_S)
            self._readable.register(self._sock, select.POLLIN)
            self._talk()
        except OSError as error:
            _log.debug("who tapped has gone, or hangs (%s)", error)
        except Exception as error:  # noqa: BLE001 (a fault in a tap is said, and ends nothing else)
            _log.error("a tap ended: please report it.", exc_info=error)
        finally:
            self._sock.close()
            self.leaving.set()
            self.over.set()

    def _talk(self) -> None:
        if not self._answered.wait(ANSWER_S):
            self.refuse(HANGS)
        self._write([])
        if self._refused:
            return
        heard = said = time.monotonic()
        while not self.leaving.is_set():
            batch = self._take()
            now = time.monotonic()
            if (word := self._hear()) is None:
                self.leaving.set()
            elif word:
                heard = now
            elif now - heard > SILENCE_S:
                raise TimeoutError("it hangs")
            if now - said >= BEAT_S:
                self._words.append(line("beat", self._lost))
                said = now
            self._write(batch)
        self.let_go.wait(ANSWER_S)
        while batch := self._take(0.0):
            self._write(batch)
        if self._unsaid:
            self._words.append(line("remark", f"{self._unsaid:,} remarks had no room"))
        self._write([])
        self._sock.sendall(line("end", Finished(self._lost, segments(self.counted.values()), self._why)))

    def _take(self, patience_s: float = LOOK_S) -> list[Session]:
        with self._changed:
            if not self._queue and patience_s:
                self._changed.wait(patience_s)
        if patience_s:
            time.sleep(LINGER_S)
        with self._changed:
            return [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]

    def _hear(self) -> bool | None:
        """Whether something was said; None: it was the last."""
        if not self._readable.poll(0):  # a socket with a timeout would wait in recv, whatever its flags
            return False
        return True if self._sock.recv(4096) else None

    def _write(self, batch: Iterable[Session]) -> None:
        words = []
        while self._words:
            words.append(self._words.popleft())
        if data := b"".join([*words, *map(session_line, batch)]):
            self._sock.sendall(data)


def segments(counts: Iterable[tuple[Mapping[tuple[str, str], int], Mapping[tuple[str, str], int]]]) -> tuple[Ended, ...]:
    """What the kernel counted between the first and the last look, all pods together."""
    found: dict[tuple[str, str], int] = {}
    for first, last in counts:
        for place, number in last.items():
            found[place] = found.get(place, 0) + number - first.get(place, 0)
    return tuple(Ended(stage, reason, number) for (stage, reason), number in found.items())
