"""Settings in three layers: a file (a mounted ConfigMap), the environment (`CLOVISOR_CPU_SHARE`), flags; the last word wins.

A mistake anywhere refuses the whole: the agent starts with a sentence instead, or goes on with what it had. Half of a
changed file would be settings that nobody wrote. The file is looked at, not watched: the kubelet renews a ConfigMap by
swapping the symbolic link `..data`, which a look at the file's identity notices on any file system. (It never renews a file
that is mounted by `subPath`: mount the folder.)
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from clovisor_py.errors import UsageError
from clovisor_py.kube.egress import quoted
from clovisor_py.node_settings import DEFAULTS, FIELDS, Misfit, NodeSettings, Raw, read

ENVIRONMENT: Final = "CLOVISOR_"
MAX_BYTES: Final = 64 * 1024
"""A settings file has a page; what is longer is another file."""
MAX_SAID: Final = 5
"""Mistakes that are told at once; the rest is counted."""
_LINKS: Final = re.compile(r"(.*_)?SERVICE_(HOST|PORT)(_.*)?|(.*_)?PORT(_\d+_(TCP|UDP)(_.*)?)?")
_URL: Final = re.compile(r"(tcp|udp|sctp)://")
"""What the kubelet sets in every container of a namespace that has a Service named clovisor (or clovisor-http): not for us."""
_NULL: Final = "tag:yaml.org,2002:null"

Said = tuple[str, str, Raw]
"""Who says it (`settings.yaml line 3`), which setting, and what."""
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
        self._refused = ""
        self.current = DEFAULTS
        """The settings that hold: those that `load` or `reload` gave last."""

    def load(self) -> NodeSettings:
        """Read all layers. Raises UsageError, with a sentence for each mistake."""
        mistakes: list[str] = []
        said = [*self._file(mistakes), *self._above]
        values: dict[str, object] = {}
        for origin, name, raw in said:
            if name not in FIELDS:
                mistakes.append(f"{origin}: there is no setting {quoted(name)}{_meant(name)}.")
                continue
            try:
                values[name] = read(name, raw, self._names)
            except Misfit as error:
                mistakes.append(f"{origin}: {name}: {error}.")
        if mistakes:
            more = [f"And {len(mistakes) - MAX_SAID} more mistakes."] if len(mistakes) > MAX_SAID else []
            raise UsageError(" ".join([*mistakes[:MAX_SAID], *more]))
        changes: dict[str, Any] = values
        self.current = NodeSettings(**changes)
        return self.current

    def reload(self) -> NodeSettings | str:
        """Read all layers again: the new settings, or why the old ones stay."""
        try:
            settings = self.load()
        except UsageError as error:
            self._refused = str(error)
            return f"{error} The settings from before stay."
        self._refused = ""
        return settings

    def look(self) -> NodeSettings | str | None:
        """`reload` if the file is another one than last time; None where nothing is new. Cheap: one `stat`."""
        if self.path is None or _identity(self.path) == self._seen:
            return None
        before, refused = self.current, self._refused
        found = self.reload()
        return None if found == before and not refused else found

    def _file(self, mistakes: list[str]) -> Iterator[Said]:
        if self.path is None:
            return
        self._seen = _identity(self.path)  # before it is read: a change meanwhile is seen by the next look
        try:
            yield from _entries(self.path, mistakes)
        except OSError as error:
            mistakes.append(f"{self.path} cannot be read ({error.strerror}): check the path and the mount.")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = f" line {mark.line + 1}" if mark is not None else ""
            star = "; quote what begins with *" if "alias" in str(error) else ""
            mistakes.append(f"{self.path}{line} is not YAML ({error.problem or error.context}): write 'setting: value'{star}.")
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
            mistakes.append(f"{self.path} is not YAML: write lines of 'setting: value', as UTF-8.")


def _entries(path: Path, mistakes: list[str]) -> Iterator[Said]:
    """The file's keys and values, as text. Raises OSError, YAMLError, UnicodeDecodeError, RecursionError."""
    root = yaml.compose(_text(path), Loader=yaml.SafeLoader)
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == _NULL):
        return
    if not isinstance(root, yaml.MappingNode):
        mistakes.append(f"{path} is no list of settings: write lines of 'setting: value'.")
        return
    lines: dict[str, int] = {}
    for key, value in root.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        line = key.start_mark.line + 1
        raw = _raw(value)
        if lines.setdefault(name, line) != line:
            mistakes.append(f"{path} line {line}: {name} was given in line {lines[name]} already: leave one out.")
        elif raw is None:
            mistakes.append(
                f"{path} line {line}: {quoted(name)} has more in it than a value or a list: write 'setting: value'."
            )
        else:
            yield f"{path} line {line}", name, raw


def _text(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not keep us
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no file")
        data = os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise OSError(0, f"it is longer than {MAX_BYTES // 1024} KiB")
    return data.decode()


def _raw(node: yaml.Node) -> Raw | None:
    """One text, or several; of a mapping `key=value` each. None: something deeper."""
    if isinstance(node, yaml.ScalarNode):
        return "" if node.tag == _NULL else str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(one, yaml.ScalarNode) for one in node.value):
        return [str(one.value) for one in node.value]
    if isinstance(node, yaml.MappingNode) and all(isinstance(one, yaml.ScalarNode) for pair in node.value for one in pair):
        return [f"{key.value}={value.value}" for key, value in node.value]
    return None


def _environment(environ: Mapping[str, str]) -> Iterator[Said]:
    for variable in sorted(environ):
        name, value = variable.removeprefix(ENVIRONMENT), environ[variable]
        link = _LINKS.fullmatch(name) and (name.lower() not in FIELDS or _URL.match(value))
        if variable.startswith(ENVIRONMENT) and not link:
            yield f"environment {variable}", name.lower(), value


def _flags(flags: Mapping[str, object]) -> Iterator[Said]:
    for name, value in flags.items():
        if value is None or value == ():
            continue
        raw = [_item(one) for one in value] if isinstance(value, list | tuple) else _item(value)
        yield f"--{name.replace('_', '-')}", name, raw


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
