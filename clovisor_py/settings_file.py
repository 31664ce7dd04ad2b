"""Settings in three layers: a file (a mounted ConfigMap), the environment (`CLOVISOR_CPU_SHARE`), flags; the last word wins.

A running agent refuses a file with a mistake as a whole, and goes on with what it had: half of a changed file would be
settings that nobody wrote. One that starts (after a crash, a drained node) has nothing to go on with, and a cluster without
its agents is worse than one setting that is not as wanted: what can be read of the file holds, the rest is the default, and
`refused` says so for as long as it is so. Only of what is hidden of other people's payloads the default would be too little:
where a `redact` may have been meant, and cannot be read, it is `strict`. The environment and flags are those of whoever
starts it, so there a mistake ends the start.

The file is looked at, not watched: the kubelet renews a ConfigMap by swapping the symbolic link `..data`, which a look at the
file's identity notices on any file system. (It never renews a file that is mounted by `subPath`: mount the folder.)
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from clovisor_py.errors import UsageError
from clovisor_py.kube.egress import quoted
from clovisor_py.node_settings import DEFAULTS, FIELDS, Misfit, NodeSettings, read
from clovisor_py.protocols._redaction import Level
from clovisor_py.settings_yaml import Said, entries

ENVIRONMENT: Final = "CLOVISOR_"
FLAG: Final = "--"
VARIABLE: Final = "environment "
"""What begins the origin of a value that no file says."""
MAX_SAID: Final = 5
"""Mistakes that are told at once; the rest is counted."""
_LINKS: Final = re.compile(r"(.*_)?SERVICE_(HOST|PORT)(_.*)?|(.*_)?PORT(_\d+_(TCP|UDP)(_.*)?)?")
_URL: Final = re.compile(r"(tcp|udp|sctp)://")
"""What the kubelet sets in every container of a namespace that has a Service named clovisor (or clovisor-http): not for us."""
_FLAGS: Final = {"exports": "export", "http_host": "listen", "http_port": "listen", "trace_by_default": "default"}
"""Flags that are not called as their setting is."""
_HIDING: Final = "redact"
UNREADABLE_REDACT: Final = Level.STRICT.value
"""A level that nobody can read may have been meant to hide more, and what is told cannot be taken back."""
OLD_STAY: Final = "The settings from before stay."
DEFAULTS_HOLD: Final = f"Until then each of these is its default, and redact is {UNREADABLE_REDACT} if it may be among them."

Identity = tuple[str, int, int, int, int]


class SettingsFile:
    """The agent's settings, as the three layers give them now.

    `path` may be None: no file. `names`: those of all protocols. `flags`: by setting, None and () where a flag was not given.
    """

    def __init__(
        self,
        path: Path | None,
        names: Collection[str],
        *,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> None:
        self.path = path
        self._names = frozenset(names)
        self._above = [*_environment(environ or {}), *_flags(flags or {})]
        self._seen: Identity | None = None
        self._mistakes: list[str] = []
        self._said: Set[str] = frozenset()
        """At the start: the settings that the file has, and nobody above it; and what is wrong with it."""
        self.refused = ""
        """What is wrong with the file as it is now, and what holds instead; empty where nothing is wrong."""
        self.current = DEFAULTS
        """The settings that hold: those that `start`, `load` or `reload` gave last."""

    def start(self) -> NodeSettings:
        """Read all layers for the first time. A mistake of the file costs what it is in, and is `refused`.

        Raises UsageError for one of the environment or a flag.
        """
        mistakes = self._mistakes
        misfits: list[str] = []
        values = self._read(self._file(mistakes), mistakes, misfits)
        self._said = values.keys() - {name for _, name, _ in self._above}
        if len(mistakes) > len(misfits) or _HIDING in misfits:
            values.setdefault(_HIDING, UNREADABLE_REDACT)
        if mistakes:
            self.refused = f"{_few(mistakes)} {DEFAULTS_HOLD}"
        return self._hold(values)

    def leave_out(self, name: str, why: str) -> bool:
        """What the file said at the `start` is of no use, as only who used it could tell: the default holds. `why`: a sentence.

        False where it is not the file that says it.
        """
        if name not in self._said:
            return False
        self._mistakes.append(f"{self.path}: {name}: {why}")
        self.refused = f"{_few(self._mistakes)} {DEFAULTS_HOLD}"
        changes: dict[str, Any] = {name: getattr(DEFAULTS, name)}
        self.current = replace(self.current, **changes)
        return True

    def load(self) -> NodeSettings:
        """Read all layers. Raises UsageError, with a sentence for each mistake."""
        mistakes: list[str] = []
        values = self._read(self._file(mistakes), mistakes)
        if mistakes:
            raise UsageError(_few(mistakes))
        return self._hold(values)

    def reload(self) -> NodeSettings | str:
        """Read all layers again: the new settings, or why the old ones stay."""
        try:
            settings = self.load()
        except UsageError as error:
            self.refused = f"{error} {OLD_STAY}"
            return self.refused
        self.refused = ""
        return settings

    def look(self) -> NodeSettings | str | None:
        """`reload` if the file is another one than last time; None where nothing is new. Cheap: one `stat`."""
        if self.path is None or _identity(self.path) == self._seen:
            return None
        before, refused = self.current, self.refused
        found = self.reload()
        return None if found == before and not refused else found

    def _hold(self, values: dict[str, object]) -> NodeSettings:
        above: list[str] = []
        changes: dict[str, Any] = {**values, **self._read(self._above, above)}
        if above:
            raise UsageError(_few(above))
        self.current = NodeSettings(**changes)
        return self.current

    def _read(self, said: Iterable[Said], mistakes: list[str], misfits: list[str] | None = None) -> dict[str, object]:
        """The values of one layer by setting; what is wrong with the others, and which of them have values that do not fit."""
        values: dict[str, object] = {}
        for origin, name, raw in said:
            if name not in FIELDS:
                mistakes.append(f"{origin}: there is no setting {quoted(name)}{_meant(name)}.")
                continue
            try:
                values[name] = read(name, raw, self._names)
            except Misfit as error:
                mistakes.append(f"{_where(origin, name)}: {error}.")
                if misfits is not None:
                    misfits.append(name)
        return values

    def _file(self, mistakes: list[str]) -> Iterator[Said]:
        if self.path is None:
            return
        self._seen = _identity(self.path)  # before it is read: a change meanwhile is seen by the next look
        yield from entries(self.path, mistakes)


def _where(origin: str, name: str) -> str:
    """A flag or a variable says by itself which setting it is."""
    return origin if origin.startswith((FLAG, VARIABLE)) else f"{origin}: {name}"


def _few(mistakes: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = [f"And {len(mistakes) - MAX_SAID} more mistakes."] if len(mistakes) > MAX_SAID else []
    return " ".join([*mistakes[:MAX_SAID], *more])


def _environment(environ: Mapping[str, str]) -> Iterator[Said]:
    for variable in sorted(environ):
        name, value = variable.removeprefix(ENVIRONMENT), environ[variable]
        link = _LINKS.fullmatch(name) and (name.lower() not in FIELDS or _URL.match(value))
        if variable.startswith(ENVIRONMENT) and not link:
            yield f"{VARIABLE}{variable}", name.lower(), value


def _flags(flags: Mapping[str, object]) -> Iterator[Said]:
    for name, value in flags.items():
        if value is None or value == ():
            continue
        raw = [_item(one) for one in value] if isinstance(value, list | tuple) else _item(value)
        yield f"{FLAG}{_FLAGS.get(name, name.replace('_', '-'))}", name, raw


def _item(value: object) -> str:
    """As it would be written: a hint that was read already is a pair."""
    return (
        "=".join(map(str, value)) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _meant(name: str) -> str:
    close = difflib.get_close_matches(name, FIELDS, n=1)
    return f"; perhaps {close[0]} is meant" if close else f"; there are {', '.join(FIELDS)}"


def _identity(path: Path) -> Identity | None:
    """What is another when the file is: the target of its links, its inode, its time. None: it is not there."""
    try:
        found = path.stat()
        return os.path.realpath(path), found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
    except OSError:
        return None
