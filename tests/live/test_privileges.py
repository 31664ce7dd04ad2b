"""`clovisor agent` with exactly the capabilities and the RBAC of manifests/base, on a real API server: enough, and no more.

Each capability and each resource of the role is taken away in turn, and the agent and the doctor name it. That each is needed
is the kernel's word (it refuses the program) and the API server's (its audit log has every verb of the role).
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from clovisor_py.kernel.probe import CAPABILITIES
from clovisor_py.kube.access import ACCOUNT, account, needed
from clovisor_py.kube.client import Client
from tests.live.test_agent_cluster import NODE, Operator, uplink
from tests.support.confined import MANIFESTS, Container, capabilities, manifest
from tests.support.control_plane import control_plane, programs
from tests.support.foreign import NEXT, TYPES, link, needs_tcx, on_tcx
from tests.support.kernel import node
from tests.support.netns import pod as sandbox
from tests.support.nginx import Nginx, nginx_in
from tests.support.trace import CLOVISOR, wait_until

pytestmark = [pytest.mark.live, pytest.mark.cluster]

CAPS = capabilities()
ROLE = manifest("rbac.yaml", "ClusterRole")
RULES = [
    (group, plural, verb) for r in ROLE["rules"] for group in r["apiGroups"] for plural in r["resources"] for verb in r["verbs"]
]
READ = sorted({(group, plural) for group, plural, verb in RULES if verb == "list"})
SESSIONS = "/run/clovisor/sessions.jsonl"


def called(group: str, plural: str) -> str:
    return f"{plural}.{group}" if group else plural


def without(group: str, plural: str) -> list[dict[str, Any]]:
    """An account whose role has all but that."""
    name, kind = f"without-{plural}", {"apiVersion": "rbac.authorization.k8s.io/v1"}
    rules = [{"apiGroups": [g], "resources": [p], "verbs": [v]} for g, p, v in RULES if (g, p) != (group, plural)]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": "clovisor"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "clovisor"}},
        {**kind, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {**kind, "kind": "ClusterRoleBinding", "metadata": {"name": name}, "roleRef": role, "subjects": [subject]},
    ]


class Installed:
    """The API server with the manifests applied, a labelled pod that serves, and the agent's container."""

    def __init__(self, operator: Operator, container: Container, web: Nginx) -> None:
        self.operator, self.container, self.web = operator, container, web
        self.sessions_file = container.run / "sessions.jsonl"
        self.log = Path()
        """Of the agent that was started last."""

    def sign_in(self, name: str = "clovisor") -> None:
        token = self.operator("create", "token", name, "-n", "clovisor").strip()
        self.container.sign_in(self.operator.plane, token)

    def agent(self, log: Path) -> AbstractContextManager[int]:
        self.log = log
        self.sessions_file.unlink(missing_ok=True)
        options = ("--export", f"jsonl:{SESSIONS}", "--listen", "0", "--log-format", "json")
        return self.container.start(log, CLOVISOR, "agent", "--node", NODE, *options, caps=CAPS)

    def first_session(self, path: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def came() -> bool:
            assert "Traceback" not in self.log.read_text(), self.log.read_text()
            with suppress(OSError):  # attaching may cost a packet
                urllib.request.urlopen(self.web.url(path), timeout=1).close()
            whole, _, _ = (self.sessions_file.read_text() if self.sessions_file.exists() else "").rpartition("\n")
            found[:] = [one for one in map(json.loads, whole.splitlines()) if one["resource"] == path]
            return bool(found)

        wait_until(came, f"a session of {path}")
        return found[0]

    def clovisor(self, *words: str) -> str:
        done = self.container.ask(CLOVISOR, *words, caps=CAPS)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    programs("kubectl")
    with ExitStack() as undo:
        undo.enter_context(node())
        undo.enter_context(uplink())
        operator = Operator(undo.enter_context(control_plane()))
        operator("apply", "-k", str(MANIFESTS))
        less = [one for group, plural in {(g, p) for g, p, _ in RULES} for one in without(group, plural)]
        operator("create", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": less})
        operator.create("Node", NODE)
        operator.create("Namespace", "shop")
        web = undo.enter_context(nginx_in(undo.enter_context(sandbox("web"))))
        operator.run_pod("web", "shop", web.pod.ipv4, web.pod.ipv6)
        operator("label", "pod", "web", "-n", "shop", "clovisor.io/trace=true")
        container = undo.enter_context(Container(tmp_path_factory.mktemp("container")))
        yield Installed(operator, container, web)


def said(log: Path) -> list[str]:
    return [json.loads(line)["message"] for line in log.read_text().splitlines() if line.startswith("{")]


def status(pid: int) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))


def test_what_the_manifest_grants_is_enough_and_all_of_it_is_used(installed: Installed, tmp_path: Path) -> None:
    operator, log = installed.operator, tmp_path / "log"
    installed.sign_in()
    mask = sum(1 << CAPABILITIES[f"CAP_{name}"] for name in CAPS)
    with installed.agent(log) as pid:
        assert {int(status(pid)[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {mask}
        assert status(pid)["NoNewPrivs"] == "1"
        assert "Read-only file system" in installed.container.ask("touch", "/anywhere", caps=CAPS).stderr
        assert installed.first_session("/status/201")["server"]["workload"]["name"] == "web"
        operator("annotate", "pod", "web", "-n", "shop", "clovisor.io/ports=80=htpt")
        wait_until(lambda: "BadTraceSetting" in operator("get", "events", "-n", "shop"), "the Event")
        operator("annotate", "pod", "web", "-n", "shop", "clovisor.io/ports-")
        assert "It is traced." in installed.clovisor("explain", "pod/shop/web")
        doctor = installed.container.ask(CLOVISOR, "doctor", caps=CAPS)
        assert doctor.returncode == 0, doctor.stdout
        assert f"grants {ACCOUNT} all that the agent asks for" in doctor.stdout
    assert not [line for line in said(log) if "forbid" in line or "permitted" in line], said(log)
    asked = operator.plane.asked_by(ACCOUNT)
    assert {event["responseStatus"]["code"] // 100 for event in asked} == {2}
    used = {(one["objectRef"].get("apiGroup", ""), one["objectRef"]["resource"], one["verb"]) for one in asked}
    assert {rule for rule in used if "review" not in rule[1]} == set(RULES), "granted and not asked for, or the other way round"


@pytest.mark.parametrize("missing", CAPS)
def test_a_missing_capability_is_named_and_the_kernel_wants_it(installed: Installed, missing: str) -> None:
    caps = [one for one in CAPS if one != missing]
    agent = installed.container.ask(CLOVISOR, "agent", "--node", NODE, caps=caps)
    assert agent.returncode == 1
    assert agent.stderr.splitlines() == [
        f"clovisor: privileges lack CAP_{missing}: add {missing} to the container's securityContext.capabilities.add "
        "(manifests/base has all that are needed)"
    ]
    doctor = installed.container.ask(CLOVISOR, "doctor", "-o", "json", caps=caps)
    (problem,) = [one for one in json.loads(doctor.stdout)["checks"] if one["state"] == "problem"]
    assert (doctor.returncode, problem["name"], problem["detail"]) == (1, "privileges", f"lack CAP_{missing}")
    loader = installed.container.ask(sys.executable, "-m", "clovisor_py.kernel.compile", caps=caps)
    assert loader.returncode == 1
    assert "the kernel program was refused" in loader.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("group", "plural"), READ, ids=lambda part: part or "core")
def test_a_missing_resource_is_named_and_tracing_goes_on(installed: Installed, group: str, plural: str, tmp_path: Path) -> None:
    installed.sign_in(f"without-{plural}")
    name, log = called(group, plural), tmp_path / "log"
    with installed.agent(log):
        wait_until(lambda: any(f"grant the verb 'list' on '{name}'" in line for line in said(log)), name)
        if plural != "pods":  # without them nobody knows what is to be traced
            installed.first_session("/status/201")
        forbidden = f"the API server forbids to list {plural} (403): grant the verb 'list' on '{name}'"
        wait_until(lambda: forbidden in installed.clovisor("explain", "pod/shop/web"), forbidden)
    assert lacks(installed) == f"list and watch on {name}"


@needs_tcx
def test_it_stays_ahead_of_another_program(installed: Installed, tmp_path: Path) -> None:
    """What programs others have may not be asked without CAP_SYS_ADMIN; whether they run first may."""
    installed.sign_in()
    log = tmp_path / "log"
    with installed.agent(log):
        installed.first_session("/status/201")
        ours = {hook: on_tcx(installed.web.pod, hook) for hook in TYPES}
        with link(installed.web.pod, NEXT):
            wait_until(lambda: {hook: on_tcx(installed.web.pod, hook)[:1] for hook in TYPES} == ours, "ours first again")
        installed.first_session("/status/204")
    assert not [line for line in said(log) if "permitted" in line], said(log)


def test_without_events_it_is_in_the_log(installed: Installed, tmp_path: Path) -> None:
    installed.sign_in("without-events")
    operator, log = installed.operator, tmp_path / "log"
    with installed.agent(log):
        installed.first_session("/status/201")
        operator("annotate", "pod", "web", "-n", "shop", "clovisor.io/ports=81=htpt")
        wait_until(lambda: any("grant the verb 'create' on 'events'" in line for line in said(log)), "the complaint")
        operator("annotate", "pod", "web", "-n", "shop", "clovisor.io/ports-")
        installed.first_session("/status/204")
    assert lacks(installed) == "create on events"
    doctor = installed.container.ask(CLOVISOR, "doctor", caps=CAPS)
    assert doctor.returncode == 1
    (line,) = [line for line in doctor.stdout.splitlines() if line.startswith(" ✗")]
    found, _, command = line.partition("  → ")
    assert found.endswith("does not grant system:serviceaccount:clovisor:without-events: create on events")
    for part in command.split(" && "):
        operator(*shlex.split(part.replace("manifests/base", str(MANIFESTS)))[1:])
    wait_until(lambda: lacks(installed) == "", "what the doctor's command repairs")


def lacks(installed: Installed) -> str:
    """As the doctor says it, of the account that was signed in last."""
    plane, token = installed.operator.plane, (installed.container.run.parent / "account" / "token").read_text()
    client = Client(plane.kubeconfig(token))
    try:
        return account(client, needed()).detail
    finally:
        client.close()
