"""The table of commands: each once, in letters that mean something, and nothing shown that may hold a secret."""

from __future__ import annotations

import pytest

from clovisor_py.errors import ProtocolError
from clovisor_py.protocols import _redis_commands as commands

LETTERS = set("kfrovxuns")


def test_layouts_are_written_in_known_letters() -> None:
    for layout in (*commands.LAYOUTS, *commands.SUBCOMMANDS.values(), *commands.SUBCOMMAND_LAYOUTS.values()):
        assert set(layout.replace("|", "", 1)) <= LETTERS, layout


def test_every_command_has_one_layout() -> None:
    names = [name for line in commands.LAYOUTS.values() for name in line.split()] + list(commands.SUBCOMMANDS)
    assert len(names) == len(set(names)) and all(name == name.upper() for name in names)
    assert {name.split()[0] for name in (*commands.SUBCOMMAND_LAYOUTS, *commands.ROLES)} <= set(names)
    assert {name.decode() for name in commands.REDIS_ONLY} <= set(names)


@pytest.mark.parametrize(
    ("head", "letters", "suffix"),
    [
        (b"*1\r\n$4\r\nping\r\n", "", ""),
        (b"*2\r\n$3\r\nGET\r\n", "k", ""),
        (b"*3\r\n$3\r\nSET\r\n", "kv", " ?"),
        (b"*4\r\n$4\r\nHSET\r\n", "kfv", None),
        (b"*2\r\n$4\r\nAUTH\r\n", "x", None),
        (b"*3\r\n$4\r\nAUTH\r\n", "ux", None),
        (b"*3\r\n$6\r\nCLIENT\r\n", "cv", None),
        (b"*3\r\n$7\r\nUNKNOWN\r\n", "vv", None),
        (b"*9999\r\n$4\r\nSADD\r\n", "k" + "v" * 31, None),
    ],
)
def test_a_command_begins(head: bytes, letters: str, suffix: str | None) -> None:
    command = commands.begin(head)
    assert (command.letters, command.suffix) == (letters, suffix)


def test_a_name_is_as_long_as_it_says() -> None:
    with pytest.raises(ProtocolError):
        commands.begin(b"*2\r\n$4\r\nGET\r\n")


@pytest.mark.parametrize(
    ("word", "operation", "letters"),
    [(b"set", "CONFIG SET", "rxox"), (b"GET", "CONFIG GET", "rrrr"), (b"p\xffw", "CONFIG", "vvvv")],
)
def test_a_sub_command_decides_about_the_rest(word: bytes, operation: str, letters: str) -> None:
    command = commands.within(commands.named(b"config", 5), word)
    assert (command.operation, command.letters) == (operation, letters)


def test_names() -> None:
    assert commands.is_known(b"get") and commands.is_known(b"ft.search") and not commands.is_known(b"host:")
