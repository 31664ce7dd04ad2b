"""What Redis commands are made of, as data: which argument is a key, which a value, which a secret, and what an answer changes.

A layout has a letter for each argument, in their order; those behind the `|` repeat to the end. Further arguments are values.

    k  key, channel, pattern: the first one is the session's resource     v  value, member, score: hidden by default
    f  field, path, group: shown like a key, but no resource              x  password, or what may hold one: never shown
    r  resource that is nobody's data (an index, a section, a setting)    u  user name
    o  option or number                                                   n  number of keys that follow
    s  option; once one of them is STREAMS, keys follow

A command that is in no layout is taken as `k|v`: modules keep to that, and it shows the least. Names and arguments:
https://redis.io/docs/latest/commands/ (Redis 8, Valkey 8, the modules of Redis Stack).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final

from clovisor_py.errors import ProtocolError

MAX_LETTERS: Final = 32
"""Arguments of one command that are looked at; the rest is stepped over. It fills the query text."""
MAX_SUBCOMMAND: Final = 24
"""Bytes of a sub-command; the longest, COUNT-FAILURE-REPORTS, has 21."""
MEMO_SIZE: Final = 1024
"""Beginnings of commands (count, name) that are kept in mind; an application uses a few dozen."""

DEFAULT_LAYOUT: Final = "k|v"
SUBCOMMAND: Final = "c"
"""Letter of a sub-command: the command is known only behind it."""
_DECIDING: Final = frozenset("cns")
"""Letters of arguments that decide what those behind them are."""


class Role(Enum):
    """What an answer to the command, or the command itself, changes for what follows on the connection."""

    NONE = "none"
    SELECT = "select"
    HELLO = "hello"
    RESET = "reset"
    MONITOR = "monitor"
    SYNC = "sync"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    EXEC = "exec"
    REPLY = "reply"
    UNANSWERED = "unanswered"


ROLES: Final = {
    "SELECT": Role.SELECT,
    "HELLO": Role.HELLO,
    "RESET": Role.RESET,
    "MONITOR": Role.MONITOR,
    "SYNC": Role.SYNC,
    "PSYNC": Role.SYNC,
    "SUBSCRIBE": Role.SUBSCRIBE,
    "PSUBSCRIBE": Role.SUBSCRIBE,
    "SSUBSCRIBE": Role.SUBSCRIBE,
    "UNSUBSCRIBE": Role.UNSUBSCRIBE,
    "PUNSUBSCRIBE": Role.UNSUBSCRIBE,
    "SUNSUBSCRIBE": Role.UNSUBSCRIBE,
    "EXEC": Role.EXEC,
    "CLIENT REPLY": Role.REPLY,
    "REPLCONF ACK": Role.UNANSWERED,
}

LAYOUTS: Final = {
    DEFAULT_LAYOUT: (
        "GET SET GETSET GETDEL SETNX APPEND STRLEN INCR DECR INCRBY DECRBY INCRBYFLOAT DELEX DIGEST TTL PTTL EXPIRETIME"
        " PEXPIRETIME PERSIST TYPE DUMP BITCOUNT BITPOS BITFIELD BITFIELD_RO SETBIT GETBIT LPUSH RPUSH LPUSHX RPUSHX LINSERT"
        " LREM LPOS LLEN HGETALL HKEYS HVALS HLEN HRANDFIELD SADD SREM SISMEMBER SMISMEMBER SMEMBERS SCARD ZADD ZREM ZSCORE"
        " ZMSCORE ZRANK ZREVRANK ZINCRBY ZCARD ZCOUNT ZLEXCOUNT ZRANGE ZRANGEBYSCORE ZRANGEBYLEX ZREVRANGE ZREVRANGEBYSCORE"
        " ZREVRANGEBYLEX ZREMRANGEBYSCORE ZREMRANGEBYLEX ZREMRANGEBYRANK GEOADD GEODIST GEOHASH GEOPOS GEORADIUS"
        " GEORADIUS_RO GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO GEOSEARCH PFADD XADD PUBLISH SPUBLISH VADD VSIM VREM"
    ),
    "k|o": (
        "EXPIRE PEXPIRE EXPIREAT PEXPIREAT GETEX GETRANGE SUBSTR LRANGE LINDEX LTRIM LPOP RPOP SPOP SRANDMEMBER ZPOPMIN"
        " ZPOPMAX ZRANDMEMBER MOVE XLEN XTRIM XRANGE XREVRANGE XDEL XSETID"
    ),
    "k|f": "HGET HDEL HMGET HEXISTS HSTRLEN HGETDEL HTTL HPTTL HPERSIST HEXPIRETIME HPEXPIRETIME SORT SORT_RO"
    " XACK XPENDING XCLAIM XAUTOCLAIM JSON.GET JSON.DEL JSON.TYPE JSON.OBJKEYS JSON.ARRLEN JSON.NUMINCRBY",
    "k|fv": "HSET HMSET",
    "kfv": "HSETNX HINCRBY HINCRBYFLOAT JSON.SET",
    "kov": "SETEX PSETEX LSET SETRANGE RESTORE RESTORE-ASKING",
    "ko|v": "HSCAN SSCAN ZSCAN HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT",
    "|k": (
        "DEL UNLINK EXISTS TOUCH MGET WATCH PFCOUNT PFMERGE KEYS SINTER SUNION SDIFF SINTERSTORE SUNIONSTORE SDIFFSTORE"
        " BLPOP BRPOP BZPOPMIN BZPOPMAX RENAME RENAMENX RPOPLPUSH BRPOPLPUSH SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE"
        " PUNSUBSCRIBE SUNSUBSCRIBE JSON.MGET"
    ),
    "|kv": "MSET MSETNX",
    "kk|o": "COPY LMOVE BLMOVE ZRANGESTORE LCS",
    "kk|v": "SMOVE GEOSEARCHSTORE",
    "kn": "ZUNIONSTORE ZINTERSTORE ZDIFFSTORE",
    "n|o": "ZUNION ZINTER ZDIFF ZINTERCARD SINTERCARD LMPOP ZMPOP",
    "on|o": "BLMPOP BZMPOP",
    "vn": "EVAL EVAL_RO",
    "on": "EVALSHA EVALSHA_RO FCALL FCALL_RO",
    "o|k": "BITOP",
    "|s": "XREAD XREADGROUP",
    "o|f": "SCAN",
    "|r": "SELECT INFO SWAPDB",
    "|o": "WAIT WAITAOF BGSAVE BGREWRITEAOF FLUSHALL FLUSHDB SHUTDOWN LOLWUT PSYNC SYNC SAVE DBSIZE LASTSAVE TIME ROLE"
    " RANDOMKEY MULTI EXEC DISCARD UNWATCH QUIT RESET MONITOR READONLY READWRITE ASKING REPLICAOF SLAVEOF FAILOVER",
    "|v": "PING ECHO",
    "rou|x": "HELLO",
    "u|x": "AUTH",
    "ookoo|x": "MIGRATE",
}
"""Layout to the commands that have it."""

SUBCOMMANDS: Final = {
    "ACL": "u|x",
    "CLIENT": "|f",
    "CLUSTER": "|o",
    "COMMAND": "|v",
    "CONFIG": "|r",
    "DEBUG": "|v",
    "FUNCTION": "|v",
    "LATENCY": "|r",
    "MEMORY": "k|o",
    "MODULE": "o|x",
    "OBJECT": "|k",
    "PFDEBUG": "|k",
    "PUBSUB": "|k",
    "REPLCONF": "|o",
    "SCRIPT": "|v",
    "SENTINEL": "r|x",
    "SLOWLOG": "|o",
    "XGROUP": "k|f",
    "XINFO": "k|f",
    "FT.CONFIG": "|r",
    "FT.CURSOR": "k|o",
    "JSON.DEBUG": "k|f",
}
"""Containers: the word behind their name belongs to the operation. Layout of what follows it."""

SUBCOMMAND_LAYOUTS: Final = {
    "ACL CAT": "|o",
    "ACL DELUSER": "|u",
    "ACL DRYRUN": "uo|v",
    "ACL LOG": "|o",
    "CLUSTER KEYSLOT": "k",
    "COMMAND DOCS": "|o",
    "COMMAND INFO": "|o",
    "CONFIG SET": "rx|ox",
    "SCRIPT EXISTS": "|o",
    "SCRIPT FLUSH": "|o",
    "FT.CONFIG SET": "rx",
    "SENTINEL CONFIG": "o|x",
    "SENTINEL MONITOR": "r|o",
}
"""Where one sub-command's arguments differ from its container's."""

_LAYOUT_OF = {name: layout for layout, names in LAYOUTS.items() for name in names.split()}

KNOWN: Final = frozenset(name.encode() for name in (*_LAYOUT_OF, *SUBCOMMANDS))
"""Names that begin a command for sure, in upper case; modules' (`FT.SEARCH`) have one of MODULES in front."""
MODULES: Final = (b"FT.", b"JSON.", b"BF.", b"CF.", b"CMS.", b"TOPK.", b"TS.", b"TDIGEST.", b"GRAPH.")
REDIS_ONLY: Final = frozenset(
    b"HSET HGET HMSET HMGET HGETALL HDEL HINCRBY HEXISTS HLEN HKEYS HVALS HSCAN LPUSH RPUSH LPOP RPOP LRANGE LLEN LINDEX"
    b" LTRIM SADD SREM SMEMBERS SISMEMBER SCARD SSCAN ZADD ZRANGE ZREM ZSCORE ZINCRBY ZCARD ZSCAN XADD XREAD XRANGE SETEX"
    b" SETNX GETSET MSET INCRBY DECRBY EXPIRE PEXPIRE PTTL DBSIZE FLUSHALL FLUSHDB PSUBSCRIBE EVALSHA PFADD PFCOUNT".split()
)
"""Names that no other protocol of lines uses: enough to recognise an inline command by. The others are spoken elsewhere too
(GET, PING, AUTH, INFO, SUBSCRIBE: HTTP, NATS, POP3, memcached, SIP)."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command with so many arguments, ready to be read."""

    name: str
    """`CLIENT`; upper case."""
    operation: str
    """`CLIENT REPLY`."""
    subcommand: str
    """`REPLY`, or empty."""
    arguments: int
    """How many follow the name, and the sub-command where it is known."""
    letters: str
    """The first MAX_LETTERS of them."""
    role: Role
    suffix: str | None
    """What follows the key in the query text, where all but the key are values; None: it takes a closer look."""
    flat: bool
    """Its letters alone say what its arguments are, and it has no more than those; nothing that follows depends on them."""


@lru_cache(maxsize=MEMO_SIZE)
def begin(head: bytes) -> Command:
    """The command whose wire form begins with `head` (`*2\\r\\n$3\\r\\nget\\r\\n`). Raises ProtocolError for a wrong length."""
    count, length, name, _ = head.split(b"\r\n")
    if int(length[1:]) != len(name):
        raise ProtocolError("not Redis: a command's name that is not as long as it says.")
    return named(name, int(count[1:]) - 1)


def named(name: bytes, arguments: int) -> Command:
    """The command of that name, in whatever case, with so many arguments."""
    text = name.decode("ascii", "replace").upper()
    usual = DEFAULT_LAYOUT if is_known(name) or b"." in name else "|v"  # a mistyped AUTH must not show its password
    layout = SUBCOMMAND if text in SUBCOMMANDS else _LAYOUT_OF.get(text, usual)
    if text == "AUTH" and arguments == 1:
        layout = "x"  # without a user name the only argument is the password
    return _command(text, "", arguments, layout)


@lru_cache(maxsize=MEMO_SIZE)
def within(container: Command, word: bytes) -> Command:
    """The sub-command `word` of a container. A word that cannot be one is left out of the operation, and hidden."""
    text = word.decode("ascii", "replace").upper()
    if len(text) > MAX_SUBCOMMAND or not text.replace("-", "").isalpha() or not text.isascii():
        return _command(container.name, "", container.arguments - 1, "|v")
    layout = SUBCOMMAND_LAYOUTS.get(f"{container.name} {text}", SUBCOMMANDS[container.name])
    return _command(container.name, text, container.arguments - 1, layout)


def is_known(name: bytes) -> bool:
    """Whether a command of this name, in whatever case, exists."""
    upper = name.upper()
    return upper in KNOWN or upper.startswith(MODULES)


def _command(name: str, subcommand: str, arguments: int, layout: str) -> Command:
    first, _, cycle = layout.partition("|")
    letters = (first + (cycle or "v") * MAX_LETTERS)[: min(arguments, MAX_LETTERS)]
    operation = f"{name} {subcommand}" if subcommand else name
    role = ROLES.get(operation, ROLES.get(name, Role.NONE))
    flat = role is Role.NONE and not subcommand and arguments <= MAX_LETTERS and not set(letters) & _DECIDING
    suffix = " ?" * (len(letters) - 1) if flat and letters in ("k" + "v" * (len(letters) - 1), "") else None
    return Command(name, operation, subcommand, arguments, letters, role, suffix, flat)
