"""Words: whether a hand wrote a part of a path, as far as its letters tell.

A route is written to be read: `getUserById`, `checkout-service`, `index.html`, `shop.v1.Cart`. A token, a host's name or a
person's address is not, and must be no label of a metric. Nobody can tell `alice` from `admin` so, nor a token of small letters
from a word: `routes` learns that a place has many of them. Of random letters in both cases a fifth of those of 8 characters
passes for a name, a fiftieth of 16; with digits among them an eighth, and a two-hundredth.
"""

from __future__ import annotations

import re
from typing import Final

TOKEN_CHARS: Final = 6
"""In what is shorter, capitals amid small letters are as likely an abbreviation (`GiB`, `mTLS`)."""
ACRONYM_CHARS: Final = 5
"""Capitals in a row, amid small letters; the next word's first is not one of them (`XMLHttp` has three)."""
_ENDING = re.compile(
    r"""
    action | ashx | asmx | asp | aspx | atom | avif | avro | axd | bin | bmp | bz2 | cfm | cgi | conf | css | csv | deb |
    dll | do | doc | docx | env | eot | exe | gif | gz | htm | html | ico | ics | ini | iso | jar | jpeg | jpg | js | json
    | jsonl | jsp | jspx | key | less | log | m3u8 | map | md | mjs | mov | mp3 | mp4 | mpd | ndjson | ogg | otf | parquet
    | pb | pdf | pem | php | pl | png | ppt | pptx | properties | proto | ps | py | rar | rb | rpm | rss | scss | sh |
    shtml | sql | svc | svg | swf | tar | tgz | tif | tiff | toml | ts | tsv | ttf | txt | vtt | war | wasm | wav | webm |
    webmanifest | webp | woff | woff2 | wsdl | xhtml | xls | xlsx | xml | xsd | xsl | xz | yaml | yml | zip | zst
    """,
    re.VERBOSE,
)
"""Of files that servers serve."""
_DOMAINS: Final = frozenset({"com", "de", "dev", "edu", "eu", "gov", "internal", "local", "localhost", "net", "org", "uk"})
"""Behind one word they make it a host."""
_NO_VOWEL = re.compile(
    r"""
    btn | cmd | css | ctx | db | dns | fs | grpc | html | http | img | jpg | jwt | mc | mgr | mqtt | ms | pdf | png | smtp
    | sql | src | std | str | svc | svg | tcp | tls | url | ws | xml
    """,
    re.VERBOSE,
)
"""Words of routes that nobody can say, and that are written like others for all that (`getHttpStatus`)."""
_HUMP = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
"""`getHTTPStatus2` has four."""
_VOWEL = re.compile(r"[aeiouyAEIOUY]")
_VERSION = re.compile(r"[vV][0-9]+(?:\.[0-9]+)*")
_DASHED_ADDRESS = re.compile(r"(?<![0-9])[0-9]{1,3}(?:-[0-9]{1,3}){3}(?![0-9])")
_BETWEEN = re.compile(r"[^0-9A-Za-z]+")


def written(part: str) -> bool:
    """Whether a part of a path is a word of a route: time is linear in its length."""
    if part.isascii() and part.isalpha() and part.islower():
        return True
    return not _DASHED_ADDRESS.search(part) and _is_file_or_service(part) and all(map(_is_name, _BETWEEN.split(part)))


def _is_file_or_service(part: str) -> bool:
    """What its dots say: it ends as files do, is a version, a service in its package, or two small words (`users.list`, of
    which a name of a person is one to be learnt); not a host, nor an address.
    """
    names = part.lstrip(".").split(".")
    last = names[-1]
    if len(names) == 1 or _ENDING.fullmatch(last.lower()) or _VERSION.fullmatch(last) or _VERSION.fullmatch(part):
        return True
    if len(names) == 2 and part.islower() and all(name.isalpha() for name in names):
        return last not in _DOMAINS
    return names[0][:1].islower() and not last.islower() and last.isidentifier()


def _is_name(piece: str) -> bool:
    """Letters and digits: small ones, capitals, or words that are told apart by their first letter; at most one number then."""
    humps: list[str] = _HUMP.findall(piece)
    numbers = sum(hump.isdigit() for hump in humps)
    if len(piece) < TOKEN_CHARS or piece.islower() or piece.isupper():
        return numbers < 3
    letters = [hump for hump in humps if not hump.isdigit()]
    capitals = [hump for hump in letters if hump.isupper()]
    if numbers > 1 or len(capitals) > 1 or any(len(hump) > ACRONYM_CHARS for hump in capitals):
        return False
    return all(_is_word(hump, first=at == 0) for at, hump in enumerate(letters) if not hump.isupper())


def _is_word(hump: str, first: bool) -> bool:
    """`iPhone` and `xAxis` begin with one letter."""
    if len(hump) == 1:
        return first
    return bool(_VOWEL.search(hump) or _NO_VOWEL.fullmatch(hump.lower()))
