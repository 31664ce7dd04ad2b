"""The doctor's check of the cluster: whether the API server answers, and grants this account what the agent needs.

Only `clovisor agent` needs a cluster, so what is missing is a problem only where a cluster was asked for: by `--kubeconfig` or
`--context`, or because this is a pod. Anywhere else (a kubeconfig that lies about for kubectl) it is a remark.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from clovisor_py.errors import ClovisorError
from clovisor_py.kernel.probe import Check, CheckFunction, Machine, State
from clovisor_py.kube.access import account, needed
from clovisor_py.kube.client import Client

NAME: Final = "cluster"
NONE: Final = "no kubeconfig, and this is no pod of a cluster; only `clovisor agent` needs one (optional)"
USUAL: Final = "~/.kube/config"
OPTIONAL: Final = " (optional, for `clovisor agent`)"


def check_of(kubeconfig: Path | None, context: str | None) -> CheckFunction:
    """The check, of the cluster that `clovisor agent` would find with these options."""

    def check_cluster(_machine: Machine) -> Check:
        asked = bool(kubeconfig or context or os.environ.get("KUBERNETES_SERVICE_HOST"))
        if not asked and not _kubeconfig_here():
            return Check(NAME, State.OPTIONAL, NONE)
        try:
            found = _look(kubeconfig, context)
        except ClovisorError as error:
            what, _, remedy = str(error).rstrip(".").rpartition(": ")
            found = Check(NAME, State.PROBLEM, f"cannot be used: {what}", remedy)
        if found.state is State.PROBLEM and not asked:
            return Check(NAME, State.OPTIONAL, found.detail + OPTIONAL, found.remedy)
        return found

    return check_cluster


def _kubeconfig_here() -> bool:
    named = os.environ.get("KUBECONFIG")
    return bool(named) or os.path.isfile(os.path.expanduser(USUAL))  # noqa: PTH111, PTH113 (Path's raise for want of rights)


def _look(kubeconfig: Path | None, context: str | None) -> Check:
    client = Client(kubeconfig, context)
    try:
        grants = needed()
        found = account(client, grants)
    finally:
        client.close()
    who = found.user or "this account"
    if found.lacking:
        return Check(NAME, State.PROBLEM, f"does not grant {who}: {found.detail}", found.remedy)
    return Check(NAME, State.OK, f"{client.host} grants {who} all that the agent asks for")
