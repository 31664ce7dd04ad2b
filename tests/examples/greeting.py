"""An example of a protocol of one's own: `GREET ann\\n` is answered by `HELLO ann\\n`, or by `WHO ann\\n` (who is she?).

One file is a protocol. Here it stays outside the tree:

    clovisor replay capture.pcap --plugin greeting.py
    sudo clovisor trace web --plugin greeting.py

To put one into the tree, under a name of its own, its file goes to `clovisor_py/protocols/` and its test to `tests/protocols/`;
nothing else changes.
"""

import re

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, Kind, Message
from clovisor_py.protocols._api import Capture, Evidence, Pairing, Parser, Protocol, Setup
from clovisor_py.protocols._cursor import Cursor

MAX_LINE = 256
"""Bytes of a line. A parser that waits for more has to say how long."""

LINE = re.compile(rb"(GREET|HELLO|WHO) ([a-z]{1,32})\n")
BEGINNING = re.compile(rb"(?:GREET|HELLO|WHO) ")


class GreetingParser:
    """Both directions of one connection."""

    def __init__(self, setup: Setup) -> None:
        self._redaction = setup.redaction

    def parse(self, sender: int, cursor: Cursor) -> Message | None:
        size = cursor.find(b"\n", MAX_LINE)
        if size < 0:
            if cursor.remaining >= MAX_LINE:
                raise ProtocolError("a greeting without an end.")
            return None  # the rest is still on its way
        found = LINE.match(cursor.data, cursor.pos)
        if found is None or (found[1] == b"GREET") != (sender == CLIENT):
            raise ProtocolError("no greeting where one is due.")
        cursor.skip(size + 1)
        word, name = found[1].decode(), found[2].decode()
        if sender == CLIENT:
            return Message(Kind.REQUEST, operation=word, resource=name if self._redaction.users else "")
        return Message(Kind.RESPONSE, status=word, error=word == "WHO", attributes={"clovisor.greeting.known": word == "HELLO"})

    def gap(self, _sender: int, _size: int) -> bool:
        return False  # a line with a hole in it is no line

    def end(self, _sender: int) -> Message | None:
        return None  # half a line is not worth telling

    def resync(self, _sender: int, data: bytes | bytearray) -> int | None:
        found = BEGINNING.search(data)
        return found.start() if found else None


def recognise(data: bytes) -> Evidence:
    """Whose first bytes are these?"""
    if BEGINNING.match(data):
        return Evidence.REQUEST if data.startswith(b"GREET") else Evidence.RESPONSE
    return Evidence.MORE if any(word.startswith(data) for word in (b"GREET ", b"HELLO ", b"WHO ")) else Evidence.NO


def parser(setup: Setup) -> Parser:
    return GreetingParser(setup)


PROTOCOL = Protocol(
    name="greeting",
    title="Greetings, an example",
    specification="https://example.org/greetings",
    parser=parser,
    recognise=recognise,
    pairing=Pairing.FIFO,
    capture=Capture.FULL,
    ports=(7777,),
    attributes=("clovisor.greeting.known",),
    limits={"bytes of a line": MAX_LINE},
)
