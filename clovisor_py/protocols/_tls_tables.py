"""Numbers of TLS and their names: records, handshake messages, extensions, versions, alerts.

Alerts are told as RFC 8446 writes them: `handshake_failure`, `unrecognized_name`, `certificate_expired`.

Registry: https://www.iana.org/assignments/tls-parameters
"""

from __future__ import annotations

from typing import Final

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
DATA: Final = 23
RECORDS: Final = range(20, 24)
HEADER: Final = 5
"""Bytes before the content of a record: its type, a version, its length."""
MAX_RECORD: Final = (1 << 14) + 2048
"""Bytes of a record, as the most generous of the RFCs has it (5246, 6.2.3). Beyond it: ProtocolError."""
MAX_MINOR: Final = 4
"""Of the version in a record's header, whose major part is 3: from SSL 3.0 on."""

HELLO_REQUEST: Final = 0
CLIENT_HELLO: Final = 1
SERVER_HELLO: Final = 2
NEW_SESSION_TICKET: Final = 4
CERTIFICATE: Final = 11
SERVER_KEY_EXCHANGE: Final = 12
CERTIFICATE_REQUEST: Final = 13
SERVER_HELLO_DONE: Final = 14
CERTIFICATE_VERIFY: Final = 15
CLIENT_KEY_EXCHANGE: Final = 16
CERTIFICATE_STATUS: Final = 22
SAID_BY_SERVERS: Final = frozenset(
    (SERVER_HELLO, NEW_SESSION_TICKET, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE, CERTIFICATE_STATUS)
)
SAID_BY_CLIENTS: Final = frozenset((CLIENT_HELLO, CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE))
IN_FULL_HANDSHAKES: Final = frozenset(
    (CERTIFICATE, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE, CERTIFICATE_STATUS)
)
"""What a server of TLS 1.2 says only where the session is a new one."""

SERVER_NAME: Final = 0
NEXT_PROTOCOL: Final = 16
PRE_SHARED_KEY: Final = 41
EARLY_DATA: Final = 42
SUPPORTED_VERSIONS: Final = 43

SSL_3: Final = 0x0300
TLS_1_2: Final = 0x0303
TLS_1_3: Final = 0x0304
_VERSIONS: Final = {SSL_3: "3", 0x0301: "1.0", 0x0302: "1.1", TLS_1_2: "1.2", TLS_1_3: "1.3"}
_DRAFTS: Final = (0x7F, 0xFB)
"""First bytes of the versions by which drafts of TLS 1.3 went."""

WARNING: Final = 1
FATAL: Final = 2
CLOSE_NOTIFY: Final = 0
USER_CANCELED: Final = 90
ALERTS: Final[dict[int, str]] = {
    CLOSE_NOTIFY: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    USER_CANCELED: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
    121: "ech_required",
}


def is_grease(number: int) -> bool:
    """A number that means nothing, sent to keep servers tolerant (RFC 8701)."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def known_version(number: int) -> int:
    """The version that a number stands for: the draft of one is that one."""
    return TLS_1_3 if number >> 8 in _DRAFTS else number


def version_name(number: int) -> str:
    """As in `tls.protocol.version`; what has no name is told as its number."""
    return _VERSIONS.get(number) or f"0x{number:04x}"


def alert_name(number: int) -> str:
    return ALERTS.get(number) or f"alert_{number}"
