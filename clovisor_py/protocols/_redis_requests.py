"""What a Redis client sends: arrays of bulk strings, or lines that somebody typed (inline commands).

Of a command only what a session tells is decoded: the name, the key, and the arguments that redaction lets through; values
are stepped over, seen or not. The usual small command is read in one go (`_quick`); any other, and one that is cut into
segments, argument by argument (`_arguments`), each looked at once.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import AttributeValue, Kind, Message
from clovisor_py.protocols import _redis_commands as commands
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._redaction import HIDDEN, Redaction
from clovisor_py.protocols._redis_commands import Command

MAX_ARGUMENT: Final = 256
"""Bytes kept of one argument; the rest is cut, so that a session stays small."""
MAX_QUERY: Final = 1024
"""Characters of `db.query.text`; the rest is cut."""
MAX_INLINE: Final = 64 * 1024
"""Bytes of an inline command: Redis's own limit. Beyond it: ProtocolError."""
MAX_NAME: Final = 64
"""Bytes of a command's name. Beyond it: ProtocolError; Redis knows none of that length."""

NAME: Final = rb"[A-Za-z][0-9A-Za-z._:|\-]{0,%d}" % (MAX_NAME - 1)
HEAD: Final = re.compile(rb"\*([1-9][0-9]{0,9})\r\n\$([1-9][0-9]{0,2})\r\n(" + NAME + rb")\r\n")
"""An array that begins with a name: count, length, name."""
HALF_HEAD: Final = re.compile(
    rb"\*(?:[1-9][0-9]{0,9})?(?:(?<=[0-9])\r(?:\n(?:\$(?:[1-9][0-9]{0,2})?(?:(?<=[0-9])\r(?:\n(?:"
    + NAME
    + rb"\r?)?)?)?)?)?)?\Z"
)
"""What could become one."""
LINE_NAME: Final = re.compile(rb"[ \t]{0,16}(" + NAME + rb")(?=[ \t\r\n])")

_QUICK = re.compile(rb"(\*[1-9][0-9]{0,9}\r\n\$[1-9][0-9]{0,2}\r\n" + NAME + rb"\r\n)(?:\$([0-9]{1,10})\r\n)?")
_BULK = re.compile(rb"\$([0-9]{1,10})\r\n")
_HALF_BULK = re.compile(rb"\$(?:[0-9]{1,10}\r?)?\Z")
_EMPTY = re.compile(rb"(?:\r?\n|\*(?:-1|0)\r\n)+")
"""What Redis takes without an answer."""
_HALF_EMPTY = re.compile(rb"(?:\r|\*(?:-1?|0)?\r?)\Z")
_HALF_LINE_NAME = re.compile(rb"[ \t]{0,16}" + NAME + rb"\Z")
_WORD = re.compile(rb'"(?:[^"\\]|\\.)*"?|\'(?:[^\'\\]|\\.)*\'?|[^ \t\r\n"\']+')

_STAR = b"*"[0]
_STREAMS = b"STREAMS"
_REQUEST = Kind.REQUEST  # looking up a member costs more than a call

_NO_COMMAND: Final = commands.named(b"PING", 0)
_NO_WORDS: Final[list[str]] = []
"""What connections share until they say something; never added to."""


@lru_cache(maxsize=8)
def _hidden(redaction: Redaction) -> frozenset[str]:
    """The letters of arguments that are not told."""
    shown = {"k": redaction.keys, "f": redaction.keys, "v": redaction.values, "u": redaction.users, "x": False}
    return frozenset(letter for letter, tell in shown.items() if not tell)


class Requests:
    """One client's commands. `command` and `words` are those of the request that was read last."""

    __slots__ = ("_hidden", "_keys", "_left", "_letters", "_open", "_quick_text", "_resource", "_searched", "command", "words")

    def __init__(self, redaction: Redaction) -> None:
        self._keys = redaction.keys
        self._quick_text = not redaction.values
        self._hidden = _hidden(redaction)
        self.command = _NO_COMMAND
        self.words = _NO_WORDS
        """The arguments as the query text has them."""
        self.reset()

    def reset(self) -> None:
        """Expect the beginning of a command."""
        self._open = False
        self._left = 0
        self._letters = ""
        self._resource = ""
        self._searched = 0

    def read(self, cursor: Cursor) -> Message | None:
        """At most one request at the cursor, by the contract of `Parser.parse`."""
        if self._open:
            return self._arguments(cursor)
        data, pos = cursor.data, cursor.pos
        found = _QUICK.match(data, pos)
        if found is not None:
            command = commands.begin(found[1])
            message = self._quick(cursor, found, command) if command.flat else None
            if message is None:
                self._begin(command)
                cursor.pos = found.end(1)
                message = self._arguments(cursor)
            return message
        if pos < len(data) and (empty := _EMPTY.match(data, pos)):
            cursor.pos = empty.end()
            cursor.drop()
            return self.read(cursor)
        if pos >= len(data) or _HALF_EMPTY.match(data, pos):
            return None
        if data[pos] != _STAR:
            return self._inline(cursor)
        if HALF_HEAD.match(data, pos) is None:
            raise ProtocolError("not Redis: bytes that begin no command where one is due.")
        return None

    def end(self) -> Message | None:
        """No more will come of the open command: what is known of it, or None."""
        message = self._message() if self._open else None
        self.reset()
        if message is not None:
            message.incomplete = True
        return message

    def _quick(self, cursor: Cursor, found: re.Match[bytes], command: Command) -> Message | None:
        """A command wholly at hand, mostly of a key and values, or of nothing; None: this needs a closer look."""
        data, size = cursor.data, found[2]
        operation, resource, pos = command.operation, "", found.end()
        text = operation
        if command.arguments:
            if size is None:
                return None
            if command.suffix is None or (command.arguments > 1 and not self._quick_text):
                return self._several(cursor, found.end(1), command)
            end = pos + int(size)
            key = data[pos : end if end - pos < MAX_ARGUMENT else pos + MAX_ARGUMENT]
            pos = end + 2
            for _ in range(command.arguments - 1):
                bulk = _BULK.match(data, pos)
                if bulk is None:
                    return None
                pos = bulk.end() + int(bulk[1]) + 2
            if pos > len(data):
                return None
            if self._keys:
                resource = key.decode("utf-8", "replace")
                text = f"{operation} {resource}{command.suffix}"
        else:
            pos = found.end(1)
        self.command = command
        cursor.pos = pos
        return Message(
            _REQUEST,
            operation,
            resource,
            "",
            False,
            {"db.system.name": "redis", "db.operation.name": operation, "db.query.text": text},
        )

    def _several(self, cursor: Cursor, pos: int, command: Command) -> Message | None:
        """The same of a command whose arguments begin at `pos`, and of which several may be told."""
        data, hidden, match = cursor.data, self._hidden, _BULK.match
        words, resource = [command.operation], ""
        for letter in command.letters:
            bulk = match(data, pos)
            if bulk is None:
                return None
            start, length = bulk.end(), int(bulk[1])
            pos = start + length + 2
            if letter in hidden:
                words.append(HIDDEN)
            else:
                end = start + (length if length < MAX_ARGUMENT else MAX_ARGUMENT)
                words.append(data[start:end].decode("utf-8", "replace"))
                if not resource and letter in "kr":
                    resource = words[-1]
        if pos > len(data):
            return None
        self.command = command
        cursor.pos = pos
        return _told(command, resource, " ".join(words)[:MAX_QUERY] if self._keys else command.operation)

    def _begin(self, command: Command) -> None:
        self._open = True
        self._resource = ""
        self.words = []
        self.command = command
        self._left = command.arguments
        self._letters = command.letters

    def _arguments(self, cursor: Cursor) -> Message | None:
        """Step over the arguments as far as they are at hand; the request, when the last byte of it is."""
        data, pos = cursor.data, cursor.pos
        size, left = len(data), self._left
        while left and pos < size:
            bulk = _BULK.match(data, pos)
            if bulk is None:
                if _HALF_BULK.match(data, pos) is None:
                    raise ProtocolError("not Redis: an argument that is no bulk string.")
                break
            start, length = bulk.end(), int(bulk[1])
            letter = self._letters[:1]
            if letter in self._hidden:
                self._letters = self._letters[1:]
                self.words.append(HIDDEN)
            elif letter:
                end = start + (length if length < MAX_ARGUMENT else MAX_ARGUMENT)
                if end > size:
                    break
                self._take(letter, data[start:end])
            pos = start + length + 2
            left -= 1
        cursor.pos, self._left = pos, left
        return None if left or pos > size else self._finish()

    def _take(self, letter: str, word: bytes | bytearray) -> None:
        """The next argument, of which `word` is the beginning, and which nobody hides."""
        self._letters = self._letters[1:]
        if letter == commands.SUBCOMMAND:
            self.command = commands.within(self.command, bytes(word))
            self._letters = self.command.letters
            if not self.command.subcommand:
                self.words.append(HIDDEN)
            return
        text = word.decode("utf-8", "replace")
        self.words.append(text)
        if letter in "kr":
            self._resource = self._resource or text
        elif letter == "n" and word.isdigit():
            self._letters = ("k" * min(int(word[:3]), len(self._letters)) + self._letters)[: len(self._letters)]
        elif letter == "s" and word.upper() == _STREAMS:
            self._letters = "k" * len(self._letters)

    def _inline(self, cursor: Cursor) -> Message | None:
        """A command in a line of words."""
        data, pos = cursor.data, cursor.pos
        named = LINE_NAME.match(data, pos)
        if not (commands.is_known(named[1]) if named else _HALF_LINE_NAME.match(data, pos)):
            raise ProtocolError("not Redis: a line that begins with no command.")
        end = data.find(b"\n", pos + self._searched, pos + MAX_INLINE)
        if end < 0:
            self._searched = len(data) - pos
            if self._searched >= MAX_INLINE:
                raise ProtocolError(f"not Redis: an inline command of more than {MAX_INLINE} bytes.")
            return None
        name, *arguments = _WORD.findall(data, pos, end)
        cursor.pos = end + 1
        self._begin(commands.named(bytes(name), len(arguments)))
        for word in arguments:
            letter = self._letters[:1]
            if not letter:
                break
            if letter in self._hidden:
                self._letters = self._letters[1:]
                self.words.append(HIDDEN)
            else:
                self._take(letter, word[:MAX_ARGUMENT].strip(b"\"'"))
        return self._finish()

    def _finish(self) -> Message:
        """The open command is whole."""
        message = self._message()
        self.reset()
        return message

    def _message(self) -> Message:
        command, resource = self.command, self._resource
        operation = command.operation
        text = " ".join([operation, *self.words])[:MAX_QUERY] if self._keys else operation
        return _told(command, resource, text)


def _told(command: Command, resource: str, text: str) -> Message:
    """The request, with its query text."""
    attributes: dict[str, AttributeValue] = {
        "db.system.name": "redis",
        "db.operation.name": command.name,
        "db.query.text": text,
    }
    if command.subcommand:
        attributes["clovisor.redis.subcommand"] = command.subcommand
    return Message(_REQUEST, command.operation, resource, "", False, attributes)
