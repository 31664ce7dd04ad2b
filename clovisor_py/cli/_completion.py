"""Completion in a shell: of targets by what is here, and of pods by the agent of this node. Quick, and silent where it fails.

bash cuts words at `:` and `=`, which hints (`80=http`) and export URLs (`jaeger://`) have in them: its script here hands over
the whole line, and is answered what comes after the last cut.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from clovisor_py.control_client import ask
from clovisor_py.control_socket import DEFAULT_PATH, Request
from clovisor_py.errors import ClovisorError

PATIENCE_S: Final = 0.2
"""For the agent's answer: whoever pressed Tab waits."""
KINDS: Final = ("pod/", "deploy/", "ns/")
"""How what the agent traces begins."""

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
FLAGS: Final = ("-q", "--quiet")
"""Options of `trace` that take no value."""

_NAMESPACE: Final = click.Option(["-n", "--namespace"])
_SOCKET: Final = click.Option(["--socket"])
_OPTION: Final = re.compile(r"^--[a-z-]+=")
_BEFORE: Final = re.compile(r".*[:=]", re.DOTALL)


class Quick(ShellComplete):
    """Completes `trace` without `trace` itself: what that imports takes longer than anybody waits."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Of all else, click's."""
        if args[:1] != ["trace"] or incomplete.startswith("-"):
            return super().get_completions(args, incomplete)
        if args[-1] in ("--hint", "--export"):
            from clovisor_py.cli._types import Export, Hint  # noqa: PLC0415 (protocols and exporters: 0.1 s)

            kind = Hint() if args[-1] == "--hint" else Export()
            return kind.shell_complete(click.Context(self.cli), click.Option([args[-1]]), incomplete)
        if args[-1].startswith("-") and "=" not in args[-1] and args[-1] not in FLAGS:
            return super().get_completions(args, incomplete)
        command = click.Command("trace", params=[_NAMESPACE, _SOCKET], context_settings={"ignore_unknown_options": True})
        ctx = command.make_context("trace", args[1:], resilient_parsing=True, allow_extra_args=True)
        return targets(ctx, click.Argument(["targets"]), incomplete)


class Zsh(Quick, ZshComplete):
    """As click's."""


class Fish(Quick, FishComplete):
    """As click's."""


class Bash(Quick, BashComplete):
    """click's, of the line instead of its words."""

    source_template = BashComplete.source_template.replace(
        'COMP_WORDS="${COMP_WORDS[*]}"', 'COMP_LINE="${COMP_LINE:0:$COMP_POINT}" COMP_WORDS="${COMP_WORDS[*]}"'
    ).replace("COMPREPLY+=($value)", "COMPREPLY+=($value); [[ $value == *[/:=] ]] && compopt -o nospace")

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one to be completed, and that one as far as it goes."""
        if (line := os.environ.get("COMP_LINE")) is None:
            return super().get_completion_args()
        words = split_arg_string(line)[1:]
        word = words.pop() if words and not line[-1:].isspace() else ""
        self._begun = _OPTION.sub("", word)
        return words, word

    def format_completion(self, item: CompletionItem) -> str:
        """Without what bash takes for another word."""
        cut = _BEFORE.match(getattr(self, "_begun", ""))
        return f"{item.type},{item.value.removeprefix(cut[0]) if cut else item.value}"


def set_up() -> None:
    """To be called before click looks for a shell's class."""
    for name, shell in (("bash", Bash), ("zsh", Zsh), ("fish", Fish)):
        add_completion_class(shell, name)


def quietly(complete: Callable[[click.Context, str], Iterable[str]]) -> Complete:
    """A `shell_complete` of what begins as the word does; completion is no place for errors, whatever they are."""

    @wraps(complete)
    def completed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found: list[str] = []
        with suppress(ClovisorError, OSError, ValueError):
            found += complete(ctx, incomplete)
        return [CompletionItem(text) for text in dict.fromkeys(found) if text.startswith(incomplete)]

    return completed


@quietly
def targets(ctx: click.Context, incomplete: str) -> Iterable[str]:
    """Of `trace`: namespaces and host veths here, and, behind a kind, what the agent of this node knows."""
    if "/" in incomplete:
        return _of_agent(ctx)
    from clovisor_py.kernel.targets import veths_here  # noqa: PLC0415 (netlink costs 0.1 s, which pods need not wait for)

    here = [name for veth in veths_here() for name in (veth.label, veth.name)]
    return [*here, *(KINDS if _socket(ctx).exists() else ())]


@quietly
def pods(ctx: click.Context, incomplete: str) -> Iterable[str]:
    """Of `explain`: `pod/NAMESPACE/NAME`, or `pod/NAME` where -n says the namespace."""
    return _pods(ctx, _known(ctx))


def _of_agent(ctx: click.Context) -> list[str]:
    known = _known(ctx)
    return [*_pods(ctx, known), *(f"ns/{namespace}" for namespace, _ in known)]


def _pods(ctx: click.Context, known: Iterable[tuple[str, str]]) -> list[str]:
    if wanted := ctx.params.get("namespace"):
        return [f"pod/{name}" for namespace, name in known if namespace == wanted]
    return [f"pod/{namespace}/{name}" for namespace, name in known]


def _known(ctx: click.Context) -> list[tuple[str, str]]:
    """(namespace, name) of the pods of this node."""
    path = _socket(ctx)
    if not path.exists():
        return []
    found = ask(Request("snapshot"), path, PATIENCE_S)
    listed = found.get("pods") if isinstance(found, dict) else None
    told = [pod for pod in listed if isinstance(pod, dict)] if isinstance(listed, list) else []
    return [(str(pod.get("namespace")), str(pod.get("name"))) for pod in told]


def _socket(ctx: click.Context) -> Path:
    return Path(str(ctx.params.get("socket") or DEFAULT_PATH))
