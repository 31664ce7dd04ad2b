"""A node on which everything happens at once, and a model of which pods are to be traced at the end of it.

`Churn` plays the operator, the kubelet, the container runtime and the node's mischief around a real API server and a real
`clovisor agent`: pods come, go, are labelled, restarted, change their sandboxes and take over each other's addresses; the agent
is killed; the API server is stopped, and forgets; programs are taken off, interfaces renamed. What is chosen comes from a seed.
What should be traced follows from the model alone; what is traced is asked of the kernel alone.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clovisor_py.errors import ClovisorError
from clovisor_py.kernel import attach, bpf
from clovisor_py.kernel.links import netlink
from tests.support.churn_agent import NODE, Agent
from tests.support.churn_api import Api
from tests.support.churn_look import Counts, look
from tests.support.churn_sandbox import Sandbox, make, remove, send
from tests.support.control_plane import ControlPlane
from tests.support.hooks import clsacts
from tests.support.kernel import BPFFS

NAMESPACE: Final = "churn"
TRACE: Final = "clovisor.io/trace"
MOST: Final = 40
"""Pods at once: more would only be more of the same."""
ADDRESSES: Final = 60
"""Few, so that each is soon somebody else's."""


@dataclass
class Pod:
    """A pod's object, as the API server has it or will have it as soon as it is there again."""

    name: str
    uid: str
    sandbox: Sandbox | None
    labelled: bool
    told: str = ""
    """The address in its status."""


class Churn:
    """`step` does one thing at random; `settled` says how long it took until exactly the right pods were traced."""

    def __init__(self, plane: ControlPlane, folder: Path, seed: int) -> None:
        self.plane, self.random = plane, random.Random(seed)
        self.api = Api(plane, NAMESPACE, NODE)
        self.pins = BPFFS / f"clovisor-churn-{os.getpid()}"
        self.agent = Agent(plane, folder, self.pins)
        self.pods: dict[str, Pod] = {}
        self.done: Counter[str] = Counter()
        """What was done, by its name."""
        self._free = deque(f"10.91.0.{number + 2}" for number in range(ADDRESSES))
        self._number = 0
        self._late: deque[Callable[[], None]] = deque()
        """What the API server must be told when it is there again."""
        self._away = self._ending = False
        self._doings = {
            self.create: 9,
            self.label: 6,
            self.delete: 5,
            self.restart: 4,
            self.change_sandbox: 2,
            self.rename_veth: 2,
            self.take_programs_off: 3,
            self.talk: 4,
        }

    def step(self) -> None:
        """One thing."""
        (what,) = self.random.choices(list(self._doings), weights=list(self._doings.values()))
        what()

    # The kubelet, and the operator.

    def create(self) -> None:
        if len(self.pods) < MOST and self._free and not self._away:
            self._number += 1
            self._create(f"p{self._number}")
            self.done["created"] += 1

    def label(self) -> None:
        """Or take the label off, or say no."""
        if not self._away and (pod := self._any()):
            value = self.random.choice(["true", "true", "false", None])
            self.api.label(pod.name, TRACE, value)
            pod.labelled = value == "true"
            self.done["labelled" if pod.labelled else "unlabelled"] += 1

    def delete(self) -> None:
        """Its sandbox goes first, or last; its address may be another pod's before the object is gone."""
        if self._away or len(self.pods) < 5 or (pod := self._any()) is None:
            return
        self._delete(pod)
        self.done["deleted"] += 1

    def restart(self) -> None:
        """As a StatefulSet's pod: the same name, another uid, veth and, mostly, address."""
        if self._away or (pod := self._any()) is None:
            return
        self._delete(pod)
        self._create(pod.name)
        self.done["restarted"] += 1

    def change_sandbox(self) -> None:
        """The same pod in another network namespace, as after the runtime's crash; also while no API server is told."""
        if (pod := self._any()) is None or pod.sandbox is None or not self._free:
            return
        keep = self.random.random() < 0.3
        old, address = pod.sandbox, pod.sandbox.address if keep else self._free.popleft()
        remove(old)
        if not keep:
            self._free.append(old.address)
        pod.sandbox = self._make(address)
        self._tell(pod)
        self.done["new sandbox"] += 1

    # The node's mischief.

    def rename_veth(self) -> None:
        if (pod := self._any()) is not None and pod.sandbox is not None:
            self._number += 1
            with netlink("renaming a veth") as route:
                route.link("set", index=pod.sandbox.ifindex, ifname=f"ren{self._number}")
            self.done["veth renamed"] += 1

    def take_programs_off(self) -> None:
        """Whatever is there, in one of the ways in which others do it."""
        traced = [one.sandbox for one in self.pods.values() if one.sandbox is not None and one.labelled]
        if not traced:
            return
        sandbox = self.random.choice(traced)
        way = self.random.choice([self._detach_link, self._delete_qdisc, self._delete_filter])
        with suppress(OSError, ClovisorError):
            if way(sandbox):
                self.done[way.__name__.strip("_").replace("_", " ")] += 1

    def talk(self) -> None:
        """A connection to a pod, as far as its veth sees it: so that there is something to forget."""
        if (pod := self._any()) is not None and pod.sandbox is not None:
            with suppress(OSError):
                send(pod.sandbox, self.random.randrange(1024, 65536))
                self.done["connections"] += 1

    def api_server_goes(self) -> None:
        """As by kill -9."""
        self.plane.kill_apiserver()
        self._away = True

    def api_server_comes(self) -> int:
        """With pods deleted meanwhile that no watch told of, and every version that a watch knows too old. How many pods."""
        gone = [pod for pod in list(self.pods.values()) if self.random.random() < 0.2]
        for pod in gone:
            if pod.sandbox is not None:
                remove(pod.sandbox)
                self._free.append(pod.sandbox.address)
            del self.pods[pod.name]
            self.api.forget(pod.name)
        self.api.compact()
        self.plane.start_apiserver()
        self._away = False
        while self._late:
            self._late.popleft()()
        return len(gone)

    def agent_dies(self) -> None:
        """By SIGKILL; the successor comes at once, or after a while."""
        self.agent.kill()
        self.done["agent killed"] += 1

    def close(self) -> None:
        """All pods, and the agent; nothing is left."""
        self.agent.stop()
        for pod in self.pods.values():
            if pod.sandbox is not None:
                remove(pod.sandbox)

    def delete_all(self) -> None:
        """No pod is left, nor comes."""
        self._ending = True
        for pod in list(self.pods.values()):
            self._delete(pod)

    def _any(self) -> Pod | None:
        return self.random.choice(list(self.pods.values())) if self.pods else None

    def _create(self, name: str) -> None:
        labelled = self.random.random() < 0.6
        uid = self.api.create(name, {TRACE: "true"} if labelled else {})
        pod = self.pods[name] = Pod(name, uid, None, labelled)
        pod.sandbox = self._make(self._free.popleft())
        self._tell(pod)

    def _delete(self, pod: Pod) -> None:
        del self.pods[pod.name]
        first = self.random.random() < 0.7
        self.api.delete(pod.name, now=not first)
        if pod.sandbox is not None:
            remove(pod.sandbox)
            self._free.appendleft(pod.sandbox.address)  # the next pod gets it
        if first:
            if not self._ending and self.random.random() < 0.5 and len(self.pods) < MOST:
                self._number += 1
                self._create(f"p{self._number}")  # while the API server still lists the one before
                self.done["created"] += 1
            self.api.delete(pod.name, now=True)

    def _tell(self, pod: Pod) -> None:
        """The status of a pod, when somebody can be told."""
        assert pod.sandbox is not None
        name, uid, address = pod.name, pod.uid, pod.sandbox.address

        def patch() -> None:
            known = self.pods.get(name)
            if known is not None and known.uid == uid:
                self.api.running(name, address)
                known.told = address

        if self._away:
            self._late.append(patch)
        else:
            patch()

    def _make(self, address: str) -> Sandbox:
        self._number += 1
        return make(f"cvc{os.getpid()}-{self._number}", address, foreign_clsact=self.random.random() < 0.2)

    def _detach_link(self, sandbox: Sandbox) -> bool:
        found = list(self.pins.glob(f"link_{sandbox.ifindex}_*"))
        if not found:
            return False
        link = bpf.obj_get(self.random.choice(found))
        try:
            bpf.link_detach(link)
        finally:
            os.close(link)
        return True

    def _delete_qdisc(self, sandbox: Sandbox) -> bool:
        if sandbox.ifindex not in clsacts():
            return False
        with netlink("taking clsact away") as route:
            route.tc("del", "clsact", sandbox.ifindex)
        sandbox.foreign_clsact = False
        return True

    def _delete_filter(self, sandbox: Sandbox) -> bool:
        parent = self.random.choice([parent for parent, _, _ in attach.HOOKS.values()])
        with netlink("taking a filter away") as route:
            found = [one for one in route.get_filters(index=sandbox.ifindex, parent=parent) if one["handle"] == attach.HANDLE]
            for one in found:
                prio = one["info"] >> 16
                route.tc("del-filter", "bpf", sandbox.ifindex, attach.HANDLE, parent=parent, prio=prio, protocol=0x0003)
        return bool(found)

    # What should be, and what is.

    def expected(self) -> set[int]:
        """The veths that are to be traced."""
        return {pod.sandbox.ifindex for pod in self.pods.values() if pod.sandbox is not None and pod.labelled}

    def settled(self, within_s: float) -> float:
        """Seconds until exactly the right pods were traced; within_s where they were not by then."""
        begin = time.monotonic()
        while not self.look().right and time.monotonic() - begin < within_s:
            time.sleep(0.1)
        return time.monotonic() - begin

    def look(self) -> Counts:
        """Everything of ours on this node, held against the model."""
        boxes = [pod.sandbox for pod in self.pods.values() if pod.sandbox is not None]
        return look(self.pins, self.expected(), {one.ifindex for one in boxes if one.foreign_clsact})


@contextmanager
def churning(plane: ControlPlane, folder: Path, seed: int) -> Iterator[Churn]:
    """Nothing of it is left at the end."""
    churn = Churn(plane, folder, seed)
    churn.api.begin()
    try:
        yield churn
    finally:
        churn.close()
