import pytest

from clovisor_py.model.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/reviews/ä日", "/reviews/ä日"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\r\nb\tc\x00", r"a\x0d\x0ab\x09c\x00"),
        ("\x7f\x9b31m", r"\x7f\x9b31m"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2028\ud800\U000e0001", r"\u2028\ud800\U000e0001"),
    ],
)
def test_nothing_reaches_the_terminal_that_it_would_obey(text, shown):
    assert printable(text) == shown
