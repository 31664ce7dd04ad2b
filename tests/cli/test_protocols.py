"""`clovisor protocols`: the table, the JSON, and plugins that are refused."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from clovisor_py.cli.protocols import COMMAND, markdown, table
from clovisor_py.protocols._registry import registry

EXAMPLE = Path(__file__).parents[1] / "examples" / "greeting.py"


def call(*args):
    return CliRunner().invoke(COMMAND, args, standalone_mode=False)


def test_the_table_has_a_line_for_each():
    done = call()
    heading, *lines = done.stdout.splitlines()
    assert heading.split()[0] == "PROTOCOL" and [line.split()[0] for line in lines] == sorted(registry())
    assert done.return_value == 0


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 200])
def test_the_table_fits_a_terminal(width):
    heading, *lines = table(registry(), width)
    assert max(map(len, (heading, *lines))) <= width
    assert [line.split()[0] for line in lines] == sorted(registry())
    if width >= 80:
        ports = {line.split()[0]: line for line in lines}
        assert "PORTS" in heading and "80, 8080" in ports["http"]
        assert width == 200 or re.search(r"443, 8443.* \+\d+", ports["tls"])
        assert all("…" not in line for line in lines)
    if width >= 60:
        assert all(re.search(r"443, 8443", line) for line in lines if line.startswith("tls"))


def test_only_a_terminal_has_a_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    piped, wide = call(), call("-o", "wide")
    assert piped.stdout == wide.stdout and "993, 995, 465, 5671, 8883" in piped.stdout
    monkeypatch.setattr("clovisor_py.cli.protocols.sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    assert max(map(len, call().stdout.splitlines())) <= 80
    assert call("-o", "wide").stdout == wide.stdout


def test_json_says_everything():
    found = {entry["name"]: entry for entry in json.loads(call("-o", "json").stdout)}
    assert set(found) == set(registry())
    for name, protocol in registry().items():
        assert found[name]["specification"] == protocol.specification
        assert found[name]["pairing"] in ("fifo", "id") and found[name]["limits"] and found[name]["attributes"]


def test_the_readmes_table_is_true():
    """What it says of a protocol is what `clovisor protocols -o markdown` says; a new protocol need not wait for it."""
    readme = (Path(__file__).parents[2] / "README.md").read_text().splitlines()
    heading, rule, *rows = markdown(registry())
    at = readme.index(heading)
    told = [line for line in readme[at + 2 :] if line.startswith("| `")]
    assert readme[at + 1] == rule
    assert len(told) >= 8 and set(told[: len(rows)]) <= set(rows)


def test_plugins(tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0")
    good, bad = call("--plugin", str(EXAMPLE)), call("--plugin", str(tmp_path))
    assert "greeting" in good.stdout and good.return_value == 0
    assert bad.return_value == 1 and "bad.py does not import" in bad.stderr
