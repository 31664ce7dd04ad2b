"""_start.py: Ctrl-C while the command is still being imported ends it without a word."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

INTERRUPTED_WHILE_IMPORTING = """
import os, signal, sys
from clovisor_py.cli import _start

class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "clovisor_py.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["clovisor", "protocols"]
_start.main()
"""


@pytest.mark.parametrize(("ignored", "status"), [(False, -signal.SIGINT), (True, 0)])
def test_an_early_interrupt_is_silent_and_one_that_is_ignored_stays_so(ignored, status):
    how = signal.SIG_IGN if ignored else signal.SIG_DFL
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_IMPORTING],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, how),
    )
    assert (done.returncode, done.stderr) == (status, "")


def test_once_the_command_runs_python_has_its_interrupt_back():
    code = (
        "import signal; from clovisor_py.cli import _start, main\n"
        "main._leave = lambda status: print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
        "import sys; sys.argv = ['clovisor', 'protocols', '-o', 'json']; _start.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "True"
