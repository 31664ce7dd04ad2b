"""Fanout: the same sessions to every exporter that was asked for, each at its own pace.

One slow or dead exporter costs the others nothing: each has a worker with a queue of its own. Where there is a sampler, those
that make spans get what it keeps, and all others everything.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import TracebackType

from clovisor_py.errors import ExportFailed
from clovisor_py.exporters._api import Sink
from clovisor_py.exporters._later import Later
from clovisor_py.exporters._queue import weights
from clovisor_py.exporters._registry import makes_spans, open_sink, parse
from clovisor_py.exporters._worker import CLOSE_S, Ledger, Worker
from clovisor_py.model.session import Session
from clovisor_py.tracing.sampling import Sampled, Sampler

_log = logging.getLogger(__name__)


class Fanout:
    """The workers of some sinks. Build it with `open_urls`; `with` closes it."""

    def __init__(self, workers: Sequence[Worker], sampler: Sampler | None = None, sampled: Sequence[Worker] = ()) -> None:
        self._workers = (*workers, *sampled)
        self._whole, self._sampled = tuple(workers), tuple(sampled)
        self._sampler = sampler
        self._until: float | None = None

    def offer(self, sessions: Sequence[Session], weighed: Sequence[int] | None = None) -> None:
        """Hand a batch to every worker. Never blocks. `weighed`: their `weights`, where the caller has them."""
        if self._whole:
            weighed = weights(sessions) if weighed is None else weighed
        for worker in self._whole:
            worker.offer(sessions, weighed)
        if self._sampled:
            kept = sessions if self._sampler is None else [one for one in sessions if self._sampler.keep(one)]
            for worker in self._sampled:
                worker.offer(kept)

    @property
    def sampler(self) -> Sampler | None:
        """Who decides which sessions become spans; None: all do."""
        return self._sampler

    @property
    def gone(self) -> bool:
        """Whether nobody will ever read what one of them delivers: the console's reader has ended."""
        return any(worker.gone for worker in self._workers)

    def ledgers(self) -> Mapping[str, Ledger]:
        """Name (export URL) to its counts."""
        return self._with_sampling({worker.name: worker.ledger() for worker in self._workers})

    def sampling(self) -> Sampled | None:
        """What sampling kept and left out; None where nothing is sampled."""
        return None if self._sampler is None or not self._sampled else self._sampler.ledger()

    def counts(self) -> dict[str, int]:
        """The same, by name."""
        if (sampling := self.sampling()) is None:
            return {}
        kept = {f"sampling kept {why}": number for why, number in sampling.kept.items()}
        return kept | {f"sampling left out {why}": number for why, number in sampling.left_out.items()}

    def _with_sampling(self, ledgers: dict[str, Ledger]) -> Mapping[str, Ledger]:
        """The counts, with what sampling kept from each."""
        if (sampling := self.sampling()) is not None:
            left_out = sum(sampling.left_out.values())
            for worker in self._sampled:
                ledgers[worker.name] = replace(ledgers[worker.name], left_out=left_out)
        return ledgers

    def close(self, deadline_s: float = CLOSE_S) -> Mapping[str, Ledger]:
        """Flush all of them within one deadline, at the same time; answers the final counts. The first deadline holds."""
        if self._until is None:
            self._until = time.monotonic() + deadline_s
            for worker in self._workers:
                worker.stop(deadline_s)
        return self._with_sampling(
            {worker.name: worker.close(max(self._until - time.monotonic(), 0.0)) for worker in self._workers}
        )

    def __enter__(self) -> Fanout:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_urls(urls: Sequence[str], *, queue_limit: int, later: bool = False, sampler: Sampler | None = None) -> Fanout:
    """A fanout to these export URLs, a URL given twice counting once. Raises UsageError, ExportFailed (none is left open).

    With `later`, what cannot be opened now is said, and tried again with every batch. `sampler`: None keeps all.
    """
    with ExitStack() as undo:
        workers: list[Worker] = []
        sampled: list[Worker] = []
        for url in dict.fromkeys(urls):
            name = _name(url, [worker.name for worker in (*workers, *sampled)])
            worker = Worker(name, _patient(url, name) if later else open_sink(url), queue_limit=queue_limit)
            undo.callback(worker.close)
            (sampled if sampler is not None and makes_spans(url) else workers).append(worker)
        undo.pop_all()
    return Fanout(workers, sampler, sampled)


def _name(url: str, taken: Sequence[str]) -> str:
    """What it is called, in logs and metrics; a number behind it where another is called so."""
    name = parse(url).name
    alike = sum(other.partition(" #")[0] == name for other in taken)
    return f"{name} #{alike + 1}" if alike else name


def _patient(url: str, name: str) -> Sink:
    try:
        return open_sink(url)
    except ExportFailed as error:
        _log.warning("export %s: %s It is tried again with every batch of sessions.", name, error)
        return Later(partial(open_sink, url))
