"""What the node's agent waits for before it reads anything: first which pods are to be traced, then who is behind an address.

Meanwhile `also` is called with the monotonic time, as in the agent's main loop: probes and the control socket have answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from clovisor_py.kernel.datapath import Datapath
from clovisor_py.roster import ClusterView

WAIT_S: Final = 0.02
"""Between two looks whether the API server has answered for the first time."""
PATIENCE_S: Final = 5.0
"""After so long without its first answer it is said that we wait for it."""
NAMES_S: Final = 3.0
"""How long what is captured waits in the ring, at first, until both its ends can be named; less where the ring fills."""
WAITING: Final = "the API server has not told yet which pods are to be traced; nothing is read until it does."

Stop = Callable[[], bool]
Also = Callable[[float], None] | None

_log = logging.getLogger(__name__)


def await_answers(cluster: ClusterView, stop: Stop, also: Also) -> bool:
    """For the first answers of the API server, however long that takes; False where `stop` came first.

    The lease is not renewed: what a predecessor left falls silent meanwhile.
    """
    said = time.monotonic() + PATIENCE_S
    while not cluster.ready:
        now = time.monotonic()
        if stop():
            return False
        if now >= said:
            _log.warning(WAITING)
            said = float("inf")
        if also is not None:
            also(now)
        time.sleep(WAIT_S)
    return True


def await_names(cluster: ClusterView, datapath: Datapath, stop: Stop, also: Also) -> None:
    """Filters first, names after: a big cluster's pods take longer to be listed than this node's take to be attached."""
    ring, until = datapath.ring, time.monotonic() + NAMES_S
    while not cluster.named and (now := time.monotonic()) < until and not stop():
        if ring.waiting > ring.size // 2:
            return
        datapath.heartbeat()
        if also is not None:
            also(now)
        time.sleep(WAIT_S)
