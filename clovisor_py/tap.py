"""Taps: `clovisor trace pod/…` looks at pods of this node through the running agent, which has the only datapath there is.

`Taps` stands between the engine and the exporters. What the engine makes of a pod that somebody taps goes into that one's queue
as well; what it makes of a pod that nobody enabled (the node traces it for the tap alone) goes nowhere else. The engine's
thread only puts references into bounded queues, and decides once a turn which pods are tapped; writing is done by a thread for
each tap. So one who reads slowly loses sessions, which are counted and said, and costs the agent nothing; one who goes away, is
killed, or hangs is gone within SILENCE_S, and what was traced for him alone is traced no more.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from clovisor_py.agent import Sessions
from clovisor_py.errors import ClovisorError, UsageError
from clovisor_py.exporters._worker import Ledger
from clovisor_py.kube.objects import Pod, Ref
from clovisor_py.model.session import Session
from clovisor_py.protocols._redaction import Level, stricter
from clovisor_py.snapshot import Ended
from clovisor_py.tap_wire import BEAT_S, SILENCE_S, Begun, Finished, line, session_line

TAPS: Final = 8
"""At once: operators are few, and each costs what encoding its sessions costs. More are refused."""
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
CLOSE_S: Final = 2.0

TOO_MANY: Final = "{} taps are open already, the most that an agent serves at once: end one of them."
HANGS: Final = "the agent does not come round: its log says why."
ENDING: Final = "the agent has ended."

_log = logging.getLogger(__name__)


class Tap:
    """One who looks. `targets`: pods, what controls them, namespaces; `level`: how much is hidden from him at least."""

    def __init__(self, sock: socket.socket, targets: Sequence[Ref], level: Level) -> None:
        self.targets, self.level = tuple(targets), level
        self.refs: frozenset[Ref] = frozenset()
        """Pods that the targets mean now. The engine's thread writes what follows up to `counted`, which is all that is its."""
        self.interfaces: frozenset[int] = frozenset()
        self.began = self.since = 0.0
        """When that was done for the first time: monotonic, and since the epoch; s."""
        self.not_before: dict[int, int] = {}
        """By interface, ns since the epoch: sessions that began earlier were read while less was hidden than is asked for."""
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
        self._thread.start()

    # The engine's thread.

    def may_see(self, session: Session) -> bool:
        """Whether it is of one of its pods, and hides enough."""
        interface = session.interface
        return interface in self.interfaces and session.start_ns >= self.not_before.get(interface, 0)

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


class Taps:
    """All taps, and the way of sessions past them: it is the node agent's `sessions`, and `onwards` gets the rest.

    `private`: interfaces whose sessions are for taps alone; the node agent keeps it.
    """

    def __init__(self, onwards: Sessions, private: set[int]) -> None:
        self._onwards, self._private = onwards, private
        self._lock = threading.Lock()
        self._taps: tuple[Tap, ...] = ()
        self._closed = False

    # Any thread.

    def open(self, sock: socket.socket, targets: str, redact: str) -> None:
        """Serve who asked for this, from now on; the socket is the tap's. Raises UsageError, ClovisorError; never blocks."""
        tap = Tap(sock, _targets(targets), _level(redact))
        with self._lock:
            if self._closed:
                raise ClovisorError(ENDING)
            if len(self._taps) >= TAPS:
                raise ClovisorError(TOO_MANY.format(TAPS))
            self._taps = (*self._taps, tap)
        tap.start()

    def close(self) -> None:
        """End all of them, and say so to those who look."""
        with self._lock:
            self._closed, taps = True, self._taps
        for tap in taps:
            tap.end(ENDING)
        until = time.monotonic() + CLOSE_S
        for tap in taps:
            tap.join(max(until - time.monotonic(), 0.0))

    # The engine's thread.

    def offer(self, sessions: Sequence[Session]) -> None:
        """Hand them on. Never blocks."""
        for tap in self._taps:
            if mine := [session for session in sessions if tap.may_see(session)]:
                tap.offer(mine)
        if self._private:
            sessions = [session for session in sessions if session.interface not in self._private]
        self._onwards.offer(sessions)

    def ledgers(self) -> Mapping[str, Ledger]:
        """Export URL to its counts."""
        return self._onwards.ledgers()

    @property
    def open_now(self) -> tuple[Tap, ...]:
        return self._taps

    def forget(self, tap: Tap) -> None:
        """It is over."""
        with self._lock:
            self._taps = tuple(one for one in self._taps if one is not tap)


def wanted_by(taps: Iterable[Tap]) -> dict[Ref, str]:
    """The pods that are looked at, each with the strictest level that anybody asks for it."""
    found: dict[Ref, str] = {}
    for tap in taps:
        for ref in tap.refs:
            found[ref] = stricter(found.get(ref, Level.OFF), tap.level).value
    return found


def means(target: Ref, pod: Pod, owner: str) -> bool:
    """Whether this pod is meant; `owner` is what controls it in the end (`deployment/cart`)."""
    if target.kind == "Namespace":
        return pod.ref.namespace == target.name
    if target.namespace != pod.ref.namespace:
        return False
    return target in (pod.ref, pod.owner) or owner == f"{target.kind.lower()}/{target.name}"


def _targets(text: str) -> list[Ref]:
    found = [Ref(*parts) for one in text.split() if len(parts := one.split("/")) == 3]
    if not found or len(found) != len(text.split()):
        raise UsageError("a tap names what it wants as KIND/NAMESPACE/NAME: use `clovisor trace pod/NAMESPACE/NAME`.")
    return found


def _level(text: str) -> Level:
    try:
        return Level(text or Level.OFF)
    except ValueError as error:
        raise UsageError(f"'{text[:20]}' is no level: write off, default or strict.") from error
