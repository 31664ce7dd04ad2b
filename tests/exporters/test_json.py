import json

from hypothesis import given

from clovisor_py.exporters._json import line
from tests.support.sessions import ANY_SESSION, session


def test_a_line_is_the_documented_object():
    one = session()
    assert json.loads(line(one)) == json.loads(json.dumps(one.as_dict()))
    assert list(json.loads(line(one)))[:3] == ["protocol", "side", "start"]


@given(ANY_SESSION)
def test_any_session_is_one_line_of_strict_json_for_any_terminal(one):
    text = line(one)
    assert text.isascii()
    assert text.isprintable()
    parsed = json.loads(text, parse_constant=refuse)
    assert set(parsed["attributes"]) == set(one.attributes)


def test_what_orjson_refuses_or_leaves_is_written_all_the_same():
    odd = {"surrogate": "\ud800", "long": 2**70, "letters": "日", "delete": "\x7f", "nothing": float("inf")}
    for key, value in odd.items():
        text = line(session(attributes={key: value, "delete": "\x7f"}))
        assert text.isascii()
        assert text.isprintable()
        assert json.loads(text)["attributes"][key] == (None if key == "nothing" else value)


def refuse(name):
    raise AssertionError(f"{name} is no JSON")
