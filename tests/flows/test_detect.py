"""Detector: hint, bytes of both directions, well-known port; and who is the client."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clovisor_py.flows.detect import DETECT_BYTES, DETECT_TOTAL, MID_STREAM_TURNS, UNKNOWN, Detector, Ports, resolve
from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.stream import Piece
from clovisor_py.protocols._api import Evidence, recognises_nothing
from tests.support.toy_protocol import LINES


def protocol(name, table, **fields):
    """Says what `table` holds for the longest known prefix of the data, else no."""

    def recognise(data):
        for prefix in sorted(table, key=len, reverse=True):
            if data.startswith(prefix):
                return table[prefix]
        return Evidence.NO

    return replace(LINES, name=name, recognise=recognise, **{"ports": (), "hints": (), **fields})


REQUEST, RESPONSE, MORE = Evidence.REQUEST, Evidence.RESPONSE, Evidence.MORE
A = protocol("a", {b"Q": REQUEST, b"R": RESPONSE, b"S": REQUEST}, ports=(10,))
B = protocol("b", {b"S": REQUEST, b"SS": REQUEST, b"T": MORE, b"TT": REQUEST}, ports=(20,))


def detector(*protocols, hints=None, ports=(5000, 6000), opener=0, mid=False, **how):
    return Detector(protocols or (A, B), hints or {}, Ports(ports, opener), mid, **how)


def offer(made, direction, data, turn=True, length=None):
    return made.offer(direction, Piece(0, 1, len(data) if length is None else length, data), turn)


def test_one_yes_among_noes_is_enough():
    verdict = offer(detector(), 0, b"Q")
    assert verdict.protocol is A and verdict.client == 0 and verdict.aligned == (True, True)


def test_all_noes_are_final_when_the_beginning_was_seen():
    assert offer(detector(), 0, b"X") is UNKNOWN


def test_two_that_accept_wait_for_the_other_direction():
    made = detector()
    assert offer(made, 0, b"S") is None
    assert offer(made, 1, b"R").protocol is A


@pytest.mark.parametrize(("ports", "expected"), [((5000, 20), B), ((5000, 10), A), ((10, 6000), None), ((1, 2), None)])
def test_the_server_port_settles_what_bytes_leave_open(ports, expected):
    made = detector(ports=ports)
    offer(made, 0, b"S")
    verdict = made.settle()
    assert (verdict and verdict.protocol) is expected


def test_two_that_accept_to_the_limit_without_a_port_are_unknown():
    made = detector()
    assert offer(made, 0, b"S" * (DETECT_BYTES - 1)) is None
    assert offer(made, 0, b"S", turn=False) is UNKNOWN


def test_who_is_in_doubt_gets_more_bytes():
    made = detector()
    assert offer(made, 0, b"T") is None and made.waiting
    assert offer(made, 0, b"T", turn=False).protocol is B
    assert len(made.pieces) == 2


def test_the_third_turn_settles():
    made = detector(A, B, ports=(5000, 20))
    assert offer(made, 0, b"S") is None
    b_too = protocol("b", {b"S": REQUEST, b"R": MORE}, ports=(20,))
    made = detector(A, b_too, ports=(5000, 10))
    assert offer(made, 0, b"S") is None and offer(made, 1, b"R") is None
    assert offer(made, 0, b"S").protocol is A


def test_a_hint_settles_what_is_open_and_says_who_serves():
    verdict = offer(detector(hints={6000: B}, opener=-1), 1, b"T")
    assert verdict.protocol is B and verdict.client == 0
    verdict = offer(detector(hints={5000: B}, opener=-1), 1, b"T")
    assert verdict.client == 1
    assert offer(detector(hints={5000: B}, opener=0), 1, b"Q").protocol is A  # not the server's port
    assert offer(detector(hints={6000: B}, mid=True), 0, b"X").protocol is B, "in the middle bytes prove nothing"


def test_a_hint_holds_until_both_directions_say_no():
    made = detector(hints={6000: B})
    assert offer(made, 0, b"X") is None and made.refuted is None
    assert offer(made, 1, b"T").protocol is B
    made = detector(hints={6000: B})
    assert offer(made, 0, b"X") is None and made.settle().protocol is B, "nobody else claims it"
    made = detector(hints={6000: B})
    assert offer(made, 0, b"X" * DETECT_BYTES).protocol is B, "waiting is bounded"


@pytest.mark.parametrize(("asked", "answered", "found"), [(b"Q", b"R", A), (b"Q", b"X", None), (b"X", b"X", None)])
def test_a_hint_that_both_directions_deny_is_given_up(asked, answered, found):
    ledger = Ledger()
    made = detector(hints={6000: B}, ledger=ledger)
    assert offer(made, 0, asked) is None
    assert offer(made, 1, answered).protocol is found
    assert (made.refuted, made.unread, ledger.hints_refuted) == (B, "hinted b, but its bytes are not", 1)


def test_an_unanswered_request_that_is_clearly_anothers_is_not_what_the_hint_says():
    made = detector(hints={6000: B})
    assert offer(made, 0, b"Q") is None
    assert made.settle().protocol is A and made.refuted is B


def test_a_protocol_without_a_recogniser_is_what_its_hint_says():
    silent = replace(LINES, name="silent", recognise=recognises_nothing)
    assert offer(detector(A, silent, hints={6000: silent}), 0, b"Q").protocol is silent
    assert offer(detector(A, B, hints={6000: B}, udp=True), 0, b"Q").protocol is B


def test_a_recogniser_that_fails_costs_the_others_nothing():
    def fail(data):
        raise KeyError(data)

    ledger = Ledger()
    made = detector(replace(A, name="broken", recognise=fail), A, B, ledger=ledger)
    assert offer(made, 0, b"Q").protocol is A
    ((crash, times),) = ledger.crashes.items()
    assert (crash.protocol, crash.kind, crash.text, times) == ("broken", "KeyError", "b'Q'", 1)
    assert crash.place.startswith("test_detect.py:") and ledger.parser_crashes == 1


@pytest.mark.parametrize(("direction", "data", "client"), [(0, b"Q", 0), (1, b"Q", 1), (0, b"R", 1), (1, b"R", 0)])
def test_without_a_syn_the_evidence_says_who_is_the_client(direction, data, client):
    assert offer(detector(opener=-1, mid=True), direction, data).client == client


def test_in_the_middle_each_turn_gets_a_fresh_look():
    made = detector(opener=-1, mid=True)
    assert offer(made, 1, b"body") is None and offer(made, 1, b"R in the body", turn=False) is None
    assert made.pieces == []
    verdict = offer(made, 0, b"Q")
    assert verdict.protocol is A and [direction for direction, _ in made.pieces] == [0]


def test_in_the_middle_bytes_of_the_other_direction_are_not_aligned():
    made = detector(A, B, opener=-1, mid=True)
    assert offer(made, 1, b"T") is None
    assert offer(made, 0, b"TT") is None or made.settle().aligned[1] is False


def test_in_the_middle_patience_ends():
    made = detector(mid=True)
    verdicts = [offer(made, turn % 2, b"X") for turn in range(MID_STREAM_TURNS + 1)]
    assert verdicts[:-1] == [None] * MID_STREAM_TURNS and verdicts[-1] is UNKNOWN


def test_what_is_kept_is_bounded():
    made = detector(mid=True, opener=-1)
    for number in range(100):
        assert offer(made, 0, b"T" if not number else b"x" * 4000, turn=not number, length=4000) is None
    assert sum(len(piece.data) for _, piece in made.pieces) <= DETECT_TOTAL
    assert offer(detector(), 0, b"T", length=DETECT_TOTAL) is UNKNOWN


def test_a_lost_beginning_is_a_beginning_in_the_middle():
    made = detector()
    assert offer(made, 0, b"", length=10) is None
    assert offer(made, 1, b"R").protocol is A


def test_hints_resolve_by_any_name():
    named = replace(A, hints=("alpha",))
    assert resolve({1: "alpha", 2: "a"}, {"a": named}) == {1: named, 2: named}
