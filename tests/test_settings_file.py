"""Three layers, the last word wins; a mistake refuses all; a ConfigMap that changes is noticed, and a bad one survived."""

import os
import re

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from clovisor_py.errors import UsageError
from clovisor_py.node_settings import DEFAULTS, NodeSettings
from clovisor_py.settings_file import DEFAULTS_HOLD, SettingsFile
from clovisor_py.settings_yaml import MAX_BYTES

NAMES = frozenset({"http", "kafka"})


def loaded(path=None, text=None, **layers) -> NodeSettings:
    if text is not None:
        path.write_text(text)
    return SettingsFile(path, NAMES, **layers).load()


def refused(path, text=None, **layers) -> str:
    with pytest.raises(UsageError) as caught:
        loaded(path, text, **layers)
    assert caught.value.exit_status == 2
    return str(caught.value).replace(str(path), "FILE")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "settings.yaml"


FILE = """
# what a ConfigMap may hold
cpu_share: 0.8
redact: off
trace_by_default: yes
watch: [shop, "web:app:cart"]
egress:
  - "*:6379"
  - 10.0.0.5:5432:cart
hints: {8080: http, 9092: kafka}
exports:
"""


def test_a_file(path):
    found = loaded(path, FILE)
    assert (found.cpu_share, found.redact, found.trace_by_default) == (0.8, "off", True)
    assert [str(one) for one in found.watch] == ["shop", "web:app:cart"]
    assert [str(one) for one in found.egress] == ["*:6379", "10.0.0.5:5432:cart"]
    assert (found.hints, found.exports, found.lease_s) == (((8080, "http"), (9092, "kafka")), (), DEFAULTS.lease_s)


def test_nothing_is_the_defaults(path):
    for text in ("", "# nothing\n", "---\n", "null"):
        assert loaded(path, text) == DEFAULTS
    assert loaded(None) == DEFAULTS


def test_the_last_word_wins(path):
    environ = {"CLOVISOR_CPU_SHARE": "0.6", "CLOVISOR_EXPORTS": "console:,jsonl:x", "HOME": "/", "CLOVISOR_HTTP_PORT": "80"}
    flags = {"cpu_share": 0.7, "udp_ports": (53, 5353), "exports": (), "hints": ((80, "http"),), "trace_by_default": None}
    found = loaded(path, "cpu_share: 0.9\nredact: strict\n", environ=environ, flags=flags)
    assert (found.cpu_share, found.redact, found.exports, found.http_port) == (0.7, "strict", ("console:", "jsonl:x"), 80)
    assert (found.udp_ports, found.hints) == ((53, 5353), ((80, "http"),))
    assert loaded(path, environ=environ).cpu_share == 0.6


def test_what_the_kubelet_sets_is_not_meant_for_us():
    environ = {
        "CLOVISOR_PORT": "tcp://10.96.0.9:80",
        "CLOVISOR_SERVICE_HOST": "10.96.0.9",
        "CLOVISOR_SERVICE_PORT_HTTP": "80",
        "CLOVISOR_PORT_80_TCP_ADDR": "10.96.0.9",
        "CLOVISOR_AGENT_PORT_80_TCP": "tcp://10.96.0.9:80",
        "CLOVISOR_HTTP_PORT": "tcp://10.96.0.9:80",
    }
    assert loaded(environ=environ) == DEFAULTS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\ncpu_share: 99", "FILE line 2: cpu_share: '99' does not fit: write a number from 0.05 to 64."),
        ("cpu_shares: 1", "FILE line 1: there is no setting 'cpu_shares'; perhaps cpu_share is meant."),
        ("zzz: 1", "FILE line 1: there is no setting 'zzz'; there are pins, "),
        ("cpu_share: 1\ncpu_share: 2", "FILE line 2: cpu_share was given in line 1 already: leave one out."),
        ("cpu_share:\n  a: {b: c}", "FILE line 1: 'cpu_share' has more in it than a value or a list"),
        ("cpu_share: [1]", "FILE line 1: cpu_share: a list does not fit: write one value."),
        ("- a\n- b", "FILE is no list of settings: write lines of 'setting: value'."),
        ("egress: *:6379", "is not YAML"),
        ("egress:\n - *:6379\n", "quote what begins with *"),
        ("cpu_share: 1\n\tlease_s: 2", "FILE line 2 is not YAML"),
        ("a: 1\n---\nb: 2", "is not YAML"),
        ("a: \x00", "FILE is not YAML"),
        ("[" * 20000, "FILE is not YAML"),
        ("a" * (MAX_BYTES + 1), "FILE cannot be read (it is longer than 64 KiB)"),
    ],
)
def test_mistakes_in_the_file(path, text, said):
    assert said in refused(path, text)


def test_mistakes_of_the_other_layers():
    assert refused(None, environ={"CLOVISOR_CPU_SHARE": "x"}).startswith("environment CLOVISOR_CPU_SHARE: 'x' does not fit")
    assert "environment CLOVISOR_CPU_SHRE: there is no setting 'cpu_shre'; perhaps cpu_share is meant." in refused(
        None, environ={"CLOVISOR_CPU_SHRE": "1"}
    )
    assert refused(None, flags={"cpu_share": 1000}).startswith("--cpu-share: '1000' does not fit")


def test_all_mistakes_are_told(path):
    said = refused(path, "".join(f"nothing{number}: 1\n" for number in range(9)))
    assert said.count("there is no setting") == 5 and said.endswith("And 4 more mistakes.")


def started(path, text, **layers):
    path.write_text(text)
    file = SettingsFile(path, NAMES, **layers)
    return file.start(), file.refused.replace(str(path), "FILE")


def test_a_start_takes_what_can_be_read(path):
    """Seen by an operator: a typo in the ConfigMap, an agent that died, and CrashLoopBackOff on every node."""
    found, refused = started(path, "cpu_share: 0.8\nlease_s: ages\ncpu_shre: 1\ntrace_by_default: yes\n")
    assert (found.cpu_share, found.lease_s, found.trace_by_default) == (0.8, DEFAULTS.lease_s, True)
    assert refused.startswith("FILE line 2: lease_s: 'ages' does not fit: ")
    assert "FILE line 3: there is no setting 'cpu_shre'" in refused and refused.endswith(f". {DEFAULTS_HOLD}")
    assert started(path, FILE) == (SettingsFile(path, NAMES).load(), "")


@pytest.mark.parametrize("text", ["redact: strct", "redacts: strict", "redact: strict\nredact: off", "redact: [", "- redact"])
def test_what_cannot_be_read_hides_more_rather_than_less(path, text):
    found, refused = started(path, text)
    assert found.redact == "strict" and refused
    assert started(path, text, flags={"redact": "off"})[0].redact == "off"


def test_a_start_with_a_redact_that_can_be_read_has_that(path):
    assert started(path, "redact: off\nlease_s: ages")[0].redact == "off"


def test_a_start_refuses_what_its_own_command_says(path):
    path.write_text("cpu_share: much")
    for layers in ({"environ": {"CLOVISOR_CPU_SHARE": "x"}}, {"flags": {"cpu_share": 1000}}):
        with pytest.raises(UsageError, match=r"(CPU_SHARE|--cpu-share): '(x|1000)' does not fit"):
            SettingsFile(path, NAMES, **layers).start()


def test_a_start_is_mended_without_another(path):
    path.write_text("cpu_share: much")
    file = SettingsFile(path, NAMES)
    assert file.start() == DEFAULTS and file.look() is None, "who did not mean redact gets no other one"
    path.write_text("cpu_share: 0.75")
    found = file.look()
    assert isinstance(found, NodeSettings) and (found.cpu_share, found.redact, file.refused) == (0.75, "default", "")


def test_files_that_are_none(path, tmp_path):
    assert refused(path) == "FILE cannot be read (No such file or directory): check the path and the mount."
    assert "cannot be read (it is no file)" in refused(tmp_path)
    os.mkfifo(path)
    assert "cannot be read (it is no file)" in refused(path)
    path.unlink()
    path.write_bytes(b"a: \xff")
    assert "FILE is not YAML" in refused(path)


def mount(folder, text, version) -> None:
    """What the kubelet does: a new folder, and `..data` swapped to it in one step."""
    (folder / version).mkdir()
    (folder / version / "settings.yaml").write_text(text)
    (folder / "..tmp").symlink_to(version)
    (folder / "..tmp").rename(folder / "..data")
    if not (folder / "settings.yaml").is_symlink():
        (folder / "settings.yaml").symlink_to("..data/settings.yaml")


def test_a_configmap_that_changes(tmp_path):
    mount(tmp_path, "cpu_share: 0.6", "..1")
    file = SettingsFile(tmp_path / "settings.yaml", NAMES, flags={"redact": "strict"})
    assert file.load().cpu_share == 0.6 and file.look() is None
    mount(tmp_path, "cpu_share: 0.7", "..2")
    found = file.look()
    assert isinstance(found, NodeSettings) and (found.cpu_share, found.redact) == (0.7, "strict")
    assert file.look() is None and file.current is found
    mount(tmp_path, "# the same\ncpu_share: 0.7", "..3")
    assert file.look() is None, "nothing that matters"


def test_a_bad_one_is_said_once_and_the_old_stays(tmp_path):
    mount(tmp_path, "cpu_share: 0.6", "..1")
    file = SettingsFile(tmp_path / "settings.yaml", NAMES)
    before = file.load()
    mount(tmp_path, "cpu_share: much", "..2")
    said = file.look()
    assert isinstance(said, str)
    assert re.search(r"line 1: cpu_share: 'much' does not fit: write .*\. The settings from before stay\.$", said)
    assert file.current is before and file.look() is None
    assert file.refused == said
    mount(tmp_path, "cpu_share: 0.6", "..3")
    assert file.look() == before, "good again, and that is news"
    assert file.refused == ""
    (tmp_path / "..data").unlink()
    said = file.look()
    assert isinstance(said, str) and "No such file" in said and file.look() is None
    assert file.current == before


def test_a_file_that_is_written_in_place(path):
    file = SettingsFile(path, NAMES)
    path.write_text("cpu_share: 0.6")
    file.load()
    path.write_text("cpu_share: 0.65")
    found = file.look()
    assert isinstance(found, NodeSettings) and found.cpu_share == 0.65


@how(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(["cpu_share", "watch", "x"]), st.recursive(st.none() | st.text() | st.integers(), st.lists)
    ).map(lambda one: yaml.safe_dump(one).encode())
)
def test_any_file_is_settings_or_a_sentence(tmp_path, data):
    path = tmp_path / "settings.yaml"
    path.write_bytes(data)
    file = SettingsFile(path, NAMES)
    assert isinstance(file.start(), NodeSettings)
    assert not file.refused or file.refused.isprintable()
    found = file.reload()
    assert isinstance(found, NodeSettings) or (found.isprintable() and found.endswith("stay."))
