"""ById: each response names its request (HTTP/2, Kafka, DNS), in any order; messages may come in parts, and parts interleave.

What is heard of an exchange keeps it alive: a stream that sends something now and then is no request that nobody answers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.pairing import MAX_PENDING, Begun, Pairing, Pending
from clovisor_py.flows.sessions import Facts
from clovisor_py.model.message import SERVER, Kind, Message
from clovisor_py.model.session import Outcome, Session

_REQUEST, _RESPONSE, _ONE_WAY, _PART = Kind.REQUEST, Kind.RESPONSE, Kind.ONE_WAY, Kind.PART  # as in `in_order`


class ById(Pairing):
    """Each response names its request (`Message.correlation`). Messages may come in parts, and the parts interleave."""

    __slots__ = ("_begun", "_hidden_ns", "_late", "_waiting")

    def __init__(
        self,
        facts: Facts,
        ledger: Ledger,
        emit: Callable[[Session], None],
        watch: Callable[[Hashable, int], None],
        begun: Begun | None = None,
    ) -> None:
        super().__init__(facts, ledger, emit, watch, begun)
        self._waiting: dict[int | str | None, tuple[Message, bool, int]] = {}
        """Request, whether it was fresh, and when anything was last heard of its exchange; the quietest first."""
        self._begun: dict[int | str | None, Message] = {}
        """What was seen so far of responses that have not ended; the latest MAX_PENDING of them."""
        self._late: dict[int | str | None, None] = {}
        """Ids whose request was reported already; the latest MAX_PENDING of them."""
        self._hidden_ns = 0
        """Responses passed unseen until then: who asked before may have been answered, or answered to the end."""

    def take(
        self, message: Message, sender: int, fresh: bool = False, turn_age_ns: int = 0, broken: Outcome | None = None
    ) -> None:
        kind = message.kind
        if kind is _PART:
            self._extend(message, sender)
            return
        self._ledger.messages += 1
        if kind is _REQUEST:
            self._ask(message, fresh)
        elif kind is _RESPONSE:
            begun = self._begun.pop(message.correlation, None) if self._begun else None
            if begun is not None:
                _merge(begun, message)
                message = begun
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
        else:
            self._heard_of(message.correlation, message.end_ns)

    def _ask(self, message: Message, fresh: bool) -> None:
        if self._opened is not None:
            self.settle(message)
        waiting, key = self._waiting, message.correlation
        early = self._early and self._answered_early(message, fresh)
        if not self.asked:
            self._forget_early()
            self.asked = True
        if early:
            return
        if key in waiting:
            first = waiting[key][0]
            if (first.operation, first.resource) == (message.operation, message.resource):
                self._ledger.repeated_requests += 1  # the user waits since the first, and the answer is its
                self.repeated(message, fresh)
                return
            self._evict(key, message.start_ns)
        if self._late:
            self._late.pop(key, None)
        waiting[key] = (message, fresh, message.end_ns)
        self._waits(message)
        if len(waiting) > MAX_PENDING:
            self._evict(next(iter(waiting)), message.start_ns)

    def _evict(self, key: int | str | None, now_ns: int) -> None:
        """It waits no longer: nobody could tell its answer from another's, or there are too many."""
        request, fresh, _ = self._waiting.pop(key)
        self._ledger.pending_evicted += 1
        self.not_seen(request, fresh, now_ns)

    def _extend(self, part: Message, sender: int) -> None:
        """More of a request, if the client says it; else of a response."""
        key = part.correlation
        self._heard_of(key, part.end_ns)
        if sender != SERVER:
            if key in self._waiting:
                _merge(self._waiting[key][0], part)
        elif key in self._begun:
            _merge(self._begun[key], part)
        else:
            self._begun[key] = part
            if len(self._begun) > MAX_PENDING:
                del self._begun[next(iter(self._begun))]

    def _heard_of(self, key: int | str | None, now_ns: int) -> None:
        """The exchange is alive: it waits from now on."""
        found = self._waiting.pop(key, None)
        if found is not None:
            self._waiting[key] = (found[0], found[1], max(now_ns, found[2]))

    def close(self, outcome: Outcome, now_ns: int) -> None:
        for key in [key for key in self._begun if key in self._waiting]:
            request, fresh, _ = self._waiting.pop(key)
            response = self._begun[key]
            response.incomplete = True
            self.answered(request, response, fresh, None if request.start_ns <= self._hidden_ns else outcome)
        self._begun.clear()
        for key in [key for key, (request, _, _) in self._waiting.items() if request.start_ns <= self._hidden_ns]:
            request, fresh, _ = self._waiting.pop(key)
            self.not_seen(request, fresh, now_ns)
        super().close(outcome, now_ns)

    def expire(self, before_ns: int, now_ns: int) -> None:
        while 0 < self.oldest_ns <= before_ns:
            key = next(iter(self._waiting))
            request, fresh, _ = self._waiting.pop(key)
            begun = self._begun.pop(key, None)
            self._late[key] = None
            if len(self._late) > MAX_PENDING:
                del self._late[next(iter(self._late))]
            if request.start_ns <= self._hidden_ns:
                self.not_seen(request, fresh, now_ns)
            elif begun is not None:
                begun.incomplete, begun.end_ns = True, max(begun.end_ns, now_ns)
                self.answered(request, begun, fresh, Outcome.TIMEOUT)
            else:
                self.unanswered(request, fresh, Outcome.TIMEOUT, now_ns, {})

    def lose(self, sender: int, hidden_ns: int, now_ns: int, gap_bytes: int) -> None:
        if sender == SERVER:
            self._hidden_ns = max(self._hidden_ns, hidden_ns)

    def drain(self) -> Iterator[Pending]:
        while self._waiting:
            request, fresh, _ = self._waiting.pop(next(iter(self._waiting)))
            yield request, fresh

    @property
    def oldest_ns(self) -> int:
        return next(iter(self._waiting.values()))[2] if self._waiting else 0


def _merge(whole: Message, part: Message) -> None:
    """Add what `part`, which comes after it, brings to `whole`."""
    whole.end_ns = max(whole.end_ns, part.end_ns)
    whole.size += part.size
    whole.gap_bytes += part.gap_bytes
    whole.incomplete |= part.incomplete
    if part.attributes:
        whole.attributes.update(part.attributes)
    whole.operation = part.operation or whole.operation
    whole.resource = part.resource or whole.resource
    whole.status = part.status or whole.status
    whole.protocol = part.protocol or whole.protocol
    whole.error |= part.error
