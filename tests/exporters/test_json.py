import json
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.exporters._json import CONNECTIONS, SECOND_NS, Writer
from clovisor_py.model.session import Outcome, Part, Side, TraceContext
from clovisor_py.model.workload import Endpoint, Workload
from tests.support.sessions import ANY_SESSION, START, session

ENDS = [(Endpoint("10.0.0.9", 41122), Endpoint("10.0.0.2", 80)), (Endpoint("fd00::9", 41123), Endpoint("fd00::2", 80))]
NAMED = [None, Workload("web\x7f", "shop")]
CALLS = [
    session(
        side=side,
        protocol=protocol,
        client=client,
        server=server,
        client_workload=caller,
        start_ns=start_ns,
        request=Part(start_ns, 1),
        response=Part(start_ns + 5, 2),
    )
    for (client, server), caller, side, protocol, start_ns in product(
        ENDS, NAMED, Side, ("http", "grpc"), (0, START, START + SECOND_NS, START + 2 * SECOND_NS - 1)
    )
]


def line(one):
    return Writer().line(one)


def test_a_line_is_the_documented_object():
    one = session()
    assert line(one) == json.dumps(one.as_dict(), separators=(",", ":"))
    assert list(json.loads(line(one)))[:3] == ["protocol", "side", "start"]


@given(ANY_SESSION)
def test_any_session_is_one_line_of_strict_json_for_any_terminal(one):
    text = line(one)
    assert text.isascii()
    assert text.isprintable()
    parsed = json.loads(text, parse_constant=refuse)
    assert set(parsed["attributes"]) == set(one.attributes)


@given(st.lists(st.sampled_from(CALLS)))
def test_what_is_remembered_of_a_connection_and_of_a_second_is_told_of_no_other(calls):
    writer = Writer()
    for one in calls:
        assert json.loads(writer.line(one)) == one.as_dict()


def test_connections_are_remembered_up_to_a_limit():
    writer = Writer()
    for port in (*range(CONNECTIONS + 2), 0):
        one = session(client=Endpoint("10.0.0.9", port))
        assert json.loads(writer.line(one)) == one.as_dict()
    assert len(writer._known) <= CONNECTIONS


def test_both_ends_of_a_call_name_one_client_and_neither_makes_the_other_forgotten():
    writer, client = Writer(), Endpoint("10.0.0.9", 1)
    ends = [session(client=client, side=side) for side in Side]
    lines = [writer.line(one) for one in ends]
    known = list(writer._known.values())
    assert [writer.line(one) for one in ends] == lines
    assert list(writer._known.values()) == known and len(known) == 2


def test_what_is_not_ordinary_has_the_same_fields():
    for changes in (
        {"request": None, "ttfb_ns": None},
        {"response": None, "outcome": Outcome.TIMEOUT},
        {"response": Part(START + SECOND_NS, 1)},
        {"request": Part(START - 1, 1)},
        {"truncated": True},
        {"gap_bytes": 7},
        {"mid_stream": True},
        {"trace": TraceContext(0xABC, 0xDEF, "b3")},
        {"start_ns": -5, "request": Part(-5, 1), "response": Part(-4, 1)},
        {"outcome": Outcome.ERROR, "status": "500"},
    ):
        one = session(**changes)
        assert line(one) == json.dumps(one.as_dict(), separators=(",", ":"))


def test_what_orjson_refuses_or_leaves_is_written_all_the_same():
    odd = {"surrogate": "\ud800", "long": 2**70, "letters": "日", "delete": "\x7f", "nothing": float("inf")}
    for key, value in odd.items():
        for changes in ({}, {"response": None}):
            text = line(session(attributes={key: value, "delete": "\x7f"}, **changes))
            assert text.isascii()
            assert text.isprintable()
            assert json.loads(text)["attributes"][key] == (None if key == "nothing" else value)


def refuse(name):
    raise AssertionError(f"{name} is no JSON")
