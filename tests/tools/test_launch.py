"""`tools/_launch.py`: a tool that lacks what it needs says so in a sentence, and otherwise becomes its module."""

from __future__ import annotations

import sys

import pytest

from tools import _launch


def test_without_the_tests_packages_it_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(_launch, "VENV", tmp_path)
    monkeypatch.setattr(sys, "argv", ["/somewhere/tools/bench"])
    with pytest.raises(SystemExit, match=r"^tools/bench: the packages of the tests.*run `make setup-test` first\.$"):
        _launch.launch("tools._bench", [])


def test_with_them_it_becomes_its_module(monkeypatch):
    became = []
    monkeypatch.setattr(_launch.os, "execv", lambda *what: became.append(what))
    monkeypatch.setattr(_launch.os, "chdir", became.append)
    _launch.launch("tools._bench", ["--help"])
    root, (python, arguments) = became
    assert root == _launch.ROOT and arguments == [python, "-m", "tools._bench", "--help"]
