"""What several dashboards say alike: variables, units, thresholds, and the questions about calls that they all ask."""

from __future__ import annotations

from typing import Final

from tools._dashboards_json import Column, Variable
from tools._dashboards_promql import EACH

NAMESPACE: Final = Variable("namespace", "Namespace", "clovisor_calls_total", "server_namespace")
SERVER: Final = Variable("server", "Server", 'clovisor_calls_total{server_namespace=~"$namespace"}', "server")
PROTOCOL: Final = Variable("protocol", "Protocol", "clovisor_calls_total", "protocol")
CHOSEN: Final = 'server_namespace=~"$namespace",server=~"$server",protocol=~"$protocol"'
SERVED: Final = "server_namespace, server"
OF_SERVER: Final = "{{server_namespace}}/{{server}}"

CALLS: Final = f"edge:clovisor_calls:rate5m{{{CHOSEN}}}"
FAILED: Final = f"edge:clovisor_calls_failed:rate5m{{{CHOSEN}}}"
BUCKETS: Final = f"edge:clovisor_duration_seconds_bucket:rate5m{{{CHOSEN}}}"
SEGMENTS: Final = "instance:clovisor_segments:rate5m"
OVER: Final = "[$__rate_interval]"

RATE: Final = "reqps"
SHARE: Final = "percentunit"
SECONDS: Final = "s"
NUMBER: Final = "none"

FAILING: Final = ((0.01, "yellow"), (0.05, "red"))
"""Shares of calls that fail: a hundredth is worth a look, a twentieth is an incident in most services."""
SLOW: Final = ((0.5, "yellow"), (2.0, "red"))
"""s: long for a call inside a cluster; long for somebody who waits in front of a screen."""
LOSING: Final = ((0.0001, "yellow"), (0.01, "red"))
"""Shares of segments that were not read; above a hundredth there is an alert."""
ANY: Final = ((0.001, "red"),)
"""A second: something that should not happen at all."""
ONE: Final = ((1.0, "red"),)

CALL_COLUMNS: Final = {
    "Failed": Column(SHARE, FAILING),
    "p50": Column(SECONDS, SLOW),
    "p95": Column(SECONDS, SLOW),
    "p99": Column(SECONDS, SLOW),
}
TOP: Final = 50
"""Rows of a table of operations."""


def share(by: str, part: str = FAILED, whole: str = CALLS) -> str:
    """Of calls that fail, among those of the same labels; of all together where `by` is empty."""
    over = f"sum by ({by}) " if by else "sum"
    return f"{over}({part}) / ({over}({whole}) > 0)"


def quantile(number: float, by: str, buckets: str = BUCKETS) -> str:
    """`by` has to have the protocol: families have different buckets."""
    return f"histogram_quantile({number}, sum by ({by}, le) ({buckets}))"


def call_table(by: str, calls: str = CALLS, failed: str = FAILED, buckets: str = BUCKETS) -> dict[str, str]:
    """Queries of a table of calls by these labels."""
    slow = {f"p{round(100 * number)}": quantile(number, by, buckets) for number in (0.5, 0.95, 0.99)}
    return {"Calls": f"sum by ({by}) ({calls})", "Failed": share(by, failed, calls), **slow}


def once(metric: str, labels: str) -> str:
    """A rate by these labels: of a call that was seen at both sides, one."""
    return f"sum by ({labels}) (max without (side) (sum by ({EACH}, {labels}) (rate({metric}{{{CHOSEN}}}{OVER}))))"


def not_read(chosen: str = "") -> str:
    """Share of segments that were lost, of all agents together; 0 where none ever was."""
    lost, seen = (f'{SEGMENTS}{{{chosen}stage="{stage}"}}' for stage in ("lost", "seen"))
    return f"(sum({lost}) or 0 * sum({seen})) / (sum({seen}) > 0)"
