"""node_terms.py: what the directory is told of a pod, by what the API server says of it."""

from __future__ import annotations

import pytest

from clovisor_py.kernel.targets import Veth
from clovisor_py.kube.cluster import Wanted
from clovisor_py.kube.policy import Decision
from clovisor_py.model.session import Side
from clovisor_py.model.workload import Workload
from clovisor_py.naming import ClusterDirectory
from clovisor_py.node_terms import NodeTerms
from clovisor_py.roster import Local
from tests.support.fake_cluster import FakeCluster, pod
from tests.support.sessions import session


@pytest.mark.parametrize(
    ("decision", "as_server", "as_client"),
    [
        (Decision(True, ""), True, True),
        (Decision(True, "", capture="none"), True, False),
        (Decision(True, "", egress=()), True, False),
        (Decision(False, ""), False, False),
    ],
)
def test_who_may_count_on_the_spans_of_a_pod(decision, as_server, as_client):
    """Those that it calls only where all its calls are read."""
    web, cart = pod("web", "10.0.0.2"), Workload("cart", "shop", kind="pod", uid="uid-cart")
    cluster = FakeCluster(web)
    peer = cluster.workload(web)
    directory = ClusterDirectory(lambda *_: peer)
    directory.assign(7, cart)
    directory.assign(8, peer)
    terms = NodeTerms(None, directory, cluster, set(), {}, "default")
    terms.keep(Local(Wanted(web, decision, {}, "")), Veth(8, "veth8", "web", ("10.0.0.2",), "eth0"))
    for side, expected in ((Side.CLIENT, as_server), (Side.SERVER, as_client)):
        one = session(side=side, interface=7, client_workload=None, server_workload=None)
        directory.name(one)
        assert one.peer_traced is expected
