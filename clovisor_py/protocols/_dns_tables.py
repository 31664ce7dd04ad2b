"""Names of DNS numbers: what operators write in place of a type, an operation code, a response code, an extended error.

A number without a name is told as the RFCs write it (`TYPE65280`, RFC 3597), so that nothing is ever unnamed.

Registry: https://www.iana.org/assignments/dns-parameters
"""

from __future__ import annotations

from typing import Final


def _numbered(first: int, names: str) -> dict[int, str]:
    """Names of successive numbers."""
    return dict(enumerate(names.split(), first))


A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
MX: Final = 15
TXT: Final = 16
AAAA: Final = 28
NB: Final = 32
"""As NetBIOS uses the number; DNS calls it NIMLOC, and nobody asks for one."""
SRV: Final = 33
DNAME: Final = 39
OPT: Final = 41
SVCB: Final = 64
HTTPS: Final = 65
SPF: Final = 99
IXFR: Final = 251
AXFR: Final = 252
CAA: Final = 257

QUERY: Final = 0
NOTIFY: Final = 4
UPDATE: Final = 5

TYPES: Final[dict[int, str]] = {
    **_numbered(1, "A NS MD MF CNAME SOA MB MG MR NULL WKS PTR HINFO MINFO MX TXT RP AFSDB X25 ISDN RT NSAP"),
    **_numbered(23, "NSAP-PTR SIG KEY PX GPOS AAAA LOC NXT EID NIMLOC SRV ATMA NAPTR KX CERT A6 DNAME SINK"),
    **_numbered(41, "OPT APL DS SSHFP IPSECKEY RRSIG NSEC DNSKEY DHCID NSEC3 NSEC3PARAM TLSA SMIMEA"),
    **_numbered(55, "HIP NINFO RKEY TALINK CDS CDNSKEY OPENPGPKEY CSYNC ZONEMD SVCB HTTPS DSYNC HHIT BRID"),
    **_numbered(99, "SPF UINFO UID GID UNSPEC NID L32 L64 LP EUI48 EUI64"),
    128: "NXNAME",
    **_numbered(249, "TKEY TSIG IXFR AXFR MAILB MAILA ANY URI CAA AVC DOA AMTRELAY RESINFO WALLET CLA IPN"),
    32768: "TA",
    32769: "DLV",
    65281: "WINS",
    65282: "WINS-R",
}
PRIVATE_TYPES: Final = range(0xFF00, 0xFFFF)
"""Types for private use: as good as known ones to a recogniser."""

OPCODES: Final[dict[int, str]] = {0: "QUERY", 1: "IQUERY", 2: "STATUS", 4: "NOTIFY", 5: "UPDATE", 6: "DSO"}

RCODES: Final[dict[int, str]] = {
    **_numbered(0, "NOERROR FORMERR SERVFAIL NXDOMAIN NOTIMP REFUSED YXDOMAIN YXRRSET NXRRSET NOTAUTH NOTZONE DSOTYPENI"),
    **_numbered(16, "BADVERS BADKEY BADTIME BADMODE BADNAME BADALG BADTRUNC BADCOOKIE"),
}

EXTENDED_ERRORS: Final[tuple[str, ...]] = (
    "Other Error",
    "Unsupported DNSKEY Algorithm",
    "Unsupported DS Digest Type",
    "Stale Answer",
    "Forged Answer",
    "DNSSEC Indeterminate",
    "DNSSEC Bogus",
    "Signature Expired",
    "Signature Not Yet Valid",
    "DNSKEY Missing",
    "RRSIGs Missing",
    "No Zone Key Bit Set",
    "NSEC Missing",
    "Cached Error",
    "Not Ready",
    "Blocked",
    "Censored",
    "Filtered",
    "Prohibited",
    "Stale NXDOMAIN Answer",
    "Not Authoritative",
    "Not Supported",
    "No Reachable Authority",
    "Network Error",
    "Invalid Data",
    "Signature Expired before Valid",
    "Too Early",
    "Unsupported NSEC3 Iterations Value",
    "Unable to conform to policy",
    "Synthesized",
)
"""By their number (RFC 8914)."""


def type_name(number: int) -> str:
    return TYPES.get(number) or f"TYPE{number}"


def rcode_name(number: int) -> str:
    return RCODES.get(number) or f"RCODE{number}"


def extended_error(number: int) -> str:
    return EXTENDED_ERRORS[number] if number < len(EXTENDED_ERRORS) else f"EDE{number}"
