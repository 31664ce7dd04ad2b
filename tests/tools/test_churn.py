"""`tools/churn` says what it does; what it finds is in `tests/live/test_churn.py`."""

from __future__ import annotations

import subprocess
from pathlib import Path

CHURN = Path(__file__).parents[2] / "tools" / "churn"


def test_help_names_every_option() -> None:
    done = subprocess.run([CHURN, "--help"], capture_output=True, text=True, timeout=120, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert all(option in done.stdout for option in ("--seconds", "--away", "--kills", "--seed"))
