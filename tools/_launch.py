"""What tools in Python begin with: the interpreter of the checkout's `.venv` where there is one, and what they need in it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
LACKING = "{}: the packages of the tests, which it needs, are not installed here: run `make setup-test` first."


def launch(module: str, arguments: Sequence[str]) -> NoReturn:
    """Become `python -m module`, in the checkout's root."""
    if not _has_tests():
        sys.exit(LACKING.format(f"tools/{Path(sys.argv[0]).name}"))
    python = VENV / "bin" / "python"
    os.chdir(ROOT)
    chosen = str(python) if python.exists() else sys.executable
    os.execv(chosen, [chosen, "-m", module, *arguments])


def _has_tests() -> bool:
    if not VENV.exists():
        return importlib.util.find_spec("pytest") is not None
    return any(VENV.glob("lib/python*/site-packages/pytest/__init__.py"))
