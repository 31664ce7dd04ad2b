import pytest

from clovisor_py.errors import ClovisorError, EnvironmentLacking, UsageError
from clovisor_py.exporters import _registry
from clovisor_py.exporters._api import Exporter
from clovisor_py.exporters._registry import forms, open_sink, parse, registry


def test_a_file_is_an_exporter():
    assert {"console", "jsonl", "jaeger"} <= set(registry())
    assert all(isinstance(exporter, Exporter) for exporter in registry().values())
    assert "jaeger://HOST[:6831]" in forms()


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("console:", ("console", "", None, "", {})),
        ("console:?format=json", ("console", "", None, "", {"format": "json"})),
        ("jsonl:out.jsonl", ("jsonl", "", None, "out.jsonl", {})),
        ("jsonl:/tmp/a#b c.jsonl", ("jsonl", "", None, "/tmp/a#b c.jsonl", {})),
        ("JAEGER://Host", ("jaeger", "host", None, "", {})),
        ("jaeger://10.0.0.1:6832/x?y=", ("jaeger", "10.0.0.1", 6832, "/x", {"y": ""})),
        ("jaeger://[fd00::1]:6831", ("jaeger", "fd00::1", 6831, "", {})),
    ],
)
def test_urls_are_taken_apart(url, parts):
    parsed = parse(url)
    assert (parsed.scheme, parsed.host, parsed.port, parsed.path, dict(parsed.query)) == parts
    assert parsed.text == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "console",
        "jaegr://host",
        "://host",
        "jaeger://",
        "jaeger:host",
        "jaeger://:6831",
        "jaeger://host:0",
        "jaeger://host:65536",
        "jaeger://host:x",
        "jaeger://[::1",
        "jaeger://user:secret@host",
        "jaeger://user:secret@host:99999",
        "jaeger://user:secret@[::1",
        "jaeger://user:secret/secret@host",
        "jaeger://user:sec@secret@host",
        "https://user:secret@host/x",
        "user:secret@host",
        "secret@host",
        "https://host/secret?token=secret",
        "jaeger://host/secret",
        "jaeger://host?token=secret",
        "otlp+http://host:99999/secret?token=secret",
        "otlp+http://host?token=secret",
        "otlp+http://host?timeout=secret",
        "otlp+http:secret",
        "jaeger://host/path",
        "jsonl:",
        "jsonl://host/file",
        "jsonl:file?x=1",
        "console:file",
        "console:?format=xml",
        "console:?colour=1",
    ],
)
def test_a_mistake_is_one_sentence_that_says_what_to_write(url):
    with pytest.raises(UsageError) as caught:
        open_sink(url)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert any(known in sentence for known in ("console:", "jsonl:", "jaeger://", "otlp", "port"))
    assert "secret" not in sentence


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host:1/x?y", "'https://host:1'"),
        ("https://me@host", "'https://…@…'"),
        ("jaeger://host:65536/x", "'jaeger://host:65536'"),
        ("otlp+grpc://[::1]:9/x", "'otlp+grpc://[::1]:9'"),
        ("otlp+http:x", "'otlp+http:'"),
    ],
)
def test_a_mistake_names_scheme_and_host(url, shown):
    with pytest.raises(UsageError) as caught:
        open_sink(url)
    assert shown in str(caught.value)


class Entry:
    name = "theirs"

    def __init__(self, loaded):
        self.loaded = loaded

    def load(self):
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


def test_an_installed_package_brings_an_exporter(monkeypatch):
    made = []
    theirs = Exporter(schemes=("carrier-pigeon",), synopsis="carrier-pigeon:", create=made.append)
    monkeypatch.setattr(_registry, "entry_points", lambda group: [Entry(theirs)] if group == "clovisor.exporters" else [])
    open_sink("carrier-pigeon:home")
    assert made[0].path == "home"
    with pytest.raises(UsageError):
        parse("owl:home")


def test_a_broken_package_costs_only_who_asks_for_it(monkeypatch):
    monkeypatch.setattr(_registry, "entry_points", lambda group: [Entry(ImportError("no module named pigeon"))])
    assert parse("console:").scheme == "console"
    with pytest.raises(EnvironmentLacking, match=r"'theirs'.*pigeon") as caught:
        parse("carrier-pigeon:home")
    assert isinstance(caught.value, ClovisorError)


def test_a_broken_package_does_not_break_another(monkeypatch):
    made = []
    theirs = Exporter(schemes=("carrier-pigeon",), synopsis="carrier-pigeon:", create=made.append)
    entries = [Entry(ImportError("no module named owl")), Entry(theirs)]
    monkeypatch.setattr(_registry, "entry_points", lambda group: entries)
    open_sink("carrier-pigeon:home")
    assert made[0].path == "home"
