"""Messages of Kafka: what was found in one request or response, in the words that every protocol shares.

The resource is what the call is about: its topics, else its groups, else what it names (a transactional id, the resource
of a configuration), sorted, so that the same topics are always the same resource. The operation is the API's name;
`messaging.operation.name` is what a client would call it.

Attributes: https://opentelemetry.io/docs/specs/semconv/messaging/kafka/
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from clovisor_py.model.message import AttributeValue, Kind, Message
from clovisor_py.protocols import _kafka_errors as errors
from clovisor_py.protocols._kafka_reading import Reading
from clovisor_py.protocols._kafka_records import PARTLY_SEEN, Context
from clovisor_py.protocols._kafka_schema import APIS, FETCH, PRODUCE, SHARE_FETCH
from clovisor_py.protocols._kafka_steps import MAX_NAMES

TRACE_CONTEXT: Final = "clovisor.trace_context"
"""Why a message of records has none, though they may: `several`, `compressed`, `partly seen`. Of one that has: its format."""
ATTRIBUTES: Final = (
    "messaging.system",
    "messaging.operation.name",
    "messaging.operation.type",
    "messaging.client.id",
    "messaging.destination.name",
    "messaging.destination.partition.id",
    "messaging.consumer.group.name",
    "messaging.batch.message_count",
    "messaging.kafka.offset",
    "error.type",
    "clovisor.kafka.api_version",
    TRACE_CONTEXT,
)
MORE: Final = "…"
"""Stands for the names that are not told."""

_VERBS: Final = {
    "Produce": ("send", "send"),
    "Fetch": ("poll", "receive"),
    "ShareFetch": ("poll", "receive"),
    "OffsetCommit": ("commit", "settle"),
    "TxnOffsetCommit": ("commit", "settle"),
    "ShareAcknowledge": ("acknowledge", "settle"),
}
"""Name and type of the operations that move or settle messages; any other is called as the API, in lower case."""
_WORD = re.compile(r"(?<!^)(?=[A-Z])")
_CACHED = 256
_NO_ACKS = 0
_FETCHING: Final = frozenset((FETCH, SHARE_FETCH))
_REQUEST: Final = Kind.REQUEST  # looking up a member costs more than a call
_RESPONSE: Final = Kind.RESPONSE
_ONE_WAY: Final = Kind.ONE_WAY


class Call:
    """A request, as far as its response needs it. A `key` or `version` of -1 is not known."""

    __slots__ = ("correlation", "has_topics", "key", "version")

    def __init__(self, key: int, version: int, correlation: int | str) -> None:
        self.key = key
        self.version = version
        self.correlation = correlation
        self.has_topics = False
        """The request named its topics: the response needs not."""


def request(call: Call, reading: Reading) -> Message:
    """The request that `reading` found; one way if it wants no response."""
    operation, common = _asked(call.key, call.version, reading.client)
    attributes = common.copy()
    call.has_topics = bool(reading.topics)
    resource = _subject(attributes, reading)
    context: dict[str, str] = {}
    if reading.batches or reading.counted >= 0:
        if (count := reading.records) >= 0:
            attributes["messaging.batch.message_count"] = count
        if reading.context is not None:
            context = _context(attributes, reading.context, reading.whole)
    kind = _ONE_WAY if call.key == PRODUCE and reading.acks == _NO_ACKS else _REQUEST
    return Message(kind, operation, resource, "", False, attributes, context, call.correlation)


def response(call: Call, reading: Reading) -> Message:
    """The response that `reading` found. Its status is empty where an error could have been missed."""
    attributes: dict[str, AttributeValue] = {}
    status = resource = ""
    if reading.error:
        attributes["error.type"] = status = errors.name(reading.error)
    elif reading.over and reading.whole:
        status = errors.NONE
    if call.key in _FETCHING:
        if (count := reading.records) >= 0:
            attributes["messaging.batch.message_count"] = count
        if not call.has_topics:
            resource = _subject(attributes, reading)
    elif call.key == PRODUCE and reading.partitions == 1 and reading.offset >= 0 and not reading.error:
        attributes["messaging.kafka.offset"] = reading.offset
    return Message(_RESPONSE, "", resource, status, bool(reading.error), attributes, {}, call.correlation)


@lru_cache(maxsize=_CACHED)
def _asked(key: int, version: int, client: str | None) -> tuple[str, dict[str, AttributeValue]]:
    """The name of an API, and the attributes that all its requests by this client have."""
    operation, common = _operation(key)
    attributes = common.copy()
    if version >= 0:
        attributes["clovisor.kafka.api_version"] = version
    if client:
        attributes["messaging.client.id"] = client
    return operation, attributes


@lru_cache(maxsize=_CACHED)
def _operation(key: int) -> tuple[str, dict[str, AttributeValue]]:
    """The name of an API, and the attributes that all its requests have."""
    api = APIS.get(key)
    name = api.name if api else f"{key} (unknown API)"
    verb, kind = _VERBS.get(name, (_WORD.sub("_", name).lower() if api else str(key), ""))
    attributes: dict[str, AttributeValue] = {"messaging.system": "kafka", "messaging.operation.name": verb}
    if kind:
        attributes["messaging.operation.type"] = kind
    return name, attributes


def _subject(attributes: dict[str, AttributeValue], reading: Reading) -> str:
    """Set topic, partition, offset and group where there is one of each; answer the resource, if all that is it was seen."""
    topics, groups = reading.topics, reading.groups
    if not (reading.whole or reading.named or len(topics) > MAX_NAMES):
        return ""
    if len(groups) == 1:
        attributes["messaging.consumer.group.name"] = groups[0]
    if len(topics) == 1:
        attributes["messaging.destination.name"] = topics[0]
        if reading.partitions == 1 and reading.whole:
            attributes["messaging.destination.partition.id"] = str(reading.partition)
            if reading.offset >= 0:
                attributes["messaging.kafka.offset"] = reading.offset
        return topics[0]
    names = topics or groups or reading.names
    if len(names) < 2:
        return names[0] if names else ""
    return ",".join(sorted(names) if len(names) <= MAX_NAMES else (*sorted(names[:MAX_NAMES]), MORE))


def _context(attributes: dict[str, AttributeValue], found: Context, whole: bool) -> dict[str, str]:
    if found.headers and not whole:
        found.lack(PARTLY_SEEN)
    if found.why_not:
        attributes[TRACE_CONTEXT] = found.why_not
    return found.headers
