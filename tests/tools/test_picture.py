"""`tools/picture` draws what Jaeger has: a real trace of the demo, kept as the API answered it (`/api/traces/ID`)."""

from __future__ import annotations

import copy
import json
import random
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tools import _picture

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests" / "golden" / "traces" / "demo.json"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def trace() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(KEPT.read_text())["data"][0]
    return kept


def picture(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [ROOT / "tools" / "picture", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")


def test_the_readme_shows_the_picture_of_the_trace_that_is_kept(trace):
    assert f"```\n{_picture.text(trace)}```\n" in (ROOT / "README.md").read_text()


def test_each_span_is_a_line_below_its_parent(trace):
    found = _picture.rows(trace)
    assert [(row.depth, row.label, row.said, row.client, row.failed) for row in found] == [
        (0, "client → productpage", "GET 503", True, True),
        (1, "productpage", "GET 503", False, True),
        (2, "productpage → details", "GET 200", True, False),
        (3, "details", "GET 200", False, False),
        (2, "productpage → reviews", "GET 503", True, True),
        (3, "reviews", "GET 503", False, True),
        (4, "reviews → ratings", "GET 503", True, True),
        (5, "ratings", "GET 503", False, True),
    ]
    begin = min(span["startTime"] for span in trace["spans"])
    assert sorted((row.start + begin, row.duration) for row in found) == sorted(
        (span["startTime"], span["duration"]) for span in trace["spans"]
    )


def test_the_order_of_the_spans_makes_no_difference(trace):
    other = copy.deepcopy(trace)
    random.Random(1).shuffle(other["spans"])
    assert (_picture.text(other), _picture.svg(other)) == (_picture.text(trace), _picture.svg(trace))


def test_the_svg_has_a_bar_for_each_span_where_its_times_are(trace):
    root = ET.fromstring(_picture.svg(trace))
    width, height = (int(root.attrib[name]) for name in ("width", "height"))
    bars = root.findall(f"{SVG}rect")
    found = _picture.rows(trace)
    end = max(row.start + row.duration for row in found)
    assert len(bars) == len(found) == 8
    for bar, row in zip(bars, found, strict=True):
        x, wide, y = (float(bar.attrib[name]) for name in ("x", "width", "y"))
        begin = _picture.Scale(found).left
        assert begin <= x <= x + wide <= width - _picture.RIGHT + 0.1
        assert 0 < y < height - _picture.ROW / 2
        assert x - begin == pytest.approx(_picture.BARS * row.start / end, abs=0.1)
        assert wide == pytest.approx(_picture.BARS * row.duration / end, abs=0.2) or wide == 1
        assert bar.attrib["class"] == ("client" if row.client else "server") + (" failed" if row.failed else "")
    texts = ["".join(text.itertext()) for text in root.findall(f"{SVG}text")]
    assert all(f"{row.label} {row.said}" in texts for row in found)
    assert "prefers-color-scheme: dark" in root.findtext(f"{SVG}style", "")


def test_a_name_from_the_wire_is_no_markup(trace):
    trace["spans"][0]["operationName"] = "<script>&"
    assert "<script>&" in "".join(ET.fromstring(_picture.svg(trace)).itertext())


def test_a_span_whose_parent_is_not_there_is_a_root(trace):
    trace["spans"] = [span for span in trace["spans"] if not any(tag["value"] == "reviews" for tag in span["tags"])]
    assert [row.depth for row in _picture.rows(trace)].count(0) >= 1
    assert len(_picture.rows(trace)) == len(trace["spans"])


def test_spans_in_a_circle_are_a_sentence(trace, tmp_path):
    first = trace["spans"][0]
    for span in trace["spans"]:
        span["references"] = [{"refType": "CHILD_OF", "traceID": span["traceID"], "spanID": first["spanID"]}]
    with pytest.raises(ValueError, match="above themselves"):
        _picture.rows(trace)


def test_the_command(tmp_path):
    done = picture(str(KEPT))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == _picture.text(json.loads(KEPT.read_text())["data"][0])
    done = picture("--svg", str(tmp_path / "x.svg"), str(KEPT))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ET.parse(tmp_path / "x.svg").getroot().tag == f"{SVG}svg"


@pytest.mark.parametrize("what", ["no-such-file", "empty", "0" * 32])
def test_what_cannot_be_drawn_is_a_sentence(tmp_path, what):
    (tmp_path / "empty").write_text('{"data": []}')
    done = picture("--query", "http://127.0.0.1:1", str(tmp_path / what) if what == "empty" else what)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("tools/picture: cannot draw")
    assert done.stderr.count("\n") == 1
