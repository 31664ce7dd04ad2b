"""The checks, on machines that have this or lack that; and, as root, on this one."""

import sys
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from clovisor_py.errors import EnvironmentLacking, KernelRefused
from clovisor_py.kernel import probe
from clovisor_py.kernel.probe import BPFFS_MAGIC, CAPABILITIES, CHECKS, Check, Machine, State, examine, require

ALL = sum(1 << bit for bit in CAPABILITIES.values())
TMPFS_MAGIC = 0x01021994


def mask(*names):
    return sum(1 << CAPABILITIES[name] for name in names)


@dataclass(frozen=True)
class Sane(Machine):
    """A machine with everything; a test takes something away."""

    kernel: str = "6.18.44-cloud-amd64"
    btf: bool = True
    held: int = ALL
    root: bool = False
    magic: int | None = BPFFS_MAGIC
    bcc: str | None = "0.26.0"
    compiling: Exception | None = None
    clsact: Exception | None = None
    tcx: bool | None = True
    pid: int | None = None
    listening: bool = True
    nested: bool = False
    contained: bool = False
    unchangeable: bool = False
    whose: str = ""
    address: str | None = "127.0.0.1"

    def release(self):
        return self.kernel

    def has_btf(self):
        return self.btf

    def capabilities(self):
        return self.held

    def is_root(self):
        return self.root

    def in_user_namespace(self):
        return self.nested

    def in_container(self):
        return self.contained

    def read_only(self, folder):
        return self.unchangeable

    def owner_of_pins(self):
        return self.whose

    def filesystem(self, folder):
        return self.magic

    def bcc_version(self):
        return self.bcc

    def compile_seconds(self):
        if self.compiling:
            raise self.compiling
        return 0.44

    def add_clsact(self):
        if self.clsact:
            raise self.clsact

    def has_tcx(self):
        return self.tcx

    def holder(self):
        return self.pid

    def listens_udp(self, address, port):
        return self.listening

    def answers_tcp(self, address, port):
        return self.listening

    def resolve(self, host, port):
        return ip_address(self.address) if self.address else None


@pytest.fixture
def pins(tmp_path):
    return tmp_path / "clovisor"


def test_nothing_is_said_against_a_machine_that_has_everything(pins):
    findings = list(examine(Sane(pins=pins)))
    assert [finding.name for finding in findings] == [check.__name__.removeprefix("check_") for check in CHECKS]
    assert {finding.state for finding in findings} == {State.OK}
    assert not any(finding.remedy for finding in findings)


@pytest.mark.parametrize(
    ("check", "lacking", "state", "says"),
    [
        (
            probe.check_kernel,
            {"kernel": "5.4.0-42"},
            State.PROBLEM,
            "5.4.0 is older than 5.12 and has no atomic compare-and-swap",
        ),
        (probe.check_kernel, {"kernel": "5.11.3"}, State.PROBLEM, "atomic compare-and-swap for programs: use a newer one"),
        (probe.check_kernel, {"kernel": "5.15.0"}, State.OK, "kernel 5.15.0 SCHED_CLS"),
        (probe.check_kernel, {"kernel": "6.1", "btf": False}, State.OK, "kernel 6.1 SCHED_CLS, ring buffer"),
        (
            probe.check_privileges,
            {"held": 0},
            State.PROBLEM,
            "privileges lack CAP_BPF and CAP_PERFMON and CAP_NET_ADMIN: run it as root",
        ),
        (
            probe.check_privileges,
            {"held": mask("CAP_NET_ADMIN"), "root": True, "contained": True},
            State.PROBLEM,
            "privileges lack CAP_BPF and CAP_PERFMON: add BPF, PERFMON to the container's",
        ),
        (probe.check_privileges, {"held": mask("CAP_SYS_ADMIN")}, State.PROBLEM, "privileges lack CAP_NET_ADMIN: "),
        (probe.check_privileges, {"held": mask("CAP_SYS_ADMIN", "CAP_NET_ADMIN")}, State.OK, "CAP_NET_ADMIN"),
        (probe.check_privileges, {"held": mask("CAP_BPF", "CAP_NET_ADMIN")}, State.PROBLEM, "privileges lack CAP_PERFMON: "),
        (probe.check_privileges, {"held": mask("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN")}, State.OK, "CAP_NET_ADMIN"),
        (probe.check_privileges, {"nested": True}, State.PROBLEM, "count in this user namespace only"),
        (
            probe.check_privileges,
            {"held": 0, "root": True},
            State.PROBLEM,
            ": give it CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN back",
        ),
        (
            probe.check_privileges,
            {"held": mask("CAP_BPF", "CAP_NET_ADMIN"), "root": True, "contained": True},
            State.PROBLEM,
            ": add PERFMON to the container's securityContext",
        ),
        (probe.check_bpffs, {"unchangeable": True}, State.PROBLEM, ": mount -o remount,rw "),
        (probe.check_bpffs, {"whose": "root"}, State.PROBLEM, "which belongs to root: run `clovisor detach` as root"),
        (probe.check_bcc, {"nested": True}, State.OPTIONAL, "compiling was not tried"),
        (probe.check_tcx, {"tcx": None}, State.OPTIONAL, "does not let us ask"),
        (probe.check_tcx, {"tcx": False, "kernel": "6.18.44"}, State.OPTIONAL, "was built without it"),
        (probe.check_datapath, {"pid": 1}, State.OK, "this container's own agent"),
        (probe.check_bpffs, {"magic": TMPFS_MAGIC}, State.PROBLEM, ": mount -t bpf bpf "),
        (probe.check_bpffs, {"magic": None}, State.PROBLEM, "bpffs has no place"),
        (probe.check_bcc, {"bcc": None}, State.PROBLEM, ": apt-get install python3-bpfcc"),
        (probe.check_bcc, {"held": 0}, State.OPTIONAL, "compiling was not tried"),
        (probe.check_clsact, {"held": mask("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN")}, State.OPTIONAL, "not tried"),
        (probe.check_clsact, {"clsact": KernelRefused("no module."), "tcx": False}, State.PROBLEM, "no module: modprobe"),
        (probe.check_tcx, {"tcx": False, "kernel": "6.1"}, State.OPTIONAL, "6.6 is the first"),
        (probe.check_tcx, {"held": 0}, State.OPTIONAL, "not tried"),
        (probe.check_jaeger, {"listening": False}, State.OPTIONAL, "jaeger nothing on 127.0.0.1:6831"),
        (probe.check_jaeger, {"address": None}, State.OPTIONAL, "no address for 127.0.0.1"),
        (probe.check_jaeger, {"address": "192.0.2.1"}, State.OPTIONAL, "never says"),
        (probe.check_jaeger, {"address": "192.0.2.1", "jaeger": ("j", 4317)}, State.OK, "jaeger listens on j:4317"),
        (probe.check_jaeger, {"address": "::1", "jaeger": ("::1", 6831)}, State.OK, "jaeger listens on [::1]:6831"),
    ],
)
def test_what_is_lacking_is_named(pins, check, lacking, state, says):
    finding = check(Sane(pins=pins, **lacking))
    assert finding.state is state
    assert says in finding.sentence
    assert bool(finding.remedy) == (state is State.PROBLEM)


def test_where_tcx_is_clsact_may_be_missing():
    finding = probe.check_clsact(Sane(clsact=KernelRefused("no module.")))
    assert (finding.state, finding.detail) == (
        State.OPTIONAL,
        "cannot be added to a veth: no module (optional, TCX does)",
    )


def test_a_program_that_does_not_load_is_told_by_its_last_line():
    error = KernelRefused("warning: noise\nthe kernel program was refused (Invalid argument): run `clovisor doctor`.")
    finding = probe.check_bcc(Sane(compiling=error))
    assert finding.sentence == (
        "bcc 0.26.0 cannot compile and load the kernel program: the kernel program was refused (Invalid argument): "
        "run `clovisor -vv doctor`, which shows what the compiler and the kernel said"
    )


def test_the_datapath_tells_pins_from_a_running_clovisor(pins):
    assert "no other" in probe.check_datapath(Sane(pins=pins)).detail
    pins.mkdir()
    assert "clovisor detach" in probe.check_datapath(Sane(pins=pins)).detail
    running = probe.check_datapath(Sane(pins=pins, pid=4711))
    assert (running.state, running.detail) == (State.OPTIONAL, "a Clovisor runs here already (pid 4711)")


def test_a_read_only_bpffs_is_a_problem(pins, monkeypatch):
    monkeypatch.setattr(probe.os, "access", lambda *_: False)
    assert "not writable" in probe.check_bpffs(Sane(pins=pins)).sentence


def test_a_check_that_fails_is_a_finding_and_the_others_go_on():
    def check_moon(machine):
        raise ZeroDivisionError("no moon")

    moon, kernel = examine(Sane(), (check_moon, probe.check_kernel))
    assert (moon.name, moon.state) == ("moon", State.PROBLEM)
    assert "ZeroDivisionError: no moon" in moon.detail
    assert moon.remedy
    assert kernel.state is State.OK


def test_require_says_what_the_doctor_says(pins):
    machine = Sane(pins=pins, magic=TMPFS_MAGIC)
    with pytest.raises(EnvironmentLacking) as raised:
        require(probe.check_bpffs, machine)
    assert (
        str(raised.value)
        == probe.check_bpffs(machine).sentence
        == (f"bpffs is not mounted at {pins.parent}: mount -t bpf bpf {pins.parent}")
    )
    require(probe.check_bpffs, Sane(pins=pins))


def test_require_bpffs_looks_at_the_real_file_system(pins):
    with pytest.raises(EnvironmentLacking, match="is not mounted"):
        probe.require_bpffs(pins)
    with pytest.raises(EnvironmentLacking, match="has no place"):
        probe.require_bpffs(pins / "deeper" / "still")


def test_require_root_asks_for_capabilities(monkeypatch):
    monkeypatch.setattr(Machine, "capabilities", lambda _: 0)
    with pytest.raises(EnvironmentLacking, match="privileges lack CAP_BPF and"):
        probe.require_root()


def test_every_finding_of_this_machine_has_a_detail():
    for finding in examine(Machine()):
        assert finding.detail
        assert "could not be checked" not in finding.detail


@pytest.fixture
def root():
    try:
        probe.require_root()
    except EnvironmentLacking as error:
        pytest.skip(str(error))


@pytest.mark.live
def test_the_doctor_does_not_load_bcc(root):
    assert probe.check_bcc(Machine()).state is State.OK
    assert "bcc" not in sys.modules


def test_labels():
    assert Check("bcc", State.OK, "", version="0.26").label == "bcc 0.26"
    assert Check("bpffs", State.OK, "").label == "bpffs"
