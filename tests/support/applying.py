"""An API server in a dictionary that knows server-side apply of labels and annotations: who owns what, and what goes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from clovisor_py.errors import NotFound
from clovisor_py.kube.objects import Ref

PARTS = ("labels", "annotations")


class Applying:
    """`get` and `apply` of kube.client.Client. `owners`: per object, who wrote each label and annotation."""

    def __init__(self) -> None:
        self.objects: dict[Ref, dict[str, Any]] = {}
        self.owners: dict[Ref, dict[tuple[str, str], set[str]]] = {}
        self.writes = 0
        self.closed = False

    def add(self, ref: Ref, *, writer: str = "kubectl", **metadata: Any) -> None:
        self.objects[ref] = {"metadata": {"name": ref.name, "uid": f"uid-{len(self.objects)}", **metadata}}
        self.owners[ref] = {(part, key): {writer} for part in PARTS for key in metadata.get(part, {})}

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        ref = Ref(kind, namespace, name)
        if ref not in self.objects:
            raise NotFound(f"the API server has no {ref} (404): check the name.")
        return self._told(self.objects[ref], self.owners[ref])

    def apply(
        self,
        kind: str,
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        field_manager: str,
        dry_run: bool = False,
        force: bool = False,
    ) -> dict[str, Any]:
        ref = Ref(kind, namespace, name)
        found, owners = copy.deepcopy((self.objects[ref], self.owners[ref]))
        wanted = body["metadata"]
        assert wanted["uid"] == found["metadata"]["uid"], "or an object that has gone would be made"
        for part in PARTS:
            self._merge(part, found["metadata"].setdefault(part, {}), wanted.get(part, {}), owners, field_manager, force)
        if not dry_run:
            self.objects[ref], self.owners[ref] = found, owners
            self.writes += 1
        return self._told(found, owners)

    def close(self) -> None:
        self.closed = True

    @staticmethod
    def _merge(
        part: str,
        held: dict[str, str],
        wanted: Mapping[str, str],
        owners: dict[tuple[str, str], set[str]],
        manager: str,
        force: bool,
    ) -> None:
        for key, text in wanted.items():
            others = owners.setdefault((part, key), set())
            if held.get(key) != text:
                assert force or not others - {manager}, "a conflict"
                others.clear()
            held[key] = text
            others.add(manager)
        for (where, key), managers in list(owners.items()):
            if where == part and key not in wanted and manager in managers:
                managers.discard(manager)
                if not managers:
                    held.pop(key, None)
                    del owners[where, key]

    @staticmethod
    def _told(found: dict[str, Any], owners: Mapping[tuple[str, str], set[str]]) -> dict[str, Any]:
        told = copy.deepcopy(found)
        told["metadata"]["managedFields"] = [
            {
                "manager": manager,
                "operation": "Apply" if manager == "clovisor" else "Update",
                "fieldsV1": {"f:metadata": {f"f:{part}": _fields(part, manager, owners) for part in PARTS}},
            }
            for manager in sorted({name for names in owners.values() for name in names})
        ]
        return told


def _fields(part: str, manager: str, owners: Mapping[tuple[str, str], set[str]]) -> dict[str, Any]:
    return {f"f:{key}": {} for (where, key), names in owners.items() if where == part and manager in names}
