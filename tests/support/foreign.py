"""What other agents put on a pod's veth (filters, TCX programs), and what is to be seen there."""

import os
import socket
from contextlib import ExitStack, contextmanager

import pytest

from clovisor_py.kernel import attach, bpf, tcx
from clovisor_py.kernel.layout import Counter
from clovisor_py.kernel.links import netlink
from clovisor_py.kernel.tc_dump import tc_dump
from tests.support.kernel import LOOPBACK, check_books, connection, exchange
from tests.support.netns import pod
from tests.support.vlan import _instruction, _load

PARENTS = {name: parent for name, (_, parent, _) in attach.HOOKS.items()}
TYPES = {name: attach_type for name, (_, _, attach_type) in attach.HOOKS.items()}
ETH_P_IP, ETH_P_ALL = 0x0800, 0x0003
DROP, END_OF_CHAIN, NEXT = 2, 0, -1
"""TC_ACT_SHOT; TC_ACT_OK, which is TCX_PASS; TC_ACT_UNSPEC."""


@contextmanager
def newcomer(datapath):
    """A pod that nobody traces yet; afterwards nothing of ours may be on it."""
    with pod("kt-attach") as made:
        with connection(made):
            pass  # now the host knows its neighbour: what drops all packets would drop that question too
        yield made
        datapath.detach(made.ifindex)
        assert not [f for hook in PARENTS for f in filters(made, hook) if f[1] == attach.HANDLE]
        assert not {one for hook in TYPES for one in on_tcx(made, hook)} & {*map(bpf.program_id, datapath.programs.values())}
        assert not list(datapath.settings.pins.glob("link_*"))


def has_tcx():
    """Whether this kernel does (Linux 6.6)."""
    try:
        bpf.prog_query(LOOPBACK, bpf.TCX_INGRESS)
    except OSError:
        return False
    return True


needs_tcx = pytest.mark.skipif(not has_tcx(), reason="needs TCX (Linux 6.6) and root")


def on_tcx(web, hook):
    """The ids of the TCX programs on a hook, in the order in which they run."""
    return [one.program for one in tcx.programs(web.ifindex, hook)]


def on_hooks(ifindex):
    """How many programs and filters are on each hook, whoever's."""
    with tc_dump() as tc:
        return [len(tc.filters(ifindex, parent)) + len(tcx.programs(ifindex, hook)) for hook, parent in PARENTS.items()]


def filters(web, hook):
    """(preference, handle, name) of the filters on a hook, in the order in which they run."""
    with netlink("looking") as route:
        entries = [f for f in route.get_filters(index=web.ifindex, parent=PARENTS[hook]) if f["handle"]]
    return [(f["info"] >> 16, f["handle"], f.get_attr("TCA_OPTIONS").get_attr("TCA_BPF_NAME")) for f in entries]


def clsact(web):
    with netlink("looking") as route:
        return [q for q in route.get_qdiscs(index=web.ifindex) if q.get_attr("TCA_KIND") == "clsact"] != []


@contextmanager
def program(result):
    """An fd of a program that does nothing but return this."""
    fd = _load(_instruction(0xB7, 0, result) + _instruction(0x95))
    try:
        yield fd
    finally:
        os.close(fd)


def put_filter(web, hook, result, preference=5, protocol=ETH_P_ALL):
    """Somebody else's filter."""
    with program(result) as fd, netlink("being somebody else") as route:
        if not clsact(web):
            route.tc("add", "clsact", web.ifindex)
        fields = {"fd": fd, "name": "foreign", "parent": PARENTS[hook], "prio": preference, "direct_action": True}
        route.tc("add-filter", "bpf", web.ifindex, 1, protocol=protocol, **fields)


def drop_filter(web, hook, preference, handle):
    with netlink("being somebody else") as route:
        route.tc("del-filter", "bpf", web.ifindex, handle, parent=PARENTS[hook], prio=preference, protocol=ETH_P_ALL)


@contextmanager
def link(web, result):
    """Somebody else's TCX programs on both hooks, before all that are there now."""
    with program(result) as fd, ExitStack() as undo:
        for attach_type in TYPES.values():
            undo.callback(os.close, bpf.link_create(fd, web.ifindex, attach_type))
        yield


def counted(datapath, web, times=3):
    """What is counted of so many exchanges: (payload segments, turns from the pod, turns to the pod)."""
    before = datapath.stats(web.ifindex)
    with connection(web) as ends:
        exchange(*ends, times)
    added = datapath.stats(web.ifindex).since(before)
    check_books(added)
    return added[Counter.SEGMENTS], added[Counter.TURNS], added[Counter.TURNS_TO_POD]


def refused(web):
    """Whether a connection to the pod comes to nothing."""
    with web.call(lambda: socket.create_server((web.ipv4, 0))) as listener:
        try:
            socket.create_connection(listener.getsockname(), timeout=0.2).close()
        except TimeoutError:
            return True
    return False
