"""The manifests: they are YAML, they belong together, and they ask for what the agent uses and for nothing else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from clovisor_py import __version__
from clovisor_py.cli.detach import COMMAND as DETACH
from clovisor_py.control_socket import DEFAULT_PATH
from clovisor_py.demo.bookinfo import CALLS
from clovisor_py.demo.calls import PORT
from clovisor_py.kernel.probe import DEFAULT_PINS
from clovisor_py.kube.resources import RESOURCES
from clovisor_py.node_settings import DEFAULTS
from clovisor_py.protocols._registry import registry
from clovisor_py.settings_file import SettingsFile
from tests.support.control_plane import kubectl

MANIFESTS = Path(__file__).parents[2] / "manifests"
READ = {"list", "watch"}
FILES = sorted(MANIFESTS.rglob("*.yaml"))
CONTAINERFILE = MANIFESTS / "Containerfile"


def documents(*paths):
    return [document for path in paths for document in yaml.safe_load_all(path.read_text()) if document]


def one(kind, folder="base", name=None):
    found = [d for d in documents(*sorted((MANIFESTS / folder).glob("*.yaml"))) if d["kind"] == kind]
    [match] = [d for d in found if name is None or d["metadata"]["name"] == name]
    return match


def agent():
    return one("DaemonSet")["spec"]["template"]["spec"]


def container():
    [only] = agent()["containers"]
    return only


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(MANIFESTS)))
def test_yaml(path):
    for document in documents(path):
        assert {"apiVersion", "kind"} <= document.keys()


def test_every_file_is_in_its_kustomization():
    for folder in ("base", "demo", "uninstall"):
        made = one("Kustomization", folder)
        named = {*made["resources"], *(patch["path"] for patch in made.get("patches", ()))}
        files = {path.name for path in (MANIFESTS / folder).glob("*.yaml")} - {"kustomization.yaml"}
        assert named - {"../base"} == files


def test_rbac_is_what_is_read_and_the_events_and_no_more():
    allowed = {
        (group, plural): set(rule["verbs"])
        for rule in one("ClusterRole")["rules"]
        for group in rule["apiGroups"]
        for plural in rule["resources"]
    }
    wanted = {(each.group, each.plural): {"create"} if each.kind == "Event" else READ for each in RESOURCES.values()}
    assert allowed == wanted
    assert all(rule.keys() == {"apiGroups", "resources", "verbs"} for rule in one("ClusterRole")["rules"])


def test_the_binding_is_for_the_agents_account_alone():
    binding, namespace = one("ClusterRoleBinding"), one("Namespace")["metadata"]["name"]
    account = one("ServiceAccount")["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    assert binding["roleRef"]["name"] == one("ClusterRole")["metadata"]["name"]
    assert agent()["serviceAccountName"] == account
    assert one("Kustomization")["namespace"] == namespace


def test_capabilities_and_confinement():
    context = container()["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["BPF", "PERFMON", "NET_ADMIN"]}
    assert (context["privileged"], context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (
        False,
        False,
        True,
    )
    assert agent()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert agent()["hostNetwork"] is True
    assert not agent().get("hostPID") and not agent().get("hostIPC")


def test_what_of_the_host_it_sees():
    assert {v["hostPath"]["path"] for v in agent()["volumes"] if "hostPath" in v} == {
        str(DEFAULT_PINS.parent),
        str(DEFAULT_PATH.parent),
        "/sys/fs/cgroup",
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in agent()["volumes"]}
    assert all("subPath" not in mount for mount in container()["volumeMounts"])  # the kubelet never renews those
    assert mounts["bpffs"] == str(DEFAULT_PINS.parent)
    [cgroup] = [mount for mount in container()["volumeMounts"] if mount["name"] == "cgroup"]
    assert cgroup["readOnly"] is True and cgroup["mountPath"] != "/sys/fs/cgroup"  # there the runtime mounts the pod's own


def test_probes_limits_priority_and_updates():
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"http": DEFAULTS.http_port}
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container()[probe]["httpGet"] == {"path": path, "port": "http"}
    assert container()["resources"].keys() == {"requests", "limits"}
    assert agent()["priorityClassName"] == "system-node-critical"
    assert one("DaemonSet")["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert "annotations" not in one("DaemonSet")["spec"]["template"]["metadata"]  # a second job would scrape by prometheus.io/…


def test_labels_select():
    for found in (one("DaemonSet")["spec"], one("DaemonSet", "uninstall")["spec"]):
        assert found["selector"]["matchLabels"].items() <= found["template"]["metadata"]["labels"].items()
    for deployment in (d for d in documents(*(MANIFESTS / "demo").glob("*.yaml")) if d["kind"] == "Deployment"):
        spec = deployment["spec"]
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("folder", ["base", "demo"])
def test_the_settings_are_settings(folder, tmp_path):
    data = one("ConfigMap", folder, "clovisor-settings")["data"]
    assert data.keys() == {"settings.yaml"}
    path = tmp_path / "settings.yaml"
    path.write_text(data["settings.yaml"])
    environment = {each["name"]: "n1" for each in container()["env"]}
    settings = SettingsFile(path, registry(), environ=environment).load()
    assert settings.node == "n1"
    assert settings.trace_by_default is False
    assert settings.pins == DEFAULT_PINS
    assert settings.http_port == DEFAULTS.http_port


def test_uninstalling_is_a_pod_on_every_node_that_detaches_and_is_ready_then():
    spec, base = one("DaemonSet", "uninstall")["spec"]["template"]["spec"], agent()
    [detach], [done] = spec["initContainers"], spec["containers"]
    assert detach["args"] == [DETACH.name] and "command" not in detach
    for shared in ("hostNetwork", "nodeSelector", "tolerations", "priorityClassName", "securityContext"):
        assert spec[shared] == base[shared], "where the agent was"
    assert detach["securityContext"] == container()["securityContext"]
    assert done["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert [volume["hostPath"]["path"] for volume in spec["volumes"]] == [str(DEFAULT_PINS.parent)]
    assert spec["automountServiceAccountToken"] is False and "serviceAccountName" not in spec
    assert not {one["kind"] for one in documents(*(MANIFESTS / "uninstall").glob("*.yaml"))} & {"ClusterRole", "Role"}


def test_uninstalling_is_told_where_one_installs():
    told = (MANIFESTS / "uninstall" / "kustomization.yaml").read_text()
    namespace = one("Namespace", "uninstall")["metadata"]["name"]
    assert f"kubectl -n {namespace} rollout status daemonset/{one('DaemonSet', 'uninstall')['metadata']['name']}" in told
    assert told.index("delete -k manifests/base") < told.index("apply -k manifests/uninstall")
    assert "manifests/uninstall" in (MANIFESTS / "base" / "kustomization.yaml").read_text()


def test_the_settings_are_mounted_where_they_are_looked_for():
    [mount] = [mount for mount in container()["volumeMounts"] if mount["name"] == "settings"]
    assert container()["args"][0] == "agent"
    assert container()["args"][-1] == f"{mount['mountPath']}/settings.yaml"


def test_the_demo_is_the_playgrounds():
    demo = documents(MANIFESTS / "demo" / "bookinfo.yaml")
    services = {d["metadata"]["name"]: d["spec"]["ports"][0]["port"] for d in demo if d["kind"] == "Service"}
    assert services == dict.fromkeys(CALLS, PORT)
    for role, calls in CALLS.items():
        [deployment] = [d for d in demo if d["kind"] == "Deployment" and d["metadata"]["name"] == role]
        [pod] = deployment["spec"]["template"]["spec"]["containers"]
        peers = [argument for call in calls for argument in ("--peer", f"{call}={call}")]
        assert pod["args"] == ["-m", "clovisor_py.demo.bookinfo", role, *peers]
        assert pod["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert one("Namespace", "demo")["metadata"]["labels"] == {"clovisor.io/trace": "true"}


def test_images_have_this_version_and_no_registry_of_ours():
    images = [
        pod["image"]
        for document in documents(*FILES)
        if "template" in document.get("spec", {})
        for part in ("initContainers", "containers")
        for pod in document["spec"]["template"]["spec"].get(part, ())
    ]
    assert set(images) == {f"clovisor:{__version__}", "jaegertracing/jaeger:2.13.0"}
    assert f"clovisor:{__version__}" in CONTAINERFILE.read_text()
    bases = re.findall(r"^FROM (\S+)", CONTAINERFILE.read_text(), re.MULTILINE)
    assert not any("." in base.partition(":")[0] for base in bases)


def test_the_image_copies_what_is_there():
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE.read_text(), re.MULTILINE)
    assert all((MANIFESTS.parent / name).exists() for line in copies for name in line.split())


@pytest.mark.parametrize("folder", ["base", "demo", "uninstall"])
def test_kustomize_builds(folder):
    done = subprocess.run([kubectl(), "kustomize", MANIFESTS / folder], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    names = [(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in built]
    assert len(set(names)) == len(names)
    name = "clovisor-uninstall" if folder == "uninstall" else "clovisor"
    assert ("DaemonSet", name, name) in names
