"""DNS (RFC 1035) over UDP and TCP (RFC 7766), with EDNS (RFC 6891), updates, notifications, transfers and multicast DNS.

A datagram is a message; over TCP each has its length before it, and answers come in any order. What a message says is read
by `_dns_message`, which is given it whole; this file cuts the stream, and knows what one message cannot tell: what an answer
without a question answers, and whether more of a zone follows.

An answer is paired by id and question, so that one to another question, forged or late, answers nothing. Who sends it does
not matter: two name servers may ask each other over the same pair of ports.

Where a message was cut off, what there is of it is told when the engine gives it up (`end`), if its question is there.
"""

from __future__ import annotations

from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import Kind, Message
from clovisor_py.protocols import _dns_message as dns
from clovisor_py.protocols import _dns_names as names
from clovisor_py.protocols import _dns_recognise as recognise
from clovisor_py.protocols import _dns_records as records
from clovisor_py.protocols import _dns_transfer as transfer
from clovisor_py.protocols._api import Capture, Pairing, Protocol, Setup
from clovisor_py.protocols._cursor import Cursor

MAX_SEEN: Final = 1024
"""Bytes kept of a message that is not whole yet, in case it never will be: its header, its question, some answers."""
MAX_ASKED: Final = 256
"""Questions remembered until they are answered, for answers that do not repeat them. Those are rare: the latest will do."""
LENGTH: Final = 2
"""Bytes before a message over TCP."""


class DnsParser:
    """One connection or one pair of UDP ports, both directions."""

    __slots__ = ("_asked", "_datagrams", "_seen", "_tell", "_transfers")

    def __init__(self, setup: Setup) -> None:
        self._datagrams = setup.datagrams
        self._tell = dns.Tell.of(setup.redaction, setup.datagrams)
        self._seen = [bytearray(), bytearray()]
        """For each sender the beginning of a message whose end has not come."""
        self._asked: dict[int, int | str | None] = {}
        """Correlation by id."""
        self._transfers = transfer.Transfers()

    def parse(self, sender: int, cursor: Cursor) -> Message | None:
        data, pos = cursor.data, cursor.pos
        if self._datagrams:
            return self._datagram(sender, cursor, bytes(data[pos:]))
        start = pos + LENGTH
        if len(data) < start:
            return None
        end = start + (data[pos] << 8 | data[pos + 1])
        if end - start < dns.HEADER.size:
            raise ProtocolError("not DNS: a message shorter than its header.")
        if len(data) < end:
            self._remember(sender, data, start)
            return None
        self._seen[sender].clear()
        cursor.pos = end  # a violation goes on behind it
        raw = bytes(data[start:end])
        try:
            message = dns.read(raw, self._tell)
        except dns.SHORT:
            raise ProtocolError("not DNS: a message shorter than its question.") from None
        return self._placed(message, raw)

    def gap(self, _sender: int, _size: int) -> bool:
        return False

    def end(self, sender: int) -> Message | None:
        raw = bytes(self._seen[sender])
        self._seen[sender].clear()
        if len(raw) < dns.HEADER.size:
            return None
        try:
            message = self._placed(dns.read(raw, self._tell), raw)
        except (*dns.SHORT, ProtocolError):
            return None
        message.incomplete = True
        return message

    def resync(self, sender: int, data: bytes | bytearray) -> int | None:
        self._seen[sender].clear()
        return None if self._datagrams else recognise.find(bytes(data))

    def _datagram(self, sender: int, cursor: Cursor, raw: bytes) -> Message | None:
        if len(raw) < dns.HEADER.size:
            return None
        try:
            message = dns.read(raw, self._tell)
        except dns.SHORT:
            return None
        if message.incomplete:  # the capture cut it off, or the server did: `end` will be asked
            self._seen[sender] += raw
            return None
        cursor.pos += len(raw)
        return self._placed(message, raw)

    def _remember(self, sender: int, data: bytes | bytearray, start: int) -> None:
        """Keep the beginning of a message that is not whole. Raises ProtocolError where it cannot become one."""
        seen = self._seen[sender]
        known = len(seen)
        if known < MAX_SEEN:
            seen += data[start + known : start + MAX_SEEN]
            if known < dns.HEADER.size <= len(seen):
                dns.check(seen)

    def _placed(self, message: Message, raw: bytes) -> Message:
        """The message, with what only its connection knows of it."""
        ident = raw[0] << 8 | raw[1]
        if message.kind is Kind.REQUEST:
            asked = self._asked
            asked[ident] = message.correlation
            if len(asked) > MAX_ASKED:
                del asked[next(iter(asked))]
            if not self._datagrams:
                self._transfers.ask(ident, message.operation)
        elif message.kind is Kind.RESPONSE:
            if not message.resource:
                message.correlation = self._asked.get(ident, message.correlation)
            if not self._datagrams:
                self._transfers.follow(message, raw)
            if message.kind is Kind.RESPONSE:
                self._asked.pop(ident, None)
        return message


PROTOCOL = Protocol(
    name="dns",
    title="DNS over UDP and TCP, multicast DNS",
    specification="https://www.rfc-editor.org/rfc/rfc1035",
    parser=DnsParser,
    recognise=recognise.stream,
    recognise_datagram=recognise.datagram,
    pairing=Pairing.BY_ID,
    capture=Capture.FULL,
    ports=(53, 5353),
    hints=("dns-tcp", "dns-udp", "domain", "mdns"),
    attributes=dns.ATTRIBUTES,
    limits={
        "bytes of a name": names.MAX_NAME,
        "pointers in a name": names.MAX_HOPS,
        "answers told of one response": records.MAX_ANSWERS,
        "characters told of a text record": records.MAX_TEXT,
        "questions in a message": dns.MAX_QUESTIONS,
        "bytes kept of half a message": MAX_SEEN,
        "questions remembered for answers without one": MAX_ASKED,
        "zone transfers followed on one connection": transfer.MAX_TRANSFERS,
    },
)
