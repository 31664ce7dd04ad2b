"""TLS 1.0 to 1.3 and SSL 3 (RFC 8446, RFC 5246): the handshake is a session, what follows is nobody's business.

The request is the client's hello, with the server's name in it; the answer is what the server chose, or the alert by which
either end gave up. An alert of the client is its answer too: it rejects what the server just said (its certificate, mostly).

When a handshake is done depends on the version. Up to TLS 1.2 the server has the last word (ChangeCipherSpec, or the client's
alert before it). In TLS 1.3 the client has, and nearly all is encrypted; but an alert is shorter than anything else that may
stand there, so the length of the client's first encrypted record tells whether it agreed (`encrypted_alert`: nobody can see
why it did not). Where a client may have sent data before (0-RTT) that would be a guess: then the server's first encrypted
record ends it. What a server of TLS 1.3 thinks of a client's certificate is encrypted, too, and is not told.

So the answer begins with the server's hello and may end with a record of the client: it comes in parts, and is paired by an
id, the same for all, as a connection has one handshake.

Records are stepped over, seen or not; only hellos are kept, until they are whole. After the handshake, and where a connection
is first seen behind it, the flow is handed away as `encrypted`.
"""

from __future__ import annotations

from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, SERVER, AttributeValue, Kind, Message
from clovisor_py.protocols import _tls_hello as hello
from clovisor_py.protocols import _tls_recognise as recognise
from clovisor_py.protocols import _tls_tables as tables
from clovisor_py.protocols._api import Capture, Pairing, Protocol, Setup
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._tls_ciphers import cipher_name
from clovisor_py.protocols._tls_half import Half

ENCRYPTED: Final = "encrypted"
"""What the connection is handed to: no protocol, so that it is only counted, under this name."""
HANDSHAKE: Final = "handshake"
OK: Final = "ok"
HIDDEN_ALERT: Final = "encrypted_alert"
"""Status, where an alert is known by its length only."""

NAME: Final = "tls.protocol.name"
VERSION: Final = "tls.protocol.version"
CIPHER: Final = "tls.cipher"
PROTOCOL_CHOSEN: Final = "tls.next_protocol"
ESTABLISHED: Final = "tls.established"
RESUMED: Final = "tls.resumed"
SERVER_NAME: Final = "server.address"
ERROR: Final = "error.type"
OFFERED_VERSION: Final = "clovisor.tls.client_version"
OFFERED_PROTOCOLS: Final = "clovisor.tls.client_protocols"
RETRIED: Final = "clovisor.tls.hello_retry"
"""Attribute, true where the server wanted another key share: that costs a round trip."""
ALERT_SENDER: Final = "clovisor.tls.alert_sender"

_SENDERS: Final = ("client", "server")
_HELLOS: Final = (bytes((tables.CLIENT_HELLO,)), bytes((tables.SERVER_HELLO,)))
"""How each sender's first handshake message begins."""
_ENCRYPTED_ALERT: Final = 2 + 1 + 16
"""Bytes of an encrypted alert of TLS 1.3: level and description, the type inside, the tag. The shortest message of a
handshake is longer by four."""
_SHORT_TAG: Final = 0x1305
_SHORTER: Final = 8
"""The cipher suite whose tag is shorter, by so many bytes."""


class TlsParser:
    """One connection, both directions."""

    __slots__ = ("_alert_size", "_early", "_halves", "_over", "_passed", "_resumed", "_version")

    def __init__(self, _setup: Setup) -> None:
        self._halves = (Half(), Half())
        self._version = 0
        """What the server chose; 0 until it did."""
        self._alert_size = 0
        self._early = False
        """The client's encrypted records say nothing: it may have begun before it was its turn."""
        self._resumed: bool | None = None
        self._passed = False
        """What follows makes no sense without what was not seen."""
        self._over = False

    # ---- the contract ----

    def parse(self, sender: int, cursor: Cursor) -> Message | None:
        half = self._halves[sender]
        message, half.owed = half.owed, None
        if message is not None:
            return message
        data = cursor.data
        while not self._over:
            if half.left:
                message = self._hello(sender, half, cursor)
                if message is not None or half.left:
                    return message
            pos = cursor.pos
            if pos >= len(data):
                return None
            if data[pos] & 0x80 and sender == CLIENT and not half.done:
                return self._old_hello(half, cursor)
            if not recognise.plausible(data, pos):
                raise ProtocolError("not TLS: no record begins like that.")
            if len(data) < pos + tables.HEADER:
                return None
            message = self._record(sender, half, cursor)
            if message is not None or cursor.pos == pos:
                return message
        cursor.skip(cursor.remaining)
        return None

    def gap(self, _sender: int, _size: int) -> bool:
        return self._over

    def end(self, sender: int) -> Message | None:
        half = self._halves[sender]
        message, half.owed = half.owed, None
        if half.body:
            body = half.give_up()
            if sender == CLIENT and body[:1] == b"\3" and len(body) > 1:
                message = _request(hello.client_hello(body, whole=False))
            else:
                self._passed = True
        if message is not None:
            message.incomplete = True
        return message

    def resync(self, sender: int, data: bytes | bytearray) -> int | None:
        half = self._halves[sender]
        half.reset()
        if self._over or not data or not recognise.plausible(data, 0):
            return None
        if not half.done and (data[0] != tables.HANDSHAKE or data[tables.HEADER : tables.HEADER + 1] != _HELLOS[sender]):
            self._passed = True
        return 0

    # ---- records ----

    def _record(self, sender: int, half: Half, cursor: Cursor) -> Message | None:
        """The record at the cursor, of which the header is there. The cursor stays where it is until enough has come."""
        kind, _major, _minor, size = recognise.HEADER.unpack_from(cursor.data, cursor.pos)
        if self._passed:
            return self._leave()
        if kind == tables.HANDSHAKE:
            return self._handshake(sender, half, cursor, size)
        if kind == tables.ALERT and size == 2:
            return self._alert(sender, cursor)
        if not (self._halves[CLIENT].done or self._halves[SERVER].done):
            return self._leave()
        if kind == tables.DATA:
            return self._data(sender, cursor, size)
        agreed = kind == tables.CHANGE_CIPHER_SPEC and sender == SERVER and 0 < self._version < tables.TLS_1_3
        if agreed and cursor.remaining < tables.HEADER + size:
            return None
        cursor.skip(tables.HEADER + size)
        return self._agreed() if agreed else self._by_the_way(sender, cursor)

    def _handshake(self, sender: int, half: Half, cursor: Cursor, size: int) -> Message | None:
        """A record of the handshake itself, in the clear, unless it comes behind a change of the cipher."""
        if cursor.remaining <= tables.HEADER:
            return None
        kind = cursor.data[cursor.pos + tables.HEADER]
        if not half.done and (half.body or kind == _HELLOS[sender][0]):
            cursor.pos += tables.HEADER
            half.left = size
            return None
        if not half.done and (sender == CLIENT or kind != tables.HELLO_REQUEST):
            return self._leave()
        self._note(sender, kind)
        cursor.skip(tables.HEADER + size)
        return self._by_the_way(sender, cursor)

    def _data(self, sender: int, cursor: Cursor, size: int) -> Message | None:
        """An encrypted record."""
        whole = tables.HEADER + size
        ends = self._version == tables.TLS_1_3 and self._early == (sender == SERVER)
        if ends and cursor.remaining < whole:
            return None
        cursor.skip(whole)
        if not ends:
            self._early = self._early or (sender == CLIENT and not self._version)
            return self._by_the_way(sender, cursor)
        if sender == CLIENT and size == self._alert_size:
            return self._handed_away(self._failed(sender, HIDDEN_ALERT))
        return self._agreed()

    def _alert(self, sender: int, cursor: Cursor) -> Message | None:
        """An alert in the clear. A warning ends nothing, unless it closes the connection."""
        if cursor.remaining < tables.HEADER + 2:
            return None
        level, number = cursor.data[cursor.pos + tables.HEADER : cursor.pos + tables.HEADER + 2]
        if level not in (tables.WARNING, tables.FATAL):
            raise ProtocolError("not TLS: an alert of no known level.")
        cursor.pos += tables.HEADER + 2
        if level == tables.WARNING and number != tables.CLOSE_NOTIFY:
            return self._by_the_way(sender, cursor)
        return self._failed(sender, tables.alert_name(number))

    def _by_the_way(self, sender: int, cursor: Cursor) -> Message | None:
        """A record that says nothing: more of the server's answer, or of the client, what belongs to no message."""
        if sender == SERVER and self._version:
            return self._halves[sender].stepped(cursor, Message(Kind.PART, correlation=HANDSHAKE))
        cursor.drop()
        return None

    # ---- hellos ----

    def _hello(self, sender: int, half: Half, cursor: Cursor) -> Message | None:
        """Read on in a hello; with it ends what is read of its record."""
        body = half.take(cursor)
        if body is None:
            return None
        following = cursor.data[cursor.pos] if half.left and cursor.remaining else None
        cursor.skip(half.left)
        half.left = 0
        if sender == CLIENT:
            offer = hello.client_hello(body)
            self._early = offer.early_data
            return half.stepped(cursor, _request(offer))
        message = self._chosen(half, hello.server_hello(body))
        if following is not None:
            self._note(sender, following)
        return half.stepped(cursor, message)

    def _old_hello(self, half: Half, cursor: Cursor) -> Message | None:
        data, pos = cursor.data, cursor.pos
        if cursor.remaining < recognise.OLD_HEADER:
            return None
        size = recognise.old_size(data, pos)
        if not size:
            raise ProtocolError("not TLS: no hello of SSL 2 looks like that.")
        if cursor.remaining < size:
            return None
        cursor.pos += size
        half.done = True
        return _request(hello.old_client_hello(bytes(data[pos + 3 : pos + 5])))

    def _chosen(self, half: Half, chosen: hello.ServerHello) -> Message:
        """The server's hello: the answer begins, or another client hello is to come before it does."""
        message = Message(Kind.PART, correlation=HANDSHAKE)
        attributes = message.attributes
        if chosen.retry:
            half.done = False
            attributes[RETRIED] = True
            return message
        self._version = chosen.version
        self._alert_size = _ENCRYPTED_ALERT - (chosen.cipher == _SHORT_TAG) * _SHORTER
        attributes[NAME] = "ssl" if chosen.version == tables.SSL_3 else "tls"
        attributes[VERSION] = tables.version_name(chosen.version)
        attributes[CIPHER] = cipher_name(chosen.cipher)
        if chosen.protocol:
            attributes[PROTOCOL_CHOSEN] = chosen.protocol
        if chosen.version == tables.TLS_1_3:
            self._resumed = chosen.resumed
        return message

    def _note(self, sender: int, kind: int) -> None:
        """A handshake message behind the hello. What a new session takes is left out where an old one goes on."""
        exchanged = kind in tables.IN_FULL_HANDSHAKES if sender == SERVER else self._version > 0
        if exchanged and self._resumed is None:
            self._resumed = False

    # ---- how it ends ----

    def _agreed(self) -> Message:
        told: dict[str, AttributeValue] = {ESTABLISHED: True, RESUMED: self._resumed is not False}
        message = Message(Kind.RESPONSE, HANDSHAKE, status=OK, attributes=told, correlation=HANDSHAKE)
        return self._handed_away(message)

    def _failed(self, sender: int, alert: str) -> Message:
        """Nothing will follow that anybody could want to count."""
        self._over = True
        told: dict[str, AttributeValue] = {NAME: "tls", ESTABLISHED: False, ERROR: alert, ALERT_SENDER: _SENDERS[sender]}
        return Message(Kind.RESPONSE, HANDSHAKE, status=alert, error=True, attributes=told, correlation=HANDSHAKE)

    def _leave(self) -> Message:
        """All that can be told was told, or passed before anybody looked."""
        return self._handed_away(Message(Kind.INTERIM))

    def _handed_away(self, message: Message) -> Message:
        self._over = True
        message.hands_to = ENCRYPTED
        return message


def _request(offer: hello.ClientHello) -> Message:
    attributes: dict[str, AttributeValue] = {NAME: "tls", OFFERED_VERSION: tables.version_name(offer.version)}
    if offer.server_name:
        attributes[SERVER_NAME] = offer.server_name
    if offer.protocols:
        attributes[OFFERED_PROTOCOLS] = list(offer.protocols)
    return Message(Kind.REQUEST, HANDSHAKE, offer.server_name, attributes=attributes, correlation=HANDSHAKE)


PROTOCOL = Protocol(
    name="tls",
    title="TLS 1.0 to 1.3 and SSL 3: the handshake",
    specification="https://www.rfc-editor.org/rfc/rfc8446",
    parser=TlsParser,
    recognise=recognise.recognise,
    pairing=Pairing.BY_ID,
    capture=Capture.FULL,
    ports=(443, 8443, 9443, 6443, 10250, 2379, 2380, 853, 636, 993, 995, 465, 5671, 8883),
    hints=("https", "ssl", "wss", "kubernetes.io/wss"),
    attributes=(
        NAME,
        VERSION,
        CIPHER,
        PROTOCOL_CHOSEN,
        ESTABLISHED,
        RESUMED,
        SERVER_NAME,
        ERROR,
        OFFERED_VERSION,
        OFFERED_PROTOCOLS,
        RETRIED,
        ALERT_SENDER,
    ),
    limits={
        "bytes of a hello": hello.MAX_HELLO,
        "bytes of a hello of SSL 2": recognise.MAX_OLD,
        "bytes of a record": tables.MAX_RECORD,
        "characters of a server's name": hello.MAX_SERVER_NAME,
        "protocols told of those a client offers": hello.MAX_PROTOCOLS,
        "characters of a protocol's name": hello.MAX_PROTOCOL,
    },
)
