"""Every recogniser against everybody's bytes: nobody claims what is another's, cut anywhere; nobody claims noise."""

import random
from pathlib import Path

import pytest

from clovisor_py.flows.detect import DETECT_BYTES
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.protocols._api import Evidence
from clovisor_py.protocols._registry import registry
from tests.support.scripts import restore
from tests.support.segments import Conversation

GOLDEN = Path(__file__).parents[1] / "golden" / "scripts"
READ = {name: protocol for name, protocol in registry().items() if not protocol.over}
SCRIPTS = {name: [restore(file.read_bytes()) for file in sorted((GOLDEN / name).glob("*"))] for name in READ}
CUTS = [*range(1, 64), *range(64, 512, 7)]
YES = (Evidence.REQUEST, Evidence.RESPONSE, Evidence.EITHER)


def recognise(protocol, data, datagrams):
    ask = protocol.recognise_datagram if datagrams else protocol.recognise
    return Evidence.NO if ask is None else ask(data)


@pytest.mark.parametrize("name", READ)
def test_nobody_claims_what_is_anothers(name):
    wrong = set()
    for datagrams, script in SCRIPTS[name]:
        for sender in (0, 1):
            first = b"".join(what for whose, what in script if whose == sender and isinstance(what, bytes))[:DETECT_BYTES]
            for other, protocol in READ.items():
                if other != name and any(recognise(protocol, first[:cut], datagrams) in YES for cut in (*CUTS, len(first))):
                    wrong.add((other, first[:60]))
    assert wrong == set()


@pytest.mark.parametrize("name", READ)
def test_nobody_claims_noise(name):
    chance = random.Random(name)
    protocol = READ[name]
    for _ in range(5_000):
        noise = chance.randbytes(chance.choice((4, 16, 64, 300)))
        assert recognise(protocol, noise, False) not in YES, noise
        assert recognise(protocol, noise, True) not in YES, noise


def test_noise_is_no_session_of_any_protocol():
    chance = random.Random(1)
    for number in range(300):
        talk = Conversation(
            flow_id=number, server_port=chance.choice([80, 443, 5432, 6379, 9092, 50051, 53, 12345])
        ).handshake()
        for _ in range(4):
            talk.client(chance.randbytes(chance.randint(1, 400))).server(chance.randbytes(chance.randint(1, 400)))
        engine = Pipeline()
        sessions = engine.feed(talk.close().segments) + engine.close(talk.now)
        assert {session.protocol for session in sessions} <= {"tcp"}, number


@pytest.mark.parametrize("name", READ)
def test_a_protocol_on_a_foreign_port_is_found(name):
    found = 0
    for datagrams, script in SCRIPTS[name]:
        talk = Conversation(server_port=31234, udp=datagrams)
        if not datagrams:
            talk.handshake()
        for sender, what in script:
            if isinstance(what, bytes) and what:
                talk.say(sender, what)
        engine = Pipeline()
        sessions = engine.feed(talk.segments) + engine.close(talk.now)
        carried = {name, READ[name].sessions, *(one.name for one in registry().values() if one.over == name)}
        found += any(session.protocol in carried for session in sessions)
    assert found >= len(SCRIPTS[name]) * 2 // 3
