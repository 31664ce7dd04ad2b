"""Jaeger's `emitBatch` in Thrift's compact protocol, put together from spans that were encoded one by one.

So a datagram can be filled to the byte, a span is encoded once however often batches are cut, and one that cannot be encoded
takes nothing else with it. A datagram is: the call and the process, the header of the list of spans, the spans, two stops.
A test compares that with what jaeger-client's own agent client writes.

Specification: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # theirs: the library is archived, and Python goes on
    from jaeger_client.thrift_gen.agent import Agent
    from jaeger_client.thrift_gen.jaeger import ttypes
    from thrift.protocol.TCompactProtocol import TCompactProtocol
    from thrift.Thrift import TMessageType, TType
    from thrift.transport.TTransport import TMemoryBuffer

    try:
        from thrift.protocol import fastbinary
    except ImportError:  # thrift was built without its extension: the same bytes, 20 times slower
        fastbinary = None

Spec: TypeAlias = Any
"""Thrift's description of a type: nested tuples."""

LIST_HEADER_BYTES: Final = 6
"""At most, for as many spans as 32 bits count."""
END: Final = b"\0\0"
"""Of the batch, and of the call's arguments."""
_STRUCT: Final = 0x0C
_EMPTY_LIST: Final = bytes([_STRUCT])
_LONG_LIST: Final = 0xF0 | _STRUCT


def encode(struct: ttypes.Span) -> bytes:
    """An object of one of jaeger-client's generated types."""
    if fastbinary is None:
        return encode_plainly(struct)
    return bytes(fastbinary.encode_compact(struct, [type(struct), _SPECS[type(struct)]]))


def encode_plainly(struct: ttypes.Span) -> bytes:
    """The same without thrift's extension."""
    buffer = TMemoryBuffer()
    struct.write(TCompactProtocol(buffer))
    return bytes(buffer.getvalue())


def beginning(process: ttypes.Process) -> bytes:
    """The oneway call `emitBatch` up to the list of spans, which is its last field."""
    buffer = TMemoryBuffer()
    TCompactProtocol(buffer).writeMessageBegin("emitBatch", TMessageType.ONEWAY, 0)
    empty = Agent.emitBatch_args(ttypes.Batch(process=process, spans=[]))
    return bytes(buffer.getvalue()) + encode(empty).removesuffix(_EMPTY_LIST + END)


def message(start: bytes, spans: Sequence[bytes]) -> bytes:
    """The whole datagram: `start` from `beginning`, spans from `encode`."""
    return b"".join((start, _list_header(len(spans)), *spans, END))


def _list_header(size: int) -> bytes:
    """Up to 14 elements in a nibble, more with a varint."""
    if size <= 14:
        return bytes([size << 4 | _STRUCT])
    out = bytearray([_LONG_LIST])
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def _spec(kind: type[ttypes.Span]) -> Spec:
    """The generated type's description in the form that today's extension reads (jaeger-client's is Thrift 0.9's)."""
    return tuple(field and (*field[:3], _arguments(field[1], field[3]), field[4]) for field in kind.thrift_spec)


def _arguments(kind: int, arguments: Spec) -> Spec:
    if kind == TType.STRUCT:
        return [arguments[0], _spec(arguments[0])]
    if kind == TType.LIST:
        return (arguments[0], _arguments(arguments[0], arguments[1]), False)
    return "UTF8" if kind == TType.STRING else arguments


_SPECS: Final = {kind: _spec(kind) for kind in (ttypes.Span, Agent.emitBatch_args)}
