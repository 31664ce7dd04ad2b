"""`tools/bench` runs, says what it can do, and ends cleanly. Its figures are nobody's business here."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from clovisor_py.errors import ClovisorError
from tests.support.kernel import BPFFS, require_kernel
from tests.support.load import lacking
from tests.support.netns import require_namespaces
from tools._bench import captures, kernel, programs, replay

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "tools" / "bench"
COMMANDS = ("kernel", "sessions", "metrics", "served", "memory", "node", "replay", "load", "saturation", "all")


def bench(*arguments, **options):
    return subprocess.run([BENCH, *arguments], capture_output=True, text=True, timeout=120, check=False, **options)


def test_help_names_every_command():
    done = bench("--help")
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_quick_form(command):
    done = bench(command, "--help", cwd="/")
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout


def test_an_unknown_command_is_refused():
    done = bench("everything")
    assert done.returncode == 2
    assert "everything" in done.stderr


def test_replay_has_a_figure_for_every_protocol_and_shape(capsys):
    replay.main(runs=1, sessions=200, lengths=(100, 200), flows=(2, 10))
    shown = capsys.readouterr().out
    assert all(f"  {kind.name}: Clovisor" in shown for kind in replay.KINDS)
    assert all(f"  {name}" in shown for name in ("100 sessions", "200 sessions", "2 open at once", "10 open at once"))
    assert shown.count("peak of memory") == 6
    assert ("tshark " in shown) or ("(no tshark" in shown)


def test_a_figure_for_sessions_that_were_not_found_means_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(replay, "write", lambda path, kind, shape: (captures.write(path, kind, shape)[0] + 1, 0))
    with pytest.raises(ClovisorError, match="200 of 201 sessions"):
        replay.main(runs=1, sessions=200, lengths=(), flows=())


@pytest.mark.live
def test_every_kind_of_packet_gets_a_figure():
    require_kernel()
    done = bench("kernel", "--quick")
    assert done.returncode == 0, done.stderr
    for name in [case.name for case in kernel.CASES] + list(programs.CLOCKS.values()):
        assert f"  {name}" in done.stdout or f"yardstick: {name}" in done.stdout
    assert "LOST_RING" not in done.stdout, "a full ring is cheap: the figures would flatter"
    assert not list(BPFFS.glob("clovisor-bench-*"))


@pytest.mark.live
def test_an_interrupted_run_leaves_nothing_behind():
    require_namespaces()
    if missing := lacking(["nginx", "h2load"]):
        pytest.skip(f"needs {', '.join(missing)} (Debian packages)")
    running = subprocess.Popen([BENCH, "load", "--requests", "100000", "--rate", "1000"], stdout=subprocess.PIPE)
    with running:
        try:
            _wait_for(lambda: _namespaces_of(running.pid) and _children(running.pid))
            time.sleep(2)  # nginx, Clovisor and h2load are on their way, or there
            children = _children(running.pid)
            running.send_signal(signal.SIGINT)
            assert running.wait(30) == 130
        finally:
            running.kill()
    assert not _namespaces_of(running.pid)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def _wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def _namespaces_of(pid):
    """Namespaces that the run made are named after it."""
    folder = Path("/run/netns")
    return [path.name for path in folder.glob(f"cvt{pid}-*")] if folder.exists() else []


def _children(pid):
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
