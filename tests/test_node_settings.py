"""Every setting is read from text, within its limits, and says what is allowed where it is not."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.config import Settings
from clovisor_py.kube.egress import EgressRule
from clovisor_py.kube.policy import Watched
from clovisor_py.node_settings import CHOICES, DEFAULTS, FIELDS, LIMITS, Misfit, NodeSettings, differences, read

NAMES = frozenset({"http", "kafka"})


def misfit(name, raw) -> str:
    with pytest.raises(Misfit) as caught:
        read(name, raw, NAMES)
    return str(caught.value)


def written(value) -> str | list[str]:
    """As somebody would write it."""
    if isinstance(value, tuple):
        return ["=".join(map(str, one)) if type(one) is tuple else str(one) for one in value]
    return str(value)


@pytest.mark.parametrize("name", FIELDS)
def test_every_default_can_be_written_and_fits(name):
    assert read(name, written(getattr(DEFAULTS, name)), NAMES) == getattr(DEFAULTS, name)


def test_the_tables_name_settings_only():
    assert {*LIMITS, *CHOICES} <= set(FIELDS)
    assert set(Settings.__dataclass_fields__) <= set(FIELDS)


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("cpu_share", "0.8", 0.8),
        ("lease_s", "1m", 60),
        ("poll_s", "20 ms", 0.02),
        ("pod_bytes_per_s", "64MiB", 64 << 20),
        ("head_bytes", "4Ki", 4096),
        ("export_queue", "100", 100),
        ("udp_ports", "53, 5353,53", (53, 5353)),
        ("udp_ports", ["53"], (53,)),
        ("redact", "Strict", "strict"),
        ("metrics_export", " otlp+grpc://c ", "otlp+grpc://c"),
        ("metrics_export", "", ""),
        ("redact", "off", "off"),
        ("trace_by_default", "on", True),
        ("pins", "/sys/fs/bpf/x", Path("/sys/fs/bpf/x")),
        ("watch", "shop", (Watched("shop"),)),
        (
            "watch",
            ["shop:app:cart", "*:tier=web", "*"],
            (Watched("shop", "app", "cart"), Watched("", "tier", "web"), Watched()),
        ),
        ("egress", "0:6379:cart", (EgressRule(None, 6379, "cart"),)),
        ("hints", ["8080=HTTP", "9092=kafka"], ((8080, "http"), (9092, "kafka"))),
        ("exports", "console:,jsonl:x", ("console:", "jsonl:x")),
        ("exports", "", ()),
        ("node", " n1 ", "n1"),
    ],
)
def test_what_can_be_written(name, raw, expected):
    assert read(name, raw, NAMES) == expected


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("cpu_share", "0", "'0' does not fit: write a number from 0.05 to 64"),
        ("cpu_share", "half", "'half' does not fit: write a number from 0.05 to 64"),
        ("cpu_share", "nan", "write a number"),
        ("cpu_share", ["1", "2"], "a list does not fit: write one value"),
        ("lease_s", "1", "'1' does not fit: write a number of seconds from 2 to 3600"),
        ("lease_s", "10 parsec", "write a number of seconds"),
        ("head_bytes", "1.5", "'1.5' does not fit: write a whole number of bytes from 64 to 65536"),
        ("udp_ports", "53,0", "'0' does not fit: write a port from 1 to 65535"),
        ("udp_ports", [str(port) for port in range(1, 70)], "a list of 69 is too long: leave 5 out"),
        ("redact", "some", "'some' does not fit: write off, default or strict"),
        ("trace_by_default", "maybe", "'maybe' does not fit: write true or false"),
        ("pins", "here", "'here' does not fit: write a path that begins with /"),
        ("watch", "shop:app", "'shop:app' does not fit: write NAMESPACE or NAMESPACE:LABEL:VALUE"),
        ("egress", "db:80", "'db' in 'db:80' is no address"),
        ("hints", "80=ftp", "'ftp' in '80=ftp' is no protocol; known are http, kafka"),
        ("hints", "80=http,80=kafka", "two protocols for one port"),
        ("exports", "smtp://x", "there is no exporter for 'smtp://x'"),
        ("metrics_export", "jaeger://x", "'jaeger://x' does not fit: write one of otlp"),
        ("metrics_export", "otlp+http://a@x", "has a user name in it"),
        ("metrics_export", "https://a:b@x", "there is no exporter for 'https://…@…'"),
    ],
)
def test_what_cannot(name, raw, said):
    assert said in misfit(name, raw)


@given(
    st.sampled_from(FIELDS),
    st.text(max_size=30) | st.lists(st.text(max_size=9), max_size=5) | st.from_regex(r"-?[0-9.]{1,30}[a-z]{0,3}"),
)
def test_any_text_is_a_value_or_a_misfit(name, raw):
    try:
        value = read(name, raw, NAMES)
    except Misfit as error:
        assert str(error) and not str(error).endswith(".")
    else:
        replace(DEFAULTS, **{name: value})
        assert read(name, written(value), NAMES) == value


def test_differences():
    after = replace(DEFAULTS, cpu_share=0.8, exports=("console:",), hints=((80, "http"),), node="n1")
    assert differences(DEFAULTS, after) == (
        "cpu_share 0.5 → 0.8",
        "node (none) → n1",
        "hints (none) → 80=http",
        "exports (none) → console:",
    )
    assert differences(after, after) == ()


def test_what_they_say_about_pods():
    rules = NodeSettings(trace_by_default=True, watch=(Watched("shop"),)).rules(["http"])
    assert (rules.default, rules.watch, rules.egress, rules.names) == (True, (Watched("shop"),), (), {"http"})
