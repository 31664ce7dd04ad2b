"""Every error that a public function of Clovisor raises.

One rule: the message is a sentence for the operator and ends with what to do next. The command line prints it and
exits with `exit_status`; no library's own exception gets past the module that calls that library.
"""

from __future__ import annotations

from collections.abc import Mapping


class ClovisorError(Exception):
    """Something that the operator has to know; `str(error)` says what happened and what to do."""

    exit_status = 1


class UsageError(ClovisorError):
    """What was asked for makes no sense: a target, a URL, a filter that does not parse."""

    exit_status = 2


class EnvironmentLacking(ClovisorError):
    """The machine lacks something: root, bpffs, bcc, a kernel feature."""


class KernelRefused(ClovisorError):
    """A system call, the verifier or netlink said no."""


class AlreadyRunning(ClovisorError):
    """Another Clovisor holds this node's datapath (the same bpffs)."""


class TargetGone(ClovisorError):
    """An interface that was traced has vanished."""


class ExportFailed(ClovisorError):
    """An exporter could not deliver a batch; the worker counts it and goes on."""


class ExportInterrupted(ExportFailed):
    """A batch that was delivered in part, or that its receiver wants later: in `retry_after_s` seconds, if that is not 0.

    `sent` and `dropped` (reason to number) tell of the sessions of this batch what is settled, in all attempts together; the
    next attempt goes on with the others.
    """

    def __init__(
        self, text: str, *, retry_after_s: float = 0.0, sent: int = 0, dropped: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        self.sent = sent
        self.dropped = dropped or {}


class SinkGone(ExportFailed):
    """Nobody will ever read what an exporter delivers (the pipe's reader has ended); the worker counts it and ends."""


class ApiUnavailable(ClovisorError):
    """The Kubernetes API server cannot be reached, is not known, or does not make sense; tracing goes on with what is known."""


class ApiRefused(ClovisorError):
    """The Kubernetes API server understood a request and said no (a conflict, an object that is not valid)."""


class Forbidden(ApiRefused):
    """The Kubernetes API server does not know who asks (401) or does not allow it (403)."""


class NotFound(ApiRefused):
    """The Kubernetes API server has no such object, or no such kind (404)."""


class Gone(ApiRefused):
    """What a list or a watch wanted to go on from is too old for the Kubernetes API server (410): start over."""


class CaptureBroken(ClovisorError):
    """A capture file that is none, that cannot be read, or that breaks off; what came before it was read."""


class ProtocolError(ClovisorError):
    """Bytes that are not this protocol, said by a parser; the engine counts it and resynchronises."""
