"""`clovisor protocols`: the table, the JSON, and plugins that are refused."""

import json
from pathlib import Path

from click.testing import CliRunner

from clovisor_py.cli.protocols import COMMAND, markdown
from clovisor_py.protocols._registry import registry

EXAMPLE = Path(__file__).parents[1] / "examples" / "greeting.py"


def call(*args):
    return CliRunner().invoke(COMMAND, args, standalone_mode=False)


def test_the_table_has_a_line_for_each():
    done = call()
    heading, *lines = done.stdout.splitlines()
    assert heading.split()[0] == "PROTOCOL" and [line.split()[0] for line in lines] == sorted(registry())
    assert done.return_value == 0


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
