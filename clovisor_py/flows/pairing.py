"""Pairing: messages of one flow become sessions. In order (HTTP/1, Redis, SQL), or by id (HTTP/2, Kafka, DNS).

Nothing is paired by a guess. A request that was reported as `timeout` leaves word, so that its late response does not go
to the next request; a response whose first byte passed before the request's first byte is not its answer; and where
responses passed unseen (`lose`) the requests that they may have answered are reported at once, as not seen, instead of
being paired with somebody else's response.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.sessions import END, Facts, SessionMaker
from clovisor_py.model.message import SERVER, Kind, Message
from clovisor_py.model.session import Outcome, Session
from clovisor_py.protocols import _api

MAX_PENDING: Final = 1024
"""Requests of one flow that wait for their responses; more than clients pipeline. Beyond: `pending_evicted`, oldest first."""

_REQUEST, _RESPONSE, _ONE_WAY = Kind.REQUEST, Kind.RESPONSE, Kind.ONE_WAY  # looking up a member costs more than a call

Pending: TypeAlias = tuple[Message, bool]
"""A request, and whether it was the first after a beginning in the middle."""


Early: TypeAlias = tuple[Message, bool, Outcome | None]
"""A response, whether it was the first after a beginning in the middle, and how the connection broke it off."""


class Pairing(SessionMaker, ABC):
    """What both ways of pairing share. `watch` is called with the time of a request when nobody watches the flow."""

    __slots__ = ("_early", "_watch", "asked", "watched")

    in_order = False
    """Whether a message that is missed shifts all that follow."""

    def __init__(self, facts: Facts, ledger: Ledger, emit: Callable[[Session], None], watch: Callable[[int], None]) -> None:
        super().__init__(facts, ledger, emit)
        self._watch = watch
        self._early: dict[int | str | None, Early] = {}
        """Responses that no request waited for when they came, by correlation; orphans, unless their request is still open."""
        self.watched = False
        """Somebody will look at this flow again before its oldest request is overdue."""
        self.asked = False
        """A request was seen on this flow."""

    @abstractmethod
    def take(
        self, message: Message, sender: int, fresh: bool = False, turn_age_ns: int = 0, broken: Outcome | None = None
    ) -> None:
        """A message is complete. `fresh`: the first after a beginning in the middle or a resynchronisation.

        `turn_age_ns`: how long before it the other direction's turn began, by the kernel's memory (0: unknown).
        `broken`: the connection ended in the middle of it.
        """

    @abstractmethod
    def expire(self, before_ns: int, now_ns: int) -> None:
        """Report as `timeout` the requests whose last byte passed at `before_ns` or earlier."""

    @abstractmethod
    def lose(self, sender: int, hidden_ns: int, now_ns: int, gap_bytes: int) -> None:
        """Messages of `sender` passed unseen, the last of them at `hidden_ns`; `gap_bytes` of them were lost."""

    @abstractmethod
    def drain(self) -> Iterator[Pending]:
        """Take out all that wait."""

    @property
    @abstractmethod
    def oldest_ns(self) -> int:
        """When the last byte of the oldest waiting request passed; 0 where none waits."""

    def close(self, outcome: Outcome, now_ns: int) -> None:
        """Nothing more will be answered."""
        for request, fresh in self.drain():
            self.unanswered(request, fresh, outcome, now_ns, {END: self.note} if self.note else {})
        self._forget_early()

    def abandon(self, now_ns: int) -> None:
        """Nobody reads this flow any more: there may be answers."""
        for request, fresh in self.drain():
            self.not_seen(request, fresh, now_ns)
        self._forget_early()

    def _unmatched(self, message: Message, fresh: bool, turn_age_ns: int, broken: Outcome | None) -> None:
        """No request waits. It was lost, or passed before this process looked, or is still being sent (an early answer)."""
        if fresh and turn_age_ns > 0 and not self.asked:
            self.unasked(message, turn_age_ns, broken)
            return
        early = self._early
        early.pop(message.correlation, None)
        early[message.correlation] = (message, fresh, broken)
        if len(early) > MAX_PENDING:
            del early[next(iter(early))]
            self._ledger.orphan_responses += 1

    def _answered_early(self, request: Message, fresh: bool) -> bool:
        """Whether the response came before the request was complete: it began before, so it may be its answer."""
        found = self._early.pop(request.correlation, None)
        if found is None:
            return False
        response, first, broken = found
        if response.start_ns < request.start_ns:
            self._ledger.orphan_responses += 1
            return False
        self.answered(request, response, fresh or first, broken)
        return True

    def _forget_early(self) -> None:
        self._ledger.orphan_responses += len(self._early)
        self._early.clear()


class InOrder(Pairing):
    """Responses come in the order of the requests."""

    __slots__ = ("_abandoned", "_answering_ns", "_hidden_ns", "_waiting")

    in_order = True

    def __init__(self, facts: Facts, ledger: Ledger, emit: Callable[[Session], None], watch: Callable[[int], None]) -> None:
        super().__init__(facts, ledger, emit, watch)
        self._waiting: list[Pending] = []
        self._abandoned = 0
        """Requests at the front of the order that were reported already: so many responses are late."""
        self._answering_ns = 0
        """When the oldest request got an interim response; 0 where it did not."""
        self._hidden_ns = 0
        """Responses passed unseen until then: a request that turns up late and is older may have been answered."""

    def take(
        self, message: Message, sender: int, fresh: bool = False, turn_age_ns: int = 0, broken: Outcome | None = None
    ) -> None:
        self._ledger.messages += 1
        kind = message.kind
        waiting = self._waiting
        if kind is _REQUEST:
            self.asked = True
            if self._early and self._answered_early(message, fresh):
                return
            if message.start_ns < self._hidden_ns:
                self.not_seen(message, fresh, message.end_ns)
                return
            waiting.append((message, fresh))
            if not self.watched:
                self.watched = True
                self._watch(message.end_ns)
            if len(waiting) > MAX_PENDING:
                waiting.pop(0)
                self._abandoned += 1
                self._ledger.pending_evicted += 1
        elif kind is _RESPONSE:
            if self._abandoned:
                self._abandoned -= 1
                self._ledger.late_responses += 1
            elif waiting and waiting[0][0].start_ns <= message.start_ns:
                request, first = waiting.pop(0)
                self._answering_ns = 0
                self.answered(request, message, first or fresh, broken)
            else:
                self._unmatched(message, fresh, turn_age_ns, broken)
        elif kind is _ONE_WAY:
            self.one_way(message, sender, fresh)
        else:
            self._answering_ns = message.end_ns

    def expire(self, before_ns: int, now_ns: int) -> None:
        while 0 < self.oldest_ns <= before_ns:
            request, fresh = self._waiting.pop(0)
            self._abandoned += 1
            self._answering_ns = 0
            self.unanswered(request, fresh, Outcome.TIMEOUT, now_ns, {})

    def lose(self, sender: int, hidden_ns: int, now_ns: int, gap_bytes: int) -> None:
        if sender == SERVER:
            self._abandoned = 0
            self._hidden_ns = max(self._hidden_ns, hidden_ns)
            self._forget_early()
            for request, fresh in self.drain():
                request.gap_bytes += gap_bytes
                gap_bytes = 0
                self.not_seen(request, fresh, now_ns)

    def drain(self) -> Iterator[Pending]:
        while self._waiting:
            yield self._waiting.pop(0)

    @property
    def oldest_ns(self) -> int:
        return max(self._waiting[0][0].end_ns, self._answering_ns) if self._waiting else 0


class ById(Pairing):
    """Each response names its request (`Message.correlation`)."""

    __slots__ = ("_hidden_ns", "_late", "_waiting")

    def __init__(self, facts: Facts, ledger: Ledger, emit: Callable[[Session], None], watch: Callable[[int], None]) -> None:
        super().__init__(facts, ledger, emit, watch)
        self._waiting: dict[int | str | None, Pending] = {}
        """In the order of the requests."""
        self._late: dict[int | str | None, None] = {}
        """Ids whose request was reported already; the latest MAX_PENDING of them."""
        self._hidden_ns = 0
        """Responses passed unseen until then: who asked before may have been answered."""

    def take(
        self, message: Message, sender: int, fresh: bool = False, turn_age_ns: int = 0, broken: Outcome | None = None
    ) -> None:
        self._ledger.messages += 1
        kind = message.kind
        if kind is _REQUEST:
            self._ask(message, fresh)
        elif kind is _RESPONSE:
            found = self._waiting.pop(message.correlation, None)
            if found is not None:
                self.answered(found[0], message, found[1] or fresh, broken)
            elif self._late and message.correlation in self._late:
                del self._late[message.correlation]
                self._ledger.late_responses += 1
            else:
                self._unmatched(message, fresh, turn_age_ns, broken)
        elif kind is _ONE_WAY:
            self.one_way(message, sender, fresh)

    def _ask(self, message: Message, fresh: bool) -> None:
        waiting, key = self._waiting, message.correlation
        self.asked = True
        if self._early and self._answered_early(message, fresh):
            return
        if key in waiting:
            first = waiting[key][0]
            if (first.operation, first.resource) == (message.operation, message.resource):
                self._ledger.repeated_requests += 1  # the user waits since the first
                return
            del waiting[key]
            self._ledger.pending_evicted += 1
        if self._late:
            self._late.pop(key, None)
        waiting[key] = (message, fresh)
        if not self.watched:
            self.watched = True
            self._watch(message.end_ns)
        if len(waiting) > MAX_PENDING:
            del waiting[next(iter(waiting))]
            self._ledger.pending_evicted += 1

    def expire(self, before_ns: int, now_ns: int) -> None:
        while 0 < self.oldest_ns <= before_ns:
            key = next(iter(self._waiting))
            request, fresh = self._waiting.pop(key)
            self._late[key] = None
            if len(self._late) > MAX_PENDING:
                del self._late[next(iter(self._late))]
            if request.start_ns <= self._hidden_ns:
                self.not_seen(request, fresh, now_ns)
            else:
                self.unanswered(request, fresh, Outcome.TIMEOUT, now_ns, {})

    def lose(self, sender: int, hidden_ns: int, now_ns: int, gap_bytes: int) -> None:
        if sender == SERVER:
            self._hidden_ns = max(self._hidden_ns, hidden_ns)

    def drain(self) -> Iterator[Pending]:
        while self._waiting:
            yield self._waiting.pop(next(iter(self._waiting)))

    @property
    def oldest_ns(self) -> int:
        return next(iter(self._waiting.values()))[0].end_ns if self._waiting else 0


PAIRINGS: Final[dict[_api.Pairing, type[Pairing]]] = {_api.Pairing.FIFO: InOrder, _api.Pairing.BY_ID: ById}
