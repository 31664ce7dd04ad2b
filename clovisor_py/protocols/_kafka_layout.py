"""Layouts: a line of `_kafka_schema`, compiled for one version into the steps by which a message is read.

Fields of fixed size that follow each other become one step, so a usual message has about ten. Each API and version that is
met is compiled once.

In flexible versions lengths are variable, and tagged fields end every structure (KIP-482). A request's header always has
its client id as a plain string, and a response to ApiVersions has the oldest header: nobody knows the other yet (KIP-511).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from clovisor_py.protocols import _kafka_steps as steps
from clovisor_py.protocols._kafka_reading import Act, Program, Sink, Step
from clovisor_py.protocols._kafka_schema import API_VERSIONS, APIS, CONTROLLED_SHUTDOWN
from clovisor_py.protocols._kafka_usual import usual

_TOKEN = re.compile(r"(\.\.\.|\?\{|[\[{\]}]|[a-z_]+|[0-9]+)(\*?)(?:@([0-9]*)([-+]?)([0-9]*))?")
_CLOSING = {"[": "]", "{": "}", "?{": "}"}
_NEWEST: Final = 1 << 15
_CACHED: Final = 2048
"""Programs that are kept: more than all versions of all APIs have."""

_TOLD: Final[dict[str, tuple[str, Sink]]] = {
    "topic_id": ("16s", steps.topic_id),
    "partition": ("i", steps.partition),
    "offset": ("q", steps.offset),
    "acks": ("h", steps.acks),
    "error": ("h", steps.error),
    "id": ("16s", steps.id),
}
"""Fields of fixed size that are told: their format, and where they go."""
_TEXTS: Final[dict[str, Sink | None]] = {
    "string": None,
    "topic": steps.topic,
    "group": steps.group,
    "name": steps.name,
    "known": steps.known,
}

_NAMING: Final = (steps.topic, steps.topic_id, steps.group, steps.name)


class Field(NamedTuple):
    """A word of a layout, in the versions `first` to `last`; `[`, `{` and `?{` have `fields`, and so has an array `*`."""

    word: str
    first: int
    last: int
    fields: tuple[Field, ...] = ()


@lru_cache(maxsize=_CACHED)
def request(key: int, version: int) -> Program:
    """How to read what follows the correlation id. Of an API or version that is not known: the client id only."""
    api = APIS.get(key)
    if key == CONTROLLED_SHUTDOWN and version == 0:
        return _compile((), api.request if api else "", version, False)
    header: tuple[Step, ...] = ((steps.text, None, steps.client, False),)
    if api is None or version > api.newest:
        return Program(header, False)
    return _compile(header, api.request, version, version >= api.flexible, tagged_header=True)


@lru_cache(maxsize=_CACHED)
def response(key: int, version: int) -> Program | None:
    """How to read what follows the correlation id; None: nobody here knows."""
    api = APIS.get(key)
    if api is None or (version > api.newest and key != API_VERSIONS):
        return None
    return _compile((), api.response, version, version >= api.flexible, tagged_header=key != API_VERSIONS)


def _compile(header: tuple[Step, ...], layout: str, version: int, flexible: bool, tagged_header: bool = False) -> Program:
    compiler = _Compiler(list(header), version, flexible)
    if flexible and tagged_header:
        compiler.tags()
    exact = compiler.structure(parse(layout))
    found = tuple(compiler.steps)
    return Program(found, exact, compiler.naming, compiler.depth_of_naming, usual(found))


def parse(layout: str) -> tuple[Field, ...]:
    """The fields of a layout. Raises ValueError where it is none."""
    if _TOKEN.sub("", layout).strip():
        raise ValueError(f"no layout: {layout}")
    return _parse([found.groups(default="") for found in _TOKEN.finditer(layout)], "")[0]


def _parse(tokens: list[tuple[str, ...]], closing: str) -> tuple[tuple[Field, ...], list[tuple[str, ...]]]:
    """The fields up to the bracket `closing`, and the tokens from it on."""
    fields: list[Field] = []
    while tokens and tokens[0][0] != closing:
        (word, star, *versions), tokens = tokens[0], tokens[1:]
        if word in _CLOSING.values():
            raise ValueError(f"no layout: a stray {word}")
        inside: tuple[Field, ...] = ()
        if word in _CLOSING:
            inside, tokens = _parse(tokens, _CLOSING[word])
            (_, _, *versions), tokens = tokens[0], tokens[1:]
        elif star:
            inside, word = (Field(word, 0, _NEWEST),), "*"
        fields.append(Field(word, *_range(*versions), inside))
    return tuple(fields), tokens


def _range(first: str, sign: str, last: str) -> tuple[int, int]:
    """`3+`, `-2`, `1-2` or nothing."""
    return int(first or 0), int(last) if sign == "-" else _NEWEST


class _Compiler:
    """Appends steps; a run of fixed fields is held back until something else follows."""

    def __init__(self, header: list[Step], version: int, flexible: bool) -> None:
        self.steps = header
        self._version = version
        self._flexible = flexible
        self._format = ">"
        self._sinks: list[Sink] = []
        self._depth = 0
        self.naming = -1
        self.depth_of_naming = 0

    def structure(self, fields: tuple[Field, ...]) -> bool:
        """All its fields; answers whether they are all that there is."""
        for field in fields:
            if field.word == "...":
                self._flush()
                return False
            if field.first <= self._version <= field.last:
                self._field(field)
        self._flush()
        if self._flexible:
            self.tags()
        return True

    def tags(self) -> None:
        self._loop(steps.tags, lambda: self._add(steps.tag))

    def _field(self, field: Field) -> None:
        word = field.word
        if word.isdigit():
            self._format += f"{word}x"
        elif word in _TOLD:
            format_, sink = _TOLD[word]
            self._format += format_
            self._sinks.append(sink)
        else:
            self._flush()
            self._variable(word, field.fields)

    def _variable(self, word: str, fields: tuple[Field, ...]) -> None:
        if word in ("[", "*"):
            self._array(fields, plain=word == "*")
        elif word == "{":
            self.structure(fields)
        elif word == "?{":
            self._skippable(steps.maybe, lambda: self.structure(fields))
        elif word == "records":
            self._add(steps.compact_records if self._flexible else steps.records)
            self._add(steps.batches)
        elif word == "bytes":
            self._add(steps.compact_text if self._flexible else steps.octets)
        else:
            self._add(steps.compact_text if self._flexible else steps.text, None, _TEXTS[word])

    def _array(self, fields: tuple[Field, ...], plain: bool) -> None:
        fields = tuple(field for field in fields if field.first <= self._version <= field.last)
        if all(field.word.isdigit() for field in fields) and (plain or not self._flexible):
            size = sum(int(field.word) for field in fields)
            self._add(steps.compact_values if self._flexible else steps.values, size)
            return
        start = steps.compact_array if self._flexible else steps.array
        self._loop(start, lambda: self._elements(fields, plain))

    def _elements(self, fields: tuple[Field, ...], plain: bool) -> None:
        if plain:
            self._field(fields[0])
            self._flush()
        else:
            self.structure(fields)

    def _loop(self, start: Act, body: Callable[[], object]) -> None:
        self._skippable(start, lambda: self._repeat(body))

    def _repeat(self, body: Callable[[], object]) -> None:
        before = len(self.steps) - 1
        self._depth += 1
        body()
        self._depth -= 1
        self._add(steps.again, before)

    def _skippable(self, start: Act, body: Callable[[], object]) -> None:
        """`start` goes behind the body where there is none."""
        at = len(self.steps)
        self._add(start)
        body()
        self.steps[at] = (start, len(self.steps) - 1, None, True)

    def _flush(self) -> None:
        if self._format != ">":
            fields = struct.Struct(self._format)
            if not self._sinks:
                self._add(steps.skip, fields.size)
            elif len(self._sinks) == 1:
                self._add(steps.take, (fields.size, fields.unpack_from, self._format[1:]), self._sinks[0])
            else:
                self._add(steps.take_several, (fields.size, fields.unpack_from, self._format[1:]), tuple(self._sinks))
            self._format, self._sinks = ">", []

    def _add(self, step: Act, operand: object = None, sink: object = None) -> None:
        if sink in _NAMING:
            self.naming, self.depth_of_naming = len(self.steps), self._depth
        self.steps.append((step, operand, sink, step in steps.JUMPING))
