"""The tests that every parser has to pass, made for one of them and its scripts; a test module gives them their names:

    test_every_delivery_gives_the_same_messages = every_delivery(PROTOCOL, SCRIPTS)
    test_damage_is_survived = damage(PROTOCOL, SCRIPTS)
    test_bytes_of_no_protocol_are_survived = foreign_bytes(PROTOCOL)

What they hold a parser to is in `parser_harness`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.protocols._api import Protocol, Setup
from tests.support.parser_harness import PLAIN, Script, anything, check, mutated, run

Test = Callable[..., None]


def every_delivery(protocol: Protocol, scripts: Mapping[str, Script], setup: Setup = PLAIN) -> Test:
    """However TCP cuts them, the scripts say the same."""

    @pytest.mark.parametrize("script", scripts.values(), ids=scripts.keys())
    def test(script: Script) -> None:
        check(protocol, script, setup)

    return test


def damage(protocol: Protocol, scripts: Mapping[str, Script], setup: Setup = PLAIN) -> Test:
    """A script with bytes replaced, removed, inserted or lost."""

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(list(scripts.values())).flatmap(mutated))
    def test(script: Script) -> None:
        run(protocol, script, setup)

    return test


def foreign_bytes(protocol: Protocol, setup: Setup = PLAIN) -> Test:
    """Bytes of no protocol at all."""

    @settings(max_examples=100, deadline=None)
    @given(anything)
    def test(script: Script) -> None:
        run(protocol, script, setup)

    return test
