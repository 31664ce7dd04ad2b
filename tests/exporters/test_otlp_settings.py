"""What the URL says, and what OpenTelemetry's variables say where it says nothing."""

import pytest

from clovisor_py.errors import UsageError
from clovisor_py.exporters._otlp_settings import GRPC, HTTP, METRICS, TRACES, settings_of
from clovisor_py.exporters._registry import forms, parse

E = "OTEL_EXPORTER_OTLP_"


def made(url, **variables):
    return settings_of(parse(url), {E + name: value for name, value in variables.items()})


def where(settings):
    return settings.protocol, settings.host, settings.port, settings.path, settings.tls


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("otlp+grpc://h", (GRPC, "h", 4317, "/v1/traces", False)),
        ("otlp+grpc://h:1/", (GRPC, "h", 1, "/v1/traces", False)),
        ("otlps+grpc://[::1]", (GRPC, "::1", 4317, "/v1/traces", True)),
        ("otlp+http://h", (HTTP, "h", 4318, "/v1/traces", False)),
        ("otlps+http://h:443/in/v1/traces", (HTTP, "h", 443, "/in/v1/traces", True)),
        ("otlp+http://h/a b/é%20", (HTTP, "h", 4318, "/a%20b/%C3%A9%20", False)),
        ("otlp:", (HTTP, "localhost", 4318, "/v1/traces", False)),
        ("otlp+grpc:", (GRPC, "localhost", 4317, "/v1/traces", False)),
    ],
)
def test_urls(url, place):
    assert where(made(url)) == place


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"ENDPOINT": "http://c:4318"}, (HTTP, "c", 4318, "/v1/traces", False)),
        ({"ENDPOINT": "https://c/base/"}, (HTTP, "c", 443, "/base/v1/traces", True)),
        ({"ENDPOINT": "http://c"}, (HTTP, "c", 80, "/v1/traces", False)),
        ({"TRACES_ENDPOINT": "http://t:1/x", "ENDPOINT": "http://c"}, (HTTP, "t", 1, "/x", False)),
        ({"TRACES_ENDPOINT": "http://t:1"}, (HTTP, "t", 1, "/", False)),
        ({"ENDPOINT": "http://c:1/base/?key=a b&x=%20?"}, (HTTP, "c", 1, "/base/v1/traces?key=a%20b&x=%20?", False)),
        ({"TRACES_ENDPOINT": "http://t:1?key=a"}, (HTTP, "t", 1, "/?key=a", False)),
        ({"TRACES_ENDPOINT": " ", "ENDPOINT": "http://c:5"}, (HTTP, "c", 5, "/v1/traces", False)),
        ({"PROTOCOL": "grpc", "ENDPOINT": "http://c"}, (GRPC, "c", 4317, "/v1/traces", False)),
        ({"PROTOCOL": "grpc", "ENDPOINT": "c:7"}, (GRPC, "c", 7, "/v1/traces", True)),
        ({"PROTOCOL": "grpc", "ENDPOINT": "c:7", "INSECURE": "TRUE"}, (GRPC, "c", 7, "/v1/traces", False)),
        ({"PROTOCOL": "grpc", "TRACES_PROTOCOL": "http/protobuf"}, (HTTP, "localhost", 4318, "/v1/traces", False)),
    ],
)
def test_variables_say_where(variables, place):
    settings = made("otlp:", **variables)
    assert (settings.protocol, settings.host, settings.port, settings.tls) == (*place[:3], place[4])
    if settings.protocol == HTTP:
        assert settings.path == place[3]


@pytest.mark.parametrize(
    ("url", "variables", "path"),
    [
        ("otlp+http://h", {}, "/v1/metrics"),
        ("otlp+http://h/in", {}, "/in"),
        ("otlp:", {"ENDPOINT": "http://c/base", "TRACES_ENDPOINT": "http://t/x"}, "/base/v1/metrics"),
        ("otlp:", {"ENDPOINT": "http://c/base", "METRICS_ENDPOINT": "http://c/own"}, "/own"),
    ],
)
def test_metrics_have_variables_and_a_path_of_their_own(url, variables, path):
    settings = settings_of(parse(url), {E + name: value for name, value in variables.items()}, METRICS)
    assert (settings.path, settings.host != "t", settings.signal) == (path, True, METRICS)
    assert made(url, **variables).signal is TRACES


def test_the_url_comes_first():
    variables = {"ENDPOINT": "https://c:1", "PROTOCOL": "grpc", "COMPRESSION": "gzip", "TIMEOUT": "7000"}
    settings = made("otlp+http://h?compression=none&timeout=2.5", **variables)
    assert where(settings) == (HTTP, "h", 4318, "/v1/traces", False)
    assert (settings.gzip, settings.timeout_s) == (False, 2.5)


def test_where_it_says_nothing_the_variables_do():
    settings = made(
        "otlp+http://h", COMPRESSION="none", TRACES_COMPRESSION="gzip", TIMEOUT="2500", HEADERS="A=b%20c, x-k = v=w ,"
    )
    assert (settings.gzip, settings.timeout_s) == (True, 2.5)
    assert settings.headers == {"a": "b c", "x-k": "v=w"}
    assert "b c" not in repr(settings)


def test_certificates():
    settings = made("otlps+grpc://h?ca=/own", CERTIFICATE="/ca", CLIENT_CERTIFICATE="/cert", TRACES_CLIENT_KEY="/key")
    assert (settings.ca, settings.certificate, settings.key) == ("/own", "/cert", "/key")
    settings = made("otlp+grpc://h", CERTIFICATE="/ca", CLIENT_CERTIFICATE="/cert")
    assert (settings.ca, settings.certificate, settings.key) == ("", "", "")


@pytest.mark.parametrize(
    "url",
    [
        "otlp://h",
        "otlp+grpc://h/path",
        "otlp+http:path",
        "otlp+http:///path",
        "otlp+http://h?colour=1",
        "otlp+http://h?compression=zstd",
        "otlp+http://h?timeout=0",
        "otlp+http://h?timeout=nan",
        "otlp+http://h?timeout=10000",
        "otlp+http://h?timeout=x",
        "otlp+http://h?ca=/x",
        "otlps+http://h?cert=/x",
        "otlps+http://h?key=/x",
    ],
)
def test_a_mistake_in_the_url_is_one_sentence(url):
    with pytest.raises(UsageError, match=r"\.$") as caught:
        made(url)
    assert f"'{url.partition('://')[0].partition(':')[0]}:" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROTOCOL", "http/json"),
        ("ENDPOINT", "ftp://h"),
        ("ENDPOINT", "http://"),
        ("ENDPOINT", "http://user:secret@h"),
        ("ENDPOINT", "http://h:x"),
        ("TRACES_ENDPOINT", "http://[::1"),
        ("ENDPOINT", "http://user:secret/x@h"),
        ("ENDPOINT", "http://h:99999/?key=secret"),
        ("COMPRESSION", "zstd"),
        ("TIMEOUT", "soon"),
        ("TIMEOUT", "-1"),
        ("HEADERS", "secret"),
        ("HEADERS", "content-type=secret"),
        ("HEADERS", "grpc-timeout=secret"),
        ("HEADERS", "x-bin=secret"),
        ("HEADERS", "sp ace=secret"),
        ("TRACES_HEADERS", "x=secret%0d%0ay: z"),
        ("HEADERS", "x=secret-é"),
    ],
)
def test_a_mistake_in_a_variable_names_it_and_keeps_its_secret(name, value):
    with pytest.raises(UsageError, match=r"\.$") as caught:
        made("otlp:", **{name: value})
    assert E + name in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_query_is_not_for_grpc_and_shown_nowhere():
    with pytest.raises(UsageError, match=rf"{E}ENDPOINT has a query.*\.$") as caught:
        made("otlp+grpc:", ENDPOINT="http://c?key=secret")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(made("otlp+http:", ENDPOINT="http://c?key=secret"))


def test_the_forms_are_in_the_help():
    assert "otlp[s]+grpc://HOST[:4317]" in forms()
