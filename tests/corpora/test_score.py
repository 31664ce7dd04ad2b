"""The scorer that comes with the captures: everything found, paired and judged as the truth has it, nothing invented."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpora.conftest import CORPORA, PROTOCOLS

ROW = re.compile(r"^(\w+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)/(\d+) +(\d+)$", re.MULTILINE)
MISSED = {"dns": 1}
"""Transactions that cannot be had."""


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_score(protocol):
    command = f"{Path(sys.executable).with_name('clovisor')} replay {{pcap}} -o json --redact off"
    score = [sys.executable, str(CORPORA / "score.py"), "-v", "--protocol", protocol, "--command", command]
    done = subprocess.run(score, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    numbers = [int(number) for number in ROW.search(done.stdout).groups()[1:]]
    expected, found, paired, oriented, status, judged, extra = numbers
    missed = MISSED.get(protocol, 0)
    assert found >= expected - missed and paired == oriented == found, done.stdout
    assert (status, extra) == (judged, 0), done.stdout
