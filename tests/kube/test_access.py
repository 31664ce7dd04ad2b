"""kube/access.py: what is asked about is what the agent does, and the command fits who asked."""

from __future__ import annotations

import pytest

from clovisor_py.errors import NotFound
from clovisor_py.kube.access import ACCOUNT, APPLY, RECONCILE, Account, Grant, account, needed
from clovisor_py.kube.resources import EVENTS, PODS, RESOURCES, SLICES

BIND = f"{RECONCILE} && kubectl create clusterrolebinding"


class Server:
    """Grants what it is told to; `user` None: too old to say who asks."""

    def __init__(self, refused=(), user="jane"):
        self.refused, self.user = refused, user

    def may(self, verb, resource):
        return (verb, resource) not in self.refused

    def who(self):
        if self.user is None:
            raise NotFound("the API server has no selfsubjectreviews (404): check the name.")
        return self.user


def test_every_resource_is_needed_once():
    wanted = {(verb, one) for one in RESOURCES.values() for verb in (("create",) if one is EVENTS else ("list", "watch"))}
    assert set(map(tuple, needed())) == wanted and len(needed()) == len(wanted)


def test_what_is_refused_is_lacking():
    refused = [("watch", PODS), ("create", EVENTS)]
    found = account(Server(refused), needed())
    assert found == Account("jane", tuple(Grant(*one) for one in refused))
    assert found.detail == "watch on pods; create on events"
    assert account(Server(), needed()).lacking == ()


def test_verbs_are_told_together():
    lacking = [Grant(verb, one) for one in (PODS, SLICES) for verb in ("list", "watch")]
    assert Account("", tuple(lacking)).detail == "list and watch on pods, endpointslices.discovery.k8s.io"


@pytest.mark.parametrize(
    ("user", "remedy"),
    [
        (ACCOUNT, APPLY),
        (None, APPLY),
        ("jane", f"{BIND} clovisor-jane --clusterrole=clovisor --user=jane"),
        (
            "Jane Doe/ops",
            f"{BIND} clovisor-Jane-Doe-ops --clusterrole=clovisor '--user=Jane Doe/ops'",
        ),
        (
            "system:serviceaccount:ops:tracer",
            f"{BIND} clovisor-tracer --clusterrole=clovisor --serviceaccount=ops:tracer",
        ),
    ],
)
def test_the_command_is_for_whoever_asked(user, remedy):
    assert account(Server(user=user), ()).remedy == remedy
