"""InOrder: responses come in the order of the requests, so one that is missed shifts all that follow (HTTP/1, Redis, SQL)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Final

from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.pairing import MAX_PENDING, Begun, Pairing, Pending
from clovisor_py.flows.sessions import Facts
from clovisor_py.model.message import SERVER, Kind, Message
from clovisor_py.model.session import Outcome, Session

# Looking up a member costs more than a call.
_NOBODY: Final[list[Pending]] = []
"""Waits on nearly all connections; never added to."""
_REQUEST, _RESPONSE, _ONE_WAY, _SILENT = Kind.REQUEST, Kind.RESPONSE, Kind.ONE_WAY, Kind.SILENT


class InOrder(Pairing):
    """Responses come in the order of the requests."""

    __slots__ = ("_abandoned", "_answering_ns", "_hidden_ns", "_waiting")

    in_order = True

    def __init__(
        self,
        facts: Facts,
        ledger: Ledger,
        emit: Callable[[Session], None],
        watch: Callable[[Hashable, int], None],
        begun: Begun | None = None,
    ) -> None:
        super().__init__(facts, ledger, emit, watch, begun)
        self._waiting = _NOBODY
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
        kind, waiting = message.kind, self._waiting
        if kind is _REQUEST:
            if waiting or self._early or self._opened is not None or message.start_ns < self._hidden_ns:
                self._ask(message, fresh)
                return
            self.asked = True
            self._waiting = [(message, fresh)]
            if message.propagation or not self.watched:
                self._waits(message)
        elif kind is _RESPONSE:
            if len(waiting) == 1 and not self._abandoned and waiting[0][0].start_ns <= message.start_ns:
                request, first = waiting[0]
                self._waiting, self._answering_ns = _NOBODY, 0
                self.answered(request, message, first or fresh, broken)
            else:
                self._answer(message, fresh, turn_age_ns, broken)
        elif kind is _ONE_WAY:
            self.one_way(message, sender, fresh)
        elif kind is not _SILENT:
            self._answering_ns = message.end_ns
        elif waiting:
            waiting.append((message, fresh))
            self._make_room(message.start_ns)
        else:
            self.silent(message, fresh)

    def _ask(self, message: Message, fresh: bool) -> None:
        """A request that is pipelined, or that comes after something odd."""
        if self._opened is not None:
            self.settle(message)
        early = self._early and self._answered_early(message, fresh)
        self.asked = True
        if early:
            return
        if message.start_ns < self._hidden_ns:
            self.not_seen(message, fresh, message.end_ns)
            return
        waiting = self._waiting = self._waiting or []
        waiting.append((message, fresh))
        self._waits(message)
        self._make_room(message.start_ns)

    def _make_room(self, now_ns: int) -> None:
        """Whether they wait for answers or behind one that does: where there are too many, the oldest goes."""
        if len(self._waiting) > MAX_PENDING:
            self._abandoned += 1
            self._ledger.pending_evicted += 1
            self.not_seen(*self._waiting.pop(0), now_ns)
            self._pass_silent()

    def _answer(self, message: Message, fresh: bool, turn_age_ns: int, broken: Outcome | None) -> None:
        """A response to one of several requests, or of none that waits."""
        waiting = self._waiting
        if self._abandoned:
            self._abandoned -= 1
            self._ledger.late_responses += 1
        elif waiting and waiting[0][0].start_ns <= message.start_ns:
            request, first = waiting.pop(0)
            self._answering_ns = 0
            self.answered(request, message, first or fresh, broken)
            self._pass_silent()
        else:
            self._unmatched(message, fresh, turn_age_ns, broken)

    def expire(self, before_ns: int, now_ns: int) -> None:
        while 0 < self.oldest_ns <= before_ns:
            request, fresh = self._waiting.pop(0)
            self._abandoned += 1
            self._answering_ns = 0
            self.unanswered(request, fresh, Outcome.TIMEOUT, now_ns, {})
            self._pass_silent()

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
        self._pass_silent()
        while self._waiting:
            yield self._waiting.pop(0)
            self._pass_silent()

    def _pass_silent(self) -> None:
        """Those at the front that nobody answers are done."""
        while self._waiting and self._waiting[0][0].kind is _SILENT:
            self.silent(*self._waiting.pop(0))

    @property
    def oldest_ns(self) -> int:
        return max(self._waiting[0][0].end_ns, self._answering_ns) if self._waiting else 0
