"""The namespace that a command means when it names none: that of the kubeconfig's context, as for kubectl."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes.config import ConfigException, list_kube_config_contexts

DEFAULT: Final = "default"
_IN_POD: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NOT_ONE: Final = (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, AttributeError, LookupError)
"""What the library raises for a file that is no kubeconfig."""


def namespace_of(kubeconfig: Path | None, context: str | None) -> str:
    """The context's namespace, or the pod's own, or `default`; what cannot be read is for the connection to complain about."""
    named = str(kubeconfig) if kubeconfig is not None else os.environ.get("KUBECONFIG", "")
    if not named and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return _IN_POD.read_text().strip() or DEFAULT if _IN_POD.is_file() else DEFAULT
    try:
        contexts, active = list_kube_config_contexts(named or None)
    except _NOT_ONE:
        return DEFAULT
    found: dict[str, Any] = next((one for one in contexts if one["name"] == context), {}) if context else active
    namespace = (found.get("context") or {}).get("namespace")
    return namespace if isinstance(namespace, str) and namespace else DEFAULT
