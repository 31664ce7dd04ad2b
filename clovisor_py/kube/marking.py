"""Marking objects: the label and annotations by which an operator turns tracing on or off, written by server-side apply.

Only the object's own metadata is written, never a pod template, so nothing restarts. Everything is written as field manager
`clovisor`: what it wrote before and is not asked to change stays (an apply would take back what it leaves out), and `clear` can
take back its own words without touching those of others. The object's uid goes along, so that one that has vanished in
between is refused instead of made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from clovisor_py.errors import UsageError
from clovisor_py.kube.annotations import CAPTURE, EGRESS, PORTS, PREFIX, REDACT, SAMPLE, TRACE
from clovisor_py.kube.egress import quoted
from clovisor_py.kube.objects import Json, Ref

MANAGER: Final = "clovisor"
"""Who the API server says wrote it (`kubectl get --show-managed-fields`)."""

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": ("pod", "po", "pods"),
    "Deployment": ("deployment", "deploy", "deployments"),
    "StatefulSet": ("statefulset", "sts", "statefulsets"),
    "DaemonSet": ("daemonset", "ds", "daemonsets"),
    "ReplicaSet": ("replicaset", "rs", "replicasets"),
    "Job": ("job", "jobs"),
    "CronJob": ("cronjob", "cj", "cronjobs"),
    "Namespace": ("namespace", "ns", "namespaces"),
}
"""What can be marked, and what people call it."""
FORM: Final = "write pod/NAME, deploy/NAME, sts/NAME, ds/NAME or ns/NAME"

_BY_NAME: Final = {name: kind for kind, names in KINDS.items() for name in names}
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
OF_PODS: Final = "whatever replaces pod/{} is not marked: mark its deployment (or what else controls it) to keep it so."
NO_VETH: Final = "{} uses its host's network, and so has no veth: nothing of it is traced, enabled or not."
STAYS: Final = "{} is somebody else's and stays: kubectl {} {} {}- takes it away."

_PARTS: Final = {"labels": "label", "annotations": "annotate"}
"""Of the metadata, and kubectl's verb for it."""
_ORDER: Final = {key: number for number, key in enumerate((TRACE, PORTS, CAPTURE, EGRESS, REDACT, SAMPLE))}


class Objects(Protocol):
    """What is needed of an API server (kube.client.Client has it). Both raise a ClovisorError that says what to do."""

    def get(self, kind: str, namespace: str, name: str) -> Json:
        """One object; raises if there is none."""

    def apply(
        self,
        kind: str,
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        field_manager: str,
        dry_run: bool = False,
        force: bool = False,
    ) -> Json:
        """Server-side apply; the object as it is (or would be) afterwards."""


class Row(NamedTuple):
    """A label or annotation of ours on an object; None: it is not there."""

    key: str
    before: str | None
    after: str | None


class Change(NamedTuple):
    """What was done to an object, or would be."""

    ref: Ref
    rows: tuple[Row, ...]
    """Every label and annotation of ours, before or after."""
    remarks: tuple[str, ...] = ()
    """Sentences that whoever asked should read."""

    @property
    def changed(self) -> bool:
        """Whether anything is (or would be) another than before."""
        return any(row.before != row.after for row in self.rows)


def target(text: str, namespace: str) -> Ref:
    """`deploy/cart`, or `deploy/shop/cart`, as a Ref; `namespace` where it names none. Raises UsageError."""
    kind_text, *rest = text.split("/")
    kind = _BY_NAME.get(kind_text.lower())
    if kind is None or not rest:
        raise UsageError(f"{quoted(text)} is nothing that can be traced: {FORM}.")
    if len(rest) > (1 if kind == "Namespace" else 2):
        raise UsageError(f"{quoted(text)} has too many parts: {FORM}, or pod/NAMESPACE/NAME.")
    if not all(_NAME.fullmatch(part) for part in rest):
        raise UsageError(
            f"{quoted(text)} has no name that Kubernetes would allow: {FORM}, in small letters, digits, '-' and '.'."
        )
    name, where = rest[-1], rest[0] if len(rest) > 1 else namespace
    return Ref(kind, "" if kind == "Namespace" else where, name)


def mark(objects: Objects, ref: Ref, traced: bool, refined: Mapping[str, str], *, dry_run: bool = False) -> Change:
    """Turn tracing on or off there; `refined`: annotations to write beside those that Clovisor wrote before.

    Another's word on the same label or annotation is replaced: the operator has just asked for that, and sees it.
    """
    before = objects.get(*ref)
    kept = {key: text for key, text in _written(before, "annotations").items() if key in _owned(before, "annotations")}
    labels = {TRACE: "true" if traced else "false"}
    remarks = [OF_PODS.format(ref.name)] if ref.kind == "Pod" and _meta(before).get("ownerReferences") else []
    if traced and _on_host_network(before):
        remarks.append(NO_VETH.format(f"{ref.kind.lower()}/{ref.name}"))
    return _apply(objects, ref, before, labels, {**kept, **refined}, remarks, dry_run)


def clear(objects: Objects, ref: Ref, *, dry_run: bool = False) -> Change:
    """Take back every label and annotation that Clovisor wrote; what others wrote stays, and is said."""
    return _apply(objects, ref, objects.get(*ref), {}, {}, [], dry_run)


def _apply(
    objects: Objects,
    ref: Ref,
    before: Json,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    remarks: list[str],
    dry_run: bool,
) -> Change:
    metadata: dict[str, Any] = {"uid": _meta(before).get("uid")}
    metadata |= {"labels": dict(labels)} if labels else {}
    metadata |= {"annotations": dict(annotations)} if annotations else {}
    after = objects.apply(*ref, {"metadata": metadata}, MANAGER, dry_run=dry_run, force=True)
    if not labels:
        remarks = [_stays(ref, verb, key) for part, verb in _PARTS.items() for key in _ours(after, part)]
    rows = [row for part in _PARTS for row in _rows(_ours(before, part), _ours(after, part))]
    return Change(ref, tuple(sorted(rows, key=lambda row: (_ORDER.get(row.key, len(_ORDER)), row.key))), tuple(remarks))


def _on_host_network(json: Json) -> bool:
    """Of a pod, or of those that are made from its template (a CronJob's is in its Job's)."""
    spec: Any = json.get("spec")
    while isinstance(spec, dict):
        if spec.get("hostNetwork") is True:
            return True
        template = spec.get("template") or spec.get("jobTemplate")
        spec = template.get("spec") if isinstance(template, dict) else None
    return False


def _stays(ref: Ref, verb: str, key: str) -> str:
    where = f" -n {ref.namespace}" if ref.namespace else ""
    return STAYS.format(key, verb, f"{ref.kind.lower()}/{ref.name}{where}", key)


def _rows(before: Mapping[str, str], after: Mapping[str, str]) -> list[Row]:
    return [Row(key, before.get(key), after.get(key)) for key in {**before, **after}]


def _ours(json: Json, part: str) -> Mapping[str, str]:
    """Labels or annotations of our name, whoever wrote them."""
    return {key: text for key, text in _written(json, part).items() if key.startswith(PREFIX)}


def _written(json: Json, part: str) -> Mapping[str, str]:
    found = _meta(json).get(part)
    return found if isinstance(found, dict) else {}


def _owned(json: Json, part: str) -> frozenset[str]:
    """The keys that our own earlier applies wrote."""
    owned: set[str] = set()
    for entry in _meta(json).get("managedFields") or ():
        if entry.get("manager") == MANAGER and entry.get("operation") == "Apply":
            fields = entry.get("fieldsV1", {}).get("f:metadata", {}).get(f"f:{part}", {})
            owned.update(key.removeprefix("f:") for key in fields)
    return frozenset(owned)


def _meta(json: Json) -> Mapping[str, Any]:
    found = json.get("metadata")
    return found if isinstance(found, dict) else {}
