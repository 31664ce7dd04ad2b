"""Names of error codes."""

from clovisor_py.protocols import _kafka_errors as errors


def test_codes_have_their_names() -> None:
    known = {-1: "UNKNOWN_SERVER_ERROR", 0: "NONE", 3: "UNKNOWN_TOPIC_OR_PARTITION", 79: "MEMBER_ID_REQUIRED"}
    assert {code: errors.name(code) for code in known} == known
    assert errors.name(133) == "SHARE_SESSION_LIMIT_REACHED"
    assert len(set(errors.NAMES.values())) == len(errors.NAMES) == 135


def test_a_code_that_is_not_known_is_its_number() -> None:
    assert errors.name(9999) == "9999"
