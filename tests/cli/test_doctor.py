"""`clovisor doctor`: what is drawn, what the exit status is, and that odd options cost one sentence."""

import json

import click
import pytest
from click.testing import CliRunner

from clovisor_py.cli import doctor as module
from clovisor_py.cli.doctor import COMMAND, host_and_port, line, report, report_json, verdict
from clovisor_py.errors import UsageError
from clovisor_py.kernel.probe import Check, State

OK = Check("kernel", State.OK, "SCHED_CLS, ring buffer, BTF", version="6.18.44")
PROBLEM = Check("bpffs", State.PROBLEM, "is not mounted at /sys/fs/bpf", "mount -t bpf bpf /sys/fs/bpf")
CLUSTER = Check("cluster", State.PROBLEM, "does not grant me: list on pods", "kubectl apply -k manifests/base")
OPTIONAL = Check("jaeger", State.OPTIONAL, "nothing on 127.0.0.1:6831 (optional)")


def plain(check):
    return click.unstyle(line(check))


def test_a_line_has_mark_label_detail_and_remedy():
    assert plain(OK) == " ✓ kernel 6.18.44      SCHED_CLS, ring buffer, BTF"
    assert plain(PROBLEM) == " ✗ bpffs               is not mounted at /sys/fs/bpf  → mount -t bpf bpf /sys/fs/bpf"
    assert plain(OPTIONAL) == " ! jaeger              nothing on 127.0.0.1:6831 (optional)"


def test_the_details_line_up():
    columns = {plain(check).index(check.detail) for check in (OK, PROBLEM, OPTIONAL)}
    assert len(columns) == 1


def test_colour_is_in_the_mark_and_nowhere_else():
    styled = {check.state: line(check) for check in (OK, PROBLEM, OPTIONAL)}
    assert styled[State.OK].startswith(" \x1b[32m✓\x1b[0m ")
    assert styled[State.PROBLEM].startswith(" \x1b[31m✗\x1b[0m ")
    assert styled[State.OPTIONAL].startswith(" \x1b[33m!\x1b[0m ")
    assert all(text.count("\x1b") == 2 for text in styled.values())


@pytest.mark.parametrize(
    ("findings", "status", "last"),
    [
        ([OK], 0, "All is well."),
        ([OK, OPTIONAL], 0, "All is well."),
        ([OK, PROBLEM, OPTIONAL], 1, "1 problem. Clovisor cannot start until it is repaired."),
        ([PROBLEM, PROBLEM], 1, "2 problems. Clovisor cannot start until they are repaired."),
        ([PROBLEM, CLUSTER], 1, "2 problems. Clovisor cannot start until they are repaired."),
        ([OK, CLUSTER], 1, "1 problem. `clovisor agent` sees less than it should until it is repaired."),
    ],
)
def test_the_last_line_and_the_status_are_the_verdict(capsys, findings, status, last):
    assert report(iter(findings)) == status
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(findings) + 1
    assert lines[-1] == last
    assert "\x1b" not in "".join(lines)


def test_a_finding_is_printed_before_the_next_one_is_asked_for(capsys):
    def findings():
        yield OK
        assert "kernel" in capsys.readouterr().out
        yield OPTIONAL

    report(findings())
    assert "jaeger" in capsys.readouterr().out


def test_json_says_the_same(capsys):
    assert report_json([OK, PROBLEM, OPTIONAL]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["problems"]) == (False, 1)
    assert [check["state"] for check in said["checks"]] == ["ok", "problem", "optional"]
    assert said["checks"][0] == {
        "name": "kernel",
        "version": "6.18.44",
        "state": "ok",
        "detail": "SCHED_CLS, ring buffer, BTF",
        "remedy": "",
    }
    assert report_json([OK]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_the_command_hands_on_the_address_and_exits_with_the_status(monkeypatch):
    asked = []

    def examine(machine, checks):
        asked.append((machine.jaeger, [check.__name__ for check in checks][-1]))
        return iter([PROBLEM])

    monkeypatch.setattr(module, "examine", examine)
    done = CliRunner().invoke(COMMAND, ["--jaeger", "jaeger.example:4317"])
    assert (done.exit_code, asked) == (1, [(("jaeger.example", 4317), "check_cluster")])
    assert done.output.splitlines() == [plain(PROBLEM), verdict([PROBLEM])]
    assert json.loads(CliRunner().invoke(COMMAND, ["-o", "json"]).output)["problems"] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jaeger", ("jaeger", 6831)),
        ("127.0.0.1:6832", ("127.0.0.1", 6832)),
        ("[::1]", ("::1", 6831)),
        ("[fd00::2]:4317", ("fd00::2", 4317)),
    ],
)
def test_addresses(text, expected):
    assert host_and_port(text) == expected


@pytest.mark.parametrize("text", ["", ":6831", "host:", "host:0", "host:65536", "host:x", "::1", "[]:1", "a b", "host:١"])
def test_what_is_no_address_costs_one_sentence(text):
    with pytest.raises(UsageError, match="write it as in"):
        host_and_port(text)
