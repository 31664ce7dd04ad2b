"""Tagged pods: a tag is seen whether it travels beside the frame (one tag) or in it (the inner one of two)."""

import os
import socket

import pytest

from clovisor_py.kernel.layout import Counter
from tests.support.kernel import ANSWER, QUESTION, check_books, connection, drained, exchange
from tests.support.vlan import VID, _attach, _call, _instruction, _load, bridged_pods, tag

pytestmark = pytest.mark.live

OUTER, INNER = 7, 4094
ETH_P_8021Q, ETH_P_8021AD = 0x8100, 0x88A8
SAVE, RESTORE = _instruction(0xBF, 6 | 1 << 4), _instruction(0xBF, 1 | 6 << 4)
"""r6 = r1, r1 = r6: the packet, across a helper."""
PUSH, POP = 18, 19


@pytest.fixture
def pair(datapath):
    """Two traced pods on one bridge, without tags yet."""
    with bridged_pods("kt-v1", "kt-v2") as made:
        yield made
        for pod in made:
            datapath.detach(pod.ifindex)


def helper(number):
    return _instruction(0x85, 0, number)


def pushed(protocol, vid):
    return _instruction(0xB7, 2, socket.htons(protocol)) + _instruction(0xB7, 3, vid) + helper(PUSH)


def tag_twice(pod):
    """QinQ: the inner tag goes into the frame when the outer one is pushed."""
    push = _load(SAVE + pushed(ETH_P_8021Q, INNER) + RESTORE + pushed(ETH_P_8021AD, OUTER)[: -len(helper(PUSH))] + _call(PUSH))
    pop = _load(SAVE + helper(POP) + RESTORE + _call(POP))
    try:
        pod.call(lambda: _attach(push, pop))
    finally:
        os.close(push)
        os.close(pop)


@pytest.mark.parametrize(
    ("tagging", "vid"), [(None, 0), (tag, VID), (tag_twice, INNER)], ids=["untagged", "one tag", "two tags"]
)
def test_tags_and_payload_on_both_veths(datapath, pair, tagging, vid):
    for pod in pair:
        if tagging:
            tagging(pod)
        datapath.attach(pod.ifindex)
    datapath.ring.discard()
    server, client = pair
    with connection(server, client) as ends:
        exchange(*ends, 3)
    seen = iter(lambda: datapath.ring.read(0), [])
    records = [record for batch in seen for record in batch]
    for pod in pair:
        at_pod = [record for record in records if record.interface == pod.ifindex]
        assert {record.vlan for record in at_pod} == {vid}
        assert [record.data for record in at_pod if record.length] == [QUESTION, ANSWER] * 3
        assert len({record.flow_id for record in at_pod}) == 1
        stats = datapath.stats(pod.ifindex)
        assert (stats[Counter.SEGMENTS], stats[Counter.MALFORMED]) == (6, 0)
        check_books(stats)
    assert drained(datapath, server.ifindex) == []
