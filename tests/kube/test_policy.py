"""The decision for a pod: who is asked, who wins, what is said, and what cannot be traced at all."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.kube.annotations import CAPTURE, EGRESS, PORTS, REDACT, SAMPLE, TRACE
from clovisor_py.kube.egress import EgressRule, rule_of
from clovisor_py.kube.objects import Owner, Pod, Ref
from clovisor_py.kube.policy import Decision, Problem, Rules, Watched, decide, why_not

NAMES = frozenset({"http", "kafka"})
RULES = Rules(names=NAMES)
POD = Ref("Pod", "shop", "cart-5d-x")
SET = Ref("ReplicaSet", "shop", "cart-5d")
DEPLOYMENT = Ref("Deployment", "shop", "cart")
NAMESPACE = Ref("Namespace", "", "shop")


def pod(labels=None, annotations=None, **fields) -> Pod:
    return Pod(
        POD, "u1", node="n1", ips=("10.0.0.2",), phase="Running", labels=labels or {}, annotations=annotations or {}
    )._replace(**fields)


def owner(ref, trace=None, annotations=None, owner=None, **labels) -> Owner:
    own = {TRACE: trace} if trace is not None else {}
    return Owner(ref, owner, {**own, **labels}, annotations or {})


def decided(one=None, owners=(), namespace=None, rules=RULES) -> Decision:
    return decide(one or pod(), owners, namespace, rules)


def test_nobody_says_anything():
    assert decided() == Decision(False, "no label clovisor.io/trace, and the agent's default is not to")
    found = decided(rules=Rules(default=True))
    assert found == Decision(True, "no label clovisor.io/trace, and the agent's default is to trace")


def test_a_label_that_cannot_be_read_is_not_denied():
    found = decided(pod({TRACE: "yes"}))
    assert (found.traced, found.because) == (
        False,
        "no label clovisor.io/trace that can be read, and the agent's default is not to",
    )
    assert "write 'true' or 'false'" in found.problems[0].sentence


@pytest.mark.parametrize("said", list(itertools.product([None, "true", "false", "maybe"], repeat=4)))
def test_the_nearer_wins(said):
    labels = [{TRACE: text} if text else {} for text in said]
    found = decide(
        pod(labels[0]),
        [Owner(SET, DEPLOYMENT, labels[1]), Owner(DEPLOYMENT, None, labels[2])],
        Owner(NAMESPACE, None, labels[3]),
        Rules(default=True),
    )
    places = ["pod/cart-5d-x", "replicaset/cart-5d", "deployment/cart", "namespace/shop"]
    clear = [(text, place) for text, place in zip(said, places, strict=True) if text in ("true", "false")]
    if clear:
        assert (found.traced, found.because) == (
            clear[0][0] == "true",
            f"label clovisor.io/trace={clear[0][0]} on {clear[0][1]}",
        )
    else:
        assert found.traced
    before = said[: places.index(clear[0][1])] if clear else said
    assert len(found.problems) == before.count("maybe")


def test_a_label_that_makes_no_sense_is_a_problem_of_its_object():
    found = decided(namespace=owner(NAMESPACE, "yes"))
    sentence = "label clovisor.io/trace on namespace/shop: 'yes' is neither: write 'true' or 'false'."
    assert not found.traced and found.problems == (Problem(NAMESPACE, sentence),)


def test_a_static_pods_node_has_no_say():
    assert not decided(owners=[owner(Ref("Node", "", "n1"), "true")]).traced


@pytest.mark.parametrize(
    ("watched", "expected"),
    [
        (Watched("shop"), True),
        (Watched("other"), False),
        (Watched("shop", "app", "cart"), True),
        (Watched("shop", "app", "web"), False),
        (Watched("", "app", "cart"), True),
        (Watched(), True),
    ],
)
def test_what_the_settings_watch(watched, expected):
    found = decided(pod({"app": "cart"}), rules=Rules(watch=(Watched("nowhere"), watched)))
    assert found.traced is expected
    if expected:
        assert found.because == f"the agent's settings watch {watched}"
    assert not decided(pod({"app": "cart", TRACE: "false"}), rules=Rules(watch=(watched,))).traced, "a label is nearer"


def test_refinements_each_from_the_nearest():
    found = decided(
        pod({TRACE: "true"}, {CAPTURE: "full"}),
        [owner(SET, owner=DEPLOYMENT), owner(DEPLOYMENT, annotations={CAPTURE: "none", PORTS: "8080=http"})],
        owner(NAMESPACE, annotations={PORTS: "9092=kafka", REDACT: "strict", EGRESS: "*:6379", SAMPLE: "0.25"}),
    )
    assert (found.capture, found.hints, found.redact, found.sample) == ("full", {8080: "http"}, "strict", 0.25)
    assert found.egress == (EgressRule(None, 6379),)
    assert not found.problems


def test_a_copy_on_a_replicaset_is_not_the_operators_word():
    """The Deployment's controller adds annotations to its ReplicaSets, and never removes them there."""
    stale = owner(SET, annotations={PORTS: "9092=kafka"}, owner=DEPLOYMENT)
    assert decided(pod({TRACE: "true"}), [stale, owner(DEPLOYMENT)]).hints == {}
    alone = owner(SET, annotations={PORTS: "9092=kafka"})
    assert decided(pod({TRACE: "true"}), [alone]).hints == {9092: "kafka"}


def test_what_makes_no_sense_leaves_the_rest():
    found = decided(
        pod({TRACE: "true"}, {CAPTURE: "everything", PORTS: "8080=http,21=ftp", EGRESS: "db:5432"}),
        namespace=owner(NAMESPACE, annotations={CAPTURE: "head", PORTS: "9092=kafka"}),
    )
    assert (found.capture, found.hints) == ("head", {8080: "http"}), "a word that is none leaves it to who is farther"
    assert found.egress == (), "restricted, to nothing that can be read"
    assert [problem.on for problem in found.problems] == [POD] * 3
    assert found.problems[0].sentence.startswith("annotation clovisor.io/capture on pod/cart-5d-x: 'everything' is none of ")
    assert all(problem.sentence.endswith(".") for problem in found.problems)


def test_a_level_that_nobody_can_read_hides_more_not_less():
    found = decided(pod({TRACE: "true"}, {REDACT: "stirct"}), namespace=owner(NAMESPACE, annotations={REDACT: "off"}))
    assert found.redact == "strict"
    assert "until then it is strict" in found.problems[0].sentence


def test_words_in_the_wrong_place():
    found = decided(pod({TRACE: "true", PORTS: "8080"}, {TRACE: "true", "clovisor.io/port": "80=http", "other/ports": "x"}))
    assert [problem.sentence for problem in found.problems] == [
        "clovisor.io/ports on pod/cart-5d-x is a label: write it as an annotation.",
        "clovisor.io/trace on pod/cart-5d-x is an annotation: write it as a label.",
        "annotation 'clovisor.io/port' on pod/cart-5d-x is unknown; there are clovisor.io/ports, clovisor.io/capture, "
        "clovisor.io/egress, clovisor.io/redact, clovisor.io/sample.",
    ]


def test_nobody_is_told_about_annotations_of_what_is_not_traced():
    assert decided(pod({TRACE: "false"}, {PORTS: "nonsense"})).problems == ()


def test_egress_of_the_settings_is_for_whom_it_names():
    rules = Rules(default=True, egress=tuple(rule_of(text, True) for text in ("*:6379", "10.0.0.5:5432:cart", "*:80:web")))
    assert [str(rule) for rule in decided(rules=rules).egress] == ["*:6379", "10.0.0.5:5432:cart"]
    assert decided(pod(annotations={EGRESS: "*:443"}), rules=rules).egress == (EgressRule(None, 443),)
    assert decided(rules=Rules(default=True)).egress is None
    assert decided(rules=Rules(default=True, egress=rules.egress[2:])).egress == ()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, ""),
        ({"phase": "Pending"}, ""),
        ({"deleted": True}, ""),
        ({"node": "n2"}, "it runs on node n2, and this is n1"),
        ({"node": ""}, "no node has been chosen for it yet"),
        ({"host_network": True}, "it uses its host's network, and so has no veth of its own"),
        ({"phase": "Succeeded"}, "it has finished (Succeeded)"),
        ({"phase": "Failed"}, "it has finished (Failed)"),
        ({"ips": ()}, "it has no address yet"),
    ],
)
def test_why_not(fields, said):
    assert why_not(pod(**fields), "n1") == said


KEYS = st.sampled_from([TRACE, PORTS, CAPTURE, EGRESS, REDACT, SAMPLE, "clovisor.io/x", "app"])
WRITTEN = st.dictionaries(KEYS, st.text(max_size=20) | st.sampled_from(["true", "false", "80=http", "*:1", "full", "off"]))


@given(st.tuples(*[WRITTEN] * 6), st.booleans())
def test_whatever_is_written_there_is_a_decision(written, default):
    one, two, three, four, five, six = written
    found = decide(
        pod(one, two), [Owner(DEPLOYMENT, None, three, four)], Owner(NAMESPACE, None, five, six), Rules(default, names=NAMES)
    )
    assert found.because and found.capture in (None, "head", "full", "none")
    assert found.redact in (None, "off", "default", "strict")
    assert {problem.on for problem in found.problems} <= {POD, DEPLOYMENT, NAMESPACE}
    assert all(problem.sentence.isprintable() and problem.sentence.endswith(".") for problem in found.problems)
    assert found == decide(
        pod(one, two), [Owner(DEPLOYMENT, None, three, four)], Owner(NAMESPACE, None, five, six), Rules(default, names=NAMES)
    )


def test_a_problem_names_the_uid_of_the_object_that_has_it():
    """Else `kubectl describe` would not show the Event."""
    namespace = Owner(NAMESPACE, labels={TRACE: "maybe"}, uid="u7")
    (problem,) = decided(pod(), namespace=namespace).problems
    assert (problem.on, problem.uid) == (NAMESPACE, "u7")


def test_of_a_pod_that_is_not_traced_it_is_known_what_would_hold():
    found = decided(pod({TRACE: "false"}, {REDACT: "strict", "clovisor.io/x": ""}))
    assert (found.traced, found.redact, found.problems) == (False, "strict", ())
