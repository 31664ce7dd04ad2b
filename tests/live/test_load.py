"""The counting proof, small: what nginx served, what the kernel saw and what Clovisor showed are one number.

`tools/bench load` and `tools/bench saturation` are the same at length.
"""

import shutil

import pytest

from clovisor_py.kernel.layout import Counter
from tests.support.load import PACKAGES, check, h2load, prove
from tests.support.netns import listens, pod
from tests.support.nginx import nginx_in
from tests.support.vlan import bridged_pods, tag

pytestmark = pytest.mark.live

REQUESTS = 3000
RATE = 1000
"""A second: three seconds of what a tenth of a core reads."""
AS_FAST_AS_POSSIBLE = 40_000


@pytest.fixture(autouse=True)
def _needs_h2load():
    if shutil.which("h2load") is None:
        pytest.skip(f"needs h2load (Debian: {PACKAGES['h2load']})")


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_every_request_at_a_fixed_rate_is_shown(ipv6):
    with pod("load") as served, nginx_in(served) as nginx:
        check(prove(nginx, lambda: h2load(nginx.url(ipv6=ipv6), REQUESTS, rate=RATE)))


def test_every_request_with_a_vlan_tag_is_shown():
    with bridged_pods("server", "client") as (server, client), nginx_in(server) as nginx:
        tag(server)
        tag(client)
        assert not listens(server.ipv4, 80), "the host, which has no tag, must not reach it any more"
        check(prove(nginx, lambda: h2load(nginx.url(), REQUESTS, rate=RATE, inside=client)))


def test_under_saturation_every_segment_is_accounted_for_and_every_turn_counted():
    with pod("load") as served, nginx_in(served) as nginx:
        proof = prove(nginx, lambda: h2load(nginx.url(), AS_FAST_AS_POSSIBLE, clients=20))
    assert proof.balanced, proof.summary
    assert proof.stats[Counter.SEGMENTS] > 0
    assert proof.sent.answered == proof.served == proof.turns, proof.summary
    assert proof.shown <= proof.served
