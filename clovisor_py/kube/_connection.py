"""The way to the API server: which one, as whom, and what it means when that does not work.

The kubernetes client reads the kubeconfig (or the service account that is mounted into a pod) and builds urllib3's connection
pool from it: proxies, certificates, exec plugins and tokens that are renewed are its business. What goes through the pool
is ours: its object model would cost more memory than everything that Clovisor keeps. No retries here: whoever asked
decides.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import urllib3
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import load_incluster_config, load_kube_config
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, MaxRetryError, NameResolutionError, ProtocolError, SSLError, TimeoutError

from clovisor_py.errors import ApiUnavailable

CONNECT_S: Final = 5.0
"""Seconds until an API server that does not take a connection counts as away."""
POOL: Final = 16
"""Connections kept for reuse: one for each resource that is watched, and some for what is asked in between."""
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A watch may be silent for minutes; a peer that vanished without a word (a failed load balancer) is noticed in half a one."""
_AGENT: Final = "clovisor"
_DEFAULT: Final = "~/.kube/config"

NO_KUBECONFIG: Final = "no kubeconfig at {}, and this is no pod of a cluster: name one with --kubeconfig or KUBECONFIG."
BAD_KUBECONFIG: Final = "the kubeconfig {} cannot be used ({}): correct it, or name another with --kubeconfig."
BAD_ACCOUNT: Final = "the pod's service account cannot be used ({}): mount its token (automountServiceAccountToken: true)."
NO_CREDENTIALS: Final = "the credentials for the API server {} cannot be had ({}): try `kubectl get nodes` with them."
UNREACHABLE: Final = "the API server {} does not answer ({}): check that it runs and that this machine may reach it."
NOT_TRUSTED: Final = "the API server {} could not prove who it is ({}): check the certificate authority in the kubeconfig."


class Connection:
    """A pool of connections to one API server. Thread-safe. Raises ApiUnavailable, saying what to do, wherever it fails."""

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        """`kubeconfig`: by default that of KUBECONFIG, else the pod's service account, else the user's own."""
        self._configuration = _configure(kubeconfig, context)
        self._configuration.connection_pool_maxsize = POOL
        self._configuration.socket_options = [*HTTPConnection.default_socket_options, *_KEEPALIVE]
        self.host: str = self._configuration.host.rstrip("/")
        """Its URL."""
        try:
            self._pool = RESTClientObject(self._configuration).pool_manager
        except Exception as error:
            raise ApiUnavailable(BAD_KUBECONFIG.format(kubeconfig or "in use", _first_line(error))) from error

    def request(
        self,
        verb: str,
        url: str,
        *,
        read_s: float,
        accept: str,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> urllib3.BaseHTTPResponse:
        """The response, its body unread; `read_s` is the longest silence. `url` starts with `/`."""
        headers = {"Accept": accept, "User-Agent": _AGENT, **self._authorization()}
        if content_type:
            headers["Content-Type"] = content_type
        timeout = urllib3.Timeout(connect=CONNECT_S, read=read_s)
        try:
            response: urllib3.BaseHTTPResponse = self._pool.request(
                verb, self.host + url, body=body, headers=headers, timeout=timeout, retries=False, preload_content=False
            )
        except (HTTPError, OSError) as error:
            raise self.unavailable(error) from error
        return response

    def unavailable(self, error: Exception) -> ApiUnavailable:
        """The sentence for what urllib3 said."""
        if isinstance(error, MaxRetryError) and error.reason is not None:
            error = error.reason
        form = NOT_TRUSTED if isinstance(error, SSLError) else UNREACHABLE
        return ApiUnavailable(form.format(self.host, _reason(error)))

    def close(self) -> None:
        """Close what is idle; a watch that is open is closed by its reader."""
        self._pool.clear()

    def _authorization(self) -> Mapping[str, str]:
        try:
            settings: Mapping[str, Any] = self._configuration.auth_settings()  # renews a token that has expired
        except Exception as error:
            raise ApiUnavailable(NO_CREDENTIALS.format(self.host, _first_line(error))) from error
        return {one["key"]: one["value"] for one in settings.values() if one.get("in") == "header" and one.get("value")}


def _configure(kubeconfig: Path | None, context: str | None) -> Configuration:
    named = str(kubeconfig) if kubeconfig is not None else os.environ.get("KUBECONFIG", "")
    configuration = Configuration()
    if not named and os.environ.get("KUBERNETES_SERVICE_HOST"):
        try:
            load_incluster_config(client_configuration=configuration)
        except Exception as error:
            raise ApiUnavailable(BAD_ACCOUNT.format(_first_line(error))) from error
        return configuration
    named = named or _DEFAULT
    files = [os.path.expanduser(one) for one in named.split(os.pathsep) if one]  # noqa: PTH111 (raises without a home)
    try:
        found = any(Path(file).is_file() for file in files)
    except OSError as error:
        raise ApiUnavailable(BAD_KUBECONFIG.format(named, _strerror(error))) from error
    if not found:
        raise ApiUnavailable(NO_KUBECONFIG.format(named))
    try:
        load_kube_config(os.pathsep.join(files), context, configuration, persist_config=False)
    except OSError as error:
        raise ApiUnavailable(BAD_KUBECONFIG.format(named, _strerror(error))) from error
    except Exception as error:
        raise ApiUnavailable(BAD_KUBECONFIG.format(named, _first_line(error))) from error
    return configuration


def _reason(error: Exception) -> str:
    """In a few words, without urllib3's names of objects."""
    if isinstance(error, NameResolutionError):
        return "its name is not known"
    if isinstance(error, TimeoutError) and not isinstance(error.__cause__, OSError):
        return "no answer in time"
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and cause.strerror:
        return _strerror(cause)
    if isinstance(error, ProtocolError):
        return "the connection broke off"
    return _first_line(error).rpartition(">: ")[2] or type(error).__name__


def _strerror(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
