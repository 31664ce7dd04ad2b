"""exporters/_own_resource.py: what the operator says of everything that is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.exporters._own_resource import CHARS, VARIABLE, of_all, said


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("", {}),
        (" , ", {}),
        ("deployment.environment.name=test", {"deployment.environment.name": "test"}),
        (" a = b , c=d=e,", {"a": "b", "c": "d=e"}),
        ("a=%2C%3D%25%C3%A9,b%2Cc=", {"a": ",=%é", "b,c": ""}),
        ("a=1,a=2", {"a": "2"}),
        ("a=é\udcff", {"a": "é?"}),
    ],
)
def test_what_is_said(text, attributes):
    assert said({VARIABLE: text}) == attributes


def test_nothing_is_said():
    assert said({}) == of_all({"OTEL_SERVICE_NAME": "x"}) == {}


def test_of_others_workloads_only_what_holds_for_all_of_them():
    text = "service.name=a,service.version=1,k8s.pod.name=clovisor-x,k8s.cluster.name=eu,container.id=7,team=shop"
    assert of_all({VARIABLE: text}) == {"k8s.cluster.name": "eu", "team": "shop"}
    assert said({VARIABLE: text})["k8s.pod.name"] == "clovisor-x"


@pytest.mark.parametrize(
    "text", ["secret", "=secret", "a=b,secret", "a=secret%", "a=secret%zz", "a=secret%ff", "a=" + "x" * CHARS]
)
def test_a_mistake_is_one_sentence_without_what_was_written_and_costs_no_exporter(text, caplog):
    assert of_all({VARIABLE: text}) == {}
    [said_of_it] = caplog.messages
    assert said_of_it.startswith(f"{VARIABLE} ") and said_of_it.endswith(".") and "secret" not in said_of_it


@given(st.text(max_size=80))
def test_any_text_is_read_or_a_mistake(text):
    found = said({VARIABLE: text})
    assert all(found)
    assert "".join([*found, *found.values()]).encode() is not None  # whatever it was, UTF-8 can say it
