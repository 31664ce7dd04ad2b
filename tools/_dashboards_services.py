"""Who is called: what is recorded of each server, and when somebody should look at it.

A share is of calls that were seen at one side, the server's where it was seen there: timeouts that only clients saw would be
more than there are calls, otherwise. Broken is what failed by the server's doing, or came to no answer: neither mistakes of
clients (4xx) nor DNS, where a name that there is not is an answer like others.
"""

from __future__ import annotations

from typing import Final

from tools._dashboards_promql import EACH, WINDOW, Alert, Recording, either

SERVED: Final = "server_namespace, server, protocol"
FAILING: Final = 0.05
"""Share of a server's calls: an incident in most services."""
SLOW_S: Final = 2.0
"""s: long for somebody who waits in front of a screen."""
ENOUGH: Final = 0.33
"""Calls a second, a hundred in WINDOW: of fewer one is more than a hundredth, and there is no 99th percentile."""


def servers() -> list[Recording]:
    """Of what is recorded by who calls whom (`edge_side:`, `edge:`)."""
    calls, broken = "edge_side:clovisor_calls:rate5m", "edge_side:clovisor_calls_broken:rate5m"
    failed = f'sum by ({EACH}) (rate(clovisor_calls_failed_total{{status_class!="4xx",protocol!="dns"}}[{WINDOW}]))'
    buckets = f"sum by ({SERVED}, le) (edge:clovisor_duration_seconds_bucket:rate5m)"
    share = f"sum by ({SERVED}) ({either(broken)}) / (sum by ({SERVED}) ({either(calls)}) > 0)"
    return [
        Recording(broken, f"{failed} or 0 * {calls}"),
        Recording("server:clovisor_calls:rate5m", f"sum by ({SERVED}) ({either(calls)})"),
        Recording("server:clovisor_calls_broken:ratio_rate5m", share),
        Recording("server:clovisor_duration_seconds:p99_rate5m", f"histogram_quantile(0.99, {buckets})"),
    ]


def _of_enough(series: str) -> str:
    """0 where a server is called too seldom for a share or a percentile to mean anything."""
    return f"{series} * on ({SERVED}) (server:clovisor_calls:rate5m > bool {ENOUGH})"


ABOUT_SERVICES: Final = (
    Alert(
        "ClovisorServiceFailing",
        _of_enough("server:clovisor_calls_broken:ratio_rate5m"),
        f"> {FAILING}",
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of {{ $labels.protocol }} calls to {{ $labels.server_namespace }}/"
        "{{ $labels.server }} fail.",
        "Errors that the service answers (of HTTP from 500 on), timeouts, resets and broken connections; what clients ask "
        "wrongly (4xx) is not among them. The dashboard Clovisor / Overview says of which operations; "
        "`clovisor top --by rpc --sort errors` on the node of its pods, or of who calls it, what fails now.",
    ),
    Alert(
        "ClovisorServiceSlow",
        _of_enough("server:clovisor_duration_seconds:p99_rate5m"),
        f"> {SLOW_S:g}",
        "15m",
        "warning",
        "One in a hundred {{ $labels.protocol }} calls to {{ $labels.server_namespace }}/{{ $labels.server }} takes "
        "{{ $value | humanizeDuration }} or longer.",
        "From the request's first byte to the answer's last, at the server where it is traced. The dashboard Clovisor / "
        "Protocols has exemplars that lead to traces; `clovisor top --by rpc --sort p99` on the node of its pods, or of who "
        "calls it, says of which operations. Where calls last on purpose (streams, long polls), silence it for that server.",
    ),
)
