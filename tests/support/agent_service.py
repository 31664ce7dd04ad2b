"""`clovisor agent` in a thread of this process, over a cluster that the test makes: the whole of it but the API server.

It runs in the calling thread's network namespace (`tests.support.kernel.node`), and its socket is a file that the test names.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clovisor_py import service as module
from clovisor_py.exporters._fanout import open_urls
from clovisor_py.kube.objects import Pod, Ref
from clovisor_py.kube.watch import State
from clovisor_py.node_settings import NodeSettings
from clovisor_py.protocols._registry import registry
from clovisor_py.service import Service
from clovisor_py.tracing.sampling import Sampler
from tests.support.fake_cluster import NODE, FakeCluster, Notes
from tests.support.kernel import UNBOUNDED, bench_settings, drop_pins

PATIENCE_S = 20.0


class Served(FakeCluster):
    """What a Service wants of a Cluster beside what a NodeAgent wants."""

    def __init__(self, *pods: Pod, elsewhere: tuple[Pod, ...] = (), **more: Any) -> None:
        super().__init__(*pods, **more)
        self._elsewhere = {one.ref: one for one in elsewhere}
        self.index = SimpleNamespace(forgotten=0)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def states(self) -> list[State]:
        return []

    def unknown_node(self) -> str:
        return ""

    def find(self, ref: Ref) -> Pod | None:
        return self._pods.get(ref) or self._elsewhere.get(ref)


class Unchanging:
    """A settings file that nobody edits."""

    refused = ""

    def look(self) -> None:
        return None


class Reporting(Notes):
    """Notes that a Service can open."""

    def counts(self) -> dict[str, int]:
        return {}

    def __enter__(self) -> Reporting:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


def settings(name: str = "service", **changes: Any) -> NodeSettings:
    pins = bench_settings(f"-{name}").pins
    return NodeSettings(**({"node": NODE, "http_port": 0, "pins": pins, "exports": ()} | UNBOUNDED | changes))


@contextmanager
def agent(path: Path, cluster: Served, **changes: Any) -> Iterator[Service]:
    """Running, and all pods looked at, when the block begins."""
    wanted = settings(**changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Cluster", lambda *_, **__: cluster)
        patch.setattr(module, "Reporter", lambda _: Reporting())
        exporters = open_urls(wanted.exports, queue_limit=wanted.export_queue, later=True, sampler=Sampler(wanted.sample))
        service = Service(wanted, Unchanging(), None, dict(registry()), exporters, path)
    stop, up, errors = threading.Event(), threading.Event(), []

    def run() -> None:
        try:
            with exporters, service:
                up.set()
                service.run(stop.is_set)
        except BaseException as error:  # noqa: BLE001 (raised again where the block ends)
            errors.append(error)
            up.set()

    thread = threading.Thread(target=run, name="agent of a test")
    thread.start()
    try:
        assert up.wait(PATIENCE_S)
        if errors:
            raise errors[0]
        yield service
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        drop_pins(wanted.pins)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
