"""Small protocols to try the engine with: each shows one thing that real ones do.

`LINES`  `ask WORD [SIZE]\n` + SIZE bytes, `ok|no WORD [SIZE]\n` + SIZE bytes; in order; SIZE `*` is "to the end";
         `wait\n` is interim, `note WORD\n` one-way.
`IDS`    the same with an id in front: `#7 ask WORD\n`; answers come in any order.
`WHOLE`  frames of a length byte and so many bytes that must all be there (`Q…` asks, `A…` answers).
"""

from __future__ import annotations

import re
from dataclasses import replace

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, Kind, Message
from clovisor_py.protocols._api import Capture, Evidence, Pairing, Protocol

MAX_LINE = 200
KINDS = {b"ask": Kind.REQUEST, b"ok": Kind.RESPONSE, b"no": Kind.RESPONSE, b"wait": Kind.INTERIM, b"note": Kind.ONE_WAY}
LINE = re.compile(rb"(?:#(\d{1,6}) )?(ask|ok|no|wait|note)(?: (\w*)(?: (\d{1,9}|\*))?)?$")
START = re.compile(rb"(?:#\d{1,6} )?(?:ask|ok|no|wait|note)[ \n]")


class LineParser:
    def __init__(self, setup):
        self.open = [None, None]
        self.endless = [False, False]

    def parse(self, sender, cursor):
        if self.endless[sender]:
            cursor.skip(cursor.remaining)
            return None
        message, self.open[sender] = self.open[sender], None
        if message is not None:
            return message
        while cursor.peek(1) == b".":
            cursor.skip(1)
            cursor.drop()  # a full stop between two lines is nobody's
        size = cursor.find(b"\n", MAX_LINE)
        if size < 0:
            if cursor.remaining > MAX_LINE:
                raise ProtocolError("a line without end")
            return None
        found = LINE.match(cursor.read(size + 1)[:-1])
        if found is None:
            raise ProtocolError("no such line")
        return self._begin(sender, cursor, found)

    def _begin(self, sender, cursor, found):
        number, word, name, body = found.groups()
        kind = KINDS[word]
        if kind not in (Kind.ONE_WAY, Kind.INTERIM) and (kind is Kind.REQUEST) != (sender == CLIENT):
            raise ProtocolError("the wrong end said that")
        message = Message(kind, error=word == b"no", correlation=int(number) if number else None)
        if kind is Kind.RESPONSE:
            message.status = word.decode()
            message.attributes["toy.answer"] = (name or b"").decode()
        else:
            message.operation, message.resource = word.decode(), (name or b"").decode()
            message.attributes["toy.question"] = message.resource
        if body is None:
            return message
        self.open[sender] = message
        if body == b"*":
            self.endless[sender] = True
        else:
            cursor.skip(int(body))
            if cursor.pos <= len(cursor.data):
                self.open[sender] = None
                return message
        return None

    def gap(self, sender, size):
        return self.endless[sender]

    def end(self, sender):
        message, self.open[sender] = self.open[sender], None
        if message is not None:
            message.incomplete = not self.endless[sender]
        self.endless[sender] = False
        return message

    def resync(self, sender, data):
        self.open[sender], self.endless[sender] = None, False
        found = re.search(rb"(?:\A|(?<=\n))" + START.pattern, data)
        return found.start() if found else None


def recognise_lines(data, numbered=False):
    found = START.match(data)
    if found:
        if (data[:1] == b"#") != numbered:
            return Evidence.NO
        return Evidence.REQUEST if b"ask" in found[0] or b"note" in found[0] else Evidence.RESPONSE
    return Evidence.MORE if len(data) < 4 and data[:1] in (b"#" if numbered else b"aonw") else Evidence.NO


class FrameParser:
    def __init__(self, setup):
        self.hole = [False, False]

    def parse(self, sender, cursor):
        if not cursor.remaining:
            return None
        size = cursor.data[cursor.pos]
        if cursor.remaining < 1 + size:
            return None
        frame = cursor.read(1 + size)[1:]
        if frame[:1] not in b"QA" or not frame:
            raise ProtocolError("no such frame")
        kind = Kind.REQUEST if frame[:1] == b"Q" else Kind.RESPONSE
        return Message(kind, operation=frame[:1].decode(), resource=frame[1:].decode("latin-1"))

    def gap(self, sender, size):
        return False

    def end(self, sender):
        return None

    def resync(self, sender, data):
        return 0 if data[1:2] in (b"Q", b"A") else None


def recognise_frames(data):
    if len(data) < 2:
        return Evidence.MORE
    return {b"Q": Evidence.REQUEST, b"A": Evidence.RESPONSE}.get(data[1:2], Evidence.NO)


LINES = Protocol(
    name="lines",
    title="Toy: lines",
    specification="about:blank",
    parser=LineParser,
    recognise=recognise_lines,
    pairing=Pairing.FIFO,
    capture=Capture.HEAD,
    ports=(7000,),
    hints=("by-line",),
)
IDS = replace(
    LINES,
    name="ids",
    recognise=lambda data: recognise_lines(data, True),
    pairing=Pairing.BY_ID,
    capture=Capture.FULL,
    ports=(7001,),
    recognise_datagram=lambda data: recognise_lines(data, True),
    hints=(),
)
WHOLE = Protocol(
    name="whole",
    title="Toy: frames",
    specification="about:blank",
    parser=FrameParser,
    recognise=recognise_frames,
    pairing=Pairing.FIFO,
    capture=Capture.FULL,
)
TOYS = {protocol.name: protocol for protocol in (LINES, IDS, WHOLE)}
