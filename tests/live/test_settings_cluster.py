"""What an operator gets wrong with the agent itself, against a real API server: it goes on, and everything says so."""

from __future__ import annotations

import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from clovisor_py.own_problems import SETTINGS_REFUSED, UNKNOWN_NODE
from tests.live.test_agent_cluster import NODE, Operator, agent, operator, shop, web
from tests.live.test_node import off, on, within
from tests.live.test_trace import fetch
from tests.support.nginx import Nginx
from tests.support.trace import PATIENCE_S

__all__ = ["operator", "shop", "web"]
pytestmark = [pytest.mark.live, pytest.mark.cluster]
GOOD, BAD = "cpu_share: 0.6\nredact: strict\n", "cpu_share: 0.6\nredact: strict\nlease_s: ages\n"


def metrics(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_a_mistake_in_the_settings(operator: Operator, tmp_path: Path) -> None:
    """Seen by an operator: nothing told of a typo in the ConfigMap until the agent died, and then it came up nowhere."""
    path = tmp_path / "settings.yaml"
    path.write_text(GOOD)
    options = ("--config", str(path), "--listen", "127.0.0.1:9464")
    with agent(tmp_path, operator, *options) as running:
        assert "clovisor_settings_refused 0.0" in metrics("127.0.0.1:9464")
        path.write_text(BAD)
        sentence = f"{path} line 3: lease_s: 'ages' does not fit"
        within(5, lambda: sentence in running.asked("pods"))
        assert "The settings from before stay." in running.asked("pods")
        within(10, lambda: SETTINGS_REFUSED in operator("describe", "node", NODE))
        within(5, lambda: "clovisor_settings_refused 1.0" in metrics("127.0.0.1:9464"))  # a page may be a second old
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(PATIENCE_S)
    (tmp_path / "log").unlink()
    with agent(tmp_path, operator, *options) as running:
        within(5, lambda: "Until then each of these is its default" in running.asked("pods"))
        assert "clovisor_cpu_share_cores 0.6" in metrics("127.0.0.1:9464"), "what can be read holds"
        path.write_text(GOOD)
        within(5, lambda: "clovisor_settings_refused 0.0" in metrics("127.0.0.1:9464"))
        assert "lease_s" not in running.asked("pods")


def test_one_address_is_listened_at(operator: Operator, tmp_path: Path) -> None:
    with agent(tmp_path, operator, "--listen", "127.0.0.1:9464"):
        assert metrics("127.0.0.1:9464")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", 9464), timeout=5)


def test_a_node_that_nobody_knows(operator: Operator, tmp_path: Path) -> None:
    with agent(tmp_path, operator, "--node", "nosuch") as running:
        within(5, lambda: "the API server knows no node nosuch, so no pod is traced: " in running.asked("pods"))
        assert f"(there are {NODE})" in running.asked("pods")
        within(10, lambda: UNKNOWN_NODE in operator("get", "events", "-n", "default"))


def test_all_columns_count_from_the_same_moment(operator: Operator, shop: str, web: Nginx, tmp_path: Path) -> None:
    """Seen by an operator: SEGMENTS began anew when the label came back, SESSIONS went on."""
    with agent(tmp_path, operator, "--listen", "0") as running:
        for path in ("/first", "/second"):
            operator("label", "pod", "web", "-n", shop, "clovisor.io/trace=true", "--overwrite")
            within(5, lambda: on(web.pod.ifindex))
            fetch(web.url(path))
            within(5, lambda: "       1  traced" in running.asked("pods"))
            operator("label", "pod", "web", "-n", shop, "clovisor.io/trace-")
            within(5, lambda: off(web.pod.ifindex))
