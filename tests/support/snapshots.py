"""Snapshots for tests: one node with an ordinary traced pod, to be changed by keyword."""

from __future__ import annotations

from typing import Any

from clovisor_py.snapshot import Ended, Pod, Resource, Snapshot, State

NOW = 1_767_348_251.0
"""2026-01-02T10:04:11Z."""
BUCKETS = 40


def traced(**changes: Any) -> Pod:
    """`shop/cart-7d9f` on node n2, traced for 12 minutes, nothing lost."""
    fields: dict[str, Any] = {
        "namespace": "shop",
        "name": "cart-7d9f",
        "uid": "u1",
        "node": "n2",
        "ips": ("10.244.1.17",),
        "state": State.TRACED,
        "selected": True,
        "because": "label clovisor.io/trace=true on deployment/cart",
        "veth": "veth3f2a",
        "ifindex": 7,
        "netnsid": 4,
        "since": NOW - 720,
        "segments": (Ended("seen", "", 81_332), Ended("captured", "", 81_332)),
        "bytes": (1000, 2000),
        "turns": (400, 404),
        "turn_ns": ((0,) * 20 + (400,) + (0,) * 19, (0,) * BUCKETS),
        "sessions": {"ok": 398, "error": 2},
    }
    return Pod(**(fields | changes))


def snapshot(*pods: Pod, **changes: Any) -> Snapshot:
    """Of node n2, a second old."""
    fields: dict[str, Any] = {
        "node": "n2",
        "version": "0.1.0",
        "started": NOW - 900,
        "taken": NOW - 1,
        "pods": pods,
        "resources": (Resource("pods", synced=True, since=NOW - 899, objects=12),),
    }
    return Snapshot(**(fields | changes))
