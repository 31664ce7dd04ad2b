"""What is known of a Redis connection besides its bytes: requests and answers in step, and what answers changed.

Answers come in the order of the requests. Only the few commands whose answer matters are marked with their number (`Mark`);
of all others nothing is kept but how many there were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from clovisor_py.model.message import Message
from clovisor_py.protocols._redis_commands import Role

MAX_MARKS: Final = 1024
"""Marked commands that wait for their answers; more than clients pipeline. Beyond it the oldest is forgotten."""
REPLICATION: Final = "redis-replication"
"""What the connection is after PSYNC: a snapshot, then the master's commands, which nobody answers."""

STAR, PUSH, DOLLAR, NULL = b"*>$_"


class Mark(NamedTuple):
    """A command whose answer means something for what follows."""

    number: int
    role: Role
    operation: str
    argument: str
    """The first one, as far as the role needs it."""
    arguments: int
    """How many there are."""


NO_MARK: Final = Mark(0, Role.NONE, "", "", 0)
_NO_SUBSCRIPTIONS: Final = {"": 0, "P": 0, "S": 0}
"""To channels, to patterns, to shard channels. What connections without any share: never changed."""


class Connection:
    """`asked` counts the requests that get an answer, `answered` the answers that had a request."""

    __slots__ = ("_counts", "_marks", "_monitor", "answered", "asked", "namespace", "next_mark", "unasked", "version")

    def __init__(self, namespace: str) -> None:
        self.asked = 0
        self.answered = 0
        self.namespace = namespace
        """Index of the database; empty where it is not known for sure."""
        self.version = 0
        """Of RESP, as far as known."""
        self.unasked = False
        """Not everything that looks like an answer is one: there are subscriptions or a monitor."""
        self.next_mark = 0
        """Number of the oldest marked request; 0: none."""
        self._marks: list[Mark] = []  # seldom more than one, and a deque takes 600 bytes
        self._monitor = False
        self._counts = _NO_SUBSCRIPTIONS

    def mark(self, role: Role, operation: str, argument: str, arguments: int) -> None:
        """The answer to the next request matters."""
        self._marks.append(Mark(self.asked + 1, role, operation, argument, arguments))
        if len(self._marks) > MAX_MARKS:
            del self._marks[0]
        self.next_mark = self._marks[0].number

    def due(self) -> Mark:
        """The mark of the request that the next answer is to."""
        return self._marks[0] if self.next_mark and self.next_mark == self.answered + 1 <= self.asked else NO_MARK

    def answer(self, mark: Mark) -> None:
        """An answer has begun, to the request of that mark."""
        if self.answered < self.asked:
            self.answered += 1
        if mark.number:
            del self._marks[0]
            self.next_mark = self._marks[0].number if self._marks else 0

    def give_up(self) -> None:
        """The answers to all that was asked so far passed unseen."""
        if any(mark.role in _MOVES for mark in self._marks):
            self.namespace = ""
        self._marks.clear()
        self.answered, self.next_mark = self.asked, 0

    def monitors(self) -> None:
        """Other clients' commands come from now on."""
        self._monitor = self.unasked = True

    @property
    def monitored(self) -> bool:
        """Whether a line may be somebody else's command: also where nobody asked for a line."""
        return self._monitor or self.answered >= self.asked

    # ---- subscriptions ----

    def confirm(self, operation: str, total: bytes) -> None:
        """A confirmation says how many subscriptions there are: channels and patterns together, shard channels apart."""
        prefix = _prefix(operation)
        if total.isdigit():
            others = {"": "P", "P": ""}.get(prefix)
            count = int(total[:9]) if others is None else max(int(total[:9]) - self._counts[others], 0)
            self._counts = {**self._counts, prefix: count}
        self._settle()

    def delivered(self, kind: str) -> None:
        """A message came: in the middle of a connection that alone tells of a subscription."""
        prefix = kind.upper().removesuffix("MESSAGE")
        if prefix in self._counts and not any(self._counts.values()):
            self._counts = {**self._counts, prefix: 1}
            self._settle()

    def confirmations(self, mark: Mark) -> int:
        """How many answer a command; call it when the first has come. Without arguments all subscriptions are ended."""
        return mark.arguments or self._counts[_prefix(mark.operation)] + 1

    def _settle(self) -> None:
        self.unasked = self._monitor or (self.version < 3 and any(self._counts.values()))

    # ---- what an answer changes ----

    def apply(self, mark: Mark, kind: int, text: bytes, answer: Message) -> None:
        """The answer to a marked command is complete; `kind` and `text` are its first line."""
        change = _CHANGES.get(mark.role)
        if change is not None and not answer.error:
            change(self, mark, kind, text, answer)

    def _selected(self, mark: Mark, _kind: int, text: bytes, _answer: Message) -> None:
        self.namespace = mark.argument if text == b"OK" else ""  # queued: nobody knows until EXEC

    def _greeted(self, mark: Mark, _kind: int, _text: bytes, _answer: Message) -> None:
        if mark.argument in ("2", "3"):
            self.version = int(mark.argument)
            self._settle()

    def _was_reset(self, _mark: Mark, _kind: int, _text: bytes, _answer: Message) -> None:
        self.namespace, self.version = "0", 2
        self._counts = _NO_SUBSCRIPTIONS
        self._monitor = self.unasked = False

    def _monitoring(self, _mark: Mark, _kind: int, text: bytes, _answer: Message) -> None:
        if text == b"OK":
            self.monitors()

    def _synchronised(self, _mark: Mark, kind: int, text: bytes, answer: Message) -> None:
        if kind == DOLLAR or text.startswith((b"FULLRESYNC", b"CONTINUE")):
            answer.hands_to = REPLICATION

    def _executed(self, _mark: Mark, kind: int, text: bytes, answer: Message) -> None:
        """An EXEC that was called off answers null; how many commands ran says its array."""
        if kind == NULL or (kind == STAR and text == b"-1"):
            answer.status, answer.error = "NIL", True
            answer.attributes["error.type"] = "NIL"
        elif kind == STAR and text.isdigit() and int(text) > 1:
            answer.attributes["db.operation.batch.size"] = int(text)


_CHANGES: Final[dict[Role, Callable[[Connection, Mark, int, bytes, Message], None]]] = {
    Role.SELECT: Connection._selected,
    Role.HELLO: Connection._greeted,
    Role.RESET: Connection._was_reset,
    Role.MONITOR: Connection._monitoring,
    Role.SYNC: Connection._synchronised,
    Role.EXEC: Connection._executed,
}
_MOVES = (Role.SELECT, Role.RESET, Role.EXEC)
"""After these the database may be another."""


def _prefix(operation: str) -> str:
    """Which subscriptions an operation is about: PUNSUBSCRIBE, P; UNSUBSCRIBE, none."""
    return operation.removesuffix("SUBSCRIBE").removesuffix("UN")
