"""Guard: what a parser raises ends with its flow, which is then only counted.

A parser is somebody's code reading strangers' bytes. Whatever is done with a flow outside the quick path is done through
`run`; the quick path has its own `try`, as a call more would cost every segment.
"""

from __future__ import annotations

from collections.abc import Callable

from clovisor_py.flows import crash
from clovisor_py.flows.delivery import Delivery
from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.loop import GivenUp
from clovisor_py.flows.table import Flow
from clovisor_py.model.session import Outcome


class Guard:
    """Between the engine and everything that may call a parser."""

    __slots__ = ("_delivery", "_ledger")

    def __init__(self, ledger: Ledger, delivery: Delivery) -> None:
        self._ledger, self._delivery = ledger, delivery

    def run(self, flow: Flow, now_ns: int, step: Callable[..., None], *args: Outcome | str) -> None:
        """`step(flow, *args, now_ns)`; if it raises, the flow is given up."""
        try:
            step(flow, *args, now_ns)
        except Exception as error:  # noqa: BLE001 a parser's bug must not end tracing: `failed` counts it
            self.failed(flow, error, now_ns)

    def failed(self, flow: Flow, error: Exception, now_ns: int) -> None:
        """It is not what it was taken for, or its parser is broken."""
        if isinstance(error, GivenUp):
            reason = str(error)
        else:
            self._ledger.count_crash(crash.describe(flow.protocol, error))
            reason = f"{flow.protocol or 'unknown'} parser failed: {type(error).__name__}"
        self._delivery.give_up(flow, reason, now_ns)
