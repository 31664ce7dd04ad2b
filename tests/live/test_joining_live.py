"""Four services that forward headers and make no spans of their own: the spans of one request are one tree, and the right one.

The services write down what they did (`demo.truth`); nothing here but the forwarded context says which call belongs to which.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from clovisor_py.agent import Agent
from clovisor_py.demo.bookinfo import CALLS
from clovisor_py.demo.playground import Playground
from clovisor_py.exporters._fanout import Fanout
from clovisor_py.exporters._worker import Worker
from clovisor_py.kernel.targets import Veth
from clovisor_py.model.session import Side
from clovisor_py.model.span import Span
from clovisor_py.tracing.spans import span_of
from tests.support.kernel import bench_settings, drop_pins, node
from tests.support.netns import require_namespaces

pytestmark = pytest.mark.live
REQUESTS = 60


class Kept:
    """A sink that keeps what it is given, as spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def export(self, sessions) -> int:
        self.spans += [span_of(one) for one in sessions]
        return len(sessions)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(scope="module")
def traced():
    """(spans by trace, records of the truth by trace, what became of contexts) of one run of the demo."""
    require_namespaces()
    sink, settings = Kept(), bench_settings("-joining")
    try:
        with node(), Playground() as playground, Fanout([Worker("kept:", sink, queue_limit=100_000)]) as fanout:
            with Agent(settings, fanout) as agent:
                agent.attach([Veth(p.ifindex, p.veth, p.name, (p.ipv4, p.ipv6), "eth0") for p in playground.pods])
                playground.start_traffic(REQUESTS, rate=60)
                agent.run(lambda: playground.wait(0.01))
                rounds = iter(range(30))
                agent.run(lambda: next(rounds, None) is None)
                agent.finish()
                counts = agent.tracing()
            fanout.close()
            records = defaultdict(list)
            for record in playground.truth():
                if record["trace_id"]:
                    records[int(record["trace_id"], 16)].append(record)
    finally:
        drop_pins(settings.pins)
    spans = defaultdict(list)
    for span in sink.spans:
        spans[span.trace_id].append(span)
    return spans, records, counts


def test_the_chain_is_right(traced):
    spans, records, _ = traced
    assert len(records) >= REQUESTS // 2
    depths: Counter[int] = Counter()
    for trace_id, done in records.items():
        tree = {span.span_id: span for span in spans[trace_id]}
        assert len(tree) == len(spans[trace_id])
        served = sorted(record["service"] for record in done if record["side"] == "server")
        assert sorted(span.service for span in tree.values() if span.side is Side.SERVER) == served
        for span in tree.values():
            parent = tree.get(span.parent_id)
            if span.side is Side.SERVER:
                assert parent is not None and parent.side is Side.CLIENT
                assert parent.attributes["service.peer.name"] == span.service
                assert parent.service == "client" or span.service in CALLS[parent.service]
            elif span.service != "client":
                assert parent is not None and parent.side is Side.SERVER and parent.service == span.service
                assert parent.start_ns <= span.start_ns
                assert "clovisor.unlinked" not in span.attributes
            else:
                assert parent is None  # the context's own, whose span the client has not made
                assert span.attributes["clovisor.unlinked"] == "none"
        depths[max(_depth(span, tree) for span in tree.values())] += 1
    assert depths[6] > REQUESTS // 3  # client, productpage, reviews and ratings, but where an error cut it short


def test_what_became_of_contexts_is_counted(traced):
    spans, records, counts = traced
    roots = sum(1 for trace_id in records for span in spans[trace_id] if span.service == "client")
    calls = sum(1 for trace_id in records for span in spans[trace_id] if span.side is Side.CLIENT)
    assert (counts["joining joined"], counts["joining unlinked none"]) == (calls - roots, roots)
    assert counts["joining forgotten"] == 0
    assert counts["contexts traceparent"] > 0 and counts["contexts b3"] > 0
    assert not [name for name in counts if "malformed" in name]


def _depth(span: Span, tree: dict[int, Span]) -> int:
    depth = 1
    while (above := tree.get(span.parent_id)) is not None:
        span, depth = above, depth + 1
    return depth
