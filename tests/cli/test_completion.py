"""What Tab answers, asked as bash asks; and that it is silent where there is nothing, or nobody, to ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import click
import pytest

from clovisor_py.cli import _completion
from clovisor_py.errors import ClovisorError
from tests.support.trace import CLOVISOR

TYPED: dict[str, tuple[str, ...]] = {
    "trace --hint 80=ht": ("http", "http2"),
    "trace --hint 80": (),
    "trace --hint 80=x": (),
    "trace --export j": ("jaeger://", "jsonl:"),
    "trace --export otlp+": ("otlp+grpc://", "otlp+http://"),
    "trace --export jaeger:": ("//",),
    "replay --hint=80=ht": ("http", "http2"),
    "demo --export c": ("console:",),
    "protocols -o m": ("markdown",),
}


def tab(line: str) -> tuple[str, ...]:
    """The answers to Tab behind this line, as bash puts them into it."""
    environ = os.environ | {"_CLOVISOR_COMPLETE": "bash_complete", "COMP_LINE": f"clovisor {line}"}
    done = subprocess.run([CLOVISOR], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return tuple(text.partition(",")[2] for text in done.stdout.splitlines() if text)


@pytest.mark.parametrize("line", TYPED)
def test_words_in_which_bash_sees_several(line: str) -> None:
    assert tab(line) == TYPED[line]


def test_a_file_behind_jsonl() -> None:
    environ = os.environ | {"_CLOVISOR_COMPLETE": "bash_complete", "COMP_LINE": "clovisor trace --export jsonl:se"}
    done = subprocess.run([CLOVISOR], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("file,"), "bash completes those itself"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_takes_it(tmp_path: Path) -> None:
    """The script is loaded, and its function called with what bash would set for this line."""
    script = (
        'eval "$(_CLOVISOR_COMPLETE=bash_source clovisor)"; COMP_LINE="clovisor trace --hint 80=ht"; COMP_POINT=${#COMP_LINE};'
        ' COMP_WORDS=(clovisor trace --hint 80 = ht); COMP_CWORD=5; _clovisor_completion clovisor; echo "${COMPREPLY[@]}"'
    )
    environ = os.environ | {"PATH": f"{Path(CLOVISOR).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "http http2\n", done.stderr


def context(**params: object) -> click.Context:
    made = click.Context(click.Command("trace"))
    made.params = params
    return made


PARAMETER = click.Argument(["targets"])


def texts(complete: _completion.Complete, incomplete: str, **params: object) -> list[str]:
    return [item.value for item in complete(context(**params), PARAMETER, incomplete)]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A socket's path, behind which an agent knows two pods."""
    path = tmp_path / "agent.sock"
    path.touch()
    known = [{"namespace": "shop", "name": "cart-0"}, {"namespace": "web", "name": "front-7d9f"}]
    monkeypatch.setattr(_completion, "ask", lambda request, path, timeout_s: {"pods": known})
    return path


def test_the_agents_pods(agent: Path) -> None:
    assert texts(_completion.targets, "pod/", socket=agent) == ["pod/shop/cart-0", "pod/web/front-7d9f"]
    assert texts(_completion.targets, "pod/s", socket=agent) == ["pod/shop/cart-0"]
    assert texts(_completion.targets, "ns/", socket=agent) == ["ns/shop", "ns/web"]
    assert texts(_completion.targets, "pod/", socket=agent, namespace="web") == ["pod/front-7d9f"]
    assert texts(_completion.pods, "", socket=agent) == ["pod/shop/cart-0", "pod/web/front-7d9f"]
    assert "pod/" in texts(_completion.targets, "po", socket=agent)


@pytest.mark.parametrize("shell", [_completion.Bash, _completion.Zsh, _completion.Fish])
def test_targets_need_no_more_than_they_are_asked_of(agent: Path, monkeypatch: pytest.MonkeyPatch, shell: type) -> None:
    def get_command(ctx: click.Context, name: str) -> click.Command:
        raise AssertionError(f"{name} was imported")

    group = click.Group("clovisor")
    monkeypatch.setattr(group, "get_command", get_command)
    completes = shell(group, {}, "clovisor", "_CLOVISOR_COMPLETE")
    for words in (["trace"], ["trace", "-q"], ["trace", "web", "--count", "3"]):
        found = completes.get_completions([*words, "--socket", str(agent)], "pod/w")
        assert [item.value for item in found] == ["pod/web/front-7d9f"]
    found = completes.get_completions(["trace", "-n", "shop", f"--socket={agent}"], "pod/")
    assert [item.value for item in found] == ["pod/cart-0"]
    assert completes.get_completions(["trace", "--hint"], "80=ht") and completes.get_completions(["trace", "--export"], "j")
    for words, begun in ((["trace", "--status"], "5"), (["trace"], "--h"), (["explain"], "")):
        with pytest.raises(AssertionError, match="was imported"):
            completes.get_completions(words, begun)


@pytest.mark.parametrize("answer", [None, [], {}, {"pods": 1}, {"pods": [1]}, ClovisorError("no."), OSError(), ValueError()])
def test_silence_where_it_fails(agent: Path, monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    def ask(request: object, path: Path, timeout_s: float) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(_completion, "ask", ask)
    assert texts(_completion.pods, "", socket=agent) == []
    assert texts(_completion.targets, "pod/", socket=agent) == []


def test_no_agent_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    assert texts(_completion.pods, "", socket=tmp_path / "none") == []
    assert time.monotonic() - began < _completion.PATIENCE_S
