"""Every error that a public function of Clovisor raises.

One rule: the message is a sentence for the operator and ends with what to do next. The command line prints it and
exits with `exit_status`; no library's own exception gets past the module that calls that library.
"""

from __future__ import annotations


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


class SinkGone(ExportFailed):
    """Nobody will ever read what an exporter delivers (the pipe's reader has ended); the worker counts it and ends."""


class CaptureBroken(ClovisorError):
    """A capture file that is none, that cannot be read, or that breaks off; what came before it was read."""


class ProtocolError(ClovisorError):
    """Bytes that are not this protocol, said by a parser; the engine counts it and resynchronises."""
