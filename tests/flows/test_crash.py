"""What is told of a parser that crashed: enough to repair it, nothing that a terminal obeys, and never too much."""

from clovisor_py.flows import crash, ledger
from clovisor_py.flows.crash import CRASHES, FURTHER, TEXT_CHARS


def raised(text):
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_the_place_is_where_it_was_raised():
    told = crash.describe("redis", raised("x"))
    assert (told.protocol, told.kind, told.text) == ("redis", "ValueError", "x")
    assert told.place == f"test_crash.py:{raised.__code__.co_firstlineno + 2}"
    assert crash.describe("redis", ValueError("x")).place == ""


def test_the_text_is_bounded_and_printable():
    assert crash.describe("", raised("\x1b[2J\n")).text == r"\x1b[2J\x0a"
    assert len(crash.describe("", raised("\x1b" * 1_000_000)).text) == TEXT_CHARS


def test_few_are_told_apart_and_all_are_counted():
    book = ledger.Ledger()
    for number in range(CRASHES + 5):
        book.count_crash(crash.describe("redis", ValueError(str(number))))
    book.count_crash(crash.describe("redis", ValueError("0")))
    assert (len(book.crashes), book.crashes[FURTHER]) == (CRASHES + 1, 5)
    assert sum(book.crashes.values()) == book.parser_crashes == CRASHES + 6
    assert "crashes" not in book.as_dict()
