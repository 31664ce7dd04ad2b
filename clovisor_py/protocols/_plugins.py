"""Protocols from outside the tree: entry points `clovisor.protocols` of installed packages, and files that the operator names.

A plugin is a module with a `PROTOCOL`, exactly as the modules here. It is somebody else's code: one that does not import, that
has no protocol, or that claims a name which is taken is refused with a sentence, and all others go on. What it does later is
the engine's concern (`flows/pipeline`): a parser that raises loses its flow, no more.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Final

from clovisor_py.errors import UsageError
from clovisor_py.model.text import printable
from clovisor_py.protocols._api import Capture, Pairing, Protocol
from clovisor_py.protocols._registry import registry

ENTRY_POINTS: Final = "clovisor.protocols"
NAME: Final = re.compile(r"[a-z0-9_]+")
"""What a protocol is called: it stands in metrics, in JSON and behind `--hint PORT=`."""
OTHER_NAME: Final = re.compile(r"[!-<>-@\[-~]+")
"""What others call it (`http/1.1`), compared in small letters: whatever a Service's appProtocol may be."""
HIGHEST_PORT: Final = 65535
TEXT_CHARS: Final = 200
"""Of what a plugin's exception says."""


@dataclass(frozen=True)
class Loaded:
    """What there is, by name, and a sentence for each plugin that is not among it."""

    protocols: Mapping[str, Protocol]
    refused: tuple[str, ...] = ()


def load(paths: Sequence[Path] = ()) -> Loaded:
    """Everything installed, and the plugins at `paths`: `.py` files, or folders of them (`_names.py` are passed over).

    Raises UsageError where a path is neither.
    """
    found, refused = dict(registry()), []
    for origin, made in (*_installed(), *_named(paths)):
        problem = made if isinstance(made, str) else _checked(made, found)
        if isinstance(made, Protocol) and not problem:
            found[made.name] = made
        else:
            refused.append(f"the plugin {origin} {problem}; the others go on without it.")
    return Loaded(MappingProxyType(found), tuple(refused))


_Made = tuple[str, Protocol | str]
"""Where it comes from, and the protocol, or what is wrong with it."""


def _installed() -> Iterator[_Made]:
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        origin = f"'{entry.name}' ({entry.value})"
        try:
            yield origin, _protocol(entry.load())
        except (Exception, SystemExit) as error:  # noqa: BLE001 somebody else's code: said, and the others go on
            yield origin, _failure(error)


def _named(paths: Sequence[Path]) -> Iterator[_Made]:
    for file in _files(paths):
        if file.is_dir():
            yield str(file), "is a folder without a protocol in it (a .py file whose name does not begin with _)"
            continue
        try:
            yield str(file), _protocol(getattr(_module(file), "PROTOCOL", None))
        except (Exception, SystemExit) as error:  # noqa: BLE001 as above
            yield str(file), _failure(error)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files, and the folders that have none."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.glob("*.py") if not file.name.startswith("_")) or [path]
        elif path.suffix == ".py" and path.is_file():
            yield path
        else:
            raise UsageError(f"'{path}' is no plugin: name a .py file, or a folder of them.")


def _module(file: Path) -> object:
    """Run the file as a module of its own name, which no import can reach or replace."""
    spec = importlib.util.spec_from_file_location(f"clovisor_plugin_{file.stem}", file)
    assert spec is not None and spec.loader is not None  # a .py file has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _protocol(made: object) -> Protocol | str:
    return made if isinstance(made, Protocol) else "has no PROTOCOL that is a clovisor_py.protocols._api.Protocol"


def _failure(error: BaseException) -> str:
    said = printable(str(error)[:TEXT_CHARS]).strip()
    return f"does not import ({type(error).__name__}{': ' if said else ''}{said})"


def _checked(plugin: Protocol, found: Mapping[str, Protocol]) -> str:
    """What is wrong with it, if anything."""
    try:
        return _nonsense(plugin) or _conflict(plugin, found)
    except TypeError as error:  # a field of another type altogether: a number where there should be several
        return f"is no protocol (TypeError: {printable(str(error))})"


def _nonsense(plugin: Protocol) -> str:
    """What of it cannot be, if anything; no type checker has looked at somebody's plugin."""
    if not _is(NAME, plugin.name):
        return f"has the name {plugin.name!r}, and a name is made of a-z, 0-9 and _"
    for hint in plugin.hints:
        if not _is(OTHER_NAME, hint):
            return f"has the other name {hint!r}, and that is a word without spaces, capitals and ="
    for port in plugin.ports:
        if type(port) is not int or not 0 < port <= HIGHEST_PORT:
            return f"has the port {port!r}, and a port is a number from 1 to {HIGHEST_PORT}"
    if type(plugin.pairing) is not Pairing or type(plugin.capture) is not Capture:
        return "has a pairing or a capture that clovisor_py.protocols._api does not know"
    return ""


def _is(pattern: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def _conflict(plugin: Protocol, found: Mapping[str, Protocol]) -> str:
    """Why it cannot be added, if anything."""
    taken = {name: other.name for other in found.values() for name in (other.name, *other.hints)}
    for name in (plugin.name, *plugin.hints):
        if name in taken:
            return f"claims the name '{name}', which is {taken[name]}'s"
    if plugin.over and plugin.over not in found:
        return f"rides on '{plugin.over}', which is not there"
    return ""
