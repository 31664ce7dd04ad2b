"""Removal: everything of Clovisor off a node, whoever left it there: a process that was killed, another build, other pins.

Needs nothing to be open: what is on the interfaces, and the names of pins, tell what there is.
"""

from __future__ import annotations

import logging
from pathlib import Path

from clovisor_py.errors import ClovisorError
from clovisor_py.kernel import attach, tcx
from clovisor_py.kernel.lock import hold
from clovisor_py.kernel.maps import attached_at

_log = logging.getLogger(__name__)


def remove_all(pins: Path) -> list[int]:
    """Every filter, link and pin of Clovisor off this node; the interfaces that had any. Raises AlreadyRunning."""
    held = hold(pins)
    try:
        return strip(pins)
    finally:
        held.release()


def strip(pins: Path, keep_folder: bool = False) -> list[int]:
    """Off with filters, links and pins, also those of another build: only their names and `attached` are trusted.

    For who holds the datapath. All are tried; then the first refusal is raised.
    """
    known = attached_at(pins)
    found = sorted({*known, *attach.find_all(), *tcx.pinned(pins)})
    refusals: list[ClovisorError] = []
    for ifindex in found:
        try:
            attach.detach(ifindex, pins, known.get(ifindex, 0))
        except ClovisorError as error:
            _log.debug("interface %d keeps something of ours", ifindex, exc_info=True)
            refusals.append(error)
    for pin in list(pins.iterdir()):
        pin.unlink()
    if not keep_folder:
        pins.rmdir()
    if refusals:
        raise refusals[0]
    return found
