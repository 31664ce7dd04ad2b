"""A churn from its plan to its accounts: what was done, how soon all was right again, and what is left over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from clovisor_py.kernel.maps import MAPS
from clovisor_py.kernel.removal import remove_all
from tests.support.churn import Churn, churning
from tests.support.churn_agent import FLOW_IDLE_S, PATIENCE_S
from tests.support.churn_look import Counts
from tests.support.control_plane import ControlPlane
from tests.support.hooks import clsacts
from tests.support.kernel import drop_pins

RIGHT_S: Final = 10.0
"""So long after the last change everything has to be as it should be: two looks of the agent."""
FORGOTTEN_S: Final = FLOW_IDLE_S + 6.0
"""So long after the last packet the kernel has no connection any more."""
REST_S: Final = 3.0
"""Until an agent that has just started holds what it always holds."""
STEADY: Final = ("fds", "sockets", "threads", "namespaces", "children")
"""Of a process: what must be the same with nothing to do, before and after."""
PINS: Final = len(MAPS) + 2
"""Of the datapath itself: its maps and two programs."""


@dataclass(frozen=True)
class Plan:
    """`seconds` of churn at `steps_per_s`, the API server away for `away_s` of them, the agent killed so often."""

    seconds: float
    away_s: float
    kills: int
    seed: int
    steps_per_s: float = 10.0
    rest_s: float = REST_S


@dataclass
class Accounts:
    """What came of it."""

    done: Mapping[str, int]
    right_after_s: float = 0.0
    after: Counts = field(default_factory=Counts)
    end: Counts = field(default_factory=Counts)
    held: Mapping[str, int] = field(default_factory=dict)
    holds: Mapping[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    """What the agent said that it should not have to."""

    @property
    def wrong(self) -> list[str]:
        """Each difference, as a sentence."""
        after, end = self.after, self.end
        found = [f"missing: {one}" for one in after.missing] + [f"surplus: {one}" for one in after.surplus + end.surplus]
        found += [f"doubled: {one}" for one in after.doubled] + [f"qdisc: {one}" for one in after.stray_qdiscs]
        if self.right_after_s >= RIGHT_S:
            found.append(f"not right within {RIGHT_S:g} s")
        if not after.pods == after.attached == after.expected:
            found.append(f"map entries: {after.pods} pods and {after.attached} attached for {after.expected}")
        if after.sessions or after.controls:
            found.append(f"map entries: {after.sessions} sessions and {after.controls} controls of connections that are over")
        if after.pins != PINS or after.stray_links:
            found.append(f"pins: {after.pins} instead of {PINS}, and {after.stray_links}")
        if (end.pods, end.attached, end.sessions, end.controls, end.links, end.qdiscs) != (0, 0, 0, 0, 0, 0):
            found.append(f"left without any pod: {end}")
        found += [
            f"{one}: {self.held[one]} before, {self.holds[one]} after" for one in STEADY if self.held[one] != self.holds[one]
        ]
        return found + self.left + self.log

    def lines(self) -> list[str]:
        """For people."""
        after, end, wrong = self.after, self.end, self.wrong
        held = ", ".join(f"{name} {count} {self.holds.get(name)}" for name, count in self.held.items())
        return [
            *(f"  {name:28} {count:>6}" for name, count in sorted(self.done.items())),
            f"right after {self.right_after_s:.1f} s, of {after.veths} interfaces:",
            f"  traced {after.traced}, expected {after.expected}",
            f"  missing {len(after.missing)}, surplus {len(after.surplus)}, twice {len(after.doubled)}",
            f"  clsact {after.qdiscs} ({len(after.stray_qdiscs)} wrong), pins {after.pins} and {after.links} of links",
            f"  map entries: pods {after.pods}, attached {after.attached}, "
            f"sessions {after.sessions}, controls {after.controls}",
            f"without pods: clsact {end.qdiscs}, pins {end.pins}, links {end.links}, pods {end.pods}, attached {end.attached}",
            f"the agent's process, before and after: {held}",
            *(f"WRONG: {one}" for one in wrong),
            f"{len(wrong)} differences",
        ]


def run(plane: ControlPlane, folder: Path, plan: Plan, say: Callable[[str], None] = lambda text: None) -> Accounts:
    """All of it; nothing is left of it afterwards. `say` hears how far it is."""
    with churning(plane, folder, plan.seed) as churn:
        churn.agent.start()
        _until(churn.agent.up, "the agent's start")
        time.sleep(plan.rest_s)
        accounts = Accounts(churn.done, held=churn.agent.holdings())
        say(f"{plan.seconds:g} s of churn, seed {plan.seed}")
        _churn(churn, plan, say)
        say("calm")
        accounts.right_after_s = churn.settled(RIGHT_S)
        _until(lambda: _forgotten(churn), "", FORGOTTEN_S)
        accounts.after = churn.look()
        churn.delete_all()
        churn.settled(RIGHT_S)
        time.sleep(plan.rest_s)
        accounts.end, accounts.holds = churn.look(), churn.agent.holdings()
        accounts.log = [f"the agent said: {line}" for line in churn.agent.complaints()]
        if status := churn.agent.stop():
            accounts.left.append(f"the agent's exit status was {status}")
        remove_all(churn.pins)
        accounts.left += [f"left behind: {churn.pins}"] if churn.pins.exists() else []
        accounts.left += [f"clsact left on {ifindex}" for ifindex in clsacts()]
        drop_pins(churn.pins)
    return accounts


def _churn(churn: Churn, plan: Plan, say: Callable[[str], None]) -> None:
    begin = time.monotonic()
    kills = [plan.seconds * (number + 0.5) / (plan.kills + 0.5) * 0.8 for number in range(plan.kills)]
    away, back = plan.seconds * 0.3, plan.seconds * 0.3 + plan.away_s
    start_at: float | None = None
    gone = returned = plan.away_s == 0
    while (now := time.monotonic() - begin) < plan.seconds or not returned:
        if kills and now >= kills[0]:
            kills.pop(0)
            churn.agent_dies()
            start_at = now + churn.random.choice([0.0, 0.5, 3.0])
        if start_at is not None and now >= start_at:
            churn.agent.start()
            start_at = None
        if not gone and now >= away:
            gone = True
            churn.api_server_goes()
            say(f"{now:.0f} s: the API server is gone")
        if gone and not returned and now >= back:
            returned = True
            churn.done["deleted unseen"] += churn.api_server_comes()
            say(f"{now:.0f} s: the API server is back, and has forgotten what was")
        churn.step()
        time.sleep(max(0.0, begin + now + 1 / plan.steps_per_s - time.monotonic()))
    if start_at is not None:
        churn.agent.start()
    _until(churn.agent.up, "the agent's last start")


def _forgotten(churn: Churn) -> bool:
    counts = churn.look()
    return not counts.sessions and not counts.controls


def _until(happened: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """`what`: fails naming it; without, what comes of it is for the accounts."""
    end = time.monotonic() + patience_s
    while not happened():
        if time.monotonic() > end:
            assert not what, f"never came: {what}"
            return
        time.sleep(0.1)
