"""Outlet: what becomes of sessions that the engine made, live or from a file: named, counted, filtered, and offered.

All sessions count (`red`); those that match the filter, until the limit is reached, are shown (`shown`) and offered to the
exporters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clovisor_py.directory import Directory
from clovisor_py.losses import Losses
from clovisor_py.metrics.red import Red
from clovisor_py.model.session import Session
from clovisor_py.tracing.context import Contexts
from clovisor_py.tracing.joining import Joining


class Outlet:
    """`offer` takes what is shown; `keep` decides what is, None keeps all; `limit` is how many of those, None no limit.

    `directory` names both ends; by default an empty one, to be filled. `by_operation`: whether anybody asks for operations.
    """

    def __init__(
        self,
        offer: Callable[[Sequence[Session]], None],
        keep: Callable[[Session], bool] | None = None,
        limit: int | None = None,
        directory: Directory | None = None,
        by_operation: bool = False,
    ) -> None:
        self._offer = offer
        self._keep = keep
        self._left = limit
        self.directory = Directory() if directory is None else directory
        self.contexts, self.joining = Contexts(), Joining()
        """What became of trace contexts. The engine is to tell `joining.begun` of requests that carry one."""
        self.losses = Losses()
        """What the kernel lost of each pod; empty where nobody tells."""
        self.red = Red(self.directory.addresses, by_operation)
        self.shown = self.red if keep is None and limit is None else Red(self.directory.addresses, by_operation)
        """The same one where all are shown: counting them again is a twentieth of what a session costs."""
        self.filtered = 0
        """Sessions that did not match."""

    def counts(self) -> dict[str, int]:
        """What became of trace contexts, and of calls that were to be joined to the requests that they were made for."""
        joining = self.joining
        counts = {"joining joined": joining.joined, "joining forgotten": joining.forgotten}
        counts |= {f"joining unlinked {why}": number for why, number in joining.unlinked.items()}
        counts |= {f"contexts {form}": number for form, number in self.contexts.found.items()}
        return counts | {f"contexts malformed {name}": number for name, number in self.contexts.malformed.items()}

    @property
    def full(self) -> bool:
        """The limit is reached: nothing more will be shown."""
        return self._left == 0

    def take(self, sessions: list[Session]) -> None:
        """Sessions in the order in which they ended; nobody changes them afterwards."""
        if not sessions:
            return
        name, add, keep = self.directory.name, self.red.add, self._keep
        read, join = self.contexts.read, self.joining.take
        self.losses.mark(sessions)
        for session in sessions:
            name(session)
            if session.propagation:
                session.trace = read(session.propagation)
                join(session)
            add(session)
        shown = sessions if keep is None else [session for session in sessions if keep(session)]
        self.filtered += len(sessions) - len(shown)
        if self._left is not None:
            shown = shown[: self._left]
            self._left -= len(shown)
        if self.shown is not self.red:
            for session in shown:
                self.shown.add(session)
        self._offer(shown)
