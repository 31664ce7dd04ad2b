"""One DNS message, given whole, as a Message: header, question, and of a response what it answers.

A message is worth telling as soon as its question could be read: records behind it that are cut off or broken make it
`incomplete`, never unreadable. Who resolves a name asks twice for it (A and AAAA) and the answer repeats the question, so
what a question's bytes say is remembered.

Names are compared without case (RFC 4343) and some resolvers spell each query differently to be harder to deceive, so
`resource` and the correlation are in lower case; the attribute has the name as it was asked for.

Multicast DNS (RFC 6762) says to all what nobody has to answer: its messages have the id 0, queries also no flags, responses
no question.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import AttributeValue, Kind, Message
from clovisor_py.protocols import _dns_names as names
from clovisor_py.protocols import _dns_records as records
from clovisor_py.protocols import _dns_tables as tables
from clovisor_py.protocols._memo import Memo
from clovisor_py.protocols._redaction import Redaction

HEADER: Final = struct.Struct(">6H")
"""Id, flags, and how many questions, answers, authorities and additional records there are."""
IS_RESPONSE: Final = 0x8000
TRUNCATED: Final = 0x0200
MAX_QUESTIONS: Final = 256
"""Questions in one message: unicast DNS has one, multicast DNS dozens. Beyond it: ProtocolError."""

NAME: Final = "dns.question.name"
TYPE: Final = "clovisor.dns.question.type"
ANSWERS: Final = "dns.answers"
COUNT: Final = "clovisor.dns.answer.count"
CODE: Final = "clovisor.dns.response.code"
CUT: Final = "clovisor.dns.truncated"
"""Attribute, true where the server left out answers (TC): the client is to ask again over TCP."""
EXTENDED_ERROR: Final = "clovisor.dns.extended_error"
ERROR: Final = "error.type"
ATTRIBUTES: Final = (NAME, TYPE, ANSWERS, COUNT, CODE, CUT, EXTENDED_ERROR, ERROR)

SHORT: Final = (IndexError, struct.error)
"""How the readers say that the bytes end too soon."""

_REQUEST, _RESPONSE, _ONE_WAY = Kind.REQUEST, Kind.RESPONSE, Kind.ONE_WAY  # looking up a member costs more than a call


class Question(NamedTuple):
    """What is asked."""

    name: str
    resource: str
    """The name in lower case."""
    type: str
    number: int
    """The type's number."""


class Tell(NamedTuple):
    """What a flow's messages may tell, and how they come."""

    answers: bool
    values: bool
    datagrams: bool

    @classmethod
    def of(cls, redaction: Redaction, datagrams: bool) -> Tell:
        return cls(redaction.keys, redaction.values, datagrams)


def read(data: bytes, tell: Tell) -> Message:
    """The message in `data`, at least 12 bytes. Raises one of SHORT where its question is cut off, or ProtocolError."""
    check(data)
    ident, flags, asked, answered, authorities, extras = HEADER.unpack_from(data)
    opcode = flags >> 11 & 15
    if not asked:
        return _without_question(data, tell)
    found, pos = question(data)
    operation, resource = tables.OPCODES[opcode] if opcode else found.type, found.resource
    correlation = f"{ident} {operation} {resource}"
    attributes: dict[str, AttributeValue] = {NAME: found.name, TYPE: found.type}
    is_response = flags & IS_RESPONSE
    multicast = not ident and not flags and tell.datagrams
    kind = _RESPONSE if is_response else _ONE_WAY if multicast else _REQUEST
    message = Message(kind, operation, resource, "", False, attributes, {}, correlation)
    try:
        for _ in range(1, asked):
            pos = names.skip(data, pos) + 4
        if not is_response:
            records.skip_many(data, pos, answered + authorities + extras)
    except (*SHORT, ProtocolError):
        message.incomplete = True
        pos = len(data)
    if is_response:
        _answer(message, data, pos, (flags, answered, authorities, extras), tell)
    return message


def check(data: bytes | bytearray) -> None:
    """Raises ProtocolError where the first 12 bytes are no header."""
    if data[2] >> 3 & 15 not in tables.OPCODES or (data[4] << 8 | data[5]) > MAX_QUESTIONS:
        raise ProtocolError("not DNS: an operation that does not exist, or hundreds of questions.")


def question(data: bytes) -> tuple[Question, int]:
    """The first question of a message, and where the bytes after it begin. Raises one of SHORT or ProtocolError."""
    end = data.find(b"\0", 12, 12 + names.MAX_NAME) + 5
    if end >= 17 and (known := _questions[data[12:end]]) is not None:
        return known, end
    name, pos = names.read(data, 12)
    kind = data[pos] << 8 | data[pos + 1]
    _ = data[pos + 3]
    return Question(name, name.lower(), tables.type_name(kind), kind), pos + 4


def _question(raw: bytes) -> Question | None:
    """The question that `raw` is: a name to its first zero byte, a type, a class. None where it is not so simple."""
    try:
        name, pos = names.read(raw, 0)
    except (IndexError, ProtocolError):
        return None
    if pos + 4 != len(raw):
        return None
    kind = raw[pos] << 8 | raw[pos + 1]
    return Question(name, name.lower(), tables.type_name(kind), kind)


_questions: Final = Memo(_question, names.MAX_NAME + 4)


def _answer(message: Message, data: bytes, pos: int, header: tuple[int, int, int, int], tell: Tell) -> None:
    """What a response says, with the records that begin at `pos`."""
    flags, answered, authorities, extras = header
    told: list[str] = []
    rcode, extended = flags & 15, ""
    try:
        pos = records.answers(data, pos, answered, tell.values, told)
        if authorities or extras:
            pos = records.skip_many(data, pos, authorities)
            more, extended = records.options(data, pos, extras)
            rcode |= more
    except (*SHORT, ProtocolError):
        message.incomplete = True
    attributes = message.attributes
    message.status = attributes[CODE] = status = tables.rcode_name(rcode)
    attributes[COUNT] = answered
    if told and tell.answers:
        attributes[ANSWERS] = told
    if flags & TRUNCATED:
        attributes[CUT] = True
    if extended:
        attributes[EXTENDED_ERROR] = extended
    if rcode:
        message.error = True
        attributes[ERROR] = status


def _without_question(data: bytes, tell: Tell) -> Message:
    """An answer that does not repeat its question (a refusal, the rest of a zone), an announcement, a session operation."""
    ident, flags, _asked, answered, authorities, extras = HEADER.unpack_from(data)
    opcode = flags >> 11 & 15
    message = Message(Kind.RESPONSE, tables.OPCODES[opcode] if opcode else "", correlation=str(ident))
    if not flags & IS_RESPONSE:
        message.kind = Kind.REQUEST if ident else Kind.ONE_WAY
        message.operation = tables.OPCODES[opcode]
        return message
    if not ident and answered and tell.datagrams:
        name, pos = names.read(data, 12)
        message.kind = Kind.ONE_WAY
        message.operation, message.resource = tables.type_name(data[pos] << 8 | data[pos + 1]), name.lower()
        message.attributes[NAME], message.attributes[TYPE] = name, message.operation
    _answer(message, data, 12, (flags, answered, authorities, extras), tell)
    return message
