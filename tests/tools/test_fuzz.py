"""`tools/fuzz`: every protocol can be driven, a plugin's too; what fails is kept; and where there is no test, it says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clovisor_py.protocols._registry import registry
from tests.support.captures import conversation, pcap
from tests.support.scripts import restore, save
from tools import _fuzz, _fuzz_inputs

EXAMPLE = Path(__file__).parents[1] / "examples" / "greeting.py"
TALK = [(0, b"GREET ann\n"), (1, b"HELLO ann\n")]


def fuzz(capsys, *arguments):
    """(exit status, standard output, standard error)."""
    try:
        status = _fuzz.main([str(argument) for argument in arguments])
    except SystemExit as end:
        status = end.code
    return status, *capsys.readouterr()


@pytest.fixture
def mine(tmp_path):
    """A folder with a plugin, and what it begins with."""
    (tmp_path / "scripts" / "mine").mkdir(parents=True)
    (tmp_path / "scripts" / "mine" / "one").write_bytes(save(False, TALK))
    text = EXAMPLE.read_text().replace('name="greeting"', 'name="mine"')
    (tmp_path / "mine.py").write_text(text)
    return tmp_path, text


KEPT = [name for name in registry() if (_fuzz.GOLDEN / "scripts" / name).is_dir()]
"""A new protocol need not have scripts: then the tool asks for captures."""


@pytest.mark.parametrize("name", KEPT)
def test_every_protocol_is_driven_and_read(name, capsys):
    assert len(KEPT) >= 8
    status, said, remarks = fuzz(capsys, name, "-n", 50)
    assert (status, remarks) == (0, "")
    assert said.startswith(f"{name}: 50 inputs in ") and "no exception but ProtocolError" in said
    assert " 0 messages read" not in said


def test_what_rides_on_another_is_read_through_it():
    target = _fuzz.target_of("grpc", [], Path())
    assert (target.reader.name, [one.name for one in target.riders]) == ("http2", ["grpc"])
    pool, _ = _fuzz_inputs.seeds(target.protocol, target.datagrams, target.home, [])
    assert min(_fuzz.drive(target, script, udp)[1] for udp, script in pool) >= 2, "each of them is a call"


def test_a_protocol_has_other_names(capsys):
    assert fuzz(capsys, "H2C", "-n", 1)[1].startswith("http2: 1 inputs")


def test_the_same_seed_gives_the_same_inputs():
    first, again, other = (list(_fuzz_inputs.damaged([(False, TALK)], 20, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_captures_are_begun_with(tmp_path, capsys):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "talk.pcap").write_bytes(pcap(conversation()))
    (tmp_path / "deep" / "talk.pcap.txt").write_text("no capture")
    assert _fuzz_inputs.captures([tmp_path]) == [tmp_path / "deep" / "talk.pcap"]
    for arguments in (("http", "deep", "-n", 20), ("http", "-n", 20, "deep"), ("-n", 20, "http", "deep")):
        status, said, _ = fuzz(capsys, *arguments, "--from", tmp_path)
        assert (status, said[:15]) == (0, "http: 20 inputs")


def test_a_capture_that_is_none_is_said_and_the_others_go_on(tmp_path, capsys):
    (tmp_path / "bad.pcap").write_text("no capture at all, but some text")
    status, said, remarks = fuzz(capsys, "http", tmp_path / "bad.pcap", "-n", 20)
    assert status == 1 and said.startswith("http: 20 inputs")
    assert remarks.startswith(f"{tmp_path / 'bad.pcap'}: ") and remarks.count("\n") == 1


def test_datagrams_are_for_those_who_read_them(tmp_path):
    (tmp_path / "scripts" / "http").mkdir(parents=True)
    (tmp_path / "scripts" / "http" / "one").write_bytes(save(True, TALK))
    assert _fuzz_inputs.seeds(registry()["http"], False, tmp_path, []) == ([], [])
    assert _fuzz_inputs.seeds(registry()["http"], True, tmp_path, []) == ([(True, TALK)], [])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gopher"], "no protocol named 'gopher'; known here: dns, "),
        (["http", "nowhere"], "there is no '"),
        (["http", "empty"], "there is no capture in the folder '"),
        (["http", "-n", "0"], "it is 1 or more"),
        (["http", "-n", "many"], "invalid positive value: 'many'"),
        (["http", "empty", "--guided", "1"], "--guided begins with the files that are kept"),
        (["mine"], "no protocol named 'mine'"),
        (["mine", "--plugin", "nowhere.py"], "is no plugin: name a .py file, or a folder of them."),
        (["mine", "--plugin", "bad.py"], "does not import (ZeroDivisionError"),
        (["mine", "--plugin", "mine.py"], "there is no traffic of mine to begin with: name a capture of it"),
        (["mine", "talk.pcap", "--plugin", "mine.py", "-n", "3"], "not one message of mine was read"),
    ],
)
def test_where_there_is_nothing_to_do_it_says_so(mine, capsys, arguments, sentence):
    folder, _ = mine
    (folder / "empty").mkdir()
    (folder / "bad.py").write_text("1 / 0")
    (folder / "talk.pcap").write_bytes(pcap(conversation()))
    (folder / "scripts" / "mine" / "one").unlink()
    status, said, remarks = fuzz(capsys, *arguments, "--from", folder)
    assert (status, said) == (2, "")
    assert sentence in remarks and remarks.splitlines()[-1].startswith("tools/fuzz: ")


def test_guided_needs_its_package(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "atheris", None)
    status, _, remarks = fuzz(capsys, "http", "--guided", 1)
    assert status == 2 and "needs the package atheris" in remarks


def test_a_plugin_is_driven(mine, capsys):
    folder, _ = mine
    status, said, _ = fuzz(capsys, "mine", "--plugin", "mine.py", "-n", 50, "--from", folder)
    assert status == 0 and said.startswith("mine: 50 inputs")


@pytest.mark.parametrize(
    ("wrong", "failure"),
    [("raise ValueError('oh')", "ValueError: oh"), ("cursor.skip(0); return Message(Kind.ONE_WAY)", "AssertionError: ")],
    ids=["raises", "never advances"],
)
def test_what_fails_is_kept_where_the_plugin_is(mine, capsys, wrong, failure):
    folder, text = mine
    (folder / "mine.py").write_text(text.replace("size = cursor.find(", f"{wrong}\n        size = cursor.find("))
    status, said, _ = fuzz(capsys, "mine", "--plugin", "mine.py", "-n", 50, "--from", folder)
    (kept,) = (folder / "regressions" / "mine").iterdir()
    assert status == 1 and said.startswith(f"mine: FAILED, kept as {kept}: {failure}")
    assert restore(kept.read_bytes())[1]


def test_breaking_it_off_is_no_traceback(monkeypatch, capsys):
    def broken_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_fuzz, "timed", broken_off)
    assert fuzz(capsys, "http", "-n", 5)[:2] == (130, "http: interrupted after 0 inputs; none of them failed\n")
