"""A datapath that does not start leaves nothing behind that would keep the next user from starting one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clovisor_py.config import Settings
from clovisor_py.errors import KernelRefused
from clovisor_py.kernel import datapath as module
from clovisor_py.kernel.datapath import Datapath
from tests.support.kernel import node

pytestmark = pytest.mark.live
PINS = Path(f"/sys/fs/bpf/clovisor-start-{os.getpid()}")


def test_no_empty_folder_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.access("/sys/fs/bpf", os.W_OK):
        pytest.skip("needs a bpffs at /sys/fs/bpf that this user may write")

    def load(pins: Path) -> None:
        raise KernelRefused(f"no program for {pins}: try again.")

    monkeypatch.setattr(module.compile, "load", load)
    with node(), pytest.raises(KernelRefused, match="no program for"), Datapath(Settings(pins=PINS)):
        raise AssertionError("it started")
    assert not PINS.exists()
