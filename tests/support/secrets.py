"""Secrets for live tests: words that nobody else would say, planted in traffic, and looked for in whatever comes out.

They are looked for as they are, in hexadecimal and in base64 (as a driver or an exporter might write them), in any case, and
also by halves: what was cut is a leak, too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from secrets import token_hex
from typing import Final

HALF: Final = 12
"""Characters, of a secret's 24: enough that chance does not say them."""


class Secrets:
    """Those of one test run, by the name of what was planted."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}

    def new(self, name: str) -> str:
        """A secret of 24 letters and digits (a letter first, so that it can also be a name), remembered under this name."""
        return self.planted.setdefault(name, f"s{token_hex(HALF)[1:]}")

    def found(self, outputs: Mapping[str, bytes]) -> list[str]:
        """Names of the secrets that came out, with the output in which they are."""
        return [
            f"{name} in {where}"
            for where, data in outputs.items()
            for name, secret in self.planted.items()
            if any(form in data.lower() for form in _forms(secret))
        ]

    def check(self, outputs: Mapping[str, bytes]) -> None:
        """That none of them came out, of outputs that do say something."""
        assert self.planted, "no secret was planted"
        assert all(outputs.values()), {where: len(data) for where, data in outputs.items()}
        assert self.found(outputs) == []


def _forms(secret: str) -> Iterator[bytes]:
    """In lower case."""
    data = secret.encode()
    for part in (data[:HALF], data[-HALF:]):
        yield part.lower()
        yield part.hex().encode()
        yield base64.b64encode(part).lower()
    for shift in (1, 2):  # the other two ways in which base64 may cut it
        yield base64.b64encode(data[shift:])[:HALF].lower()
