"""The fixtures of tests/support/kernel.py, for the tests beside this file."""

from tests.support.kernel import datapath, rig

__all__ = ["datapath", "rig"]
