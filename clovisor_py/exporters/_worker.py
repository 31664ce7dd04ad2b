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

import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Final

from clovisor_py.errors import ExportFailed, ExportInterrupted, SinkGone
from clovisor_py.exporters._api import Delivery, Settling, Sink
from clovisor_py.exporters._queue import Queue, weights
from clovisor_py.exporters._remarks import Remarks
from clovisor_py.model.session import Session

BATCH: Final = 512
"""Sessions in a batch: enough to make a batch's fixed cost disappear, few enough that a refusal loses little."""
BATCH_BYTES: Final = 4 << 20
"""Of a batch of long ones, by `_queue.weights`: a batch is encoded as a whole, and this bounds what that takes."""
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
    failing: bool = False
    """Its last batch failed, after all attempts."""
    queued_bytes: int = 0
    """Of the sessions in the queue, by `_queue.weights`."""


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
        self._remarks = Remarks(name)
        self._sink = sink
        self._batch, self._linger_s, self._attempts, self._pause_s = batch, linger_s, attempts, pause_s
        self._queue = Queue(queue_limit)
        self._changed = threading.Condition(threading.Lock())
        self._offered = self._sent = 0
        self._in_hand: Sequence[Session] = ()
        """The batch that the sink has."""
        self._so_far = Delivery(0)
        """What is settled of it, as the sink said when it was interrupted."""
        self._dropped = dict.fromkeys((QUEUE_FULL, REFUSED, FAILED, STOPPED, GONE), 0)
        self._stop_at: float | None = None
        self._closed = self._abandoned = False
        self.gone = False
        """Nobody reads what the sink writes, for good: every session from now on is dropped."""
        self._failing = False
        self._thread = threading.Thread(target=self._run, name=f"export {name}", daemon=True)
        self._thread.start()

    def offer(self, sessions: Sequence[Session], weighed: Sequence[int] | None = None) -> None:
        """Hand over sessions (which nobody changes any more). Never blocks; after `close` they are dropped as `stopped`.

        `weighed`: their `weights`, where the caller has them.
        """
        if not sessions:
            return
        if weighed is None:
            weighed = weights(sessions)
        with self._changed:
            self._offered += len(sessions)
            if self.gone or self._stop_at is not None:
                self._dropped[GONE if self.gone else STOPPED] += len(sessions)
                return
            queue = self._queue
            idle = not queue
            self._dropped[QUEUE_FULL] += queue.add(sessions, weighed)
            if idle or self._full():
                self._changed.notify()

    def ledger(self) -> Ledger:
        """The counts now."""
        with self._changed:
            waiting = len(self._queue) + len(self._in_hand)
            dropped = MappingProxyType(self._dropped.copy())
            return Ledger(self._offered, self._sent, dropped, waiting, self._remarks.error, 0, self._failing, self._queue.bytes)

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
        ledger = self.ledger()
        if not self._abandoned and (self._thread.is_alive() or ledger.waiting):
            self._abandon()
            ledger = self.ledger()
        return ledger

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # The thread.

    def _run(self) -> None:
        while not self.gone and (batch := self._take()):
            self._account(*self._deliver(batch))
        try:
            self._sink.close()
        except BaseException as error:  # noqa: BLE001 (as in `_deliver`)
            self._remarks.not_closed(error)

    def _take(self) -> list[Session]:
        """The next batch: waits for a first session, then for more, until it is full, old enough, or the end has come."""
        with self._changed:
            while not self._queue and self._stop_at is None:
                self._changed.wait()
            ripe_at = time.monotonic() + self._linger_s
            while not self._full() and self._stop_at is None:
                remaining = ripe_at - time.monotonic()
                if remaining <= 0:
                    break
                self._changed.wait(remaining)
            if self._stop_at is not None and time.monotonic() >= self._stop_at:
                self._give_up()
            batch = self._queue.take(self._batch, BATCH_BYTES)
            self._in_hand, self._so_far = batch, Delivery(0)
            return batch

    def _full(self) -> bool:
        """Whether a whole batch waits."""
        return len(self._queue) >= self._batch or self._queue.bytes >= BATCH_BYTES

    def _deliver(self, batch: list[Session]) -> tuple[Delivery | None, str]:
        """What became of it (None: what is settled so far), and the reason for those of which the sink says nothing."""
        for attempt in range(1, self._attempts + 1):
            last = self._stop_at is not None  # the end has come: no more pauses, one attempt each
            wait = 0.0
            try:
                delivery = _delivery(self._sink.export(batch))
            except SinkGone as error:
                self._remarks.gone(error)
                return None, GONE
            except ExportFailed as error:
                self._remarks.down(error)
                if isinstance(error, ExportInterrupted):
                    self._so_far, wait = Delivery(error.sent, error.dropped), error.retry_after_s
            except BaseException as error:  # noqa: BLE001 (a fault of the sink, a plugin's `exit` too, must not end the thread)
                self._remarks.down(error, unexpected=True)  # trying again would repeat it
                return None, FAILED
            else:
                self._remarks.up(sum(self.ledger().dropped.values()))
                self._remarks.refused(delivery, len(batch))
                return delivery, REFUSED
            if last:
                break
            if attempt < self._attempts:
                self._pause(attempt, wait)
        return None, FAILED

    def _pause(self, attempt: int, asked_s: float) -> None:
        """Wait before the next attempt, at least as long as the receiver asked for; `stop` cuts it short."""
        pause = min(self._pause_s * 2 ** (attempt - 1), LONGEST_PAUSE_S)
        pause *= random.uniform(0.5, 1.0)  # many agents, one collector: not all at once
        pause += min(asked_s, LONGEST_WAIT_S)
        until = time.monotonic() + pause
        with self._changed:
            while self._stop_at is None and (now := time.monotonic()) < until:
                self._changed.wait(until - now)

    def _account(self, delivery: Delivery | None, reason: str) -> None:
        with self._changed:
            if self._abandoned:
                return  # counted when `close` gave up on it
            self._settle(delivery, reason)
            self._failing = reason == FAILED
            if reason == GONE:
                self.gone = True
                self._give_up(GONE)

    def _settle(self, delivery: Delivery | None, reason: str) -> None:
        """Each session in hand is counted once, whatever numbers the sink gives."""
        delivery = delivery or self._told() or self._so_far
        rest = len(self._in_hand)
        sent = min(max(delivery.sent, 0), rest)
        self._sent += sent
        rest -= sent
        for why, number in delivery.dropped.items():
            dropped = min(max(number, 0), rest)
            self._dropped[why] = self._dropped.get(why, 0) + dropped
            rest -= dropped
        self._dropped[reason] += rest
        self._in_hand = ()

    def _told(self) -> Delivery | None:
        """What the sink says of the batch in hand, if it can."""
        try:
            return self._sink.settled(self._in_hand) if isinstance(self._sink, Settling) else None
        except Exception as error:  # noqa: BLE001 (as in `_deliver`)
            self._remarks.untold(error)
            return None

    def _abandon(self) -> None:
        """The sink does not come back: what it holds and has not settled is as lost as what waits."""
        with self._changed:
            self._abandoned = True
            self._give_up()
            self._settle(None, STOPPED)
        self._remarks.stuck()

    def _give_up(self, reason: str = STOPPED) -> None:
        self._dropped[reason] += self._queue.clear()


def _delivery(answer: object) -> Delivery:
    """A sink's answer; anything but what its contract says is a fault of the sink."""
    if isinstance(answer, Delivery):
        return answer
    if isinstance(answer, int):
        return Delivery(answer)
    raise TypeError(f"the exporter answered {type(answer).__name__}, not how much it delivered; mend it.")
