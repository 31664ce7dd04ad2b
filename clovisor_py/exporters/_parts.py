"""Parts: a batch that a sink sends in several pieces, and what has become of it so far.

Another attempt at the same batch goes on with the parts that are not settled, so that none is sent twice. And what is settled
can be read from another thread: who gives up on a sink that hangs must not call lost what its receiver has acknowledged.
"""

from __future__ import annotations

import typing
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

from clovisor_py.errors import ExportFailed, ExportInterrupted
from clovisor_py.exporters._api import Delivery
from clovisor_py.model.session import Session

NO_SPAN: Final = "no span"
"""A session with attributes that nothing can encode."""


class Part(typing.Protocol):
    """One request, datagram or piece of a file; `spans` is for how many sessions it stands."""

    @property
    def spans(self) -> int: ...


P = TypeVar("P", bound=Part)


class Parts(Generic[P]):
    """The parts of one batch after the other. For one thread, save `settled`."""

    def __init__(self) -> None:
        self._batch: Sequence[Session] | None = None
        """The one that is being delivered; kept, so that another attempt at it is known."""
        self._waiting: deque[P] = deque()
        self._settled: tuple[Sequence[Session], Delivery] = ((), Delivery(0))
        """Replaced whole, so that another thread reads a batch and its own numbers."""

    def holds(self, sessions: Sequence[Session]) -> bool:
        """Whether this is the batch that is being delivered; else `begin` it."""
        return sessions is self._batch

    def begin(self, sessions: Sequence[Session], parts: Iterable[P], fault: str, lacking: str = NO_SPAN) -> None:
        """A new batch; its sessions that are in no part are `lacking` one, and `fault` says why."""
        self._batch, self._waiting = sessions, deque(parts)
        untold = len(sessions) - sum(part.spans for part in self._waiting)
        self._settled = sessions, Delivery(0, {lacking: untold} if untold else {}, fault)

    def waiting(self) -> Iterator[P]:
        """The parts that are not settled; each stays until `settle`."""
        while self._waiting:
            yield self._waiting[0]

    def settle(self, lost: int, reason: str, why: str = "") -> None:
        """The first waiting part is done; `lost` of its spans are dropped, and `why` is said of them."""
        batch, before = self._settled
        dropped = {**before.dropped, reason: before.dropped.get(reason, 0) + lost} if lost else before.dropped
        sent = before.sent + self._waiting.popleft().spans - lost
        self._settled = batch, Delivery(sent, dropped, (why if lost else "") or before.error)

    def interrupted(self, error: ExportFailed) -> ExportInterrupted:
        """What to raise where a part could not be sent now: `error`, with what is settled."""
        _, so_far = self._settled
        wait = error.retry_after_s if isinstance(error, ExportInterrupted) else 0.0
        return ExportInterrupted(str(error), retry_after_s=wait, sent=so_far.sent, dropped=dict(so_far.dropped))

    def done(self) -> Delivery:
        """All is settled."""
        self._batch = None
        return self._settled[1]

    def settled(self, sessions: Sequence[Session]) -> Delivery | None:
        """What has become of this batch so far; None where it is another. From any thread."""
        batch, delivery = self._settled
        return delivery if batch is sessions else None
