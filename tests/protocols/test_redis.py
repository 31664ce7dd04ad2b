"""Redis, both directions: who is answered by what, what is not answered at all, and what a session may tell."""

from __future__ import annotations

import pytest

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.protocols._api import Setup
from clovisor_py.protocols._redaction import redaction
from clovisor_py.protocols._redis_connection import MAX_MARKS
from clovisor_py.protocols.redis import PROTOCOL
from tests.support.parser_contract import damage, foreign_bytes
from tests.support.parser_harness import PLAIN, Script, check, run
from tests.support.segments import MS, Conversation

START = Setup(from_start=True)
OPEN = Setup(redaction("off"))
STRICT = Setup(redaction("strict"))


def command(*words: str | bytes) -> bytes:
    """As clients send it."""
    coded = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(coded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in coded)


def commands(*lines: str) -> bytes:
    return b"".join(command(*line.split()) for line in lines)


def confirmation(kind: str, channel: str, total: int, push: bool = False) -> bytes:
    first = b">" if push else b"*"
    return first + command(kind, channel)[1:].replace(b"2", b"3", 1) + b":%d\r\n" % total


KEYS: Script = [
    (CLIENT, command("SET", "cart:1", "v" * 300) + command("get", "cart:1")),
    (SERVER, b"+OK\r\n$300\r\n" + b"v" * 300 + b"\r\n"),
    (CLIENT, commands("HGETALL h", "LRANGE l 0 -1", "INCR n", "GET gone", "PING", "GET n")),
    (SERVER, b"*4\r\n$1\r\nf\r\n$4\r\na\r\nb\r\n$1\r\ng\r\n$0\r\n\r\n*0\r\n:-12\r\n$-1\r\n+PONG\r\n"),
    (SERVER, b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
    (CLIENT, b"\r\n*0\r\n" + commands("XREAD COUNT 2 STREAMS a b 0 0")),
    (SERVER, b"*1\r\n*2\r\n$1\r\na\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n"),
]
TRANSACTION: Script = [
    (CLIENT, commands("SELECT 3", "MULTI", "SET a 1", "INCR b", "EXEC")),
    (SERVER, b"+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n-ERR value is not an integer or out of range\r\n"),
    (CLIENT, commands("WATCH a", "MULTI", "SELECT 1", "EXEC")),
    (SERVER, b"+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n"),
    (CLIENT, commands("MULTI", "EXEC")),
    (SERVER, b"+OK\r\n-EXECABORT Transaction discarded because of previous errors.\r\n"),
]
SUBSCRIBER: Script = [
    (CLIENT, commands("SUBSCRIBE a b", "PSUBSCRIBE p*")),
    (SERVER, confirmation("subscribe", "a", 1) + confirmation("subscribe", "b", 2) + confirmation("psubscribe", "p*", 3)),
    (SERVER, command("message", "a", "news") + command("pmessage", "p*", "pop", "news" * 200)),
    (CLIENT, commands("PING", "UNSUBSCRIBE")),
    (SERVER, command("pong", "") + command("message", "b", "x")),
    (SERVER, confirmation("unsubscribe", "a", 2) + confirmation("unsubscribe", "b", 1)),
    (CLIENT, commands("PUNSUBSCRIBE p*", "UNSUBSCRIBE", "GET k")),
    (
        SERVER,
        confirmation("punsubscribe", "p*", 0) + b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n" + command("message", "a", "b"),
    ),
]
RESP3: Script = [
    (CLIENT, commands("HELLO 3 AUTH joe secret", "CLIENT TRACKING ON", "SUBSCRIBE a b")),
    (SERVER, b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n+OK\r\n"),
    (SERVER, confirmation("subscribe", "a", 1, push=True) + confirmation("subscribe", "b", 2, push=True)),
    (SERVER, b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nfoo\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n"),
    (CLIENT, commands("LRANGE l 0 -1", "ZSCORE z m", "HGETALL h", "SMEMBERS s", "GET big", "FCALL f 0")),
    (SERVER, command("message", "no", "message") + b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n,1.5\r\n"),
    (SERVER, b"|1\r\n+ttl\r\n:10\r\n%1\r\n+f\r\n#t\r\n~2\r\n=7\r\ntxt:abc\r\n(349285\r\n$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n"),
    (SERVER, b"!21\r\nSYNTAX invalid syntax\r\n"),
]
SILENT: Script = [
    (CLIENT, commands("CLIENT REPLY SKIP", "SET a 1", "GET a")),
    (SERVER, b"$1\r\n1\r\n"),
    (CLIENT, commands("CLIENT REPLY OFF", "SET b 1", "CLIENT REPLY SKIP", "CLIENT REPLY ON", "GET b")),
    (SERVER, b"+OK\r\n$1\r\n1\r\n"),
    (CLIENT, commands("CLIENT REPLY OFF", "RESET", "REPLCONF ACK 12", "GET c")),
    (SERVER, b"+RESET\r\n$-1\r\n"),
]
MONITOR: Script = [
    (CLIENT, commands("MONITOR")),
    (SERVER, b'+OK\r\n+1339518083.107412 [0 127.0.0.1:60866] "set" "a" "' + b"x" * 300 + b'"\r\n'),
    (CLIENT, commands("QUIT")),
    (SERVER, b'+1339518087.877697 [0 127.0.0.1:60866] "dbsize"\r\n+OK\r\n'),
]
REPLICA: Script = [
    (CLIENT, commands("PING", "REPLCONF listening-port 6380", "PSYNC ? -1")),
    (SERVER, b"+PONG\r\n+OK\r\n\n\n+FULLRESYNC 8de1787ba490483314a4d30f1c628bc5025eb761 0\r\n"),
    (SERVER, b"$88\r\nREDIS0009\xfa\tredis-ver"),
    (CLIENT, commands("REPLCONF ACK 0")),
]
TYPED: Script = [
    (CLIENT, b'PING\r\nset "a key" \'and value\'\nGET key\r\n\r\nCLIENT reply skip\r\nAUTH "pass word"\r\n'),
    (SERVER, b"+PONG\r\n+OK\r\n$1\r\n1\r\n"),
]
SCRIPTS = {
    "keys": KEYS,
    "transaction": TRANSACTION,
    "subscriber": SUBSCRIBER,
    "resp3": RESP3,
    "silent": SILENT,
    "monitor": MONITOR,
    "replica": REPLICA,
    "typed": TYPED,
}


def asked(data: bytes, setup: Setup = PLAIN) -> Message:
    (message,) = run(PROTOCOL, [(CLIENT, data)], setup).of(CLIENT)
    return message


def answers(script: Script, setup: Setup = START) -> list[tuple[str, str, bool]]:
    """For each command that is answered: its text, the status, whether it failed."""
    out = run(PROTOCOL, script, setup)
    requests = [str(message.attributes["db.query.text"]) for message in out.of(CLIENT) if message.kind is Kind.REQUEST]
    responses = [message for message in out.of(SERVER) if message.kind is Kind.RESPONSE]
    assert len(requests) == len(responses)
    return [(text, response.status, response.error) for text, response in zip(requests, responses, strict=True)]


def unasked(script: Script) -> list[tuple[str, str]]:
    return [(m.operation, m.resource) for m in run(PROTOCOL, script, START).of(SERVER) if m.kind is Kind.ONE_WAY]


@pytest.mark.parametrize("setup", [START, OPEN, STRICT], ids=["default", "off", "strict"])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_every_delivery_gives_the_same_messages(script: Script, setup: Setup) -> None:
    check(PROTOCOL, script, setup)


test_damage_is_survived = damage(PROTOCOL, SCRIPTS, START)
test_bytes_of_no_protocol_are_survived = foreign_bytes(PROTOCOL)
# What a message says


def test_request_and_response() -> None:
    first, second = run(
        PROTOCOL, [(CLIENT, command("set", "k", "v")), (SERVER, b"-MOVED 3999 127.0.0.1:6381\r\n")], START
    ).messages
    assert first[1] == Message(
        kind=Kind.REQUEST,
        operation="SET",
        resource="k",
        attributes={"db.system.name": "redis", "db.operation.name": "SET", "db.query.text": "SET k ?"},
    )
    assert second[1] == Message(
        kind=Kind.RESPONSE,
        status="MOVED",
        error=True,
        attributes={"db.namespace": "0", "db.response.status_code": "MOVED", "error.type": "MOVED"},
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"-ERR unknown command 'x', with args beginning with: 'private'\r\n", "ERR"),
        (b"-WRONGPASS invalid username-password pair\r\n", "WRONGPASS"),
        (b"-ASK 3999 127.0.0.1:6381\r\n", "ASK"),
        (b"-my own error from a script\r\n", "ERR"),
        (b"-OOM\r\n", "OOM"),
        (b"-X\r\n", "ERR"),
        (b"-" + b"A" * 100 + b"\r\n", "A" * 32),
        (b"!9\r\nNOPROTO a\r\n", "NOPROTO"),
        (b"!0\r\n\r\n", "ERR"),
    ],
)
def test_an_error_is_told_by_its_prefix(line: bytes, said: str) -> None:
    assert answers([(CLIENT, command("GET", "k")), (SERVER, line)]) == [("GET k", said, True)]


def test_answers_in_order() -> None:
    assert answers(KEYS) == [
        ("SET cart:1 ?", "OK", False),
        ("GET cart:1", "OK", False),
        ("HGETALL h", "OK", False),
        ("LRANGE l 0 -1", "OK", False),
        ("INCR n", "OK", False),
        ("GET gone", "OK", False),
        ("PING", "OK", False),
        ("GET n", "WRONGTYPE", True),
        ("XREAD COUNT 2 STREAMS a b 0 0", "OK", False),
    ]


def test_queued_commands_are_answered_each_and_exec_by_its_array() -> None:
    said = answers(TRANSACTION)
    assert said[2:5] == [("SET a ?", "QUEUED", False), ("INCR b", "QUEUED", False), ("EXEC", "OK", False)]
    assert said[8] == ("EXEC", "NIL", True) and said[10] == ("EXEC", "EXECABORT", True)
    batches = [message.attributes.get("db.operation.batch.size") for message in run(PROTOCOL, TRANSACTION).of(SERVER)]
    assert batches == [None] * 4 + [2] + [None] * 6


def test_the_database_is_told_where_it_is_known_for_sure() -> None:
    def namespaces(script: Script, setup: Setup) -> list[object]:
        return [message.attributes.get("db.namespace") for message in run(PROTOCOL, script, setup).of(SERVER)]

    pair: Script = [(CLIENT, commands("GET k", "SELECT 5", "GET k")), (SERVER, b"$-1\r\n+OK\r\n$-1\r\n")]
    assert namespaces(pair, START) == ["0", "0", "5"]
    assert namespaces(pair, PLAIN) == [None, None, "5"]
    assert namespaces([*pair, (CLIENT, commands("SELECT 99", "GET k")), (SERVER, b"-ERR DB\r\n:1\r\n")], PLAIN)[3:] == [
        "5",
        "5",
    ]
    assert namespaces(TRANSACTION, START) == ["0", *["3"] * 7, None, None, None]  # queued: nobody knows until EXEC
    assert namespaces([*pair, (CLIENT, commands("RESET", "GET k")), (SERVER, b"+RESET\r\n:1\r\n")], PLAIN)[3:] == ["5", "0"]
    lost: Script = [(SERVER, 7), (CLIENT, commands("SELECT 7", "GET k")), (SERVER, 30), (SERVER, b"$-1\r\n")]
    assert namespaces([*pair, (CLIENT, 30), (SERVER, 5), (CLIENT, commands("GET k")), (SERVER, b":1\r\n")], START)[3:] == [None]
    assert namespaces([*pair, *lost], START)[-1] is None


def test_a_subscription_is_answered_by_all_its_confirmations() -> None:
    assert answers(SUBSCRIBER) == [
        (text, "OK", False)
        for text in ("SUBSCRIBE a b", "PSUBSCRIBE p*", "PING", "UNSUBSCRIBE", "PUNSUBSCRIBE p*", "UNSUBSCRIBE", "GET k")
    ]
    assert unasked(SUBSCRIBER) == [("message", "a"), ("pmessage", "pop"), ("message", "b")]


def test_a_subscription_that_fails_has_one_answer() -> None:
    script: Script = [(CLIENT, commands("SUBSCRIBE a b", "GET k")), (SERVER, b"-NOPERM no channels\r\n$-1\r\n")]
    assert answers(script) == [("SUBSCRIBE a b", "NOPERM", True), ("GET k", "OK", False)]


def test_confirmations_that_nobody_counted_shift_nothing() -> None:
    """In the middle of a connection nobody knows how many channels an UNSUBSCRIBE without arguments ends."""
    more = confirmation("unsubscribe", "a", 1) + confirmation("unsubscribe", "b", 0)
    script: Script = [(CLIENT, commands("UNSUBSCRIBE", "GET k")), (SERVER, more + b"$1\r\n1\r\n")]
    assert answers(script, PLAIN)[1] == ("GET k", "OK", False)
    fewer: Script = [
        (CLIENT, commands("SUBSCRIBE a b c", "GET k")),
        (SERVER, confirmation("subscribe", "a", 1) + b"-ERR no\r\n"),
    ]
    assert answers(fewer, PLAIN) == [("SUBSCRIBE a b c", "OK", False), ("GET k", "ERR", True)]


def test_messages_on_a_connection_first_seen_in_its_middle() -> None:
    script: Script = [
        (SERVER, command("message", "a", "1")),
        (CLIENT, commands("PING")),
        (SERVER, command("message", "a", "2") + command("pong", "")),
    ]
    assert answers(script, PLAIN) == [("PING", "OK", False)]
    assert unasked(script) == [("message", "a"), ("message", "a")]


def test_pushes_are_messages_whatever_waits() -> None:
    assert unasked(RESP3) == [("invalidate", "foo"), ("invalidate", ""), ("message", "a")]
    said = answers(RESP3)
    assert [text for text, _, _ in said[:3]] == ["HELLO 3 AUTH joe ?", "CLIENT TRACKING ON", "SUBSCRIBE a b"]
    assert [status for _, status, _ in said] == ["OK"] * 8 + ["SYNTAX"]


def test_commands_without_an_answer() -> None:
    assert answers(SILENT) == [
        ("GET a", "OK", False),
        ("CLIENT REPLY ON", "OK", False),
        ("GET b", "OK", False),
        ("RESET", "OK", False),
        ("GET c", "OK", False),
    ]
    silent = [m.operation for m in run(PROTOCOL, SILENT).of(CLIENT) if m.kind is Kind.SILENT]
    assert silent == ["CLIENT REPLY", "SET", "CLIENT REPLY", "SET", "CLIENT REPLY", "CLIENT REPLY", "REPLCONF ACK"]


def test_a_monitor_shows_others_commands() -> None:
    assert answers(MONITOR) == [("MONITOR", "OK", False), ("QUIT", "OK", False)]
    assert unasked(MONITOR) == [("monitor", ""), ("monitor", "")]


def test_replication_is_another_protocol() -> None:
    messages = run(PROTOCOL, REPLICA).messages
    assert messages[-1][1].hands_to == "redis-replication" and len(messages) == 6
    refused: Script = [(CLIENT, commands("PSYNC ? -1", "GET k")), (SERVER, b"-NOMASTERLINK Can't SYNC\r\n$-1\r\n")]
    assert answers(refused) == [("PSYNC ? -1", "NOMASTERLINK", True), ("GET k", "OK", False)]
    old: Script = [(CLIENT, commands("SYNC")), (SERVER, b"\n\n$EOF:8de1787ba490483314a4d30f1c628bc5025eb761\r\nREDIS")]
    assert [message.hands_to for message in run(PROTOCOL, old).of(SERVER)] == ["redis-replication"]


# What a message must not say


@pytest.mark.parametrize("setup", [PLAIN, OPEN, STRICT], ids=["default", "off", "strict"])
@pytest.mark.parametrize(
    "words",
    [
        "AUTH hush",
        "AUTH joe hush",
        "HELLO 3 AUTH joe hush",
        "HELLO 3 SETNAME me AUTH joe hush",
        "ACL SETUSER joe on >hush ~*",
        "CONFIG SET requirepass hush",
        "CONFIG SET maxmemory 1 masterauth hush",
        "SENTINEL SET main auth-pass hush",
        "SENTINEL CONFIG SET sentinel-pass hush",
        "MIGRATE host 6379 k 0 100 AUTH hush",
        "MIGRATE host 6379 k 0 100 COPY AUTH2 joe hush KEYS a",
        "MODULE LOAD mod.so hush",
    ],
)
def test_no_password_anywhere(words: str, setup: Setup) -> None:
    for data in (command(*words.split()), words.encode() + b"\r\n"):
        assert "hush" not in repr(asked(data, setup))


@pytest.mark.parametrize(
    ("words", "default", "shown"),
    [
        ("SET k secret EX 60", "SET k ? ? ?", "SET k secret EX 60"),
        ("HMSET myhash field1 secret field2 Hi", "HMSET myhash field1 ? field2 ?", "HMSET myhash field1 secret field2 Hi"),
        ("MSET a 1 b 2", "MSET a ? b ?", "MSET a 1 b 2"),
        ("EVALSHA abc 2 k1 k2 secret", "EVALSHA abc 2 k1 k2 ?", "EVALSHA abc 2 k1 k2 secret"),
        ("XREADGROUP GROUP g me STREAMS s >", "XREADGROUP GROUP g me STREAMS s >", "XREADGROUP GROUP g me STREAMS s >"),
        ("PUBLISH ch secret", "PUBLISH ch ?", "PUBLISH ch secret"),
        ("PING secret", "PING ?", "PING secret"),
        ("MODULE.SOMETHING k secret", "MODULE.SOMETHING k ?", "MODULE.SOMETHING k secret"),
        ("CLIENT b@d secret", "CLIENT ? ?", "CLIENT ? secret"),
    ],
)
def test_values_are_hidden_unless_the_operator_asks(words: str, default: str, shown: str) -> None:
    data = command(*words.split())
    assert asked(data).attributes["db.query.text"] == default
    assert asked(data, OPEN).attributes["db.query.text"] == shown
    strict = asked(data, STRICT)
    assert strict.attributes["db.query.text"] == strict.operation and strict.resource == ""


def test_channels_are_keys() -> None:
    (message,) = run(PROTOCOL, [(SERVER, command("message", "secret", "secret"))], STRICT).of(SERVER)
    assert message.operation == "message" and "secret" not in repr(message)


@pytest.mark.parametrize("setup", [PLAIN, OPEN, STRICT], ids=["default", "off", "strict"])
@pytest.mark.parametrize(
    "words",
    [
        "GET k",
        "SET k v EX 5",
        "EXPIRE k 5",
        "HSET h f v g w",
        "MSET a 1 b 2",
        "DEL a b c",
        "BITOP AND d a b",
        "SELECT 1",
        "AUTH p",
        "AUTH u p",
        "XACK s g 1",
        "PING",
        "ZADD z 1 m",
        "MIGRATE h 1 k 0 5 AUTH p",
        "SCAN 0 MATCH x",
        "INFO all",
        "NOBODYS w",
        "ZUNION 2 a b",
        "EVAL s 1 k v",
        "CONFIG GET x",
    ],
)
def test_a_small_command_is_read_as_one_that_comes_in_pieces(words: str, setup: Setup) -> None:
    whole = command(*words.split())
    (at_once,) = run(PROTOCOL, [(CLIENT, whole)], setup).of(CLIENT)
    for at in range(1, len(whole)):
        (in_pieces,) = run(PROTOCOL, [(CLIENT, whole[:at]), (CLIENT, whole[at:])], setup).of(CLIENT)
        assert in_pieces == at_once


@pytest.mark.parametrize(
    "reply",
    [
        b"*0\r\n",
        b"*1\r\n$1\r\na\r\n",
        b"*2\r\n$0\r\n\r\n$-1\r\n",
        b"*2\r\n:1\r\n$1\r\na\r\n",
        b"*1\r\n*1\r\n$1\r\na\r\n",
        b"*-1\r\n",
    ],
)
def test_an_array_at_once_and_in_pieces(reply: bytes) -> None:
    asked = (CLIENT, commands("LRANGE l 0 -1", "GET k"))
    whole = reply + b"$1\r\nb\r\n"
    at_once = run(PROTOCOL, [asked, (SERVER, whole)]).of(SERVER)
    assert len(at_once) == 2
    for at in range(1, len(whole)):
        assert run(PROTOCOL, [asked, (SERVER, whole[:at]), (SERVER, whole[at:])]).of(SERVER) == at_once


def test_what_is_long_is_cut() -> None:
    message = asked(command("SET", "k" * 5000, "v"))
    assert message.resource == "k" * 256 and message.attributes["db.query.text"] == f"SET {'k' * 256} ?"
    many = asked(command("DEL", *["k" * 100] * 5000))
    assert len(str(many.attributes["db.query.text"])) == 1024


@pytest.mark.parametrize(
    ("words", "operation", "resource", "subcommand"),
    [
        ("client setname web", "CLIENT SETNAME", "", "SETNAME"),
        ("CONFIG GET maxmemory", "CONFIG GET", "maxmemory", "GET"),
        ("XINFO STREAM s", "XINFO STREAM", "s", "STREAM"),
        ("OBJECT ENCODING k", "OBJECT ENCODING", "k", "ENCODING"),
        ("BITOP AND dest a", "BITOP", "dest", None),
        ("EVAL script 1 k v", "EVAL", "k", None),
        ("EVALSHA abc 1 k v", "EVALSHA", "k", None),
        ("XREAD COUNT 2 STREAMS s 0", "XREAD", "s", None),
        ("ZUNIONSTORE dest 2 a b WEIGHTS 1 2", "ZUNIONSTORE", "dest", None),
        ("SINTERCARD 2 a b", "SINTERCARD", "a", None),
        ("BLMPOP 0 1 q LEFT", "BLMPOP", "q", None),
        ("SELECT 4", "SELECT", "4", None),
        ("SCAN 0 MATCH u:*", "SCAN", "", None),
        ("SENTINEL get-master-addr-by-name main", "SENTINEL GET-MASTER-ADDR-BY-NAME", "main", "GET-MASTER-ADDR-BY-NAME"),
        ("CLIENT", "CLIENT", "", None),
    ],
)
def test_the_resource_is_the_first_key(words: str, operation: str, resource: str, subcommand: str | None) -> None:
    message = asked(command(*words.split()))
    assert (message.operation, message.resource) == (operation, resource)
    assert message.attributes["db.operation.name"] == operation.split(maxsplit=1)[0]
    assert message.attributes.get("clovisor.redis.subcommand") == subcommand


def test_commands_in_a_line() -> None:
    said = run(PROTOCOL, TYPED).of(CLIENT)
    assert [message.attributes["db.query.text"] for message in said] == [
        "PING", "SET a key ?", "GET key", "CLIENT REPLY skip", "AUTH ?",
    ]  # fmt: skip
    assert [message.kind is Kind.SILENT for message in said] == [False, False, False, True, True]


# What is not seen


def test_a_value_is_stepped_over_by_its_length() -> None:
    size = 3_000_000
    first = b"$%d\r\nabc" % size
    script: Script = [
        (CLIENT, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n" + first),
        (CLIENT, size - 3 + 2),
        (SERVER, b"+OK\r\n"),
        (CLIENT, command("GET", "k") + command("MGET", "k", "k")),
        (SERVER, first),
        (SERVER, size - 3 + 2),
        (SERVER, b"*2\r\n" + first),
        (SERVER, size - 3 + 2),
        (SERVER, b"$1\r\nx\r\n"),
    ]
    out = run(PROTOCOL, script)
    assert not out.violations and not any(message.incomplete for _, message, _ in out.messages)
    ends = [end for sender, _, end in out.messages if sender == SERVER]
    assert ends == [5, 5 + len(b"$3000000\r\n") + size + 2, 5 + 2 * (len(b"$3000000\r\n") + size + 2) + 4 + 7]


def test_what_is_lost_in_the_middle() -> None:
    script: Script = [(CLIENT, commands("LRANGE l 0 9")), (SERVER, b"*10\r\n$1\r\na\r\n"), (SERVER, 100)]
    (answer,) = run(PROTOCOL, script).of(SERVER)
    assert answer.incomplete and answer.status == "OK"
    (request,) = run(PROTOCOL, [(CLIENT, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9"), (CLIENT, 100)]).of(CLIENT)
    assert request.incomplete and (request.operation, request.resource) == ("SET", "k")
    assert run(PROTOCOL, [(CLIENT, b"*3\r\n$3\r\nSE"), (CLIENT, 100)]).messages == []


@pytest.mark.parametrize(
    ("sender", "data"),
    [
        (CLIENT, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (CLIENT, b"*2\r\n$5\r\nGET\r\n$1\r\nk\r\n"),
        (CLIENT, b"*2\r\n:5\r\n"),
        (CLIENT, b"*2\r\n$3\r\nGET\r\n:5\r\n"),
        (CLIENT, b"*x\r\n"),
        (CLIENT, b"NOSUCHCOMMAND a\r\n"),
        (CLIENT, b"\x16\x03\x01"),
        (CLIENT, b"GET " + b"x" * 70000),
        (SERVER, b"hello"),
        (SERVER, b"$x\r\n"),
        (SERVER, b"*1\r\n$99999999999\r\n"),
        (SERVER, b"+OK\n"),
        (SERVER, b"|?\r\n"),
    ],
)
def test_bytes_that_are_not_redis(sender: int, data: bytes) -> None:
    assert run(PROTOCOL, [(sender, data)]).violations
    assert run(PROTOCOL, [(sender, data[at : at + 1]) for at in range(len(data))]).violations


def test_marks_are_bounded() -> None:
    out = run(PROTOCOL, [(CLIENT, commands("SELECT 1") * (MAX_MARKS + 10)), (SERVER, b"+OK\r\n" * (MAX_MARKS + 10))])
    assert len(out.of(SERVER)) == MAX_MARKS + 10 and not out.violations


# In the engine


def sessions(talk: Conversation) -> list[tuple[str, str, str, str]]:
    engine = Pipeline()
    made = engine.feed(talk.segments) + engine.close(talk.now)
    assert engine.ledger.violations == engine.ledger.buffered == 0
    return [(s.operation, s.resource, s.status, s.outcome.value) for s in made if s.protocol == "redis"]


@pytest.mark.parametrize("chunks", [None, [1] * 500, [30, 7]])
def test_pipelines_through_the_engine(chunks: list[int] | None) -> None:
    talk = Conversation(server_port=6379).handshake()
    talk.client(commands("SET a 1", "GET a", "LPUSH a x"), chunks=chunks)
    talk.server(b"+OK\r\n$1\r\n1\r\n-WRONGTYPE no\r\n", chunks=chunks)
    talk.client(commands("SUBSCRIBE c"), chunks=chunks).server(confirmation("subscribe", "c", 1), chunks=chunks)
    talk.server(command("message", "c", "hi"), chunks=chunks)
    assert sessions(talk.close()) == [
        ("SET", "a", "OK", "ok"),
        ("GET", "a", "OK", "ok"),
        ("LPUSH", "a", "WRONGTYPE", "error"),
        ("SUBSCRIBE", "c", "OK", "ok"),
        ("message", "c", "", "one_way"),
    ]


def test_a_connection_first_seen_in_its_middle() -> None:
    talk = Conversation(server_port=7001).server(b"$5\r\nhello\r\n").client(commands("GET k")).server(b"$-1\r\n")
    assert sessions(talk)[-1] == ("GET", "k", "OK", "ok")


def test_an_empty_line_begins_no_command() -> None:
    talk = Conversation(server_port=6379).handshake().client(commands("PING")).server(b"+PONG\r\n").client(b"\r\n")
    talk.wait(1_000_000_000).client(commands("GET k")).server(b"$-1\r\n")
    made = Pipeline().feed(talk.segments)
    assert [(session.operation, session.duration_ns) for session in made] == [("PING", MS), ("GET", MS)]


def test_typed_commands_on_the_well_known_port() -> None:
    talk = Conversation(server_port=6379).handshake().client(b"PING\r\n").server(b"+PONG\r\n")
    assert sessions(talk.client(b"SET a 1\r\n").server(b"+OK\r\n").close()) == [
        ("PING", "", "OK", "ok"),
        ("SET", "a", "OK", "ok"),
    ]
