"""A trouble is said once, counted each time, and said again when it is another one or has come back."""

from __future__ import annotations

import logging

import pytest

from clovisor_py.errors import KernelRefused
from clovisor_py.troubles import REMEMBERED, Troubles


@pytest.fixture
def troubles():
    return Troubles(logging.getLogger("troubles"))


def meet(troubles, doing, error=None):
    with troubles.at(doing):
        if error is not None:
            raise error


def test_the_same_is_said_once(troubles, caplog):
    for _ in range(3):
        meet(troubles, "attaching to web", KernelRefused("no room: disable some."))
    assert caplog.messages == ["attaching to web did not succeed, and is tried again: no room: disable some."]
    assert troubles.count == 3


def test_another_is_said_and_one_that_comes_back(troubles, caplog):
    meet(troubles, "looking", KernelRefused("one."))
    meet(troubles, "looking", OSError(24, "Too many open files"))
    meet(troubles, "looking")
    meet(troubles, "looking", OSError(24, "Too many open files"))
    assert len(caplog.messages) == troubles.count == 3


def test_what_is_no_refusal_is_a_bug_and_ends_as_one(troubles):
    with pytest.raises(ZeroDivisionError):
        meet(troubles, "dividing", ZeroDivisionError())
    assert troubles.count == 0


def test_only_so_many_are_remembered(troubles):
    for number in range(REMEMBERED + 9):
        meet(troubles, f"attaching to veth{number}", OSError(12, "no memory"))
    assert len(troubles._said) == REMEMBERED
