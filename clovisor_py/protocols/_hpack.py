"""HPACK as a bystander reads it: header blocks of one direction of one connection (RFC 7541).

A bystander may have come late, or have missed a block, and then does not know the dynamic table's older entries. Their
indices are counted from the newest, so what is inserted from then on is exact again; what lies beneath is told as unknown
(None), never guessed. Only a table known from its beginning can say that an index is wrong.

Keeping an entry longer than the sender does is harmless, because it will not name it again; so where the sender's limit is
not known the table is as large as we are willing to keep.

Clients and servers repeat themselves: a block that changes nothing in the table means the same as long as the table stays
as it is, so what was made of the last blocks is remembered with the table's generation. That turns 10 µs into 0.2.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Final, Generic, TypeAlias, TypeVar

from clovisor_py.errors import ProtocolError
from clovisor_py.protocols._hpack_tables import EOS, HUFFMAN, STATIC

Field: TypeAlias = tuple[bytes | None, bytes | None]
"""A header's name and value; None is what nobody can know who did not see it inserted."""
Fields: TypeAlias = tuple[Field, ...]
Read = TypeVar("Read")

DEFAULT_TABLE: Final = 4096
"""Bytes of a dynamic table until its sender says otherwise (RFC 9113, 6.5.2)."""
MAX_TABLE: Final = 64 * 1024
"""Bytes of a dynamic table that are kept: what browsers offer, sixteen times the default. Older entries become unknown."""
MAX_FIELDS: Final = 2000
"""Headers in one block, as in HTTP/1. Beyond it: ProtocolError."""
MAX_MEMO: Final = 16
"""Blocks that are remembered: the calls that a connection repeats. Each may take a kilobyte or two."""
MAX_MEMO_BYTES: Final = 256
"""Bytes of a block that is remembered; one that repeats is short, because its headers are in the table."""

_BEGINNING: Final = 8
"""Octets of a Huffman-coded string whose decoding is remembered, for all connections."""
_ENTRY: Final = 32
"""Bytes that an entry counts beyond its name and value (RFC 7541, 4.1)."""
_STATIC: Final[tuple[Field, ...]] = ((None, None), *STATIC)
_DYNAMIC: Final = len(_STATIC)
"""Index of the newest dynamic entry."""
_NEWEST: Final = 0x80 + _DYNAMIC
"""The octet that is a header by that index."""
_UNKNOWN: Final[Field] = (None, None)
_RESIZES: Final = 0x1F
_MASKS: Final = bytes((0x0F,) * 32 + (_RESIZES,) * 32 + (0x3F,) * 64 + (0x7F,) * 128)
"""By the first octet of a field, the bits of it that are a number: of a literal's name, of the table's size, of a name that is
inserted with its value, of a header (RFC 7541, 6)."""
_MAX_SHIFT: Final = 28
"""Bits that the continuation bytes of an integer shift at most: it stays within 35 bits."""


class Decoder(Generic[Read]):
    """One direction's table. `read` makes of a block's headers what is wanted of them, and must depend on them alone.

    Whether a table is known from its beginning is for the caller to say (`start`); until then, and after `forget`, it is not.
    """

    __slots__ = ("_entries", "_exact", "_generation", "_limit", "_memo", "_read", "_size")

    def __init__(self, read: Callable[[Fields], Read]) -> None:
        self._read = read
        self._entries: list[Field] = []
        """The newest last."""
        self._size = 0
        self._limit = MAX_TABLE
        self._exact = False
        """There are no entries but ours."""
        self._generation = 0
        """Changes with the table."""
        self._memo: dict[bytes, tuple[int, Read]] = {}

    def read_by(self, read: Callable[[Fields], Read]) -> None:
        """Make something else of headers from now on; the table, which is the connection's own, stays."""
        self._read = read
        self._memo.clear()

    def start(self) -> None:
        """The connection begins here: the table is empty."""
        self._reset(DEFAULT_TABLE, exact=True)

    def forget(self) -> None:
        """Blocks passed unseen, or may have."""
        self._reset(MAX_TABLE, exact=False)

    def decode(self, block: bytes) -> Read:
        """What `read` makes of the block. Raises ProtocolError where it is none; the table is of no use then."""
        generation, memo = self._generation, self._memo
        if memo:
            known = memo.get(block)
            if known is not None and known[0] == generation:
                return known[1]
        fields: list[Field] = []
        self._decode(block, fields)
        made = self._read(tuple(fields))
        if self._generation == generation and len(block) <= MAX_MEMO_BYTES:
            memo[block] = (generation, made)
            if len(memo) > MAX_MEMO:
                del memo[next(iter(memo))]
        return made

    def decode_half(self, block: bytes) -> Read:
        """The same for the beginning of a block whose rest was not seen; the table is forgotten."""
        fields: list[Field] = []
        with suppress(ProtocolError):  # the cut goes through a field; those before it are whole
            self._decode(block, fields)
        self.forget()
        return self._read(tuple(fields))

    def _decode(self, block: bytes, fields: list[Field]) -> None:
        """Append the headers of a block. One loop, with few calls: this is a fifth of what HTTP/2 costs."""
        entries, append, pos, end = self._entries, fields.append, 0, len(block)
        newest = len(entries) - 1 + _NEWEST
        try:
            while pos < end:
                byte = block[pos]
                pos += 1
                if 0x80 < byte < 0xFF:  # nearly all headers are in a table, at an index that this octet names
                    if byte < _NEWEST:
                        append(_STATIC[byte & 0x7F])
                        continue
                    at = newest - byte
                    if at >= 0:
                        append(entries[at])
                        continue
                mask = _MASKS[byte]
                index = byte & mask
                if index == mask:
                    index, pos = _integer(block, pos, mask)
                if mask == _RESIZES:
                    if fields:
                        raise ProtocolError("not HPACK: a table that changes its size inside of a block.")
                    self._resize(index)
                    newest = len(entries) - 1 + _NEWEST
                    continue
                field = _STATIC[index] if index < _DYNAMIC else self._entry(index)
                if byte < 0x80:
                    name = field[0]
                    if not index:
                        name, pos = _string(block, pos)
                    value, pos = _string(block, pos)
                    field = (name, value)
                    if byte & 0x40:
                        self._insert(field)
                        newest = len(entries) - 1 + _NEWEST
                elif not index:
                    raise ProtocolError("not HPACK: an index that names no header.")
                append(field)
        except IndexError:
            raise ProtocolError("not HPACK: a header block that ends inside a field.") from None
        if len(fields) > MAX_FIELDS:
            raise ProtocolError(f"not HPACK: more than {MAX_FIELDS} headers in a block.")

    def _entry(self, index: int) -> Field:
        """What an index of the dynamic table names; unknown, where it is beyond all our entries."""
        back = index - _DYNAMIC + 1
        if back <= len(self._entries):
            return self._entries[-back]
        if self._exact:
            raise ProtocolError("not HPACK: an index that names no header.")
        return _UNKNOWN

    def _insert(self, field: Field) -> None:
        name, value = field
        self._generation += 1
        self._entries.append(field)
        self._size = size = self._size + len(name or b"") + len(value or b"") + _ENTRY
        if size > self._limit:
            self._evict()

    def _resize(self, limit: int) -> None:
        """The sender's table has another limit from now on; with none at all it is empty, and known again."""
        self._generation += 1
        self._limit = min(limit, MAX_TABLE)
        self._evict()
        if limit == 0:
            self._exact = True
        elif limit > MAX_TABLE:
            self._exact = False

    def _evict(self) -> None:
        size, limit, entries, oldest = self._size, self._limit, self._entries, 0
        while size > limit:
            name, value = entries[oldest]
            size -= len(name or b"") + len(value or b"") + _ENTRY
            oldest += 1
        if oldest:
            del entries[:oldest]
            self._size = size

    def _reset(self, limit: int, exact: bool) -> None:
        self._generation += 1
        self._entries.clear()
        self._memo.clear()
        self._size, self._limit, self._exact = 0, limit, exact


def _integer(block: bytes, pos: int, value: int) -> tuple[int, int]:
    """An integer whose prefix was full (`value`), and where it ends (RFC 7541, 5.1). IndexError where the block does first."""
    shift = 0
    while True:
        byte = block[pos]
        pos += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
        if shift > _MAX_SHIFT:
            raise ProtocolError("not HPACK: an integer of more than 32 bits.")


def _string(block: bytes, pos: int) -> tuple[bytes, int]:
    """A string, and where it ends (RFC 7541, 5.2). IndexError where the block does first."""
    byte = block[pos]
    pos += 1
    size = byte & 0x7F
    if size == 0x7F:
        size, pos = _integer(block, pos, 0x7F)
    end = pos + size
    if end > len(block):
        raise IndexError
    raw = block[pos:end]
    if byte >= 0x80:
        return huffman(raw), end
    return raw, end


class _State(dict[int, "tuple[_State, bytes]"]):
    """Decoding stands between two octets, in the middle of a code: octet to next state and the symbols that it ends.

    Of the 65,536 steps few occur, so each is made when it is first taken.
    """

    __slots__ = ("children", "final")

    def __init__(self) -> None:
        super().__init__()
        self.children: list[_State | int] = [EOS, EOS]
        """By the next bit: a longer beginning of a code, or the symbol whose code is whole."""
        self.final = False
        """A string may end here: less than an octet of ones is left over."""

    def __missing__(self, octet: int) -> tuple[_State, bytes]:
        state, symbols = self, bytearray()
        for shift in range(7, -1, -1):
            child = state.children[octet >> shift & 1]
            if isinstance(child, _State):
                state = child
                continue
            if child == EOS:
                raise ProtocolError("not HPACK: the end of a string inside of it.")
            symbols.append(child)
            state = _ROOT
        self[octet] = found = (state, bytes(symbols))
        return found


def _tree() -> _State:
    """The states, one for each beginning of a code."""
    root = _State()
    for symbol, (code, bits) in enumerate(HUFFMAN):
        state = root
        for shift in range(bits - 1, 0, -1):
            bit = code >> shift & 1
            child = state.children[bit]
            if not isinstance(child, _State):
                child = state.children[bit] = _State()
            state = child
        state.children[code & 1] = symbol
    state = root
    for _ in range(8):
        state.final = True
        child = state.children[1]
        assert isinstance(child, _State)
        state = child
    return root


_ROOT: Final = _tree()


def huffman(raw: bytes) -> bytes:
    """Decode a Huffman-coded string, an octet a step. Raises ProtocolError where the padding is wrong.

    Strings begin alike: paths, dates, and short ones are alike altogether.
    """
    if len(raw) <= _BEGINNING:
        state, text = _begun(raw)
    else:
        state, text = _begun(raw[:_BEGINNING])
        out = [text]
        for octet in raw[_BEGINNING:]:
            state, symbols = state[octet]
            out.append(symbols)
        text = b"".join(out)
    if not state.final:
        raise ProtocolError("not HPACK: a string that ends inside a character.")
    return text


@lru_cache(maxsize=1024)
def _begun(raw: bytes) -> tuple[_State, bytes]:
    """Where decoding stands behind the beginning of a string, and what it says so far."""
    state, out = _ROOT, []
    for octet in raw:
        state, symbols = state[octet]
        out.append(symbols)
    return state, b"".join(out)
