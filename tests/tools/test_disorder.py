"""`tools/disorder`: what it cannot read it names, in one sentence, before anything is tried."""

from __future__ import annotations

import sys

import pytest

from tests.support.captures import conversation, pcap
from tools import _disorder


@pytest.mark.parametrize(("said", "beginning"), [(None, "there is no "), (b"text", "")])
def test_what_is_no_capture_is_named(said, beginning, tmp_path, capsys, monkeypatch):
    good, other = tmp_path / "good.pcap", tmp_path / "other.pcap"
    good.write_bytes(pcap(conversation()))
    if said is not None:
        other.write_bytes(said)
    monkeypatch.setattr(sys, "argv", ["disorder", str(good), str(other), "-n", "1"])
    with pytest.raises(SystemExit) as end:
        _disorder.main()
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert err.startswith(f"tools/disorder: {beginning}") and str(other) in err and err.count("\n") == 1
