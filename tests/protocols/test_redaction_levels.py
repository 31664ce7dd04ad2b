"""Of two levels the one that hides more holds, whoever asked for which."""

from __future__ import annotations

import pytest

from clovisor_py.protocols._redaction import Level, stricter


@pytest.mark.parametrize(
    ("one", "other", "holds"),
    [
        ("off", "off", Level.OFF),
        ("off", "default", Level.DEFAULT),
        ("strict", "off", Level.STRICT),
        (Level.DEFAULT, "strict", Level.STRICT),
    ],
)
def test_the_stricter_holds(one, other, holds):
    assert stricter(one, other) is stricter(other, one) is holds


def test_a_level_that_is_none():
    with pytest.raises(ValueError, match="secret"):
        stricter("secret", "off")
