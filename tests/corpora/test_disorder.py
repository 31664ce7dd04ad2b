"""Real traffic in the disorder of networks and captures: nothing raises, nothing is invented, and where no byte is missing
nothing is different. A few seeds each; `tools/disorder` tries as many as one likes."""

import random

import pytest

from tests.corpora.conftest import CAPTURES, CORPORA
from tests.support.disorder import DAMAGES, engine, facts, false_sessions, recut, segments_of

SEEDS = 5

pytestmark = pytest.mark.parametrize("path", CAPTURES, ids=[str(path.relative_to(CORPORA)) for path in CAPTURES])


def test_other_segments_of_the_same_bytes_change_nothing(path):
    segments = segments_of(path)
    whole = facts(engine(segments)[0])
    for seed in range(SEEDS):
        assert facts(engine(recut(segments, random.Random(seed)))[0]) == whole, f"seed {seed}"


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_invents_no_session(path, damage):
    segments = segments_of(path)
    whole, _ = engine(segments)
    for seed in range(SEEDS):
        sessions, _ = engine(DAMAGES[damage](segments, random.Random(seed)))
        assert not false_sessions(whole, sessions), f"seed {seed}"
