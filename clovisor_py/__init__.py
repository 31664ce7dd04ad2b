"""Clovisor: what a pod says on the wire, to whom, how fast, and what fails."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("clovisor")
except PackageNotFoundError:  # run from a tree that was never installed
    __version__ = "0.0.0+uninstalled"
