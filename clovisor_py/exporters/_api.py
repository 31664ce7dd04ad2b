"""The contract of an exporter: a sink for batches of sessions, made from a URL.

A sink is called from one thread only (its worker's, see `_worker`), so it needs no locks; it may block, and it raises
ExportFailed for a batch that it could not deliver: the worker owns the queue, batches, retries and the count of every loss.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from clovisor_py.model.session import Session


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a batch, in sessions: those that are neither `sent` nor `dropped` (by reason) count as refused."""

    sent: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    error: str = ""
    """Why not all of it was sent, in a sentence; empty where nobody said."""


@dataclass(frozen=True)
class ExportUrl:
    """`scheme:path?query` or `scheme://host:port/path?query`, taken apart (`_registry.parse`)."""

    text: str
    scheme: str
    host: str = ""
    port: int | None = None
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """What of a place on the network may stand in a log: scheme, host and port. A path and a query may hold a secret."""
        if not self.host:
            return f"{self.scheme}:" + "//" * self.text.lower().startswith(f"{self.scheme}://")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port is not None else "")

    @property
    def name(self) -> str:
        """As it is written, but for a path at a network's place (`otlp+http://host/…`): logs and /metrics have this."""
        return f"{self.shown}/…" if self.host and self.path not in ("", "/") else self.text


class Sink(typing.Protocol):
    """Where sessions go."""

    def export(self, sessions: Sequence[Session]) -> int | Delivery:
        """Deliver a batch; answers how many of it were delivered (the worker counts the rest as refused).

        Raises ExportFailed where nothing was delivered and trying again may help (with the same sequence),
        ExportInterrupted where a part was delivered or a pause is asked for, SinkGone where it never will help.
        """

    def close(self) -> None:
        """Flush and let go; called once, last."""


@typing.runtime_checkable
class Settling(typing.Protocol):
    """A sink that can say how far it is. Only where it cannot, what a hanging sink has delivered of a batch counts as lost."""

    def settled(self, sessions: Sequence[Session]) -> Delivery | None:
        """What is settled of this batch by now; None where it knows of none. Called from another thread than `export`."""


@dataclass(frozen=True)
class Exporter:
    """What `--export` knows of an exporter."""

    schemes: tuple[str, ...]
    synopsis: str
    """How its URL is written, for the help: `jsonl:FILE`."""
    create: Callable[[ExportUrl], Sink]
    """Raises UsageError where the URL makes no sense, ExportFailed where it cannot start."""
    spans: bool = False
    """It makes spans of sessions, and so gets those only that sampling keeps."""
