"""The lock of the node's datapath, on a real bpffs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clovisor_py.errors import AlreadyRunning, EnvironmentLacking
from clovisor_py.kernel.lock import hold

pytestmark = pytest.mark.live
PINS = Path(f"/sys/fs/bpf/clovisor-lock-{os.getpid()}")


@pytest.fixture(autouse=True)
def gone():
    if not os.access("/sys/fs/bpf", os.W_OK):
        pytest.skip("needs a bpffs at /sys/fs/bpf that this user may write")
    yield
    if PINS.exists():
        PINS.rmdir()


def test_one_holder_at_a_time_and_the_other_is_told_who() -> None:
    fd = hold(PINS)
    with pytest.raises(AlreadyRunning, match=rf"another Clovisor \(pid {os.getpid()}\) traces on this node: stop it first"):
        hold(PINS)
    os.close(fd)
    os.close(hold(PINS))


def test_a_folder_that_went_with_its_holder_is_made_anew() -> None:
    fd = hold(PINS)
    PINS.rmdir()
    os.close(hold(PINS))
    os.close(fd)


def test_no_bpffs_is_a_sentence() -> None:
    with pytest.raises(EnvironmentLacking, match="mount -t bpf bpf /sys/fs/bpf"):
        hold(Path("/nowhere/clovisor"))
