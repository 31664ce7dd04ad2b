"""A real Prometheus that scrapes one target, for as long as a block lasts, in the calling thread's network namespace."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 30.0
EVERY_MS = 500
CONFIG = """
global: {{scrape_interval: {every}ms, scrape_timeout: {every}ms}}
scrape_configs:
  - job_name: clovisor
    static_configs: [{{targets: ['{target}']}}]
rule_files: {rules}
"""


class Prometheus:
    """Its query API. `url` without a slash at its end."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url, self.process = url, process

    def get(self, path: str, **arguments: str) -> Any:
        """What `data` of the answer is."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """Labels and values of now."""
        return [(each["metric"], float(each["value"][1])) for each in self.get("query", query=expression)["result"]]

    def value(self, expression: str) -> float | None:
        """Of an expression that answers one; None where it answers nothing."""
        found = self.query(expression)
        assert len(found) < 2, found
        return found[0][1] if found else None

    def wait_for(self, expression: str, value: float) -> None:
        """Until that is what it says."""
        until, found = time.monotonic() + PATIENCE_S, None
        while time.monotonic() < until:
            if (found := self.value(expression)) == value:
                return
            time.sleep(EVERY_MS / 2000)
        raise AssertionError(f"{expression} is {found}, not {value}")


@contextmanager
def prometheus(folder: Path, target: str, port: int, rules: tuple[Path, ...] = ()) -> Iterator[Prometheus]:
    """`target`: HOST:PORT whose /metrics it reads; `port`: its own, on loopback. Skips where there is no Prometheus."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("needs a Prometheus: apt-get install prometheus")
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(every=EVERY_MS, target=target, rules=json.dumps([str(path) for path in rules])))
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield _ready(Prometheus(f"http://127.0.0.1:{port}", process), log)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _ready(made: Prometheus, log: Path) -> Prometheus:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and made.process.poll() is None:
        try:
            urllib.request.urlopen(f"{made.url}/-/ready", timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return made
    raise AssertionError(f"Prometheus did not begin: {log.read_text()[-1000:]}")
