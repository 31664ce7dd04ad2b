"""A veth of which nobody says how it is to be read: whoever it was captured for is gone, and nobody else may see it."""

from __future__ import annotations

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.protocols._redaction import DEFAULT
from tests.flows.test_following import GET, OK, PROTOCOLS, VETH
from tests.support.segments import Conversation


def test_a_veth_without_terms_is_read_by_those_of_all_unless_strangers_are_not_read():
    for strangers, sessions in ((True, 1), (False, 0)):
        engine, talk = Pipeline(protocols=PROTOCOLS, strangers=strangers), Conversation().handshake().client(GET).server(OK)
        assert len(engine.feed(talk.segments)) == sessions
        assert engine.ledger.payload == 2 == engine.ledger.parsed + engine.ledger.strangers
        assert engine.flows == sessions


def test_one_that_was_dropped_is_a_stranger_from_then_on():
    engine, talk = Pipeline(protocols=PROTOCOLS, strangers=False), Conversation().handshake().client(GET)
    engine.set_terms(VETH, {}, DEFAULT, talk.now)
    engine.feed(talk.segments)
    assert engine.ledger.strangers == 0
    engine.drop(VETH, talk.now)
    talk.segments.clear()
    talk.server(OK)
    assert engine.feed(talk.segments) == []
    assert (engine.ledger.strangers, engine.flows) == (1, 0)
