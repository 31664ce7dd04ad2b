"""The habits of this tree that no other tool checks: where things are, what every file has, and what no file says."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from clovisor_py.cli.main import clovisor

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clovisor_py"
TESTS = ROOT / "tests"
LONGEST = 400
"""Lines of a module: a protocol's limit, and the limit of all."""
SHARED = {"corpora", "examples", "golden", "live", "support", "tools"}
"""Folders of tests/ that stand for no folder of the package."""
SELF = Path(__file__).name.removesuffix(".py")


def relative(path):
    return str(path.relative_to(ROOT))


def committed():
    """Every text file that git has or would take; all but the hidden folders where there is no git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    names = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    if done.returncode:
        names = [path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]
    for path in names:
        if path.is_file():
            data = path.read_bytes()
            if b"\0" not in data:
                yield path, data.decode(errors="replace")


MODULES = sorted(PACKAGE.rglob("*.py"))
PLUGINS = {"protocols": "PROTOCOL", "exporters": "EXPORTER"}
PLUGIN_FILES = [path for folder in PLUGINS for path in sorted((PACKAGE / folder).glob("[!_]*.py"))]
TEST_FILES = sorted(path for path in TESTS.rglob("test_*.py") if path.parent.name not in SHARED and path.stem != SELF)
TOOLS = sorted(path for path in (ROOT / "tools").iterdir() if path.is_file() and path.stat().st_mode & 0o100)
COMMANDS = clovisor.list_commands(click.Context(clovisor))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_opens_with_its_contract_and_is_short(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "say what this module is for, and why"
    assert len(text.splitlines()) <= LONGEST


@pytest.mark.parametrize("path", PLUGIN_FILES, ids=relative)
def test_a_plugin_ends_with_its_declaration_and_has_its_test(path):
    name = PLUGINS[path.parent.name]
    last = ast.parse(path.read_text()).body[-1]
    targets = last.targets if isinstance(last, ast.Assign) else [last.target] if isinstance(last, ast.AnnAssign) else []
    assert [target.id for target in targets if isinstance(target, ast.Name)] == [name], f"the last statement is {name} = …"
    assert (TESTS / path.parent.name / f"test_{path.name}").is_file()
    assert hasattr(importlib.import_module(f"clovisor_py.{path.parent.name}.{path.stem}"), name)


@pytest.mark.parametrize("path", TEST_FILES, ids=relative)
def test_a_test_file_is_named_after_what_it_tests(path):
    """`tests/flows/test_table.py` is for `flows/table.py`, and so is `test_table_expiry.py`."""
    folder = PACKAGE / path.parent.relative_to(TESTS)
    assert folder.is_dir(), f"tests/ mirrors clovisor_py/: there is no {folder.name}/ there"
    subject = path.stem.removeprefix("test_")
    known = {entry.stem.strip("_") for entry in folder.iterdir() if entry.suffix == ".py" or entry.is_dir()}
    assert any(subject == name or subject.startswith(f"{name}_") for name in known), f"{subject} of {sorted(known)}?"


def forbidden(*parts):
    """Put together here, so that this file does not say it either."""
    return re.compile("".join(parts))


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(forbidden(r"(?<![\w.~-])", "/wo", r"rk(?![\w-])"), id="a path of the machine it was written on"),
        pytest.param(forbidden(r"py", r"pi\.org|python", r"hosted\.org"), id="a registry of Python packages"),
        pytest.param(forbidden(r"\bdeb\.deb", r"ian\.org|archive\.ub", r"untu\.com"), id="a mirror of a distribution"),
        pytest.param(forbidden(r"proxy\.go", r"lang\.org|sum\.go", r"lang\.org"), id="a registry of Go modules"),
        pytest.param(
            forbidden(r"registry\.np", r"mjs\.org|repo1\.ma", r"ven\.org|index\.cra", r"tes\.io"), id="another registry"
        ),
    ],
)
def test_no_file_names(pattern):
    said = [f"{relative(path)}: {hit[0]}" for path, text in committed() for hit in pattern.finditer(text)]
    assert said == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_help_with_examples(name):
    done = CliRunner().invoke(clovisor, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert re.search(rf"^ *Examples?:\n.*clovisor {name}\b", done.output, re.MULTILINE), "show how it is used"
    assert clovisor.get_command(click.Context(clovisor), name).get_short_help_str(), "its line in `clovisor --help`"


def test_the_command_itself_has_help_with_examples():
    done = CliRunner().invoke(clovisor, ["--help"])
    assert done.exit_code == 0
    assert "Examples:" in done.output
    assert all(re.search(rf"^  {name} ", done.output, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("path", TOOLS, ids=relative)
def test_a_tool_runs_with_help(path):
    interpreter = [sys.executable] if "python" in path.read_text().partition("\n")[0] else []
    done = subprocess.run(
        [*interpreter, str(path), "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
