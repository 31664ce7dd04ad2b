"""Protocols from outside: the worked example, and everything that can be wrong with one."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import given

from clovisor_py.errors import UsageError
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.message import CLIENT, SERVER
from clovisor_py.protocols import _plugins
from clovisor_py.protocols._plugins import load
from clovisor_py.protocols._redaction import OFF
from clovisor_py.protocols._registry import registry
from tests.support.parser_harness import anything, check, mutated, run
from tests.support.segments import Conversation

EXAMPLE = Path(__file__).parents[1] / "examples" / "greeting.py"
GREETING = load([EXAMPLE]).protocols["greeting"]
SCRIPT = [(CLIENT, b"GREET ann\nGREET bob\n"), (SERVER, b"HELLO ann\nWHO bob\n")]


def test_the_example_keeps_the_contract():
    whole = check(GREETING, SCRIPT)
    assert [message.status for message in whole.of(SERVER)] == ["HELLO", "WHO"]


@given(mutated(SCRIPT) | anything)
def test_the_example_survives_anything(script):
    run(GREETING, script)


def test_the_example_at_work():
    talk = Conversation().handshake().client("GREET ann\n").server("HELLO ann\n").client("GREET bob\n").server("WHO bob\n")
    loaded = load([EXAMPLE])
    assert loaded.refused == () and set(loaded.protocols) == {*registry(), "greeting"}
    engine = Pipeline(protocols=loaded.protocols, redaction=OFF)
    sessions = engine.feed(talk.close().segments)
    assert [(s.protocol, s.resource, s.status, s.outcome.value) for s in sessions] == [
        ("greeting", "ann", "HELLO", "ok"),
        ("greeting", "bob", "WHO", "error"),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import no_such_module_anywhere", r"does not import \(ModuleNotFoundError: No module named"),
        ("1 / 0", r"does not import \(ZeroDivisionError: division by zero\)"),
        ("raise SystemExit", r"does not import \(SystemExit\)"),
        ("def (", r"does not import \(SyntaxError"),
        ("PROTOCOL = 3", r"has no PROTOCOL that is"),
        ("", r"has no PROTOCOL that is"),
        ("{example}PROTOCOL = replace(PROTOCOL, name='http')", r"claims the name 'http', which is http's"),
        ("{example}PROTOCOL = replace(PROTOCOL, hints=('http1',))", r"claims the name 'http1', which is http's"),
        (
            "{example}PROTOCOL = replace(PROTOCOL, name='Gre eting')",
            r"has the name 'Gre eting', and a name is made of a-z, 0-9",
        ),
        ("{example}PROTOCOL = replace(PROTOCOL, name='')", r"has the name '', and a name is made of"),
        ("{example}PROTOCOL = replace(PROTOCOL, name=None)", r"has the name None, and a name is made of"),
        ("{example}PROTOCOL = replace(PROTOCOL, hints=('a=b',))", r"has the other name 'a=b', and that is a word without"),
        ("{example}PROTOCOL = replace(PROTOCOL, hints=('GREET',))", r"has the other name 'GREET', and that is a word without"),
        ("{example}PROTOCOL = replace(PROTOCOL, ports=(7, 0))", r"has the port 0, and a port is a number from 1 to 65535"),
        ("{example}PROTOCOL = replace(PROTOCOL, ports=(65536,))", r"has the port 65536, and a port is a number"),
        ("{example}PROTOCOL = replace(PROTOCOL, ports=('80',))", r"has the port '80', and a port is a number"),
        ("{example}PROTOCOL = replace(PROTOCOL, ports=7)", r"is no protocol \(TypeError: "),
        ("{example}PROTOCOL = replace(PROTOCOL, pairing='fifo')", r"has a pairing or a capture that"),
        ("{example}PROTOCOL = replace(PROTOCOL, over='nothing')", r"rides on 'nothing', which is not there"),
    ],
)
def test_a_bad_plugin_is_refused_in_a_sentence_and_the_others_go_on(tmp_path, text, sentence):
    example = EXAMPLE.read_text() + "\nfrom dataclasses import replace\n"
    (tmp_path / "bad.py").write_text(text.replace("{example}", example))
    (tmp_path / "good.py").write_text(EXAMPLE.read_text())
    (tmp_path / "_passed_over.py").write_text("1 / 0")
    loaded = load([tmp_path])
    assert set(loaded.protocols) == {*registry(), "greeting"}
    (said,) = loaded.refused
    with pytest.raises(UsageError, match=sentence):
        raise UsageError(said)
    assert "bad.py" in said and said.endswith("the others go on without it.") and "\n" not in said


def test_a_folder_without_a_plugin_is_said_and_the_others_go_on(tmp_path):
    (tmp_path / "_helper.py").write_text("")
    loaded = load([tmp_path, EXAMPLE])
    assert "greeting" in loaded.protocols
    (said,) = loaded.refused
    assert said.startswith(f"the plugin {tmp_path} is a folder without a protocol in it")


@pytest.mark.parametrize("name", ["nowhere", "data.txt"])
def test_what_is_no_plugin(tmp_path, name):
    (tmp_path / "data.txt").write_text("x")
    with pytest.raises(UsageError, match=r"is no plugin: name a \.py file"):
        load([tmp_path / name])


def test_installed_packages_may_bring_some(monkeypatch):
    good = EntryPoint("a", "tests.support.toy_protocol:LINES", _plugins.ENTRY_POINTS)
    bad = EntryPoint("b", "tests.support.toy_protocol:NOTHING", _plugins.ENTRY_POINTS)
    monkeypatch.setattr(_plugins, "entry_points", lambda group: [bad, good])
    loaded = load()
    assert "lines" in loaded.protocols
    assert [said.split(" (")[0] for said in loaded.refused] == ["the plugin 'b'"]
