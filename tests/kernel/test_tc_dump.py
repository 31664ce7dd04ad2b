import pytest

from clovisor_py.kernel.links import netlink
from clovisor_py.kernel.tc_dump import Filter, tc_dump
from tests.support.netns import pod

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3

pytestmark = pytest.mark.live


def test_qdiscs_and_filters_of_a_veth(datapath):
    program = datapath.programs["ingress"]
    with pod("tcdump") as one, tc_dump() as tc, netlink("filtering") as ip:
        assert one.ifindex not in tc.with_clsact()
        assert not tc.has_clsact(one.ifindex)
        assert tc.filters(one.ifindex, INGRESS) == []
        ip.tc("add", "clsact", one.ifindex)
        assert one.ifindex in tc.with_clsact()
        assert tc.has_clsact(one.ifindex)
        for preference in (3, 2):
            how = {"parent": "ffff:fff2", "prio": preference, "protocol": 3, "direct_action": True}
            ip.tc("add-filter", "bpf", one.ifindex, 1, fd=program, name=f"other{preference}", **how)
        assert tc.filters(one.ifindex, INGRESS) == [Filter(1, 2, "other2"), Filter(1, 3, "other3")]
        assert tc.filters(one.ifindex, EGRESS) == []


def test_an_interface_that_is_gone_has_none():
    with tc_dump() as tc:
        assert tc.filters(2**30, INGRESS) == []
        assert not tc.has_clsact(2**30)
