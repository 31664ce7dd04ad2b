"""What is recorded of calls, asked of promtool: from series as an agent tells them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools._dashboards_promql import EVERY
from tools._dashboards_rules import recording_file

PAIR = 'client_namespace="shop",client="web",server_namespace="shop",server="cart",protocol="http",side="server"'
WITHOUT_SIDE = "{" + PAIR.rpartition(",")[0] + "}"
ASKED = 'operation="GET /",status_class'
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus")


@promtool
def test_the_first_burst_of_failures_is_recorded(tmp_path: Path) -> None:
    """It comes with rows that nobody has seen before, and a rate takes no notice of a series' first value."""
    burst = {
        f"clovisor_edge_calls_total{{{PAIR}}}": "0+300x10 3300 3300 3300",
        f"clovisor_edge_calls_failed_total{{{PAIR}}}": "0x10 270 270 270",
        f'clovisor_calls_total{{{PAIR},{ASKED}="2xx"}}': "0+300x10 3030 3030 3030",
        f'clovisor_calls_total{{{PAIR},{ASKED}="5xx"}}': "_x10 270 270 270",
        f'clovisor_calls_failed_total{{{PAIR},{ASKED}="5xx"}}': "_x10 270 270 270",
    }
    share = 'edge:clovisor_calls_failed:rate5m{server="cart"} > bool 0.5'
    asked: list[dict[str, Any]] = [
        {"expr": share, "eval_time": at, "exp_samples": [{"labels": WITHOUT_SIDE, "value": value}]}
        for at, value in (("5m", 0), ("6m", 1))
    ]
    series = [{"series": name, "values": values} for name, values in burst.items()]
    rules, path = tmp_path / "rules.yml", tmp_path / "tests.yml"
    rules.write_text(yaml.safe_dump(recording_file()))
    test = {"interval": EVERY, "input_series": series, "promql_expr_test": asked}
    path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": EVERY, "tests": [test]}))
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
