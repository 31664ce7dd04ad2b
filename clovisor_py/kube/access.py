"""What the account that asks may do, as the API server itself says: what the agent needs and is not granted.

The API server is asked about each verb (a SelfSubjectAccessReview, which it answers everybody), because that is the only answer
that holds for every authorizer; rules that are merely listed may be incomplete. What is needed is taken from the watches
themselves, so that it cannot differ from what the agent does. Nothing is written.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from clovisor_py.errors import NotFound
from clovisor_py.kube.client import Client
from clovisor_py.kube.cluster import watches
from clovisor_py.kube.resources import EVENTS, Resource

APPLY: Final = "kubectl apply -k manifests/base"
"""For the account of manifests/base: makes it, its role and the DaemonSet."""
RECONCILE: Final = "kubectl auth reconcile -f manifests/base/rbac.yaml"
"""For any other: makes the role alone, that a binding can then grant."""
ROLE: Final = "clovisor"
ACCOUNT: Final = "system:serviceaccount:clovisor:clovisor"
"""The account of manifests/base, as the API server calls it."""
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9.:@-]+")
"""What the name of a binding cannot have, or a shell would take for its own; users have whatever names there are."""


class Grant(NamedTuple):
    """One verb on one resource, everywhere in the cluster."""

    verb: str
    resource: Resource


class Account(NamedTuple):
    """Who asks, and what it lacks of what was asked about."""

    user: str
    """As the API server calls it; empty where it is too old (1.27) to tell."""
    lacking: tuple[Grant, ...]

    @property
    def detail(self) -> str:
        """What is lacking, a verb and its resources at a time: `list and watch on pods, nodes; create on events`."""
        verbs: dict[str, list[str]] = {}
        for grant in self.lacking:
            verbs.setdefault(grant.resource.rule, []).append(grant.verb)
        resources: dict[str, list[str]] = {}
        for rule, found in verbs.items():
            resources.setdefault(" and ".join(found), []).append(rule)
        return "; ".join(f"{words} on {', '.join(rules)}" for words, rules in resources.items())

    @property
    def remedy(self) -> str:
        """The command that grants it; whoever may administer the cluster runs it."""
        if self.user in ("", ACCOUNT):
            return APPLY
        namespace, _, name = self.user.removeprefix(_SERVICE_ACCOUNT).partition(":")
        account = self.user.startswith(_SERVICE_ACCOUNT)
        who = f"--serviceaccount={namespace}:{name}" if account else f"--user={self.user}"
        binding = _NO_NAME.sub("-", f"clovisor-{name if account else self.user}")
        return f"{RECONCILE} && kubectl create clusterrolebinding {binding} --clusterrole={ROLE} {shlex.quote(who)}"


def needed() -> Sequence[Grant]:
    """Everything that `clovisor agent` asks for."""
    read: Mapping[Resource, None] = dict.fromkeys(watch.resource for watch in watches(""))
    return (*(Grant(verb, resource) for resource in read for verb in ("list", "watch")), Grant("create", EVENTS))


def account(client: Client, grants: Iterable[Grant]) -> Account:
    """Who this is, and which of these it is not granted. Raises what Client raises."""
    lacking = tuple(grant for grant in grants if not client.may(grant.verb, grant.resource))
    try:
        return Account(client.who(), lacking)
    except NotFound:
        return Account("", lacking)
