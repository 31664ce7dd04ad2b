"""The node's datapath: programs, maps and filters, held by one process at a time and outliving it.

What is pinned stays when the process ends, in whatever way; the next one adopts it: the same filters, maps and open
connections. Only pins made from other sources (another build) are replaced.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final

from clovisor_py.config import Settings
from clovisor_py.errors import ClovisorError, KernelRefused
from clovisor_py.flows.connection import Counted
from clovisor_py.flows.control import Connection
from clovisor_py.kernel import attach, bpf, compile, layout, tcx
from clovisor_py.kernel.lock import hold
from clovisor_py.kernel.maps import Maps, Pod, Stats
from clovisor_py.kernel.precedence import Precedence
from clovisor_py.kernel.removal import strip
from clovisor_py.kernel.ring import Ring
from clovisor_py.kernel.sweep import Look, Swept, clear, sweep

MODES: Final = {"detect": layout.Mode.DETECT, "head": layout.Mode.HEAD, "full": layout.Mode.FULL, "none": layout.Mode.NONE}
BURST_NS: Final = 100_000_000
"""How far a pod or flow may run ahead of its budget: at the default rate, most of one ring."""
NS_PER_KIB: Final = 1024 * 1_000_000_000

_log = logging.getLogger(__name__)


class Datapath:
    """Open it with `with`; leaving the block lets go of it, and what is attached stays attached (see `remove`).

    Raises AlreadyRunning, EnvironmentLacking or KernelRefused on opening.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.adopted = False
        """Whether a predecessor's pins were found and taken over."""
        self.controls_refused = 0
        """Decisions about a flow's capture that the kernel would not take: its map is full, or it lacks memory."""
        self._pod_ns_per_kib = _ns_per_kib(settings.pod_bytes_per_s)
        self._baseline: dict[int, Stats] = {}
        self._slots: dict[int, int] = {}
        """By ifindex. This process holds the lock, so what it knows of `pods` and `attached` needs no look."""
        self._flags: dict[int, int] = {}
        self.precedence = Precedence()
        """Where a program of others insists on being first."""

    def __enter__(self) -> Datapath:
        self._held = hold(self.settings.pins)
        try:
            self._open()
        except BaseException:
            with suppress(OSError):  # it is not empty: pins that were there, or all but one
                self.settings.pins.rmdir()
            self._held.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self) -> None:
        attach.require(self.settings.hook)
        pins, build = self.settings.pins, compile.build_id()
        self.adopted = _build_of(pins) == build
        if not self.adopted:
            strip(pins, keep_folder=True)
            compile.load(pins)
        try:
            self.maps = Maps(pins)
            self.programs = {hook: bpf.obj_get(pins / hook) for hook in attach.HOOKS}
            self.ring = Ring(self.maps.fds["ring"])
        except OSError as error:
            raise KernelRefused(f"the pins in {pins} cannot be opened ({error}): run `clovisor detach` first.") from error
        self._build = build
        backlog = self.adopted and self.maps.settings()[3] < time.monotonic_ns()
        self.stale_bytes = self.ring.discard() if backlog else 0
        self._controlled = self.maps.controlled() if self.adopted else set()
        self._slots = {ifindex: pod.slot for ifindex, pod in self.maps.pods().items()}
        self._flags = self.maps.attached()
        self.maps.set_udp_ports(self.settings.udp_ports)
        self._until = time.monotonic_ns()
        self.heartbeat()

    def close(self) -> None:
        """Let go: pins and filters stay for a successor; the lease silences them meanwhile."""
        self.ring.close()
        self.maps.close()
        for fd in self.programs.values():
            os.close(fd)
        self._held.release()

    def remove(self) -> None:
        """Take everything off this node; to be followed by `close`."""
        self.maps.set_settings(self.settings.wake_bytes, 0, 0)  # nobody's build: half removed, nobody adopts it
        strip(self.settings.pins)

    def silence(self) -> None:
        """End the lease now: from here on the programs pass everything through, until the next `heartbeat`."""
        self.maps.set_settings(self.settings.wake_bytes, self._build, 0)

    def heartbeat(self) -> float:
        """Renew the lease; without it the programs pass all through after `lease_s`. Answers for how long, s, they did."""
        now = time.monotonic_ns()
        lapsed, self._until = max(now - self._until, 0), now + int(self.settings.lease_s * 1e9)
        self.maps.set_settings(self.settings.wake_bytes, self._build, self._until)
        return lapsed / 1e9

    # pods

    def attach(self, ifindex: int, mode: str = "detect") -> None:
        """Trace the pod behind this veth. Raises TargetGone, KernelRefused."""
        old = self.maps.pod(ifindex)
        if old:
            pod = self._configured(old.slot, mode, old.released)
        else:
            pod = self._configured(_free_slot(self._slots), mode, 0)
            self.maps.clear_slot(pod.slot)
        self._baseline[ifindex] = self.maps.stats(pod.slot)
        self._slots[ifindex] = pod.slot
        self.maps.set_pod(ifindex, pod)
        try:
            self._put_on(ifindex)
        except ClovisorError:
            self.detach(ifindex)
            raise

    def _put_on(self, ifindex: int) -> None:
        settings, known = self.settings, self._flags.get(ifindex, 0)
        attach.attach(ifindex, self.programs, settings.pins, known, partial(self._remember, ifindex), settings.hook)

    def _remember(self, ifindex: int, flags: int) -> None:
        self.maps.set_attached(ifindex, flags)
        self._flags[ifindex] = flags

    def set_mode(self, ifindex: int, mode: str) -> None:
        """From now on, flows of this pod of which nothing else was decided are captured so."""
        if (pod := self.maps.pod(ifindex)) is not None:
            self.maps.set_pod(ifindex, pod._replace(mode=MODES[mode]))

    def strays(self) -> list[int]:
        """Interfaces that carry something of ours, or are remembered to, and are not traced: by what is there."""
        found = {*attach.find_all(self._baseline, self._ids()), *self.maps.attached(), *self.maps.pods()}
        return sorted(found.union(tcx.pinned(self.settings.pins)).difference(self._baseline))

    def detach(self, ifindex: int, look: Look | None = None) -> None:
        """Stop tracing it: nothing of ours stays on the veth, nor of its connections, which would count in the next quota.

        `look` is shown each of TCP's before.
        """
        self.maps.delete_pod(ifindex)
        self._baseline.pop(ifindex, None)
        self._slots.pop(ifindex, None)
        self.precedence.forget(ifindex)
        try:
            clear(self.maps, ifindex, look)
        finally:  # whatever a look runs into, what is on the veth goes
            attach.detach(ifindex, self.settings.pins, self._flags.get(ifindex, 0), self._ids())
        self.maps.set_attached(ifindex, None)
        self._flags.pop(ifindex, None)

    def retain(self, wanted: set[int]) -> list[int]:
        """Detach every veth that is not `wanted`: what a predecessor left. Answers which."""
        surplus = sorted({*self._slots, *self._flags} - wanted)
        for ifindex in surplus:
            self.detach(ifindex)
        return surplus

    def broken(self) -> list[int]:
        """The veths that want `repair`, all looked at in one go; those that are gone are among them."""
        places = attach.places(list(self._baseline), self.programs)
        return [ifindex for ifindex, place in places.items() if self.precedence.claims(ifindex, place)]

    def repair(self, ifindex: int) -> bool:
        """Put back what is missing on a veth, or go before TCX programs that came later; whether anything was done.

        Who insists on being first is let go first. Raises TargetGone.
        """
        place = attach.places([ifindex], self.programs)[ifindex]
        if not self.precedence.claims(ifindex, place):
            return False
        self._put_on(ifindex)
        self.precedence.claimed(ifindex, place)
        return True

    def ahead(self, ifindex: int) -> tuple[str, ...]:
        """The names of what runs before ours on this veth, and may keep packets from us; a repair overtakes TCX programs.

        Raises EnvironmentLacking, KernelRefused.
        """
        return attach.ahead(ifindex, self.programs)

    def _ids(self) -> list[int]:
        return [bpf.program_id(fd) for fd in self.programs.values()]

    def stats(self, ifindex: int) -> Stats | None:
        """What was counted for a pod since this process attached it; None if it is not traced."""
        baseline = self._baseline.get(ifindex)
        return None if baseline is None else self.maps.stats(self._slots[ifindex]).since(baseline)

    def lost(self, ifindex: int) -> int | None:
        """Of `stats` what was lost, all kinds together, at a small part of the price."""
        baseline = self._baseline.get(ifindex)
        if baseline is None:
            return None
        return self.maps.lost(self._slots[ifindex]) - sum(baseline[counter] for counter in layout.LOSSES)

    def budget(self, bytes_per_s: int) -> None:
        """Lower, or raise again, what each pod may send up."""
        self._pod_ns_per_kib = _ns_per_kib(bytes_per_s)
        for ifindex, pod in self.maps.pods().items():
            self.maps.set_pod(ifindex, pod._replace(pod_ns_per_kib=self._pod_ns_per_kib))

    def _configured(self, slot: int, mode: str, released: int) -> Pod:
        settings = self.settings
        return Pod(
            slot=slot,
            mode=MODES[mode],
            head_bytes=settings.head_bytes,
            quota=settings.sessions_per_pod,
            pod_ns_per_kib=self._pod_ns_per_kib,
            flow_ns_per_kib=_ns_per_kib(settings.flow_bytes_per_s),
            burst_ns=BURST_NS,
            released=released,
        )

    # flows (the pipeline's Control)

    def capture(self, flow_id: object, mode: str) -> None:
        """From now on capture so much of this flow."""
        self._control(flow_id, MODES[mode])

    def skip_until(self, flow_id: object, direction: int, seq: int) -> None:
        """Payload of this direction that ends at `seq` or before need not come up."""
        self._control(flow_id, None, direction, seq)

    def counted(self, connection: Connection) -> tuple[Counted, Counted] | None:
        """The kernel's counts of a connection that has not been swept yet."""
        flow_id, *key = connection
        try:
            value = self.maps.session(layout.KEY.pack(*key, 0))
        except OSError as error:
            _log.debug("the counts of flow %s could not be read: %s", flow_id, error)
            return None
        if value is None:
            return None
        fields = layout.SESSION.unpack(value)
        if fields[0] != flow_id:
            return None  # its addresses are another connection's by now
        first, second = (dict(zip(layout.SIDE_FIELDS, fields[at:], strict=False)) for at in layout.SIDES_AT)
        return _counted(first), _counted(second)

    def _control(self, flow_id: object, mode: int | None, direction: int = 0, seq: int | None = None) -> None:
        assert isinstance(flow_id, int)
        try:
            old_mode, skipping, *until = self.maps.control(flow_id) or (layout.Mode.DETECT, 0, 0, 0)
            if seq is not None:
                skipping |= 1 << direction
                until[direction] = seq
            self.maps.set_control(flow_id, old_mode if mode is None else mode, skipping, until[0], until[1])
        except OSError as error:  # advice, and the flow goes on without it (flows/control.py)
            self.controls_refused += 1
            _log.debug("a decision on flow %d was refused: %s", flow_id, error)
        else:
            self._controlled.add(flow_id)

    def sweep(self, idle_ns: int, look: Look | None = None) -> Swept:
        """Delete the kernel's entries of connections that are over, or silent for `idle_ns` (see `kernel.sweep`)."""
        return sweep(self.maps, self._controlled, idle_ns, look)


def _build_of(pins: Path) -> int | None:
    """The build that the pins were made from; None where there are none, or not all, or of another ABI."""
    try:
        maps = Maps(pins)
    except OSError:
        return None
    try:
        if bpf.map_sizes(maps.fds["settings"])[1] != layout.SETTINGS.size:
            return None
        abi, _, build, _ = maps.settings()
        return build if abi == layout.ABI else None
    finally:
        maps.close()


def _counted(side: dict[str, int]) -> Counted:
    told = ("bytes", "segments", "turns", "retransmits", "zero_windows", "waited_ns", "waits")
    return Counted(*(side[name] for name in told))


def _ns_per_kib(bytes_per_s: int) -> int:
    """A rate as the kernel wants it; 0 is no limit, in both."""
    return min(max(NS_PER_KIB // bytes_per_s, 1), 0xFFFFFFFF) if bytes_per_s else 0


def _free_slot(slots: dict[int, int]) -> int:
    taken = set(slots.values())
    for slot in range(layout.MAX_PODS):
        if slot not in taken:
            return slot
    raise KernelRefused(f"{layout.MAX_PODS} pods are traced already, the most that one node can: disable some.")
