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


def refuse(name):
    raise AssertionError(f"{name} is no JSON")
