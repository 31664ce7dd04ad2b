"""A real Jaeger for tests: the one that already listens here, or one that is started and ended by its pid.

The binary is `$JAEGER_BINARY`, or `clovisor/jaeger/jaeger` in the user's cache folder. A test that asks for it skips where
it is absent, and says how to get one.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

QUERY = "http://127.0.0.1:16686"
METRICS = "http://127.0.0.1:8888/metrics"
ACCEPTED = "otelcol_receiver_accepted_spans_total{"
ARGUMENTS = (
    "--set",
    "extensions.jaeger_query.http.endpoint=127.0.0.1:16686",
    "--set",
    "extensions.jaeger_query.grpc.endpoint=127.0.0.1:16685",
)
START_S = 30.0
"""A busy machine takes some seconds to start it; more means that it does not start."""
END_S = 3.0
"""It stores nothing but in memory: there is no reason to wait for its last words."""
STORE_S = 30.0
"""Spans pass a batch processor before they can be read: about a second."""


@dataclass(frozen=True)
class Jaeger:
    """A running all-in-one: Thrift on UDP 6831, OTLP on 4317 and 4318, its API at `query`."""

    query: str = QUERY

    def get(self, path: str) -> Any:
        """The `data` of an API answer; None where there is no such thing (404)."""
        try:
            with urllib.request.urlopen(f"{self.query}{path}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                raise

    def spans(self, trace_id: int) -> list[dict[str, Any]]:
        """The spans of a trace, each with its `process` in place of the process's id; none where it is not there (yet)."""
        text = f"{trace_id:032x}" if trace_id >> 64 else f"{trace_id:016x}"
        traces = self.get(f"/api/traces/{text}") or []
        return [span | {"process": trace["processes"][span["processID"]]} for trace in traces for span in trace["spans"]]

    def accepted(self) -> int:
        """Spans that its receivers have taken since it was started, as it counts them itself."""
        with urllib.request.urlopen(METRICS, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(ACCEPTED))

    def wait(self, condition: Callable[[], Any]) -> Any:
        """What `condition` answers as soon as that is true, or at last."""
        until = time.monotonic() + STORE_S
        while not (answer := condition()) and time.monotonic() < until:
            time.sleep(0.1)
        return answer


@contextmanager
def jaeger() -> Iterator[Jaeger]:
    """A Jaeger that answers; skips the test where there is none and no binary to start one."""
    if answers():
        yield Jaeger()
        return
    process = _start(_binary())
    try:
        until = time.monotonic() + START_S
        while not answers():
            if time.monotonic() > until:
                pytest.skip(f"Jaeger does not start here (exit status {process.poll()}): are its ports in use?")
            if process.poll() is not None:
                process = _start(_binary())  # its predecessor had not let go of all ports yet
            time.sleep(0.2)
        yield Jaeger()
    finally:
        _end(process)


def _start(binary: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([binary, *ARGUMENTS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _binary() -> str:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = Path(os.environ.get("JAEGER_BINARY") or cache / "clovisor" / "jaeger" / "jaeger")
    if not os.access(path, os.X_OK):
        pytest.skip(f"no Jaeger at {path}: build github.com/jaegertracing/jaeger/cmd/jaeger, or name one in JAEGER_BINARY")
    return str(path)


def answers() -> bool:
    """Whether one listens here."""
    try:
        with urllib.request.urlopen(f"{QUERY}/api/services", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
