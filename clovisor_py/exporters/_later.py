"""Later: a sink that cannot be opened yet, and is tried again with every batch.

A node starts before the collector's name is known in its cluster. An agent that ended there would trace nothing, and one that
waited would lose what it need not: so it begins, and its worker counts what it could not deliver, as for any dead sink.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clovisor_py.exporters._api import Delivery, Settling, Sink
from clovisor_py.model.session import Session


class Later:
    """`create` raises ExportFailed as long as it is too early; afterwards this is the sink that it made."""

    def __init__(self, create: Callable[[], Sink]) -> None:
        self._create = create
        self._sink: Sink | None = None

    def export(self, sessions: Sequence[Session]) -> int | Delivery:
        """As the sink does. Raises ExportFailed where it cannot be opened yet, too."""
        if self._sink is None:
            self._sink = self._create()
        return self._sink.export(sessions)

    def settled(self, sessions: Sequence[Session]) -> Delivery | None:
        """As the sink says, if it can."""
        return self._sink.settled(sessions) if isinstance(self._sink, Settling) else None

    def close(self) -> None:
        """Close the sink, if there is one by now."""
        if self._sink is not None:
            self._sink.close()
