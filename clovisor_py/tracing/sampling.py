"""Sampling: which sessions become spans, decided when a session is over and how it went is known.

In this order: what failed and what was slow is kept, whatever anybody wants; then what the application decided for its trace,
which its own spans follow (the context's flag); then a ratio: what the pod that was looked at says itself, else one for all.
The ratio is taken of the trace id, as OpenTelemetry does it (of its last 56 bits, the highest are kept): everybody who has
the same id decides alike, and who keeps more keeps all that others keep. So both sides of a call, and the calls of one trace,
are kept or not together, where their ratios are the same.

What failed is a span that is an error, by its own side's rule (`spans.is_error`): whoever looks for errors finds them all, and
a scanner that is told 404 at every request cannot defeat the ratio of who serves it. So an error that only one side has is kept
without the other, and no span hangs in the air for it: what is the server's error is the client's, too, and the client's span
is the one above.

Only exporters of spans sample. Metrics, the terminal and JSON lines are told of every session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from clovisor_py.model.session import Outcome, Session, Side
from clovisor_py.tracing import ids
from clovisor_py.tracing.context import decision
from clovisor_py.tracing.spans import is_error

SLOW_NS: Final = 1_000_000_000
"""A session that took so long is kept: longer than a broker lets a consumer wait for messages (500 ms), and than people do."""
RANDOM_BITS: Final = 56
"""Of a trace id that W3C's recommendation asks to be random: the last ones."""

ERROR: Final = "error"
SLOW: Final = "slow"
CONTEXT: Final = "context"
RATIO: Final = "ratio"
REASONS: Final = (ERROR, SLOW, CONTEXT, RATIO)
"""Why a session was kept, or (the last two) was not."""

Ratio = Callable[[int], float]
"""Of the sessions of an interface's pod, those that become spans where nothing else decides: from 0 to 1."""

_ALL: Final = 1 << RANDOM_BITS
_MASK: Final = _ALL - 1


@dataclass(frozen=True, slots=True)
class Sampled:
    """One moment of a Sampler's counts, in sessions, by reason."""

    kept: Mapping[str, int]
    left_out: Mapping[str, int]


def verdict(session: Session, ratio: float, slow_ns: int = SLOW_NS, side: Side | None = None) -> tuple[bool, str]:
    """Whether it is kept, and why. Pure: the same session has the same answer everywhere. `ratio` is from 0 to 1.

    `side`: whose span is asked for, if not that of the session's own.
    """
    if is_error(session, side):
        return True, ERROR
    if session.duration_ns >= slow_ns and not session.connection and session.outcome is not Outcome.ONE_WAY:
        return True, SLOW
    trace = session.trace
    decided = trace.sampled if trace is not None else decision(session.propagation) if session.propagation else None
    if decided is not None:
        return decided, CONTEXT
    if ratio >= 1.0:
        return True, RATIO
    trace_id = ids.trace_id(session) if trace is None else trace.trace_id
    return within(trace_id, ratio), RATIO


def within(trace_id: int, ratio: float) -> bool:
    """Whether a trace is of those that a ratio (0 to 1) keeps."""
    return trace_id & _MASK >= _ALL - round(ratio * _ALL)


def whole(_: int) -> float:
    """The Ratio where nobody samples."""
    return 1.0


class Sampler:
    """Decides, and counts. For one thread; `ratio` for any.

    `ratios`: of interfaces whose pods have one of their own; who attaches keeps them. `of_others`: of all others; may change.
    """

    __slots__ = ("_kept", "_left_out", "_slow_ns", "of_others", "ratios")

    def __init__(self, ratio: float, slow_ns: int = SLOW_NS) -> None:
        self.of_others, self._slow_ns = ratio, slow_ns
        self.ratios: dict[int, float] = {}
        self._kept, self._left_out = dict.fromkeys(REASONS, 0), dict.fromkeys((CONTEXT, RATIO), 0)

    def keep(self, session: Session) -> bool:
        """Whether this session becomes a span."""
        kept, why = verdict(session, self.ratio(session.interface), self._slow_ns)
        (self._kept if kept else self._left_out)[why] += 1
        return kept

    def ratio(self, interface: int) -> float:
        """A Ratio."""
        return self.ratios.get(interface, self.of_others)

    def ledger(self) -> Sampled:
        """The counts now."""
        return Sampled(MappingProxyType(self._kept.copy()), MappingProxyType(self._left_out.copy()))
