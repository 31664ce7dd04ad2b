"""Terms refuse an outgoing connection only where it is certain who calls, and only where somebody said which are wanted."""

from __future__ import annotations

import pytest

from clovisor_py.flows.terms import Terms
from clovisor_py.model.segment import FROM_POD, TO_POD
from clovisor_py.protocols._redaction import DEFAULT

UNKNOWN = -1


@pytest.mark.parametrize(
    ("server", "ip", "port", "refused"),
    [
        (TO_POD, "10.0.0.5", 5432, False),
        (TO_POD, "10.0.0.5", 6379, True),
        (TO_POD, "10.0.0.6", 5432, True),
        (FROM_POD, "10.0.0.6", 80, False),
        (UNKNOWN, "10.0.0.6", 80, False),
    ],
)
def test_only_outgoing_connections_that_nobody_asked_for_are_refused(server, ip, port, refused):
    terms = Terms({}, DEFAULT, permits=lambda *where: where == ("10.0.0.5", 5432))
    assert terms.refuses(server, ip, port) is refused


def test_where_nobody_says_anything_all_are_looked_at():
    assert not Terms({}, DEFAULT).refuses(TO_POD, "10.0.0.6", 80)


def test_capture_is_as_the_protocol_asks_unless_somebody_says_otherwise():
    assert Terms({}, DEFAULT).capture is None
    assert Terms({}, DEFAULT, capture="head").capture == "head"
