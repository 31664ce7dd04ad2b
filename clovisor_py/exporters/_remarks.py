"""Remarks: what a worker says of its exporter, once for as long as it lasts, however often it happens."""

from __future__ import annotations

import logging

from clovisor_py.exporters._api import Delivery

log = logging.getLogger(__name__)


class Remarks:
    """Of the exporter `name` (its URL). From the worker's thread only, save `error`."""

    def __init__(self, name: str) -> None:
        self._called = name.rstrip(":")
        """In a log line, where another colon follows."""
        self._is_down = self._said_refused = False
        self.error = ""
        """What the sink said when it last failed; empty where it never did."""

    def down(self, error: BaseException, *, unexpected: bool = False) -> None:
        """It failed; `unexpected`: not as a sink should."""
        kind = type(error).__name__
        self.error = f"{kind}: {error}".removesuffix(": ") if unexpected else str(error)
        if not self._is_down:
            log.warning("export %s: %s", self._called, self.error, exc_info=error if unexpected else None)
        self._is_down = True

    def up(self, dropped: int) -> None:
        """It took a batch; `dropped`: sessions so far."""
        if self._is_down:
            log.info("export %s: works again (%d sessions dropped so far).", self._called, dropped)
        self._is_down = False

    def refused(self, delivery: Delivery, size: int) -> None:
        """It took a batch of that size, perhaps not all of it."""
        if delivery.sent >= size:
            return
        self.error = delivery.error or self.error
        if not self._said_refused:
            why = f" ({delivery.error.rstrip('.')})" if delivery.error else ""
            lost = size - delivery.sent
            log.warning("export %s: refused %d of %d sessions%s; further ones are counted only.", self._called, lost, size, why)
            self._said_refused = True

    def gone(self, error: Exception) -> None:
        """Nobody reads it any more: `| head` is no reason to warn."""
        log.info("export %s: %s", self._called, error)

    def untold(self, error: Exception) -> None:
        """It cannot say how far it is."""
        log.warning(
            "export %s: it cannot say how far it is; what it had in hand counts as dropped.", self._called, exc_info=error
        )

    def stuck(self) -> None:
        """It holds a batch, and time is up."""
        log.warning("export %s: it did not answer in time; what it still held counts as dropped.", self._called)

    def not_closed(self, error: BaseException) -> None:
        """It failed to let go."""
        log.error("export %s: closing it failed.", self._called, exc_info=error)
