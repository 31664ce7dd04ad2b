"""Protocols from outside the tree: entry points `clovisor.protocols` of installed packages, and files that the operator names.

A plugin is a module with a `PROTOCOL`, exactly as the modules here. It is somebody else's code: one that does not import, that
has no protocol, or that claims a name which is taken is refused with a sentence, and all others go on. What it does later is
the engine's concern (`flows/pipeline`): a parser that raises loses its flow, no more.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Final

from clovisor_py.errors import UsageError
from clovisor_py.model.text import printable
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._registry import registry

ENTRY_POINTS: Final = "clovisor.protocols"


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
        problem = made if isinstance(made, str) else _conflict(made, found)
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
        try:
            yield str(file), _protocol(getattr(_module(file), "PROTOCOL", None))
        except (Exception, SystemExit) as error:  # noqa: BLE001 as above
            yield str(file), _failure(error)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.glob("*.py") if not file.name.startswith("_"))
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
    said = printable(str(error)).strip()
    return f"does not import ({type(error).__name__}{': ' if said else ''}{said})"


def _conflict(plugin: Protocol, found: Mapping[str, Protocol]) -> str:
    """Why it cannot be added, if anything."""
    taken = {name: other.name for other in found.values() for name in (other.name, *other.hints)}
    for name in (plugin.name, *plugin.hints):
        if name in taken:
            return f"claims the name '{name}', which is {taken[name]}'s"
    if plugin.over and plugin.over not in found:
        return f"rides on '{plugin.over}', which is not there"
    return ""
