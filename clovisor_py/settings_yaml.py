"""Settings as YAML: which setting is given which text, line by line, and what is wrong with the others.

Total, whatever is in the file or stands in its place: entries and sentences. Only YAML's syntax is used and not its idea of
values, as it reads `redact: off` as false.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

from clovisor_py.kube.egress import quoted
from clovisor_py.node_settings import Raw

MAX_BYTES: Final = 64 * 1024
"""A settings file has a page; what is longer is another file."""
_NULL: Final = "tag:yaml.org,2002:null"

Said = tuple[str, str, Raw]
"""Who says it (`settings.yaml line 3`), which setting, and what."""


def entries(path: Path, mistakes: list[str]) -> Iterator[Said]:
    """Of the file at `path`; a name that is given twice is none. `mistakes` gets a sentence for each thing wrong."""
    try:
        yield from _entries(path, mistakes)
    except OSError as error:
        mistakes.append(f"{path} cannot be read ({error.strerror}): check the path and the mount.")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" line {mark.line + 1}" if mark is not None else ""
        star = "; quote what begins with *" if "alias" in str(error) else ""
        mistakes.append(f"{path}{line} is not YAML ({error.problem or error.context}): write 'setting: value'{star}.")
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        mistakes.append(f"{path} is not YAML: write lines of 'setting: value', as UTF-8.")


def _entries(path: Path, mistakes: list[str]) -> Iterator[Said]:
    """The file's keys and values, as text. Raises OSError, YAMLError, UnicodeDecodeError, RecursionError."""
    root = yaml.compose(_text(path), Loader=yaml.SafeLoader)
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == _NULL):
        return
    if not isinstance(root, yaml.MappingNode):
        mistakes.append(f"{path} is no list of settings: write lines of 'setting: value'.")
        return
    lines: dict[str, int] = {}
    found: dict[str, Said] = {}
    for key, value in root.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        line = key.start_mark.line + 1
        raw = _raw(value)
        if lines.setdefault(name, line) != line:
            mistakes.append(f"{path} line {line}: {name} was given in line {lines[name]} already: leave one out.")
            found.pop(name, None)
        elif raw is None:
            mistakes.append(
                f"{path} line {line}: {quoted(name)} has more in it than a value or a list: write 'setting: value'."
            )
        else:
            found[name] = f"{path} line {line}", name, raw
    yield from found.values()


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
