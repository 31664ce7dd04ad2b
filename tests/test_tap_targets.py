"""What a tap asks for is read from text, refused with a sentence, and applied to pods."""

from __future__ import annotations

import pytest

from clovisor_py.errors import UsageError
from clovisor_py.kube.objects import Ref
from clovisor_py.protocols._redaction import Level
from clovisor_py.tap_targets import means, read_level, read_targets
from tests.support.fake_cluster import pod


def test_what_is_asked_for():
    assert read_targets("Pod/shop/web Namespace//shop") == [Ref("Pod", "shop", "web"), Ref("Namespace", "", "shop")]
    assert [read_level(text) for text in ("", "off", "strict")] == [Level.OFF, Level.OFF, Level.STRICT]


@pytest.mark.parametrize("text", ["", " ", "Pod/x", "Pod/a/b c", "Pod/a/b/c"])
def test_what_names_nothing(text):
    with pytest.raises(UsageError, match=r"KIND/NAMESPACE/NAME: use"):
        read_targets(text)


def test_what_is_no_level():
    with pytest.raises(UsageError, match=r"'secret' is no level: write"):
        read_level("secret")


def test_what_a_target_means():
    web = pod("web", "10.0.0.2")._replace(owner=Ref("ReplicaSet", "shop", "web-1"))
    meant = [Ref("Pod", "shop", "web"), Ref("Namespace", "", "shop"), Ref("ReplicaSet", "shop", "web-1")]
    assert all(means(target, web, "deployment/web") for target in [*meant, Ref("Deployment", "shop", "web")])
    others = [Ref("Pod", "shop", "x"), Ref("Namespace", "", "x"), Ref("Deployment", "other", "web"), Ref("Job", "shop", "web")]
    assert not any(means(target, web, "deployment/web") for target in others)
