"""Fanout: the same sessions to every exporter that was asked for, each at its own pace.

One slow or dead exporter costs the others nothing: each has a worker with a queue of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType

from clovisor_py.errors import ExportFailed
from clovisor_py.exporters._api import Sink
from clovisor_py.exporters._later import Later
from clovisor_py.exporters._registry import open_sink
from clovisor_py.exporters._worker import CLOSE_S, Ledger, Worker
from clovisor_py.model.session import Session

_log = logging.getLogger(__name__)


class Fanout:
    """The workers of some sinks. Build it with `open_urls`; `with` closes it."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = tuple(workers)
        self._until: float | None = None

    def offer(self, sessions: Sequence[Session]) -> None:
        """Hand a batch to every worker. Never blocks."""
        for worker in self._workers:
            worker.offer(sessions)

    @property
    def gone(self) -> bool:
        """Whether nobody will ever read what one of them delivers: the console's reader has ended."""
        return any(worker.gone for worker in self._workers)

    def ledgers(self) -> Mapping[str, Ledger]:
        """Name (export URL) to its counts."""
        return {worker.name: worker.ledger() for worker in self._workers}

    def close(self, deadline_s: float = CLOSE_S) -> Mapping[str, Ledger]:
        """Flush all of them within one deadline, at the same time; answers the final counts. The first deadline holds."""
        if self._until is None:
            self._until = time.monotonic() + deadline_s
            for worker in self._workers:
                worker.stop(deadline_s)
        return {worker.name: worker.close(max(self._until - time.monotonic(), 0.0)) for worker in self._workers}

    def __enter__(self) -> Fanout:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_urls(urls: Sequence[str], *, queue_limit: int, later: bool = False) -> Fanout:
    """A fanout to these export URLs, a URL given twice counting once. Raises UsageError, ExportFailed (none is left open).

    With `later`, what cannot be opened now is said, and tried again with every batch.
    """
    with ExitStack() as undo:
        workers = []
        for url in dict.fromkeys(urls):
            worker = Worker(url, _patient(url) if later else open_sink(url), queue_limit=queue_limit)
            undo.callback(worker.close)
            workers.append(worker)
        undo.pop_all()
    return Fanout(workers)


def _patient(url: str) -> Sink:
    try:
        return open_sink(url)
    except ExportFailed as error:
        _log.warning("export %s: %s It is tried again with every batch of sessions.", url, error)
        return Later(partial(open_sink, url))
