"""Own problems: what is wrong with what the agent itself was told, for as long as it is so.

A log line is read by nobody until something breaks. So each of these is an Event on the agent's node, a line of `clovisor
pods`, `explain` and `doctor`, and a metric where an alert is worth it; all of them end when it is put right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from clovisor_py.kube.objects import Ref
from clovisor_py.roster import Report

SETTINGS_REFUSED: Final = "SettingsRefused"
UNKNOWN_NODE: Final = "UnknownNode"
"""Reasons of Events."""


class OwnProblems:
    """Those of the agent of one node. For the thread that `report` is for."""

    def __init__(self, node: str, report: Report) -> None:
        self._about = Ref("Node", "", node)
        self._report = report
        self._now: Mapping[str, str] = {}

    def look(self, now: Mapping[str, str]) -> tuple[str, ...]:
        """`now`: reason to sentence, empty where nothing is wrong. Says what is new; answers all that are wrong."""
        before, self._now = self._now, now
        for reason, sentence in now.items():
            if before.get(reason, "") == sentence:
                continue
            self._report.unsay(self._about, reason)
            if sentence:
                self._report.say(self._about, self._about.name, reason, sentence)  # a node's Events have its name for a uid
        return tuple(sentence for sentence in now.values() if sentence)
