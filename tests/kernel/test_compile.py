"""The loader: sources found, a build named by them, pins made by a child, refusals said in one sentence."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from clovisor_py.errors import EnvironmentLacking, KernelRefused
from clovisor_py.kernel import compile
from tests.support.kernel import bench_settings, drop_pins, require_kernel

BROKEN = {
    "a syntax error": "int clovisor_ingress(struct __sk_buff *skb) { return }",
    "the verifier's no": "int clovisor_ingress(struct __sk_buff *skb) { return *(int *)((long)skb->len); }",
    "no entry point": "int another(struct __sk_buff *skb) { return -1; }",
}

CHILD = """
import pathlib, sys
from clovisor_py.kernel import compile
folder = pathlib.Path(sys.argv.pop())
compile.sources = lambda: folder
compile.main()
"""
"""The loader with other sources. Not in this process: bcc stays for ever, with 80 MB."""


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The sources in a folder where they may be changed."""
    for path in compile.sources().rglob("*.[ch]"):
        target = tmp_path / path.relative_to(compile.sources())
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    monkeypatch.setattr(compile, "sources", lambda: tmp_path)
    return tmp_path


def test_the_sources_are_beside_the_package():
    assert (compile.sources() / "session_tracker.c").is_file()
    assert (compile.sources() / "clovisor.h").is_file()


def test_sources_that_are_missing_are_said_so(monkeypatch, tmp_path):
    monkeypatch.setattr(compile, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    monkeypatch.setattr(compile.sys, "prefix", str(tmp_path))
    with pytest.raises(EnvironmentLacking, match="install Clovisor again"):
        compile.sources()


def test_the_sources_may_be_installed(monkeypatch, tmp_path):
    folder = tmp_path / "share" / "clovisor" / "ebpf"
    folder.mkdir(parents=True)
    (folder / "session_tracker.c").touch()
    monkeypatch.setattr(compile, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    monkeypatch.setattr(compile.sys, "prefix", str(tmp_path))
    assert compile.sources() == folder


@pytest.mark.parametrize("name", ["clovisor.h", "session_tracker.c", "include/linux/kconfig.h"])
def test_a_build_is_named_by_every_byte_of_its_sources(copied, name):
    before = compile.build_id()
    assert before == compile.build_id()
    with (copied / name).open("a") as source:
        source.write("\n")
    assert before != compile.build_id()
    assert 0 <= compile.build_id() < 2**64


def test_the_stub_tree_has_the_systems_headers_but_bccs_own_bpf_h():
    if not (compile.UAPI / "linux" / "if_ether.h").is_file():
        pytest.skip("needs the system's UAPI headers (Debian: linux-libc-dev)")
    with compile._source_tree() as tree:
        linux = tree / "include" / "uapi" / "linux"
        assert (linux / "if_ether.h").resolve() == compile.UAPI / "linux" / "if_ether.h"
        assert (linux / "bpf.h").resolve() == compile.sources() / "include" / "uapi" / "linux" / "bpf.h"
        assert (tree / "include" / "linux" / "kconfig.h").is_file()
    assert not tree.exists()


def test_headers_that_are_missing_are_said_so(monkeypatch, tmp_path):
    monkeypatch.setattr(compile, "UAPI", tmp_path)
    with pytest.raises(EnvironmentLacking, match="linux-libc-dev"), compile._source_tree():
        pass


@pytest.mark.live
def test_programs_and_maps_are_pinned():
    require_kernel()
    pins = bench_settings("-compile").pins
    pins.mkdir()
    try:
        compile.load(pins)
        assert {path.name for path in pins.iterdir()} == {*compile.MAPS, *compile.PROGRAMS}
    finally:
        drop_pins(pins)


@pytest.mark.live
def test_a_check_pins_nothing():
    require_kernel()
    assert compile.compile_check() > 0


@pytest.mark.live
def test_a_folder_that_is_no_bpffs(tmp_path):
    require_kernel()
    with pytest.raises(KernelRefused, match="mount -t bpf bpf"):
        compile.load(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.live
@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_program_that_is_refused(copied, text):
    require_kernel()
    (copied / "session_tracker.c").write_text(f"#include <uapi/linux/bpf.h>\n{text}\n")
    done = subprocess.run([sys.executable, "-c", CHILD, str(copied)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(r"^the kernel program was refused \(.*\): run `clovisor doctor`\.$", done.stderr, re.MULTILINE)


def test_what_the_child_says_last_is_the_error(monkeypatch, caplog):
    def ends_with(code, said):
        monkeypatch.setattr(compile, "_child", lambda *_: (code, said))

    ends_with(1, "a sentence.\n")
    with pytest.raises(KernelRefused, match=r"^a sentence\.$"):
        compile.compile_check()
    ends_with(1, "from clang:\n  1 error generated.\na sentence.\n\n")
    with caplog.at_level("DEBUG"), pytest.raises(KernelRefused, match=r"^a sentence\.$"):
        compile.compile_check()
    assert "from clang:\n  1 error generated." in caplog.text
    ends_with(1, "Traceback (most recent call last):\n  File x\nMemoryError: no more\n")
    with pytest.raises(
        KernelRefused, match=r"^the loader ended with status 1 \(MemoryError: no more\): run `clovisor doctor`\.$"
    ):
        compile.compile_check()
    ends_with(-9, "")
    with pytest.raises(KernelRefused, match="status -9: run `clovisor doctor`"):
        compile.compile_check()
    ends_with(0, "a warning")
    compile.compile_check()


def test_a_child_that_hangs(monkeypatch):
    monkeypatch.setattr(compile, "COMPILE_TIMEOUT_S", 0.01)
    with pytest.raises(KernelRefused, match="try again when idle"):
        compile.compile_check()


def test_an_interrupt_is_ours_alone_and_ends_the_child(monkeypatch, tmp_path):
    """The terminal sends it to the whole foreground group, which a session of its own is not in."""
    said, child = tmp_path / "said", tmp_path / "child"
    child.write_text(f"#!/bin/sh\necho $$ $TMPDIR > {said}.part && mv {said}.part {said}\nexec sleep 60\n")
    child.chmod(0o755)
    monkeypatch.setattr(compile.sys, "executable", str(child))
    sessions = []

    def interrupt():
        while not said.exists():
            time.sleep(0.01)
        sessions.append(os.getsid(int(said.read_text().split()[0])))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        compile.compile_check()
    thread.join()
    pid, room = said.read_text().split()
    assert sessions == [int(pid)]
    assert not Path(room).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_without_bcc(monkeypatch):
    monkeypatch.setitem(sys.modules, "bcc", None)
    with pytest.raises(EnvironmentLacking, match="apt-get install python3-bpfcc"):
        compile._compile()


def test_the_agent_itself_never_imports_bcc():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, clovisor_py.kernel.datapath; print('bcc' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
