"""Runs a parser over a scripted exchange in every way that TCP may deliver it, and holds it to the contract of `_api`.

One helper for every protocol, in the manner of h11's `tr()`:

    check(PROTOCOL, script)            whole, byte by byte, in random pieces, with trailing bytes, cut short, with losses
    @given(mutated(script))            the same script, damaged; `run(PROTOCOL, it)` must survive it
    run(PROTOCOL, script).messages     what came of one delivery

`run` is the engine in miniature: it steps over skips, calls once more (with nothing, if need be) when one is over, goes
on behind violations, and ends both directions at the close. It asserts that the parser gives its three answers only, that
its work is linear in the bytes, and that it does not wait for more than a bounded number of them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.protocols._api import Protocol, Setup
from clovisor_py.protocols._cursor import Cursor

Script = Sequence[tuple[int, bytes | int]]
"""What passed on the wire, in order: (sender, payload), or (sender, size) for bytes that will never be seen."""

PLAIN = Setup()

WORK_PER_BYTE = 16
"""Times that one byte may be searched or copied; what matters is that it does not grow with the input."""
CALLS_PER_BYTE = 4
MAX_UNREAD = 128 * 1024
"""Bytes that may wait for more; a parser that wants to wait longer has no limit."""


class Counted(bytearray):
    """Bytes that count how many of them are searched and copied (by regular expressions they are not)."""

    work = 0

    def find(self, needle: Any, start: Any = 0, end: Any = None) -> int:
        stop = len(self) if end is None else min(end, len(self))
        at = super().find(needle, start, stop)
        self.work += max((at if at >= 0 else stop) - start, 0)
        return at

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            self.work += len(range(*key.indices(len(self))))
        return super().__getitem__(key)


@dataclass
class Run:
    """What came of a script."""

    messages: list[tuple[int, Message, int]] = field(default_factory=list)
    """Sender, message, position in its stream where it ended."""
    before_close: int = 0
    """How many of them were there before the connection ended."""
    violations: list[str] = field(default_factory=list)

    @property
    def early(self) -> list[tuple[int, Message, int]]:
        return self.messages[: self.before_close]

    def of(self, sender: int) -> list[Message]:
        return [message for whose, message, _ in self.messages if whose == sender]

    @property
    def joined(self) -> list[tuple[int, Message, int]]:
        """The messages as the engine adds them up: a response with its parts, in how many of them it may have come."""
        return _joined(self.messages)

    @property
    def complete(self) -> list[tuple[int, Message, int]]:
        """Those that were there before the connection ended, without responses whose end was not."""
        return [one for one in _joined(self.early) if one[0] == CLIENT or one[1].kind is not Kind.PART]


def _joined(messages: list[tuple[int, Message, int]]) -> list[tuple[int, Message, int]]:
    out: list[tuple[int, Message, int]] = []
    begun: dict[int | str | None, tuple[Message, int]] = {}
    for sender, message, offset in messages:
        ours = sender == SERVER and message.kind in (Kind.PART, Kind.RESPONSE)
        before, _ = begun.pop(message.correlation, (None, 0)) if ours else (None, 0)
        whole = message if before is None else _sum(before, message)
        if ours and message.kind is Kind.PART:
            begun[message.correlation] = whole, offset
        else:
            out.append((sender, whole, offset))
    return out + [(SERVER, message, offset) for message, offset in begun.values()]


def _sum(before: Message, after: Message) -> Message:
    return replace(
        after,
        operation=after.operation or before.operation,
        resource=after.resource or before.resource,
        status=after.status or before.status,
        protocol=after.protocol or before.protocol,
        error=after.error | before.error,
        incomplete=after.incomplete | before.incomplete,
        attributes=before.attributes | after.attributes,
    )


@dataclass
class _Stream:
    unread: Counted = field(default_factory=Counted)
    offset: int = 0
    """Position of `unread` in the stream."""
    skip: int = 0
    blind: bool = False
    """A gap could not be stepped over: the next bytes begin a new turn."""


class Engine:
    """The calls that `flows/` makes, and nothing else of it."""

    def __init__(self, protocol: Protocol, setup: Setup = PLAIN) -> None:
        self.parser = protocol.parser(replace(setup, memory={}))
        self.declared = {name for one in (protocol, *setup.riders) for name in one.attributes}
        self.datagrams = setup.datagrams
        self.streams = (_Stream(), _Stream())
        self.out = Run()
        self.handed_over = False
        self.bytes = self.events = self.calls = self.work = 0

    def feed(self, sender: int, data: bytes) -> None:
        stream = self.streams[sender]
        if self.handed_over:
            return
        self.bytes += len(data)
        self.events += 1
        stepped = self._step_over(stream, len(data))
        stream.unread += data[stepped:]
        if stream.blind:
            stream.blind = False
            self._end(sender)
            self._resync(sender, 0)
        if not stream.skip:
            self._parse(sender, skip_over=stepped > 0)
        if self.datagrams:
            stream.skip, stream.unread = 0, Counted()
            self._end(sender)

    def lose(self, sender: int, size: int) -> None:
        stream = self.streams[sender]
        self.events += 1
        stepped = self._step_over(stream, size)
        if stepped and not stream.skip:
            self._parse(sender, skip_over=True)
        if size > stepped and not stream.blind and not self.parser.gap(sender, size - stepped):
            stream.blind = True
            stream.offset += len(stream.unread)
            stream.unread = Counted()
        stream.offset += size - stepped

    def close(self) -> Run:
        self.out.before_close = len(self.out.messages)
        for sender in () if self.handed_over else (CLIENT, SERVER):
            self._end(sender)
        self._bounded()
        assert self.work <= WORK_PER_BYTE * self.bytes + 4096, f"{self.work} bytes looked at, of {self.bytes}"
        return self.out

    def _bounded(self) -> None:
        assert self.calls <= CALLS_PER_BYTE * (self.bytes + self.events) + 8, f"{self.calls} calls for {self.bytes} bytes"

    def _step_over(self, stream: _Stream, size: int) -> int:
        stepped = min(stream.skip, size)
        stream.skip -= stepped
        stream.offset += stepped
        return stepped

    def _parse(self, sender: int, skip_over: bool) -> None:
        stream = self.streams[sender]
        while (stream.unread or skip_over) and not stream.skip and not self.handed_over:
            skip_over = False
            cursor = Cursor(stream.unread)
            self.calls += 1
            self._bounded()  # here, too: a parser that does not advance would be asked for ever
            try:
                message = self.parser.parse(sender, cursor)
            except ProtocolError as error:
                self.out.violations.append(str(error))
                self._resync(sender, max(cursor.pos, 1))
                continue
            moved = cursor.pos
            stream.skip = max(moved - len(stream.unread), 0)
            self._drop(stream, moved - stream.skip)
            if message is not None:
                self._record(sender, message)
            elif not moved:
                break
        assert len(stream.unread) <= MAX_UNREAD, "the parser waits for more without a limit"

    def _resync(self, sender: int, behind: int) -> None:
        """Go on at the next beginning of a message, or forget all that is there."""
        stream = self.streams[sender]
        stream.skip = 0
        self._drop(stream, min(behind, len(stream.unread)))
        at = self.parser.resync(sender, bytes(stream.unread))
        assert at is None or 0 <= at <= len(stream.unread)
        self._drop(stream, len(stream.unread) if at is None else at)

    def _drop(self, stream: _Stream, size: int) -> None:
        self.work += stream.unread.work
        stream.unread.work = 0
        del stream.unread[:size]
        stream.offset += size

    def _end(self, sender: int) -> None:
        message = self.parser.end(sender)
        if message is not None:
            self._record(sender, message)

    def _record(self, sender: int, message: Message) -> None:
        assert type(message) is Message
        assert not self.declared or set(message.attributes) <= self.declared, "Protocol.attributes names them all"
        self.handed_over = message.hands_to is not None
        self.out.messages.append((sender, message, self.streams[sender].offset))


def run(protocol: Protocol, script: Script, setup: Setup = PLAIN) -> Run:
    """Deliver the script as it stands, and close."""
    engine = Engine(protocol, setup)
    for sender, what in script:
        if isinstance(what, int):
            engine.lose(sender, what)
        else:
            engine.feed(sender, what)
    return engine.close()


def check(protocol: Protocol, script: Script, setup: Setup = PLAIN) -> Run:
    """Hold the parser to the contract over a script without violations; answers what came of it delivered whole."""
    whole = run(protocol, script, setup)
    assert not whole.violations
    if setup.datagrams:
        _check_datagrams(protocol, script, whole, setup)
        return whole
    for seed, longest in ((0, 1), (1, 2), (2, 7), (3, 40), (4, 200), (5, 1500)):
        pieces = _pieces(script, random.Random(seed), longest)
        assert run(protocol, pieces, setup).joined == whole.joined, f"in pieces of up to {longest} bytes"
    _check_trailing(protocol, script, whole, setup)
    for end in range(_size(script)):
        cut = run(protocol, _cut(script, end), setup)
        assert not cut.violations, f"cut short at {end}"
        assert cut.complete == whole.joined[: len(cut.complete)], f"cut short at {end}"
    for seed in range(200):
        run(protocol, _holes(script, random.Random(seed)), setup)
    return whole


def _check_datagrams(protocol: Protocol, script: Script, whole: Run, setup: Setup) -> None:
    """Datagrams come whole, or cut short by the capture, or not at all; none has to do with the bytes of another."""
    for end in range(_size(script)):
        cut = run(protocol, _cut(script, end), setup)
        assert not cut.violations, f"cut short at {end}"
        untouched = [message for message in cut.messages if not message[1].incomplete]
        assert untouched == whole.messages[: len(untouched)], f"cut short at {end}"
    for seed in range(200):
        chance = random.Random(seed)
        run(protocol, [(sender, _length(what) if chance.random() < 0.2 else what) for sender, what in script], setup)


def mutated(script: Script) -> st.SearchStrategy[Script]:
    """The script with a few bytes replaced, removed, inserted or lost: `run` must survive it."""
    return st.builds(_damaged, st.just(script), st.lists(_DAMAGE, min_size=1, max_size=6))


anything: st.SearchStrategy[Script] = st.lists(
    st.tuples(st.sampled_from((CLIENT, SERVER)), st.binary(max_size=200)), max_size=8
)
"""Bytes of no protocol at all."""

_DAMAGE = st.tuples(st.integers(0, 1 << 16), st.integers(0, 1 << 16), st.integers(0, 8), st.none() | st.binary(max_size=8))


def _damaged(script: Script, damage: list[tuple[int, int, int, bytes | None]]) -> Script:
    out = list(script)
    for which, where, size, new in damage:
        at = which % len(out)
        sender, data = out[at]
        if isinstance(data, bytes):
            start = where % (len(data) + 1)
            middle = (sender, size) if new is None else (sender, new)
            out[at : at + 1] = [(sender, data[:start]), middle, (sender, data[start + size :])]
    return out


def _check_trailing(protocol: Protocol, script: Script, whole: Run, setup: Setup) -> None:
    """A first byte of what would be next must change nothing."""
    for sender in (CLIENT, SERVER):
        first = next((what[:1] for whose, what in script if whose == sender and isinstance(what, bytes)), b"")
        assert run(protocol, [*script, (sender, first)], setup).early == whole.early, "a message ate the bytes behind it"


def _pieces(script: Script, chance: random.Random, longest: int) -> Script:
    out: list[tuple[int, bytes | int]] = []
    for sender, what in script:
        at = 0
        while isinstance(what, bytes) and at < len(what):
            size = chance.randint(1, longest)
            out.append((sender, what[at : at + size]))
            at += size
        if isinstance(what, int):
            out.append((sender, what))
    return out


def _size(script: Script) -> int:
    return sum(_length(what) for _, what in script)


def _cut(script: Script, end: int) -> Script:
    out: list[tuple[int, bytes | int]] = []
    for sender, what in script:
        size = min(end, _length(what))
        out.append((sender, size if isinstance(what, int) else what[:size]))
        end -= size
    return out


def _holes(script: Script, chance: random.Random) -> Script:
    """Some pieces, or parts of them, are never seen."""
    return [(sender, _length(what) if chance.random() < 0.2 else what) for sender, what in _pieces(script, chance, 60)]


def _length(what: bytes | int) -> int:
    return what if isinstance(what, int) else len(what)
