"""`clovisor agent`: the node's agent, driven by the API server."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket as sockets
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click

from clovisor_py.cli import _log
from clovisor_py.cli._plugins import plugin_option
from clovisor_py.cli._until import until
from clovisor_py.control_socket import DEFAULT_PATH
from clovisor_py.errors import UsageError
from clovisor_py.exporters._fanout import Fanout, open_urls
from clovisor_py.exporters._worker import Ledger
from clovisor_py.flows.detect import by_any_name
from clovisor_py.http_endpoint import host_and_port
from clovisor_py.kernel.heap import share_heap
from clovisor_py.kernel.probe import require_bpffs, require_root
from clovisor_py.kube.client import Client
from clovisor_py.model.text import printable
from clovisor_py.node_settings import NodeSettings
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._plugins import load
from clovisor_py.service import Service
from clovisor_py.settings_file import SettingsFile
from clovisor_py.tracing.sampling import Sampler

log = logging.getLogger(__name__)

NO_SUCH_FILE = "there is no file {}: give --config the settings file, or leave it out."


def _named(settings: NodeSettings) -> NodeSettings:
    """With the node's name: a host is mostly called as its node is."""
    return settings if settings.node else dataclasses.replace(settings, node=sockets.gethostname().lower())


def _listening(text: str | None) -> dict[str, str | None]:
    host, port = (None, None) if text is None else host_and_port(text)
    return {"http_host": host, "http_port": port}


@click.command(name="agent")
@click.option("--node", metavar="NAME", help="This node, as its pods say it.  [default: $NODE_NAME, else the host's name]")
@click.option("--kubeconfig", metavar="FILE", help="The way to the API server.  [default: the pod's account, or kubectl's]")
@click.option("--context", metavar="NAME", help="Of the kubeconfig.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings; looked at again when it changes.")
@click.option(
    "--default", "default", type=click.Choice(["on", "off"]), help="Pods that nobody says anything of.  [default: off]"
)
@click.option(
    "--export", "exports", multiple=True, metavar="URL", help="Where sessions go (console:, jsonl:FILE, otlp+grpc://HOST)."
)
@click.option("--listen", metavar="[ADDRESS:]PORT", help="Of /metrics and probes; 0: none.  [default: 9464, at all addresses]")
@click.option("--socket", type=click.Path(path_type=Path), default=DEFAULT_PATH, show_default=True, help="For `clovisor pods`.")
@click.option("--redact", metavar="LEVEL", help="Of pods that say nothing: off, default or strict.  [default: default]")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.  [default: info]")
@click.option("--log-format", type=click.Choice([_log.TEXT, _log.JSON]), help="[default: text on a terminal, else json]")
@plugin_option
def COMMAND(
    node: str | None,
    kubeconfig: str | None,
    context: str | None,
    config: Path | None,
    default: str | None,
    exports: tuple[str, ...],
    listen: str | None,
    socket: Path,
    redact: str | None,
    log_level: str | None,
    log_format: str | None,
    plugins: tuple[Path, ...],
) -> int:
    """Trace the pods of this node that the API server says are to be traced, until SIGTERM.

    A pod is chosen by the label clovisor.io/trace=true on itself, on what controls it (a Deployment), or on its namespace; the
    nearest counts. Nothing restarts, and nothing of the pod is changed. Filters stay when this ends, silent after ten seconds,
    for the next agent; `clovisor detach` takes them off.

    \b
    Examples:
      clovisor agent --export jaeger://127.0.0.1
      clovisor agent --kubeconfig admin.conf --node worker-1 --export console:
      clovisor agent --default on --export jsonl:sessions.jsonl --listen 0
      clovisor agent --config /etc/clovisor/settings.yaml --listen 127.0.0.1:9464
      kubectl label deployment/cart clovisor.io/trace=true

    Every setting of the file may also be given as a variable (CLOVISOR_CPU_SHARE=0.8); flags count most.
    """
    share_heap()  # before the first thread: each would have its own
    loaded = load(plugins)
    if config is not None and not config.exists():
        raise UsageError(NO_SUCH_FILE.format(config))
    flags = {
        "node": node or os.environ.get("NODE_NAME") or None,
        "kubeconfig": kubeconfig,
        "trace_by_default": default,
        "exports": exports,
        **_listening(listen),
        "redact": redact,
        "log_level": log_level,
    }
    names = by_any_name(loaded.protocols.values())
    file = SettingsFile(config, names, environ=os.environ, flags=flags)
    settings = _named(file.start())
    require_root()
    require_bpffs(settings.pins)
    _log.set_up(settings.log_level, log_format)
    for sentence in loaded.refused:
        click.echo(f"clovisor: {printable(sentence)}", err=True)
    _run(settings, file, loaded.protocols, Client(Path(settings.kubeconfig) if settings.kubeconfig else None, context), socket)
    return 0


def _exporters(settings: NodeSettings, file: SettingsFile) -> Fanout:
    """Those of the settings; none where the file names a senseless one. Raises UsageError for one of a flag or a variable."""
    open_these = partial(open_urls, queue_limit=settings.export_queue, later=True, sampler=Sampler(settings.sample))
    try:
        return open_these(settings.exports)
    except UsageError as error:
        if not file.leave_out("exports", str(error)):
            raise
        return open_these(())


def _say_delivered(ledgers: Mapping[str, Ledger]) -> None:
    """The last words: what became of the sessions that each exporter was given. Nobody scrapes /metrics any more."""
    for url, ledger in ledgers.items():
        lost = ", ".join(f"{reason} {count:,}" for reason, count in ledger.dropped.items() if count)
        said = f"{url} got {ledger.sent:,} of {ledger.offered:,} sessions" + (f" (dropped: {lost})" if lost else "")
        log.log(logging.WARNING if lost else logging.INFO, "%s.", said)


def _run(settings: NodeSettings, file: SettingsFile, protocols: Mapping[str, Protocol], client: Client, socket: Path) -> None:
    try:
        with (
            until(None) as stop,
            _exporters(settings, file) as fanout,
        ):
            try:
                with Service(settings, file, client, protocols, fanout, socket) as service, stop.work():
                    service.run(stop)
            finally:
                _say_delivered(fanout.close())
    finally:
        client.close()
