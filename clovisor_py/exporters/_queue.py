"""Queue: the sessions that wait for one exporter, bounded by their number and by their bytes; the oldest make room.

Both bounds are needed: a session is 2 kB or, with a long statement in it, a hundred times as much, and what a pod says must not
fill the agent's memory while a collector is away. Its bytes are an estimate that is made for every session, once for all
exporters, so it has to be cheap (0.2 µs): the texts of its attributes, and a fixed part for all else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from sys import getsizeof
from typing import Final

import orjson

from clovisor_py.model.session import Session

SESSION_BYTES: Final = 8192
"""That a session of a full queue may have on average, four times an ordinary one: 64 MB of the 8,192 that a queue holds."""
FEWEST: Final = 512
"""Sessions for whose bytes even the shortest queue has room."""
FIXED_BYTES: Final = 1920
"""Of a session besides what its attributes say: the object, numbers, and what short texts take beyond their letters."""
LIST: Final = ord("[")
"""In JSON where a list begins. (A byte is looked for in a fifth of the time that bytes are.)"""


def weights(sessions: Iterable[Session]) -> list[int]:
    """About how many bytes of memory each takes: orjson tells what its attributes are as JSON in half the time that looking at
    each of them takes. Where that has no list, whose texts may be many, and short; and only ASCII: one letter that is not may
    make all of a text take four bytes each.
    """
    out, dumps = [], orjson.dumps
    for session in sessions:
        try:
            text = dumps(session.attributes)
        except orjson.JSONEncodeError:
            out.append(_weight(session))
        else:
            out.append(FIXED_BYTES + len(text) if LIST not in text and text.isascii() else _weight(session))
    return out


def _weight(session: Session) -> int:
    size = FIXED_BYTES
    for value in session.attributes.values():
        size += getsizeof(value) + (sum(map(getsizeof, value)) if isinstance(value, list) else 0)
    return size


def allowance(sessions: int) -> int:
    """Bytes of a queue of so many sessions."""
    return max(sessions, FEWEST) * SESSION_BYTES


class Queue:
    """At most `limit` sessions, and the `allowance` of so many. Whoever uses it from several threads has a lock."""

    def __init__(self, limit: int) -> None:
        self.bytes = 0
        """Of those that wait, by `weights`."""
        self._limit, self._limit_bytes = limit, allowance(limit)
        self._sessions: deque[Session] = deque()
        self._weights: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, sessions: Sequence[Session], weights: Sequence[int]) -> int:
        """Behind the others; answers how many of the oldest had to go."""
        self._sessions.extend(sessions)
        self._weights.extend(weights)
        self.bytes += sum(weights)
        before = len(self._sessions)
        while len(self._sessions) > self._limit or self.bytes > self._limit_bytes:
            self._pop()
        return before - len(self._sessions)

    def take(self, most: int, most_bytes: int) -> list[Session]:
        """The oldest, so many and so heavy at most; one is always taken, if there is one."""
        number = size = 0
        for weight in islice(self._weights, most):
            if number and size + weight > most_bytes:
                break
            number, size = number + 1, size + weight
        self.bytes -= size
        taken, weighed = self._sessions.popleft, self._weights.popleft
        for _ in range(number):
            weighed()
        return [taken() for _ in range(number)]

    def clear(self) -> int:
        """All go; answers how many."""
        gone, self.bytes = len(self._sessions), 0
        self._sessions.clear()
        self._weights.clear()
        return gone

    def _pop(self) -> Session:
        self.bytes -= self._weights.popleft()
        return self._sessions.popleft()
