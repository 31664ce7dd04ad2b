"""The agent's last words: what each exporter got, and what became of the rest."""

import logging

import pytest

from clovisor_py.cli.agent import _say_delivered
from clovisor_py.exporters._worker import Ledger


@pytest.mark.parametrize(
    ("ledger", "level", "said"),
    [
        (Ledger(1200, 1200, {"failed": 0}, 0), logging.INFO, "otlp+http://a got 1,200 of 1,200 sessions."),
        (
            Ledger(9, 4, {"failed": 3, "refused": 0, "stopped": 2}, 0),
            logging.WARNING,
            "otlp+http://a got 4 of 9 sessions (dropped: failed 3, stopped 2).",
        ),
    ],
)
def test_what_was_not_delivered_is_a_warning(ledger, level, said, caplog):
    with caplog.at_level(logging.INFO):
        _say_delivered({"otlp+http://a": ledger})
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(level, said)]
