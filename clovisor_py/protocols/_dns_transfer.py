"""Zone transfers: which of the many messages that answer one question is the last.

A full transfer (AXFR, RFC 5936) begins and ends with the zone's SOA record. An incremental one (IXFR, RFC 1995) does so too
where the server sends the whole zone; else it is a sequence of differences, in which the new SOA comes three times: first,
before what the last difference adds, and at the end. A lone SOA says that nothing changed.
"""

from __future__ import annotations

from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import Kind, Message
from clovisor_py.protocols import _dns_message as dns
from clovisor_py.protocols import _dns_names as names
from clovisor_py.protocols import _dns_records as records

MAX_TRANSFERS: Final = 64
"""Transfers followed at once on one connection; a secondary asks for its zones in turn. Beyond it the oldest end at once."""


class _Transfer:
    """One transfer under way."""

    __slots__ = ("awaited", "incremental", "records", "serial")

    def __init__(self, incremental: bool) -> None:
        self.incremental = incremental
        self.serial: int | None = None
        """The zone's, from the first record."""
        self.records = 0
        self.awaited = 2
        """How often its SOA comes before the transfer is over, less what came."""

    def over(self, serials: list[int | None]) -> bool:
        """Whether these records end it."""
        for serial in serials:
            if self.records == 0:
                self.serial = serial
            elif self.records == 1 and serial is not None and self.incremental:
                self.awaited += 1  # differences
            self.awaited -= serial is not None and serial == self.serial
            self.records += 1
        return self.awaited <= 0 or self.serial is None or (self.incremental and self.records == 1)


class Transfers:
    """The transfers of one connection, by the id of their question."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[int, _Transfer] = {}

    def ask(self, ident: int, type_name: str) -> None:
        """A question was asked; if it is one for a zone, its answer will be followed."""
        self._open.pop(ident, None)
        if type_name in ("AXFR", "IXFR"):
            self._open[ident] = _Transfer(type_name == "IXFR")
            if len(self._open) > MAX_TRANSFERS:
                del self._open[next(iter(self._open))]

    def follow(self, message: Message, data: bytes) -> None:
        """Make the response `message`, read from `data`, a part, where more of a transfer goes on behind it."""
        ident, _flags, asked, answered, *_ = dns.HEADER.unpack_from(data)
        transfer = self._open.get(ident)
        if transfer is None:
            return
        if message.error or not answered or _ended(transfer, data, asked, answered):
            del self._open[ident]
            message.attributes[dns.COUNT] = max(transfer.records, answered)
        else:
            message.kind = Kind.PART


def _ended(transfer: _Transfer, data: bytes, asked: int, answered: int) -> bool:
    try:
        pos = 12
        for _ in range(asked):
            pos = names.skip(data, pos) + 4
        return transfer.over(records.serials(data, pos, answered))
    except (*dns.SHORT, ProtocolError):
        return True
