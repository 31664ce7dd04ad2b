"""What is said on the connections of `captures`: exchanges of five protocols, made from nothing but counters.

They look like those of real clients and servers: heads of curl and Go, answers of nginx, redis-py's and libpq's openings,
librdkafka's versions, values that differ from one to the next.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from itertools import count, cycle
from typing import Final

from hpack import Encoder

from tools._bench.captures import CLIENT, EPOCH_S, SERVER, Exchange, Kind, Turns

WORDS: Final = (
    "amber",
    "basil",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grape",
    "hazel",
    "indigo",
    "jasper",
    "kelp",
    "lemon",
    "maple",
    "nickel",
    "olive",
    "pearl",
)

# ---- HTTP/1 ----


def _http1(connection: int) -> Iterator[Exchange]:
    agents = ("User-Agent: curl/7.88.1\r\nAccept: */*", "User-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip")
    yield 0, []
    for number in count(connection * 31):
        word, size = WORDS[number % 16], 80 + number * 37 % 900
        agent, body = agents[connection % 2], ""
        line, extra = f"GET /api/v1/{word}/{number % 5000}?page={number % 7}&sort=name", ""
        if number % 8 == 3:
            line, body = f"POST /api/v1/{word}", f'{{"id":{number},"name":"{word}","tags":["a","b"]}}'
            extra = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        request = f"{line} HTTP/1.1\r\nHost: shop.example.com\r\n{agent}\r\n{extra}\r\n{body}"
        status = "404 Not Found" if number % 50 == 7 else "200 OK"
        date = _date(EPOCH_S + number // 200)
        response = (
            f"HTTP/1.1 {status}\r\nServer: nginx/1.22.1\r\nDate: {date}\r\nContent-Type: application/json\r\n"
            f'Content-Length: {size}\r\nConnection: keep-alive\r\nETag: "{number * 2654435761 % 2**32:08x}-{size:x}"\r\n\r\n'
        )
        yield 1, [(CLIENT, request.encode()), (SERVER, response.encode() + _text(number, size))]


def _date(seconds: int) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


_PROSE = (" ".join(WORDS) + "\n").encode() * 40


def _text(number: int, size: int) -> bytes:
    begin = number % 80
    return _PROSE[begin : begin + size]


# ---- Redis ----


def _command(*words: str) -> bytes:
    return f"*{len(words)}\r\n".encode() + b"".join(map(_bulk, words))


def _bulk(text: str) -> bytes:
    return f"${len(text)}\r\n{text}\r\n".encode()


def _redis(connection: int) -> Iterator[Exchange]:
    told = _command("CLIENT", "SETINFO", "LIB-NAME", "redis-py") + _command("CLIENT", "SETINFO", "LIB-VER", "5.0.1")
    yield 2, [(CLIENT, told), (SERVER, b"+OK\r\n+OK\r\n")]
    for number in count(connection * 31):
        key, value = f"{WORDS[number % 16]}:{number % 9000}", _text(number, 20 + number * 13 % 200).decode()
        asked, answer = (
            (_command("GET", f"session:{key}"), _bulk(value)),
            (_command("SET", f"cache:{key}", value, "EX", "300"), b"+OK\r\n"),
            (_command("HSET", f"user:{key}", "name", WORDS[number % 16], "visits", str(number)), b":2\r\n"),
            (_command("GET", f"missing:{key}"), b"$-1\r\n"),
            (_command("INCR", f"hits:{key}"), f":{number}\r\n".encode()),
            (_command("HGETALL", f"user:{key}"), _command("name", WORDS[number % 16], "visits", str(number))),
            (_command("EXPIRE", f"session:{key}", "3600"), b":1\r\n"),
            (_command("LPUSH", "queue:mail", value), f":{number % 40}\r\n".encode()),
        )[number % 8]
        yield 1, [(CLIENT, asked), (SERVER, answer)]


# ---- PostgreSQL ----

_INT4, _TEXT, _NUMERIC = 23, 25, 1700
_COLUMNS = (("id", _INT4), ("name", _TEXT), ("price", _NUMERIC))
_PARAMETERS = {
    "application_name": "",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "server_version": "15.4",
    "TimeZone": "UTC",
}


def _pg(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack(">I", 4 + len(body)) + body


def _strings(*texts: str) -> bytes:
    return b"".join(text.encode() + b"\0" for text in texts)


def _fields(*values: str) -> bytes:
    return struct.pack(">H", len(values)) + b"".join(struct.pack(">I", len(value)) + value.encode() for value in values)


_DESCRIPTION = _pg(
    "T",
    struct.pack(">H", 3)
    + b"".join(_strings(name) + struct.pack(">IHIhiH", 16384, 1, oid, -1, -1, 0) for name, oid in _COLUMNS),
)
_READY = _pg("Z", b"I")


def _rows(number: int, rows: int) -> bytes:
    return b"".join(_pg("D", _fields(str(number + row), WORDS[(number + row) % 16], f"{row}.50")) for row in range(rows))


def _bind(statement: str, *values: str) -> bytes:
    return _pg("B", _strings("", statement) + struct.pack(">H", 0) + _fields(*values) + struct.pack(">HH", 1, 0))


_EXECUTE = _pg("D", b"P\0") + _pg("E", b"\0" + bytes(4)) + _pg("S")


def _postgresql(connection: int) -> Iterator[Exchange]:
    startup = struct.pack(">I", 196608) + _strings("user", "shop", "database", "shop", "application_name", "psql", "")
    greeting = _pg("R", bytes(4)) + b"".join(_pg("S", _strings(*pair)) for pair in _PARAMETERS.items())
    asked = struct.pack(">II", 8, 80877103)
    login = struct.pack(">I", 4 + len(startup)) + startup
    yield 2, [(CLIENT, asked), (SERVER, b"N"), (CLIENT, login), (SERVER, greeting + _pg("K", bytes(8)) + _READY)]
    prepared = _pg("P", _strings("S_1", "SELECT id, name, price FROM products WHERE id = $1") + bytes(2))
    for number in count(connection * 31):
        rows = 1 + number % 4
        selected = _DESCRIPTION + _rows(number, rows) + _pg("C", _strings(f"SELECT {rows}")) + _READY
        if number % 4 == 0:
            statement = f"SELECT id, name, price FROM products WHERE category = '{WORDS[number % 16]}' LIMIT {rows}"
            turns = [(CLIENT, _pg("Q", _strings(statement))), (SERVER, selected)]
        elif number % 4 == 1:
            statement = f"UPDATE stock SET amount = amount - {rows} WHERE product_id = {number % 3000}"
            turns = [(CLIENT, _pg("Q", _strings(statement))), (SERVER, _pg("C", _strings("UPDATE 1")) + _READY)]
        elif number % 4 == 2:
            parse = _pg("P", _strings("", "INSERT INTO orders (customer, product, amount) VALUES ($1, $2, $3)") + bytes(2))
            done = _pg("1") + _pg("2") + _pg("n") + _pg("C", _strings("INSERT 0 1")) + _READY
            turns = [(CLIENT, parse + _bind("", str(number), WORDS[number % 16], str(rows)) + _EXECUTE), (SERVER, done)]
        else:
            told = (_pg("1") if prepared else b"") + _pg("2")
            turns = [(CLIENT, prepared + _bind("S_1", str(number % 3000)) + _EXECUTE), (SERVER, told + selected)]
            prepared = b""
        yield 1, turns


# ---- HTTP/2 ----

_DATA, _HEADERS_FRAME, _SETTINGS, _WINDOW_UPDATE = 0, 1, 4, 8
_END_STREAM, _END_HEADERS = 1, 4
_STREAMS = 4
"""Requests in flight together."""


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _http2(connection: int) -> Iterator[Exchange]:
    asking, answering = Encoder(), Encoder()
    settings = _frame(_SETTINGS, 0, 0, struct.pack(">HIHI", 3, 100, 4, 65535))
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20))
    agreed = _frame(_SETTINGS, 1, 0)
    yield 0, [(CLIENT, preface), (SERVER, settings + agreed), (CLIENT, agreed)]
    stream = 1
    for first in count(connection * 31, _STREAMS):
        asked, answers = [], []
        for number in range(first, first + _STREAMS):
            size = 60 + number * 37 % 700
            request = (
                (":method", "GET"),
                (":scheme", "http"),
                (":path", f"/api/v2/{WORDS[number % 16]}/{number % 5000}"),
                (":authority", "shop.example.com:8080"),
                ("accept-encoding", "gzip"),
                ("user-agent", "Go-http-client/2.0"),
            )
            response = (
                (":status", "404" if number % 50 == 7 else "200"),
                ("content-type", "application/json"),
                ("content-length", str(size)),
                ("date", _date(EPOCH_S + number // 200)),
            )
            asked.append(_frame(_HEADERS_FRAME, _END_STREAM | _END_HEADERS, stream, asking.encode(request)))
            head = _frame(_HEADERS_FRAME, _END_HEADERS, stream, answering.encode(response))
            answers.append(head + _frame(_DATA, _END_STREAM, stream, _text(number, size)))
            stream += 2
        yield _STREAMS, [(CLIENT, b"".join(asked)), *((SERVER, answer) for answer in answers)]


# ---- Kafka ----

_PRODUCE, _FETCH, _METADATA, _API_VERSIONS = 0, 1, 3, 18
_TOPICS = ("orders", "payments", "clicks", "mail")


def _short(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _array(*items: bytes) -> bytes:
    return struct.pack(">i", len(items)) + b"".join(items)


def _varint(value: int) -> bytes:
    value = value << 1 ^ value >> 63
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _batch(number: int) -> bytes:
    """One batch of one to three records, behind its size."""
    records = []
    for index in range(1 + number % 3):
        key, value = f"{number + index}".encode(), _text(number, 60 + number * 17 % 300)
        body = b"\0\0" + _varint(index) + _varint(len(key)) + key + _varint(len(value)) + value + b"\0"
        records.append(_varint(len(body)) + body)
    count_, stamp = len(records), EPOCH_S * 1000
    rest = struct.pack(">iBIhiqqqhi", 0, 2, 0, 0, count_ - 1, stamp, stamp, -1, -1, -1) + _array(*records)
    batch = struct.pack(">qi", number, len(rest)) + rest
    return struct.pack(">i", len(batch)) + batch


def _call(api: int, version: int, number: int, body: bytes, answer: bytes) -> Turns:
    request = struct.pack(">hhi", api, version, number) + _short("rdkafka") + body
    response = struct.pack(">i", number) + answer
    return [(who, struct.pack(">i", len(said)) + said) for who, said in ((CLIENT, request), (SERVER, response))]


def _metadata(number: int) -> Turns:
    broker = struct.pack(">i", 1) + _short("kafka-1") + struct.pack(">ih", 9092, -1)
    one = _array(struct.pack(">i", 1))
    partitions = _array(*(struct.pack(">hii", 0, partition, 1) + one + one for partition in range(3)))
    topics = _array(*(struct.pack(">h", 0) + _short(topic) + b"\0" + partitions for topic in _TOPICS))
    answer = bytes(4) + _array(broker) + _short("cluster") + struct.pack(">i", 1) + topics
    return _call(_METADATA, 4, number, _array(*map(_short, _TOPICS)) + b"\0", answer)


def _produce(number: int) -> Turns:
    topic, partition = _short(_TOPICS[number % 4]), number % 3
    asked = struct.pack(">hhi", -1, -1, 30_000) + _array(topic + _array(struct.pack(">i", partition) + _batch(number)))
    told = struct.pack(">ihqqq", partition, 0, number, -1, 0)
    return _call(_PRODUCE, 7, number, asked, _array(topic + _array(told)) + bytes(4))


def _fetch(number: int) -> Turns:
    topic, partition = _short(_TOPICS[number % 4]), number % 3
    wanted = struct.pack(">iiqqi", partition, 0, number, -1, 1 << 20)
    asked = struct.pack(">iiiibii", -1, 500, 1, 50 << 20, 0, 0, -1) + _array(topic + _array(wanted)) + _array() + _short("")
    told = struct.pack(">ihqqqii", partition, 0, number + 3, number + 3, 0, -1, -1) + _batch(number)
    return _call(_FETCH, 11, number, asked, struct.pack(">ihi", 0, 0, 0) + _array(topic + _array(told)))


def _kafka(connection: int) -> Iterator[Exchange]:
    versions = _array(*(struct.pack(">hhh", api, 0, 7) for api in range(20)))
    yield 2, _call(_API_VERSIONS, 0, 1, b"", bytes(2) + versions) + _metadata(2)
    makers = cycle((_produce, _fetch) * 25 + (_metadata,))
    for number in count(connection * 31 + 3):
        yield 1, next(makers)(number)


KINDS: Final = (
    Kind("HTTP/1", 80, _http1),
    Kind("Redis", 6379, _redis),
    Kind("PostgreSQL", 5432, _postgresql),
    Kind("HTTP/2", 8080, _http2, _STREAMS),
    Kind("Kafka", 9092, _kafka),
)
