"""What the commands share that ask the agent of this node: where its socket is, its snapshot, and how a pod is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from clovisor_py.control_client import ask
from clovisor_py.control_socket import DEFAULT_PATH, Request
from clovisor_py.errors import EnvironmentLacking, UsageError
from clovisor_py.kube.marking import KINDS
from clovisor_py.snapshot import Facts, Json, Pod, Snapshot, from_json

NO_POD: Final = "'{}' is a {}, and this takes one pod: write pod/NAME (`clovisor pods` lists them) or pod/NAMESPACE/NAME."
_OTHERS: Final = {name: kind for kind, names in KINDS.items() if kind != "Pod" for name in names} | dict.fromkeys(
    ("service", "svc", "services"), "Service"
)
"""What is written like a pod and is none. A namespace of such a name needs `pod/` before it."""

socket_option: Final = click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default=DEFAULT_PATH,
    show_default=True,
    help="Where the agent of this node listens.",
)
namespace_option: Final = click.option("-n", "--namespace", metavar="NAME", help="The namespace of the pods.")
output_option: Final = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="json has everything that the lines leave out."
)


def colours() -> bool | None:
    """For `click.echo`: never where NO_COLOR says so, else only on a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def snapshot(path: Path) -> Snapshot:
    """What the agent published last. Raises EnvironmentLacking where none answers."""
    return _facts(Snapshot, ask(Request("snapshot"), path), path)


def starting(found: Snapshot) -> str:
    """A sentence while the agent cannot know yet; else empty."""
    return f"the agent of node {found.node} is starting, and has not looked at all pods yet." if found.starting else ""


def elsewhere(path: Path, namespace: str, name: str) -> Pod | None:
    """What the agent knows of a pod that is not in its snapshot."""
    found = ask(Request("pod", namespace, name), path)
    return None if found is None else _facts(Pod, found, path)


def pod_name(text: str, namespace: str | None) -> tuple[str, str]:
    """`pod/NAME`, `pod/NAMESPACE/NAME`, `NAMESPACE/NAME` or `NAME` as (namespace, name). Raises UsageError."""
    parts = text.split("/")
    if len(parts) > 1 and (kind := _OTHERS.get(parts[0].lower())):
        raise UsageError(NO_POD.format(text, kind))
    parts = parts[1:] if parts[0] in ("pod", "pods", "po") and len(parts) > 1 else parts
    if len(parts) > 2 or not all(parts):
        raise UsageError(f"'{text}' is no pod: write pod/NAME (with -n NAMESPACE) or pod/NAMESPACE/NAME.")
    if len(parts) == 2 and namespace not in (None, parts[0]):
        raise UsageError(f"'{text}' is in namespace {parts[0]}, and -n says {namespace}: leave one out.")
    return (namespace or "default", parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def _facts(kind: type[Facts], json: Json, path: Path) -> Facts:
    try:
        return from_json(kind, json)
    except ValueError as error:
        raise EnvironmentLacking(
            f"what answers at {path} is another version's agent ({error}): use its own clovisor."
        ) from error
