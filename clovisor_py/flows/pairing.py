"""Pairing: messages of one flow become sessions, in order (`in_order`: HTTP/1, Redis, SQL) or by id (`by_id`: HTTP/2, Kafka).

Nothing is paired by a guess. A request that was reported as `timeout` leaves word, so that its late response does not go
to the next request; a response whose first byte passed before the request's first byte is not its answer; and where
responses passed unseen (`lose`) the requests that they may have answered are reported at once, as not seen, instead of
being paired with somebody else's response.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from typing import Final, TypeAlias

from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.sessions import Facts, SessionMaker
from clovisor_py.model.message import Message
from clovisor_py.model.session import END, Outcome, Session, Side
from clovisor_py.model.workload import Endpoint

MAX_PENDING: Final = 8192
"""Requests of one flow that wait for their responses; more than clients pipeline. Beyond: `pending_evicted`, oldest first;
each is told, as one whose response was not seen."""

Pending: TypeAlias = tuple[Message, bool]
"""A request, and whether it was the first after a beginning in the middle."""


Early: TypeAlias = tuple[Message, bool, Outcome | None]
"""A response, whether it was the first after a beginning in the middle, and how the connection broke it off."""


Begun: TypeAlias = Callable[[int, Endpoint, Endpoint, str, Message], None]
"""(interface, client, server, transport, request): hears of requests with a trace context that enter a pod, from their head
on; of one whose body is still to come, again when it has. Each of them becomes a session, whatever happens to it."""

_NONE: Final[dict[int | str | None, Early]] = {}
"""What pairings without early responses have; never added to."""


class Pairing(SessionMaker, ABC):
    """What both ways of pairing share. `watch` is told the flow, and the time of a request, when nobody watches it."""

    __slots__ = ("_early", "_opened", "_served", "_watch", "asked", "flow_id", "watched")

    in_order = False
    """Whether a message that is missed shifts all that follow."""

    def __init__(
        self,
        facts: Facts,
        ledger: Ledger,
        emit: Callable[[Session], None],
        watch: Callable[[Hashable, int], None],
        begun: Begun | None = None,
    ) -> None:
        super().__init__(facts, ledger, emit)
        self.flow_id, self._watch = facts.flow_id, watch
        self._served = begun if facts.side is Side.SERVER else None
        self._opened: Message | None = None
        """A request that was told of at its head, and whose end is to come."""
        self._early = _NONE
        """Responses that no request waited for when they came, by correlation; orphans, unless their request is still open."""
        self.watched = False
        """Somebody will look at this flow again before its oldest request is overdue."""
        self.asked = False
        """A request was seen on this flow."""

    def _waits(self, request: Message) -> None:
        """It waits for its answer from now on."""
        if request.propagation:
            self._tell(request)
        if not self.watched:
            self.watched = True
            self._watch(self.flow_id, request.end_ns)

    def _tell(self, request: Message) -> None:
        if self._served is not None:
            self._served(self._interface, self._client, self._server, self._transport, request)

    def opened(self, request: Message) -> None:
        """Its head has been read, its end is to come: who serves it may act on it already."""
        self.settle(request)
        self._tell(request)
        self._opened = request

    def settle(self, request: Message | None = None) -> None:
        """The one that was `opened` is whole, if it is this; else its end passed unseen, and it is told as it is."""
        opened, self._opened = self._opened, None
        if opened is not None and opened is not request:
            opened.incomplete = True
            if not (self._early and self._answered_early(opened, False)):
                self.not_seen(opened, False, opened.end_ns)

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
        self.settle()
        for request, fresh in self.drain():
            self.not_seen(request, fresh, now_ns)
        self._forget_early()

    def _unmatched(self, message: Message, fresh: bool, turn_age_ns: int, broken: Outcome | None) -> None:
        """No request waits. It was lost, or passed before this process looked, or is still being sent (an early answer)."""
        if fresh and turn_age_ns > 0 and not self.asked:
            self.unasked(message, turn_age_ns, broken)
            return
        early = self._early
        if message.correlation in early:
            self._orphan(*early.pop(message.correlation))
        if not early:
            early = self._early = {}
        early[message.correlation] = (message, fresh, broken)
        if len(early) > MAX_PENDING:
            self._orphan(*early.pop(next(iter(early))))

    def _answered_early(self, request: Message, fresh: bool) -> bool:
        """Whether the response came before the request was complete: it began before, so it may be its answer."""
        found = self._early.pop(request.correlation, None)
        if found is None:
            return False
        response, first, broken = found
        if response.start_ns < request.start_ns:
            self._orphan(*found)
            return False
        self.answered(request, response, fresh or first, broken)
        return True

    def _forget_early(self) -> None:
        for orphan in self._early.values():
            self._orphan(*orphan)
        self._early = _NONE

    def _orphan(self, response: Message, _fresh: bool, broken: Outcome | None) -> None:
        """Nobody asked, as far as was seen.

        It is a session all the same where it says by itself what it answers, and before the first request that was seen: what
        was asked passed before anybody looked, or goes another way.
        """
        self._ledger.orphan_responses += 1
        if response.operation or not self.asked:
            self.unasked(response, 0, broken)
