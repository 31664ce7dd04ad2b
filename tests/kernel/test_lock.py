"""The locks of the node's datapath, on a real bpffs and real network namespaces."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from clovisor_py.errors import AlreadyRunning, EnvironmentLacking
from clovisor_py.kernel.lock import NETNS, hold, holder, owner
from tests.support.kernel import node, open_fds

pytestmark = pytest.mark.live
PINS = Path(f"/sys/fs/bpf/clovisor-lock-{os.getpid()}")
OTHERS = PINS.with_name(f"{PINS.name}-other")
TAKEN = rf"another Clovisor \(pid {os.getpid()}\) traces on this node: stop it first"


@pytest.fixture(autouse=True)
def gone():
    if not os.access("/sys/fs/bpf", os.W_OK):
        pytest.skip("needs a bpffs at /sys/fs/bpf that this user may write")
    with node():
        yield
    for folder in (PINS, OTHERS):
        if folder.exists():
            folder.rmdir()


def test_one_holder_at_a_time_and_the_other_is_told_who() -> None:
    held = hold(PINS)
    with pytest.raises(AlreadyRunning, match=TAKEN):
        hold(PINS)
    held.release()
    hold(PINS).release()


def test_one_holder_for_a_network_namespace_whatever_its_pins() -> None:
    """Both would want to be first on the same veths, for ever."""
    held, before = hold(PINS), open_fds()
    with pytest.raises(AlreadyRunning, match=TAKEN):
        hold(OTHERS)
    assert open_fds() == before
    with node():
        hold(OTHERS).release()
        with pytest.raises(AlreadyRunning, match=TAKEN):
            hold(PINS)
    assert holder(NETNS.stat()) == os.getpid()
    held.release()
    assert holder(NETNS.stat()) is None
    hold(OTHERS).release()


def test_a_folder_that_went_with_its_holder_is_made_anew() -> None:
    with node():
        held = hold(PINS)
        PINS.rmdir()
        with node():
            hold(PINS).release()
        held.release()


def test_no_bpffs_is_a_sentence_and_nothing_stays_locked() -> None:
    with pytest.raises(EnvironmentLacking, match="mount -t bpf bpf /sys/fs/bpf"):
        hold(Path("/nowhere/clovisor"))
    hold(PINS).release()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_a_folder_of_somebody_elses_is_said_to_be_theirs() -> None:
    if not Path("/").stat().st_mode & 0o001:
        pytest.skip("needs a root folder that everybody may enter")
    for mode, whose, said in (
        (0o1777, "root", "belongs to root: run `clovisor detach` as root"),
        (0o700, "", "may not be used"),
    ):
        with TemporaryDirectory() as bpffs:  # who may look into the real one differs from machine to machine
            Path(bpffs).chmod(mode)
            pins = Path(bpffs) / "clovisor"
            hold(pins).release()
            assert owner(pins) == "" == owner(pins.with_name("none"))
            os.seteuid(65534)
            try:
                assert owner(pins) == whose
                with pytest.raises(EnvironmentLacking, match=f"{pins} {said}"):
                    hold(pins)
            finally:
                os.seteuid(0)
            hold(pins).release()
