"""The doctor's check of the agent that runs on this node: whether what it was told makes sense.

Only where an agent has left its socket: on any other machine there is nothing to say. What is wrong there (a mistake in the
settings, a node that the API server does not know) keeps no Clovisor from starting, and is a problem all the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from clovisor_py.cli import _agent
from clovisor_py.control_socket import DEFAULT_PATH
from clovisor_py.errors import ClovisorError
from clovisor_py.kernel.probe import Check, CheckFunction, Machine, State
from clovisor_py.model.text import printable

NAME: Final = "agent"


def checks_of(socket: Path = DEFAULT_PATH) -> tuple[CheckFunction, ...]:
    """One check, or none where nobody has been listening."""

    def check_agent(_machine: Machine) -> Check:
        try:
            found = _agent.snapshot(socket)
        except ClovisorError as error:
            return Check(NAME, State.OPTIONAL, printable(str(error).rstrip(".")))
        if found.problems:
            said = printable(" ".join(found.problems).rstrip("."))
            return Check(NAME, State.PROBLEM, f"of node {printable(found.node)} goes on, but {said}")
        return Check(NAME, State.OK, printable(f"of node {found.node} understands all that it was told"))

    return (check_agent,) if os.path.exists(socket) else ()  # noqa: PTH110 (Path.exists raises where nobody may look)
