"""`clovisor enable`: what is written, what is shown, and what is refused before anything is written."""

import json

import pytest
from click.testing import CliRunner

from clovisor_py.cli import _cluster
from clovisor_py.cli.enable import COMMAND
from clovisor_py.errors import ApiUnavailable, NotFound, UsageError
from clovisor_py.kube.annotations import EGRESS, PORTS, REDACT, TRACE
from clovisor_py.kube.objects import Ref
from tests.support.applying import Applying

CART = Ref("Deployment", "default", "cart")
CLUSTER = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}


@pytest.fixture
def objects(monkeypatch, tmp_path) -> Applying:
    known = Applying()
    known.add(CART)
    known.add(Ref("Namespace", "", "shop"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(_cluster, "Client", lambda kubeconfig, context: known)
    return known


def call(*args):
    return CliRunner().invoke(COMMAND, args, standalone_mode=False)


def test_what_changed_is_shown(objects):
    done = call("deploy/cart", "--ports", "8080=http,9092=kafka", "--redact", "strict")
    assert done.return_value == 0
    assert done.stdout.splitlines() == [
        "deployment/default/cart: changed",
        "  clovisor.io/trace   (none) → true",
        "  clovisor.io/ports   (none) → 8080=http,9092=kafka",
        "  clovisor.io/redact  (none) → strict",
    ]
    meta = objects.get(*CART)["metadata"]
    assert meta["labels"] == {TRACE: "true"} and meta["annotations"] == {PORTS: "8080=http,9092=kafka", REDACT: "strict"}
    assert call("deploy/cart").stdout.startswith("deployment/default/cart: nothing to change\n") and objects.closed


def test_a_ratio_of_its_own(objects):
    assert "  clovisor.io/sample  (none) → 0.01" in call("ns/shop", "--sample", "0.01").stdout.splitlines()


def test_dry(objects):
    done = call("deploy/cart", "ns/shop", "--egress", "", "--dry-run")
    assert done.stdout.count("would change") == 2 and f'{EGRESS}  (none) → ""' in done.stdout
    assert objects.writes == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["cart"], "'cart' is nothing that can be traced: write pod/NAME"),
        (["deploy/Cart"], "has no name that Kubernetes would allow"),
        (["deploy/cart", "--ports", "8080=ftp,x"], r"'ftp' in '8080=ftp' is no protocol; known are .* \(and 1 more\)\.$"),
        (["deploy/cart", "--ports", "99999=http"], "'99999' in '99999=http' is no port"),
        (["deploy/cart", "--egress", "db:5432"], "'db' in 'db:5432' is no address"),
        (["deploy/cart", "deploy/shop/cart", "-n", "other"], "--namespace other and a target name two namespaces"),
    ],
)
def test_bad_input_is_a_sentence(objects, args, said):
    done = call(*args)
    assert isinstance(done.exception, UsageError) and done.exception.exit_status == 2
    with pytest.raises(UsageError, match=said):
        raise done.exception
    assert objects.writes == 0


def test_what_is_not_there(objects):
    assert isinstance(call("pod/web").exception, NotFound)
    done = call("pod/web", "deploy/cart")
    assert done.return_value == 1 and "no pod/default/web" in done.stderr and "deployment/default/cart: changed" in done.stdout


def test_no_cluster(monkeypatch, tmp_path):
    done = call("pod/web", "--kubeconfig", str(tmp_path / "none"))
    assert isinstance(done.exception, ApiUnavailable)


def test_the_namespace_is_the_contexts(objects, tmp_path):
    objects.add(Ref("Pod", "shop", "web"))
    context = {"name": "c", "context": {"cluster": "c", "namespace": "shop"}}
    whole = {"apiVersion": "v1", "clusters": [CLUSTER], "users": [], "current-context": "c", "contexts": [context]}
    (tmp_path / "k").write_text(json.dumps(whole))
    assert call("pod/web", "--kubeconfig", str(tmp_path / "k")).stdout.startswith("pod/shop/web: changed")


def test_a_plugins_protocol(objects):
    plugin = "tests/examples/greeting.py"
    assert isinstance(call("deploy/cart", "--ports", "70=greeting").exception, UsageError)
    assert call("deploy/cart", "--ports", "70=greeting", "--plugin", plugin).return_value == 0
