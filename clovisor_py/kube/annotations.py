"""The words that an operator writes on objects: the label that turns tracing on or off, and the annotations that refine it.

Anybody who may edit a pod may write anything there, so reading is total: each function gives what made sense and, beside it,
a sentence part about each entry that did not. The rest of the value counts all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from clovisor_py.kube.egress import EgressRule, port_number, quoted, rule_of

PREFIX: Final = "clovisor.io/"
TRACE: Final = f"{PREFIX}trace"
"""The label, `true` or `false`; all others are annotations."""
PORTS: Final = f"{PREFIX}ports"
CAPTURE: Final = f"{PREFIX}capture"
EGRESS: Final = f"{PREFIX}egress"
REDACT: Final = f"{PREFIX}redact"
SAMPLE: Final = f"{PREFIX}sample"
ANNOTATIONS: Final = (PORTS, CAPTURE, EGRESS, REDACT, SAMPLE)

SWITCH: Final = MappingProxyType({"true": True, "false": False})
CAPTURES: Final = ("head", "full", "none")
LEVELS: Final = ("off", "default", "strict")
"""As in protocols/_redaction."""

MAX_ENTRIES: Final = 64
"""Entries of one list that count: more ports than a pod has, while a value may be 256 KiB long. The rest is said."""
MAX_SAID: Final = 4
"""Mistakes of one value that are told apart: an Event's message holds 1,024 characters. The rest is counted."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Parsed(Generic[Value]):
    """What made sense of a value, and a sentence part (no full stop) for each thing that did not."""

    value: Value
    mistakes: tuple[str, ...] = field(default=())


def read_ports(text: str, names: Collection[str]) -> Parsed[Mapping[int, str]]:
    """`8080=http,9092=kafka` as port to protocol name, as in `names`; of two entries for a port the first counts."""
    hints: dict[int, str] = {}

    def add(entry: str) -> str:
        hint = hint_of(entry, names)
        if isinstance(hint, str):
            return hint
        if hints.setdefault(*hint) != hint[1]:
            return f"port {hint[0]} is given twice; {hints[hint[0]]} counts"
        return ""

    return Parsed(MappingProxyType(hints), _each(text, add))


def hint_of(entry: str, names: Collection[str]) -> tuple[int, str] | str:
    """`8080=http` as (port, name), or what is wrong with it."""
    port_text, equals, name = (part.strip() for part in entry.partition("="))
    if not equals:
        return f"{quoted(entry)} is no hint: write PORT=PROTOCOL, like 8080=http"
    port = port_number(port_text)
    if port is None:
        return f"{quoted(port_text)} in {quoted(entry)} is no port: write one from 1 to 65535"
    if name.lower() not in names:
        return f"{quoted(name)} in {quoted(entry)} is no protocol; known are {', '.join(sorted(names)) or 'none'}"
    return port, name.lower()


def read_egress(text: str) -> Parsed[tuple[EgressRule, ...]]:
    """`10.0.0.5:5432,*:6379` as rules. They are all that is looked at: an empty list is no outgoing connection at all."""
    rules: list[EgressRule] = []

    def add(entry: str) -> str:
        rule = rule_of(entry)
        if isinstance(rule, str):
            return rule
        rules.append(rule)
        return ""

    mistakes = _each(text, add)
    return Parsed(tuple(dict.fromkeys(rules)), mistakes)


def read_capture(text: str) -> Parsed[str | None]:
    """`head`, `full` or `none`; None where it is neither."""
    return _choice(text, CAPTURES)


def read_redact(text: str) -> Parsed[str | None]:
    """`off`, `default` or `strict`; None where it is neither."""
    return _choice(text, LEVELS)


def read_sample(text: str) -> Parsed[float | None]:
    """`0.1`: a ratio from 0 to 1; None where it is none."""
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if 0.0 <= ratio <= 1.0:
        return Parsed(ratio)
    return Parsed(None, (f"{quoted(text)} is no ratio: write a number from 0 to 1, like 0.1",))


def read_switch(text: str) -> Parsed[bool | None]:
    """The label's value. Exact, as the API server's own selectors compare it."""
    return Parsed(SWITCH[text]) if text in SWITCH else Parsed(None, (f"{quoted(text)} is neither: write 'true' or 'false'",))


def _choice(text: str, choices: tuple[str, ...]) -> Parsed[str | None]:
    word = text.strip().lower()
    if word in choices:
        return Parsed(word)
    return Parsed(None, (f"{quoted(text)} is none of {', '.join(choices)}: write one of these",))


def _each(text: str, add: Callable[[str], str]) -> tuple[str, ...]:
    """Hand each entry of a comma-separated list to `add`, which answers what is wrong with it, or nothing."""
    entries = [entry for part in text.split(",") if (entry := part.strip())]
    mistakes = [mistake for entry in entries[:MAX_ENTRIES] if (mistake := add(entry))]
    if len(mistakes) > MAX_SAID:
        mistakes[MAX_SAID:] = [f"{len(mistakes) - MAX_SAID} more entries make no sense"]
    if len(entries) > MAX_ENTRIES:
        mistakes.append(f"only the first {MAX_ENTRIES} of its {len(entries)} entries count: leave some out")
    return tuple(mistakes)
