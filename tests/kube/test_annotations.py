"""The words on objects: what makes sense counts, what does not is said, whatever the value is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.kube import annotations as words
from clovisor_py.kube.annotations import (
    MAX_ENTRIES,
    MAX_SAID,
    Parsed,
    read_capture,
    read_egress,
    read_ports,
    read_redact,
    read_sample,
    read_switch,
)
from clovisor_py.protocols._redaction import Level

NAMES = frozenset({"http", "kafka", "redis", "kubernetes.io/h2c"})


def test_ports():
    assert read_ports("8080=http,9092=kafka", NAMES) == Parsed({8080: "http", 9092: "kafka"})
    assert read_ports(" 8080 = HTTP ,, 81=kubernetes.io/h2c,", NAMES) == Parsed({8080: "http", 81: "kubernetes.io/h2c"})
    assert read_ports("", NAMES) == Parsed({})


def test_the_rest_of_the_ports_still_counts():
    parsed = read_ports("8080=http,99999=http,21=ftp,x,80=kafka,80=http", NAMES)
    assert parsed.value == {8080: "http", 80: "kafka"}
    assert parsed.mistakes == (
        "'99999' in '99999=http' is no port: write one from 1 to 65535",
        "'ftp' in '21=ftp' is no protocol; known are http, kafka, kubernetes.io/h2c, redis",
        "'x' is no hint: write PORT=PROTOCOL, like 8080=http",
        "port 80 is given twice; kafka counts",
    )


def test_a_port_said_twice_alike_is_no_mistake():
    assert read_ports("80=http,80=http", NAMES) == Parsed({80: "http"})


def test_egress():
    parsed = read_egress("10.0.0.5:5432,*:6379,nonsense,*:6379")
    assert [str(rule) for rule in parsed.value] == ["10.0.0.5:5432", "*:6379"]
    assert len(parsed.mistakes) == 1 and "'nonsense' is no rule" in parsed.mistakes[0]
    assert read_egress(" ") == Parsed(())


@pytest.mark.parametrize(("read", "choices"), [(read_capture, words.CAPTURES), (read_redact, words.LEVELS)])
def test_choices(read, choices):
    assert [read(choice).value for choice in choices] == list(choices)
    assert read(f" {choices[0].upper()} ") == Parsed(choices[0])
    assert read("most") == Parsed(None, (f"'most' is none of {', '.join(choices)}: write one of these",))


def test_levels_are_those_of_redaction():
    assert tuple(level.value for level in Level) == words.LEVELS


def test_a_ratio():
    assert [read_sample(text).value for text in ("0", "0.1", " 1 ", "1e-3")] == [0.0, 0.1, 1.0, 0.001]
    for text in ("", "10%", "1.01", "-0.1", "nan", "inf", "a tenth"):
        assert read_sample(text) == Parsed(None, (f"'{text}' is no ratio: write a number from 0 to 1, like 0.1",))


def test_the_label_is_exact():
    assert read_switch("true") == Parsed(True) and read_switch("false") == Parsed(False)
    for text in ("True", "yes", "", " true"):
        assert read_switch(text).value is None and read_switch(text).mistakes


def test_a_list_that_never_ends():
    parsed = read_ports(",".join(f"{port}=http" for port in range(1, 1000)), NAMES)
    assert len(parsed.value) == MAX_ENTRIES
    assert parsed.mistakes == ("only the first 64 of its 999 entries count: leave some out",)
    parsed = read_egress("x," * 1000)
    assert parsed.mistakes[MAX_SAID:] == (
        "60 more entries make no sense",
        "only the first 64 of its 1000 entries count: leave some out",
    )


ENTRIES = (
    st.text(max_size=60) | st.from_regex(r"[0-9]{0,6}=(http|kafka|ftp)") | st.sampled_from(["*:6379", "10.0.0.5:1", "a,b"])
)


@given(st.lists(ENTRIES, max_size=100).map(",".join))
def test_any_value_is_read(text):
    for parsed in (read_ports(text, NAMES), read_egress(text)):
        assert len(parsed.value) <= MAX_ENTRIES
        assert len(parsed.mistakes) <= MAX_SAID + 2
        assert all(mistake.isprintable() and not mistake.endswith(".") for mistake in parsed.mistakes)
    assert set(read_ports(text, NAMES).value.values()) <= NAMES
    for read in (read_capture, read_redact, read_sample, read_switch):
        assert (read(text).value is None) == bool(read(text).mistakes)


@given(st.dictionaries(st.integers(1, 65535), st.sampled_from(sorted(NAMES)), max_size=MAX_ENTRIES), st.text(max_size=30))
def test_nonsense_beside_sense_takes_nothing_away(hints, nonsense):
    text = ",".join(f"{port}={name}" for port, name in hints.items())
    if "=" not in nonsense:
        assert read_ports(f"{text},{nonsense.replace(',', '')}", NAMES).value == hints
