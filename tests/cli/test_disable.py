"""`clovisor disable`: the label says false, or everything of ours is taken back."""

import pytest
from click.testing import CliRunner

from clovisor_py.cli import _cluster
from clovisor_py.cli.disable import COMMAND
from clovisor_py.kube.annotations import PORTS, TRACE
from clovisor_py.kube.marking import mark
from clovisor_py.kube.objects import Ref
from tests.support.applying import Applying

WEB = Ref("Pod", "shop", "web")


@pytest.fixture
def objects(monkeypatch) -> Applying:
    known = Applying()
    known.add(WEB, annotations={"clovisor.io/egress": "*:1"})
    mark(known, WEB, True, {PORTS: "80=http"})
    monkeypatch.setattr(_cluster, "Client", lambda kubeconfig, context: known)
    return known


def call(*args):
    return CliRunner().invoke(COMMAND, args, standalone_mode=False)


def test_disable(objects):
    done = call("pod/web", "-n", "shop")
    assert done.return_value == 0 and "clovisor.io/trace   true → false" in done.stdout
    assert objects.get(*WEB)["metadata"]["annotations"] == {PORTS: "80=http", "clovisor.io/egress": "*:1"}


def test_clear(objects):
    assert "would change" in call("pod/shop/web", "--clear", "--dry-run").stdout
    assert objects.get(*WEB)["metadata"]["labels"] == {TRACE: "true"}
    done = call("pod/shop/web", "--clear")
    assert "clovisor.io/trace   true → (none)" in done.stdout and "80=http → (none)" in done.stdout
    assert "clovisor.io/egress is somebody else's and stays" in done.stderr
    assert objects.get(*WEB)["metadata"]["labels"] == {}
