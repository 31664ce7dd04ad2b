"""`clovisor replay` as its users meet it: what is on which stream, which exit status, and every bad file one sentence."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP

from clovisor_py.cli.replay import COMMAND
from tests.support.captures import REQUEST, RESPONSE, conversation, ethernet, pcap, pcapng
from tests.support.segments import EPOCH
from tests.support.trace import CLOVISOR


@pytest.fixture
def capture(tmp_path):
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(conversation()))
    return str(path)


@pytest.fixture
def run(capfd, monkeypatch):
    """(exit status, standard output, standard error)."""

    def call(*arguments):
        status = COMMAND.main(list(arguments), standalone_mode=False)
        return status, *capfd.readouterr()

    return call


def test_sessions_and_a_summary(run, capture):
    status, out, err = run(capture)
    assert status == 0
    header, date, line = out.splitlines()
    assert header.startswith("TIME")
    assert date.startswith("2023-11-1"), "of a capture that is not of today"
    assert "10.0.0.2:8080" in line
    assert "GET /greet" in line
    assert "200" in line
    assert err.splitlines()[0].startswith("1 session in 0 s · p50 ")
    assert "  seen 2 segments in 8 packets" in err.splitlines()


def test_peers_and_paths(run, capture):
    for options, number in (
        (["--peer", "10.0.0.0/8"], 1),
        (["--not-peer", "10.0.0.1"], 0),
        (["--peer", "web"], 0),
        (["--not-path", "/gr"], 0),
        (["--not-path", "/healthz"], 1),
    ):
        assert len(run(capture, "-o", "json", *options)[1].splitlines()) == number, options


def test_a_status_that_nothing_has(run, capture):
    assert "  no session had status foo; there were 200 × 1" in run(capture, "--status", "foo")[2].splitlines()


def test_objects_on_standard_output(run, capture):
    status, out, err = run(capture, "--export", "jsonl:-")
    assert (status, json.loads(out)["resource"]) == (0, "/greet")
    assert err.startswith("1 session in 0 s")


def test_quiet_and_json(run, capture):
    status, out, err = run(capture, "-o", "json", "-q")
    assert (status, err) == (0, "")
    session = json.loads(out)
    assert (session["operation"], session["resource"], session["status"]) == ("GET", "/greet", "200")


def test_what_was_passed_over_is_said(run, tmp_path):
    other = bytes(ethernet(IP(dst="10.0.0.2") / UDP(sport=1, dport=2)))
    path = tmp_path / "x"
    path.write_bytes(pcap([*conversation(), (EPOCH, other, len(other)), (EPOCH, other[:20], len(other))]))
    said = run(str(path))[2]
    assert "seen 2 segments in 10 packets · passed over 1 UDP of other ports, 1 cut within their headers" in said


def test_each_bad_file_is_a_sentence_and_the_others_go_on(run, tmp_path, capture):
    good = pcap(conversation())
    bad = {
        "none": (None, "it cannot be read (No such file or directory); give a capture file that you may read."),
        "folder": ("folder", "it cannot be read (Is a directory); give a capture file that you may read."),
        "empty": (b"", "it is empty; capture again."),
        "text": (b"hello, world", "it is no capture; give a file in pcap or pcapng format, gzip'd or not."),
        "half": (good[:-9], "it breaks off in the middle of a packet, "),
        "link": (pcap(conversation(), link=147), "its link type, 147, is not read here; "),
    }
    for name, (data, _) in bad.items():
        if isinstance(data, bytes):
            (tmp_path / name).write_bytes(data)
        elif data:
            (tmp_path / name).mkdir()
    status, out, err = run(*(str(tmp_path / name) for name in bad), capture, "-o", "json")
    assert status == 1
    assert len(out.splitlines()) == 2, "that of the half, and that of the good one"
    said = [line for line in err.splitlines() if line.startswith("clovisor: ")]
    for line, (name, (_, sentence)) in zip(said, bad.items(), strict=True):
        assert line.startswith(f"clovisor: {tmp_path / name}: {sentence}")
        assert line.endswith(".")
    status, out, err = run(str(tmp_path / "empty"))
    assert (status, out, err.count("\n")) == (1, "", 1), "and of nothing there is no summary"
    assert run(str(tmp_path / "empty"), "-q")[2] == f"clovisor: {tmp_path / 'empty'}: it is empty; capture again.\n"


def test_a_files_name_cannot_command_the_terminal(run, tmp_path):
    assert run(str(tmp_path / "\x1b[2Jx"), "-q")[2].startswith(f"clovisor: {tmp_path}/\\x1b[2Jx: ")


def test_filters_and_exports(run, capture, tmp_path):
    assert run(capture, "-q", "--status", "5xx")[:2] == (0, "")
    assert "1 more did not match the filter" in run(capture, "--port", "80")[2]
    assert len(run(capture, capture, "-q", "-o", "json", "--count", "1")[1].splitlines()) == 1
    _status, out, _ = run(capture, capture, "--export", f"jsonl:{tmp_path / 'out'}", "-o", "json")
    assert (tmp_path / "out").read_text() == out
    assert len(out.splitlines()) == 2


def test_what_could_not_be_delivered_is_said_and_is_no_success(run, capture):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    for quiet in ([], ["-q"]):
        status, _, err = run(capture, "--export", "jsonl:/dev/full", *quiet)
        assert status == 1
        last = err.splitlines()[-1]
        assert last.startswith("clovisor: jsonl:/dev/full got 0 of 1 sessions (dropped: failed 1): cannot write to '/dev/full'")
        assert last.endswith("make room or choose another.")


def test_a_parser_that_crashes_is_said_and_not_quoted(run, capture, tmp_path):
    plugin = tmp_path / "bad.py"
    text = (Path(__file__).parents[1] / "examples" / "greeting.py").read_text()
    crash = "    def parse(self, sender, cursor):\n        raise KeyError('secret')\n\n    def unused(self"
    plugin.write_text(re.sub(r"    def parse\(self", crash, text) + "\nimport dataclasses\n" + HEEDED)
    arguments = [capture, "--plugin", str(plugin), "--hint", "8080=bad", "-o", "json"]
    status, out, err = run(*arguments)
    assert (status, json.loads(out)["resource"]) == (1, "bad parser failed: KeyError")
    assert err.splitlines()[-1].startswith("clovisor: the bad parser failed: what it could not read is shown as tcp; report it")
    assert run(*arguments, "-q")[2].startswith("clovisor: the bad parser failed")
    assert re.search(r"  bad parser crashed × 1: KeyError at bad\.py:\d+ \(clovisor -v quotes it\)", err)
    assert "secret" not in out + err
    assert re.search(r"KeyError at bad\.py:\d+: 'secret'", run(*arguments, "--redact", "off")[2])


def test_a_parser_that_never_comes_to_an_end_is_said(run, capture, tmp_path):
    text = (Path(__file__).parents[1] / "examples" / "greeting.py").read_text()
    text = text.replace("        size = cursor.find(", "        return None\n        size = cursor.find(")
    (tmp_path / "bad.py").write_text(text + "\nimport dataclasses\n" + HEEDED)
    _, out, err = run(capture, "--plugin", str(tmp_path / "bad.py"), "--hint", "8080=bad", "-o", "json")
    assert out == "" and f"  bytes of messages that never came to an end {len(REQUEST) + len(RESPONSE)}" in err


HEEDED = """
from clovisor_py.protocols._api import recognises_nothing
PROTOCOL = dataclasses.replace(PROTOCOL, name="bad", hints=(), recognise=recognises_nothing)
"""


def test_a_wrong_hint_does_not_blind(run, capture):
    status, out, err = run(capture, "--hint", "8080=redis", "-o", "json")
    assert (status, json.loads(out)["protocol"], json.loads(out)["status"]) == (0, "http", "200")
    assert "connections that are not what --hint says 1" in err


def test_redaction(run, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(pcap([(time, data.replace(b"/greet ", b"/?q=42 "), wire) for time, data, wire in conversation()]))
    assert "q=42" not in run(str(path), "-o", "json")[1]
    assert "q=42" in run(str(path), "-o", "json", "--redact", "off")[1]


def test_datagrams(run, tmp_path):
    data = bytes(ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=4000, dport=5353) / b"query"))
    path = tmp_path / "x"
    path.write_bytes(pcap([(EPOCH, data, len(data))]))
    assert "passed over 1 UDP of other ports" in run(str(path))[2]
    assert "seen 1 segments in 1 packets" in run(str(path), "--udp-port", "5353")[2]


def test_plugins_and_their_hints(run, capture, tmp_path):
    from clovisor_py.errors import UsageError

    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no')")
    status, out, err = run(capture, "--plugin", str(broken), "-o", "json")
    assert (status, len(out.splitlines())) == (1, 1)
    assert err.startswith(f"clovisor: the plugin {broken} does not import (RuntimeError: no); the others go on without it.\n")
    with pytest.raises(UsageError, match="'gopher', which is no protocol"):
        run(capture, "--hint", "70=gopher", "--plugin", str(broken))


def test_what_makes_no_sense(run, capture):
    import click

    from clovisor_py.errors import UsageError

    for arguments in (["--hint", "70=gopher"], ["--redact", "some"], ["--udp-port", "0"]):
        with pytest.raises(click.UsageError):
            run(capture, *arguments)
    with pytest.raises(UsageError, match="64 UDP ports are too many; give 63 at most"):
        run(capture, *(word for port in range(1, 65) for word in ("--udp-port", str(port))))


def test_standard_input(run, monkeypatch):
    reader, writer = os.pipe()
    os.write(writer, pcapng(conversation()))
    os.close(writer)
    stdin = io.TextIOWrapper(io.FileIO(reader))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert json.loads(run("-", "-o", "json", "-q")[1])["status"] == "200"
    stdin.close()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("written", [b"", pcap(conversation()), pcap(conversation())[:-9]], ids=["nothing", "whole", "half"])
def test_who_waits_for_standard_input_hears_a_signal(number, status, written):
    command = [CLOVISOR, "replay", "-", "-o", "json"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        process.stdin.write(written)
        process.stdin.flush()
        _until_it_waits(process.pid)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    assert (b"200" in out) == bool(written)
    assert b"interrupted: this is a part" in err
    assert b"empty" not in err and b"breaks off" not in err


def _until_it_waits(pid):
    """Blocked in reading a pipe that nobody writes to, behind its signal handlers."""
    for _ in range(600):
        caught = int(re.search(r"SigCgt:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())[1], 16)
        if caught >> (signal.SIGTERM - 1) & 1 and "S" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            time.sleep(0.2)  # it may have slept for another reason
            return
        time.sleep(0.05)
    raise AssertionError("it does not wait")


def test_a_reader_who_has_seen_enough(tmp_path):
    path = tmp_path / "x"
    data = conversation()
    path.write_bytes(pcap([(t + n * 10**8, d, w) for n in range(3000) for t, d, w in data]))
    piped = ["bash", "-o", "pipefail", "-c", f"{CLOVISOR} replay {path} -o json -q | head -1"]
    done = subprocess.run(piped, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 1


def test_nothing_is_lost_to_a_slow_reader(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(pcap([(t + n * 10**8, d, w) for n in range(6000) for t, d, w in conversation()]))
    piped = ["bash", "-c", f"{CLOVISOR} replay {path} -o json -q | (sleep 0.5; wc -l)"]
    done = subprocess.run(piped, capture_output=True, timeout=120, check=False)
    assert (done.stdout.strip(), done.stderr) == (b"6000", b"")


@pytest.mark.parametrize("shown", [True, False])
def test_a_bar_where_somebody_looks(capture, tmp_path, shown):
    """Standard error is a terminal, and standard output goes elsewhere."""
    master, slave = pty.openpty()
    try:
        with (tmp_path / "out").open("w") as out:
            stdout = out if shown else slave
            done = subprocess.run([CLOVISOR, "replay", capture], stdout=stdout, stderr=slave, timeout=60, check=False)
        os.close(slave)
        said = b""
        try:
            while more := os.read(master, 4096):
                said += more
        except OSError:
            pass  # how a terminal says that nobody is left to write to it
    finally:
        os.close(master)
    assert done.returncode == 0
    assert (b"x.pcap  [####" in said) == shown
    assert b"1 session" in said
