"""Worker: queue, batch, retry and the count of every loss; once for all exporters.

The engine calls `offer`, which never waits for an exporter: one lock for a batch of sessions, held for as long as it takes
to put references into a bounded queue. A thread of its own gathers them into batches and calls the sink. Whatever
happens, at any moment,

    offered = sent + dropped + waiting

and `dropped` says why: `queue full` (the oldest went, the newest tell what is happening now), `refused` (the sink took the
batch but not these), `failed` (tried again and again in vain), `stopped` (still there when time was up), `reader gone`
(nobody will ever read it: the worker has ended, and `gone` says so), or what the sink says itself (`Delivery.dropped`).

Whoever makes a Worker closes it (`with` does): then nothing is lost without being counted. The thread is a daemon, so that a
sink that never comes back (a full pipe that nobody reads, a hung file system) cannot keep the process from ending.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Final

from clovisor_py.errors import ExportFailed, ExportInterrupted, SinkGone
from clovisor_py.exporters._api import Delivery, Sink
from clovisor_py.model.session import Session

BATCH: Final = 512
"""Sessions in a batch: enough to make a batch's fixed cost disappear, few enough that a refusal loses little."""
LINGER_S: Final = 0.1
"""A batch that is not full leaves after so long: a line on a screen is still 'now'."""
ATTEMPTS: Final = 6
"""How often a batch is tried: with the pauses below about five seconds, the restart of a collector."""
PAUSE_S: Final = 0.2
"""Before the second attempt; doubles with each further one."""
LONGEST_PAUSE_S: Final = 5.0
LONGEST_WAIT_S: Final = 60.0
"""Of a pause that the receiver asks for: what arrives in a longer one, no queue holds."""
CLOSE_S: Final = 5.0
"""Time for a last flush when `with` ends."""

QUEUE_FULL: Final = "queue full"
REFUSED: Final = "refused"
FAILED: Final = "failed"
STOPPED: Final = "stopped"
GONE: Final = "reader gone"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ledger:
    """One moment of a worker's counts, in sessions: `offered == sent + sum(dropped.values()) + waiting`."""

    offered: int
    sent: int
    dropped: Mapping[str, int]
    waiting: int
    error: str = ""
    """What the sink said when it last failed; empty where it never did."""
    left_out: int = 0
    """Sessions that sampling kept from it; they were not offered."""


class Worker:
    """Feeds `sink` from a thread of its own; `name` is how logs and metrics call it (the export URL)."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        *,
        queue_limit: int,
        batch: int = BATCH,
        linger_s: float = LINGER_S,
        attempts: int = ATTEMPTS,
        pause_s: float = PAUSE_S,
    ) -> None:
        self.name = name
        self._called = name.rstrip(":")
        """In a log line, where another colon follows."""
        self._sink = sink
        self._batch, self._linger_s, self._attempts, self._pause_s = batch, linger_s, attempts, pause_s
        self._queue: deque[Session] = deque(maxlen=queue_limit)
        self._changed = threading.Condition(threading.Lock())
        self._offered = self._sent = self._in_hand = 0
        self._dropped = dict.fromkeys((QUEUE_FULL, REFUSED, FAILED, STOPPED, GONE), 0)
        self._stop_at: float | None = None
        self._closed = self._abandoned = False
        self.gone = False
        """Nobody reads what the sink writes, for good: every session from now on is dropped."""
        self._down = self._said_refused = False
        self._error = ""
        self._thread = threading.Thread(target=self._run, name=f"export {name}", daemon=True)
        self._thread.start()

    def offer(self, sessions: Sequence[Session]) -> None:
        """Hand over sessions (which nobody changes any more). Never blocks; after `close` they are dropped as `stopped`."""
        if not sessions:
            return
        with self._changed:
            self._offered += len(sessions)
            if self.gone or self._stop_at is not None:
                self._dropped[GONE if self.gone else STOPPED] += len(sessions)
                return
            queue = self._queue
            before = len(queue)
            queue.extend(sessions)  # a full deque drops at its other end: the oldest
            self._dropped[QUEUE_FULL] += before + len(sessions) - len(queue)
            if not before or len(queue) >= self._batch:
                self._changed.notify()

    def ledger(self) -> Ledger:
        """The counts now."""
        with self._changed:
            waiting = len(self._queue) + self._in_hand
            return Ledger(self._offered, self._sent, MappingProxyType(self._dropped.copy()), waiting, self._error)

    def stop(self, deadline_s: float = CLOSE_S) -> None:
        """Take nothing more, and send what waits until the deadline; `close` waits for it. Never blocks."""
        with self._changed:
            if self._stop_at is None:
                self._stop_at = time.monotonic() + deadline_s
            self._changed.notify_all()

    def close(self, deadline_s: float = CLOSE_S) -> Ledger:
        """Send what waits, but for no longer than `deadline_s`; what remains is dropped as `stopped`.

        Once is enough: a second time waits for nothing, even if the first was interrupted.
        """
        if not self._closed:
            self._closed = True
            self.stop(deadline_s)
            self._thread.join(deadline_s)
        if self._thread.is_alive() and not self._abandoned:
            self._abandon()
        return self.ledger()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # The thread.

    def _run(self) -> None:
        while not self.gone and (batch := self._take()):
            self._account(len(batch), *self._deliver(batch))
        try:
            self._sink.close()
        except Exception:
            log.exception("export %s: closing it failed.", self._called)

    def _take(self) -> list[Session]:
        """The next batch: waits for a first session, then for more, until it is full, old enough, or the end has come."""
        with self._changed:
            while not self._queue and self._stop_at is None:
                self._changed.wait()
            ripe_at = time.monotonic() + self._linger_s
            while len(self._queue) < self._batch and self._stop_at is None:
                remaining = ripe_at - time.monotonic()
                if remaining <= 0:
                    break
                self._changed.wait(remaining)
            if self._stop_at is not None and time.monotonic() >= self._stop_at:
                self._give_up()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch))]
            self._in_hand = len(batch)
            return batch

    def _deliver(self, batch: list[Session]) -> tuple[Delivery, str]:
        """What became of it, and the reason for those of which the sink says nothing."""
        settled = Delivery(0)
        for attempt in range(1, self._attempts + 1):
            last = self._stop_at is not None  # the end has come: no more pauses, one attempt each
            wait = 0.0
            try:
                delivery = _delivery(self._sink.export(batch))
            except SinkGone as error:
                log.info("export %s: %s", self._called, error)  # `| head` is no reason to warn
                return settled, GONE
            except ExportFailed as error:
                self._say_down(error)
                if isinstance(error, ExportInterrupted):
                    settled, wait = Delivery(error.sent, error.dropped), error.retry_after_s
            except Exception as error:  # noqa: BLE001 (a fault of the sink must not end the thread; it is said and counted)
                self._say_down(error, unexpected=True)  # trying again would repeat it
                return settled, FAILED
            else:
                self._say_up()
                self._say_refused(delivery, len(batch))
                return delivery, REFUSED
            if last:
                break
            if attempt < self._attempts:
                self._pause(attempt, wait)
        return settled, FAILED

    def _pause(self, attempt: int, asked_s: float) -> None:
        """Wait before the next attempt, at least as long as the receiver asked for; `stop` cuts it short."""
        pause = min(self._pause_s * 2 ** (attempt - 1), LONGEST_PAUSE_S)
        pause *= random.uniform(0.5, 1.0)  # many agents, one collector: not all at once
        pause += min(asked_s, LONGEST_WAIT_S)
        until = time.monotonic() + pause
        with self._changed:
            while self._stop_at is None and (now := time.monotonic()) < until:
                self._changed.wait(until - now)

    def _account(self, size: int, delivery: Delivery, reason: str) -> None:
        """Each session of the batch is counted once, whatever numbers the sink gives."""
        with self._changed:
            if self._abandoned:
                return  # counted as `stopped` when `close` gave up on it
            sent = min(max(delivery.sent, 0), size)
            self._sent += sent
            rest = size - sent
            for why, number in delivery.dropped.items():
                dropped = min(max(number, 0), rest)
                self._dropped[why] = self._dropped.get(why, 0) + dropped
                rest -= dropped
            self._dropped[reason] += rest
            self._in_hand = 0
            if reason == GONE:
                self.gone = True
                self._give_up(GONE)

    def _abandon(self) -> None:
        """The sink does not come back: what it holds is as lost as what waits."""
        with self._changed:
            self._abandoned = True
            self._give_up()
            self._dropped[STOPPED] += self._in_hand
            self._in_hand = 0
        log.warning("export %s: it did not answer in time; what it still held counts as dropped.", self._called)

    def _give_up(self, reason: str = STOPPED) -> None:
        self._dropped[reason] += len(self._queue)
        self._queue.clear()

    def _say_down(self, error: Exception, *, unexpected: bool = False) -> None:
        """Once, however often it fails, until it works again."""
        self._error = str(error) or type(error).__name__
        if not self._down:
            log.warning("export %s: %s", self._called, self._error, exc_info=error if unexpected else None)
        self._down = True

    def _say_refused(self, delivery: Delivery, size: int) -> None:
        if delivery.sent >= size:
            return
        self._error = delivery.error or self._error
        if not self._said_refused:
            why = f" ({delivery.error.rstrip('.')})" if delivery.error else ""
            lost = size - delivery.sent
            log.warning("export %s: refused %d of %d sessions%s; further ones are counted only.", self._called, lost, size, why)
            self._said_refused = True

    def _say_up(self) -> None:
        if self._down:
            dropped = sum(self.ledger().dropped.values())
            log.info("export %s: works again (%d sessions dropped so far).", self._called, dropped)
        self._down = False


def _delivery(answer: object) -> Delivery:
    """A sink's answer; anything but what its contract says is a fault of the sink."""
    if isinstance(answer, Delivery):
        return answer
    if isinstance(answer, int):
        return Delivery(answer)
    raise TypeError(f"the exporter answered {type(answer).__name__}, not how much it delivered; mend it.")
