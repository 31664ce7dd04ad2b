"""Control client: one question to the agent of this node, and its answer; `tap_client` is for what goes on.

What keeps it from an answer is one sentence that says what to do: no agent, not the agent's user, an agent that hangs.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Final

from clovisor_py.control_socket import CHUNK, DEFAULT_PATH, PATIENCE_S, Request, encoded
from clovisor_py.errors import ClovisorError, EnvironmentLacking
from clovisor_py.snapshot import Json

ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Longest answer that a client takes: a snapshot of a full node is under a megabyte."""
NO_AGENT: Final = "no agent answers at {} ({}): run this as root on a node where `clovisor agent` runs, or in its container."
NOT_ALLOWED: Final = "the agent at {} answers only who runs as its own user: run this as root (sudo)."
HANGS: Final = "the agent at {} does not answer ({}): it hangs, and its log says why."


def ask(request: Request, path: Path = DEFAULT_PATH, timeout_s: float = PATIENCE_S) -> Json:
    """The client: what the agent answers. Raises EnvironmentLacking where none does, ClovisorError with what it objects."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            sock.sendall(encoded(request._asdict()))
            found = json.loads(_received(sock, time.monotonic() + timeout_s))
    except OSError as error:
        raise unreachable(path, error) from error
    except ValueError as error:
        raise EnvironmentLacking(NO_AGENT.format(path, "what answers there speaks no JSON")) from error
    if not isinstance(found, dict) or "answer" not in found:
        said = found.get("error") if isinstance(found, dict) else ""
        raise ClovisorError(str(said or f"the agent at {path} gave no answer: use the clovisor of its own version."))
    return found["answer"]


def unreachable(path: Path, error: OSError) -> EnvironmentLacking:
    """The sentence for what keeps a client from its answer."""
    if isinstance(error, PermissionError):
        return EnvironmentLacking(NOT_ALLOWED.format(path))
    form = HANGS if isinstance(error, TimeoutError) else NO_AGENT
    return EnvironmentLacking(form.format(path, error.strerror or error))


def _received(sock: socket.socket, until: float) -> bytes:
    data = bytearray()
    while part := sock.recv(CHUNK):
        data += part
        if len(data) > ANSWER_BYTES or time.monotonic() > until:
            raise TimeoutError("its answer takes too long")
    if not data:
        raise ConnectionResetError("it hung up: too many ask at once")
    return bytes(data)
