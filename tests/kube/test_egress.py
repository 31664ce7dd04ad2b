"""Egress rules: what they mean, how they are written, and that no text is more trouble than a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.kube.egress import SHOWN, EgressRule, permits, port_number, rule_of

ADDRESSES = st.ip_addresses().map(str)
PORTS = st.integers(1, 65535)


def rule(text, prefixes=False) -> EgressRule:
    found = rule_of(text, prefixes)
    assert isinstance(found, EgressRule), found
    return found


@pytest.mark.parametrize(
    ("text", "ip", "port", "expected"),
    [
        ("10.0.0.5:5432", "10.0.0.5", 5432, True),
        ("10.0.0.5:5432", "10.0.0.5", 5433, False),
        ("10.0.0.5:5432", "10.0.0.6", 5432, False),
        ("10.0.0.5:5432", "::ffff:10.0.0.5", 5432, True),
        ("*:6379", "fd00::9", 6379, True),
        (":6379", "10.9.9.9", 6379, True),
        ("0:6379", "10.9.9.9", 6379, True),
        ("0.0.0.0:6379", "fd00::1", 6379, True),
        ("0.0.0.0/0:6379", "fd00::1", 6379, False),
        ("0.0.0.0/0:6379", "1.2.3.4", 6379, True),
        ("*:*", "1.2.3.4", 1, True),
        ("*", "1.2.3.4", 1, True),
        ("10.0.0.0/8:*", "10.200.1.1", 99, True),
        ("10.1.2.3/8:*", "10.200.1.1", 99, True),
        ("10.0.0.0/8:*", "11.0.0.1", 99, False),
        ("[fd00::5]:443", "fd00::5", 443, True),
        ("[fd00::/16]:443", "fd00:1::5", 443, True),
        ("[fd00::/16]:443", "10.0.0.5", 443, False),
        ("[::]:443", "10.0.0.5", 443, True),
        ("10.0.0.5:5432", "reviews.shop", 5432, False),
    ],
)
def test_what_a_rule_means(text, ip, port, expected):
    assert rule(text).matches(ip, port) is expected


def test_the_form_of_2019_has_the_pods_it_is_for():
    assert rule("0:80:cart-", prefixes=True) == EgressRule(None, 80, "cart-")
    assert str(rule("10.0.0.5:5432:cart", prefixes=True)) == "10.0.0.5:5432:cart"
    assert rule_of("*:80:cart").endswith("belongs in the agent's settings: leave it out")
    assert "is not the beginning of a pod's name" in rule_of("*:80:Cart!", prefixes=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no rule"),
        ("10.0.0.5", "'10.0.0.5' is no rule"),
        ("10.0.0.5:0", "'0' in '10.0.0.5:0' is no port"),
        ("10.0.0.5:65536", "is no port: write one from 1 to 65535, or *"),
        ("10.0.0.5:http", "'http' in"),
        ("10.0.0.256:80", "'10.0.0.256' in '10.0.0.256:80' is no address"),
        ("reviews:80", "'reviews' in 'reviews:80' is no address"),
        ("fd00::5:443", "is no address"),
        ("[10.0.0.5:80", "is no rule"),
        ("10.0.0.5:80:x:y", "leave it out"),
        ("*:８０", "is no port"),
        ("\x1b[2J:80", "is no "),
    ],
)
def test_what_makes_no_sense(text, said):
    assert said in rule_of(text)


def test_rules_together():
    rules = (rule("10.0.0.5:5432"), rule("*:6379"))
    assert permits(rules, "10.0.0.5", 5432) and permits(rules, "10.0.0.9", 6379)
    assert not permits(rules, "10.0.0.9", 5432)
    assert permits(None, "10.0.0.9", 5432), "nobody restricted anything"
    assert not permits((), "10.0.0.9", 5432), "restricted to nothing"


@given(ADDRESSES, PORTS, st.sampled_from(["", "cart", "cart-7"]))
def test_a_rule_is_written_as_it_is_read(ip, port, prefix):
    text = f"[{ip}]" if ":" in ip else ip
    found = rule(f"{text}:{port}:{prefix}" if prefix else f"{text}:{port}", prefixes=True)
    assert rule(str(found), prefixes=True) == found
    assert found.matches(ip, port)


@given(st.text(max_size=200) | st.from_regex(r"[0-9.:*\[\]/a-f]{0,40}"), st.booleans())
def test_any_text_is_a_rule_or_a_sentence(text, prefixes):
    found = rule_of(text, prefixes)
    if isinstance(found, str):
        assert found.isprintable() and 10 < len(found) < 6 * 2 * SHOWN + 300
    else:
        assert rule_of(str(found), prefixes) == found
        found.matches("10.0.0.5", 80)


@given(st.text(max_size=8))
def test_a_port_is_plain_digits(text):
    number = port_number(text)
    assert number is None or (0 < number < 65536 and text.isascii() and int(text) == number)


@given(st.ip_addresses(v=4), PORTS)
def test_a_neighbour_is_somebody_else(address, port):
    neighbour = type(address)(int(address) ^ 1)
    found = rule(f"{address}:{port}")
    assert found.network is None or not found.matches(str(neighbour), port)
