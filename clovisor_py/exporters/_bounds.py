"""What a span may say, for every exporter alike: names, texts and numbers that any collector takes, within a bounded size.

What was on the wire may be a megabyte long, no UTF-8, or a number that 64 bits do not hold. One such attribute would cost its
whole batch, in some libraries also the next. So it is said otherwise here, before it is encoded: texts are cut and end with
`…`, a lone surrogate becomes `?`, a number beyond 64 bits its hexadecimal text, and what is beyond ATTRIBUTES_BYTES is left
out and counted in `clovisor.attributes_dropped`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

from clovisor_py.model.message import AttributeValue

NAME_CHARS: Final = 256
"""Of a service's, a span's or an attribute's name."""
TEXT_CHARS: Final = 4096
"""Of an attribute: room for an SQL statement. What is longer ends with `…`."""
ATTRIBUTES_BYTES: Final = 32_768
"""Of all attributes of a span: half a UDP datagram. Those beyond are left out."""
ATTRIBUTE_BYTES: Final = 20
"""What an attribute takes besides its name and text: an encoding's headers, or a number."""
DROPPED: Final = "clovisor.attributes_dropped"
"""Attribute: how many are beyond ATTRIBUTES_BYTES."""
UNNAMED: Final = "unknown"
"""A service without a name."""
LONG: Final = 1 << 63


def clean(attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Only what any encoding and Jaeger's JSON can say, within ATTRIBUTES_BYTES."""
    out: dict[str, AttributeValue] = {}
    room = ATTRIBUTES_BYTES
    for key, value in attributes.items():
        name, said = text(key, NAME_CHARS), plain(value)
        size = ATTRIBUTE_BYTES + _bytes(name) + _size(said)
        if size <= room and name not in out:
            out[name] = said
            room -= size
    if len(out) < len(attributes):
        out[DROPPED] = len(attributes) - len(out)
    return out


def plain(value: AttributeValue) -> AttributeValue:
    """The value, or a text that says it. A list that is too long for an attribute is the beginning of its JSON."""
    if isinstance(value, str):
        return text(value, TEXT_CHARS)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -LONG <= value < LONG else text(hex(value), TEXT_CHARS)  # str() refuses thousands of digits
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no such number: Jaeger could not show the trace
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        texts = [text(each, TEXT_CHARS) for each in value]
        return texts if len(said := list_text(texts)) <= TEXT_CHARS else text(said, TEXT_CHARS)
    return text(list_text(value), TEXT_CHARS)


def list_text(value: object) -> str:
    """A list as Jaeger shows one that came by OTLP: JSON. (A plugin's value of another kind, too.)"""
    return json.dumps(value, default=str)


def text(said: str, limit: int) -> str:
    """At most `limit` characters, all of which UTF-8 can say."""
    if len(said) > limit:
        said = said[: limit - 1] + "…"
    return said if said.isascii() else said.encode("utf-8", "replace").decode()  # a lone surrogate is no UTF-8


def _size(said: AttributeValue) -> int:
    if isinstance(said, str):
        return _bytes(said)
    return len(list_text(said)) if isinstance(said, list) else 0


def _bytes(said: str) -> int:
    return len(said) if said.isascii() else len(said.encode())
