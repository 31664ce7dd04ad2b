from __future__ import annotations

import pytest

from clovisor_py.cli.demo import _closing
from clovisor_py.tracing.spans import span_of
from tests.cli.test_summary import report


@pytest.mark.parametrize(
    ("urls", "hosts"),
    [
        (("jaeger://127.0.0.1:6831",), ["127.0.0.1"]),
        (("jsonl:x", "JAEGER://Jaeger.example"), ["jaeger.example"]),
        (("jaeger://[fd00::1]:6832", "jaeger://a", "jaeger://a:6832"), ["[fd00::1]", "a"]),
    ],
)
def test_the_traces_are_where_they_were_sent(urls: tuple[str, ...], hosts: list[str]) -> None:
    slowest = report().red.total().slowest
    assert slowest is not None
    links = [line for line in _closing(report(), 0, urls) if "traces:" in line]
    assert links == [f"  traces: http://{host}:16686/trace/{span_of(slowest).trace_id:032x}" for host in hosts]


def test_where_spans_go_elsewhere_the_trace_is_named() -> None:
    """What takes OTLP may show traces anywhere."""
    slowest = report().red.total().slowest
    assert slowest is not None
    said = _closing(report(), 0, ("otlp+grpc://collector",))
    assert said[-1] == f"  the slowest trace: {span_of(slowest).trace_id:032x}"
    assert "Jaeger" not in "".join(said)


def test_without_a_jaeger_it_is_said_how() -> None:
    assert _closing(report(), 0, ("jsonl:jaeger",))[-1] == "  no Jaeger on this machine: --export jaeger://HOST"
