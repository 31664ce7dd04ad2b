"""Words of routes stay, and what would tell of a person, a host or a secret does not."""

from __future__ import annotations

import random
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.metrics._words import written
from clovisor_py.metrics.routes import ID, WORD_CHARS, place

ROUTES = """
api v1 v2beta1 v1.2 productpage reviews healthz index.html robots.txt .well-known openid-configuration app.min.js
static favicon.ico manifest.webmanifest archive.tar.gz getUserById checkout-service CheckoutService getHTTPStatus parseXMLDoc
userID iPhone xAxis getUserV2 OAuth2Callback oauth2 XMLHttpRequest README getURL toDoList getDbInfo getPdfById GetSHA256
base64Encode isAValue GraphQL PostgreSQL McDonald LoginV1 Http2Settings wp-login.php Default.aspx shop.Cart shop.v1.CartService
chat.postMessage users.list openapi.v3.json k8s i18n sha256 x509 snake_case_name kebab-case-name X-Mixed-Case host10 .. GiB mTLS
"""
PRIVATE = """
kJhGfDsAqWeRtYuIoP resetTokenQmFzZTYabcdEFgh Ab3xK9 J8fk2Lq dQw4w9WgXcQ x7k2p9q Bob.Smith bob.m.smith
ip-10-0-0-5 10-0-0-5 pod-10-244-1-17 ip-10-0-0-5.ec2.internal customer.example.com example.com invite-kJhGfDsAqW
kJhGfDsAqWeRtYuIoP.pdf
"""


@pytest.mark.parametrize("part", re.split(r"\s+", ROUTES.strip()))
def test_a_word_of_a_route_stays(part: str) -> None:
    assert place(part) == part


@pytest.mark.parametrize("part", re.split(r"\s+", PRIVATE.strip()))
def test_what_no_hand_wrote_is_a_variable_at_once(part: str) -> None:
    assert place(part) == ID


@pytest.mark.parametrize(("alphabet", "passing"), [(string.ascii_letters, 0.03), (string.ascii_letters + string.digits, 0.01)])
def test_few_random_tokens_pass_for_names(alphabet: str, passing: float) -> None:
    chance = random.Random(7)
    found = [written("".join(chance.choices(alphabet, k=16))) for _ in range(5_000)]
    assert sum(found) / len(found) < passing


@given(st.text(max_size=WORD_CHARS))
def test_whatever_comes_has_an_answer(part: str) -> None:
    assert place(part) in (part, ID, "{date}")
