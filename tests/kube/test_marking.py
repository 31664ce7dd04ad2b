"""Marking objects: what is asked for is written, what was written stays, what others wrote is left or said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.errors import NotFound, UsageError
from clovisor_py.kube.annotations import CAPTURE, PORTS, REDACT, TRACE
from clovisor_py.kube.marking import KINDS, Row, clear, mark, target
from clovisor_py.kube.objects import Ref
from clovisor_py.kube.resources import RESOURCES
from tests.support.applying import Applying

CART = Ref("Deployment", "shop", "cart")


@pytest.fixture
def objects() -> Applying:
    known = Applying()
    known.add(CART, labels={"app": "cart"}, annotations={"x": "y"})
    return known


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pod/web", Ref("Pod", "shop", "web")),
        ("deploy/cart", CART),
        ("deployment/other/cart", Ref("Deployment", "other", "cart")),
        ("STS/db", Ref("StatefulSet", "shop", "db")),
        ("ds/agent", Ref("DaemonSet", "shop", "agent")),
        ("ns/shop", Ref("Namespace", "", "shop")),
        ("cj/nightly.v2", Ref("CronJob", "shop", "nightly.v2")),
    ],
)
def test_targets(text, expected):
    assert target(text, "shop") == expected


@pytest.mark.parametrize(
    "text", ["", "web", "svc/web", "pod/", "pod/A", "pod/a_b", "ns/a/b", "pod/a/b/c", "pod/-a", "pod/\x1b[2J"]
)
def test_what_is_no_target(text):
    with pytest.raises(UsageError, match=r"write pod/NAME") as caught:
        target(text, "shop")
    assert str(caught.value).isprintable() and str(caught.value).endswith(".")


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_a_sentence(text):
    try:
        assert target(text, "shop").kind in RESOURCES
    except UsageError as error:
        assert str(error).isprintable()


def test_what_can_be_marked_can_be_reached():
    assert set(KINDS) <= set(RESOURCES)


def test_enable_then_disable_then_clear(objects):
    done = mark(objects, CART, True, {PORTS: "8080=http"})
    assert done.rows == (Row(TRACE, None, "true"), Row(PORTS, None, "8080=http")) and done.changed
    done = mark(objects, CART, True, {REDACT: "strict"})
    assert done.rows == (Row(TRACE, "true", "true"), Row(PORTS, "8080=http", "8080=http"), Row(REDACT, None, "strict"))
    assert not mark(objects, CART, True, {}).changed
    done = mark(objects, CART, False, {})
    assert done.rows[0] == Row(TRACE, "true", "false") and len(done.rows) == 3
    done = clear(objects, CART)
    assert [row.after for row in done.rows] == [None] * 3 and not done.remarks
    meta = objects.get(*CART)["metadata"]
    assert (meta["labels"], meta["annotations"]) == ({"app": "cart"}, {"x": "y"})


def test_a_dry_run_changes_nothing(objects):
    assert mark(objects, CART, True, {CAPTURE: "full"}, dry_run=True).changed
    assert objects.writes == 0 and not clear(objects, CART, dry_run=True).changed


def test_what_others_wrote(objects):
    web = Ref("Pod", "shop", "web")
    objects.add(web, labels={TRACE: "false"}, annotations={PORTS: "80=http", CAPTURE: "head"})
    done = mark(objects, web, True, {CAPTURE: "full"})
    assert [(row.before, row.after) for row in done.rows] == [("false", "true"), ("80=http", "80=http"), ("head", "full")]
    done = clear(objects, web)
    assert [row.after for row in done.rows] == [None, "80=http", None]
    assert done.remarks == (
        "clovisor.io/ports is somebody else's and stays: kubectl annotate pod/web -n shop clovisor.io/ports- takes it away.",
    )


def test_a_pod_that_will_be_replaced(objects):
    web = Ref("Pod", "shop", "web")
    objects.add(web, ownerReferences=[{"kind": "ReplicaSet", "name": "web-5d"}])
    assert mark(objects, web, True, {}).remarks[0].startswith("whatever replaces pod/web is not marked")


@pytest.mark.parametrize(
    ("ref", "spec"),
    [
        (Ref("Pod", "shop", "proxy"), {"hostNetwork": True}),
        (Ref("DaemonSet", "shop", "proxy"), {"template": {"spec": {"hostNetwork": True}}}),
        (Ref("CronJob", "shop", "proxy"), {"jobTemplate": {"spec": {"template": {"spec": {"hostNetwork": True}}}}}),
    ],
)
def test_what_has_no_veth_is_said(objects, ref, spec):
    """Seen by an operator: `enable` took a pod on the host's network, and nothing was ever traced."""
    objects.add(ref)
    objects.objects[ref]["spec"] = {}
    assert mark(objects, ref, True, {}).remarks == ()
    objects.objects[ref]["spec"] = spec
    [said] = mark(objects, ref, True, {}).remarks
    assert said.startswith(f"{ref.kind.lower()}/proxy uses its host's network") and said.endswith(".")
    assert mark(objects, ref, False, {}).remarks == ()


def test_what_is_not_there(objects):
    for change in (clear, lambda *args: mark(*args, True, {})):
        with pytest.raises(NotFound):
            change(objects, Ref("Namespace", "", "shop"))
    assert objects.writes == 0


ACTS = st.tuples(
    st.sampled_from([True, False, None]), st.dictionaries(st.sampled_from([PORTS, CAPTURE, REDACT]), st.sampled_from("ab"))
)


@given(st.lists(ACTS, max_size=6))
def test_any_order_of_acts(acts):
    objects, expected = Applying(), {}
    objects.add(CART)
    for traced, refined in acts:
        done = clear(objects, CART) if traced is None else mark(objects, CART, traced, refined)
        expected = {} if traced is None else {**expected, **refined, TRACE: "true" if traced else "false"}
        assert {row.key: row.after for row in done.rows if row.after is not None} == expected
