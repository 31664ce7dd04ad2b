import threading

import pytest

from clovisor_py.demo.truth import Truth, read, trace_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ("", "", "")),
        ({"traceparent": f"00-{TRACE}-{PARENT}-01"}, (TRACE, PARENT, "traceparent")),
        ({"b3": f"{TRACE.upper()}-{PARENT}-1"}, (TRACE, PARENT, "b3")),
        ({"b3": f"a3ce929d0e0e4736-{PARENT}"}, ("0" * 16 + "a3ce929d0e0e4736", PARENT, "b3")),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": PARENT}, (TRACE, PARENT, "b3multi")),
    ],
)
def test_trace_of(headers, expected):
    assert trace_of(headers) == expected


@pytest.mark.parametrize(("status", "outcome"), [(0, "failed"), (200, "ok"), (304, "ok"), (404, "error"), (503, "error")])
def test_a_record_comes_back(tmp_path, status, outcome):
    truth = Truth(str(tmp_path / "truth"), "reviews")
    truth.write("client", "/ratings/1", status, 5, 7, {"x-request-id": "r-1"}, family="ipv6", peer="ratings")
    truth.close()
    assert read(tmp_path / "truth") == [
        {
            "service": "reviews",
            "side": "client",
            "peer": "ratings",
            "method": "GET",
            "path": "/ratings/1",
            "status": status,
            "outcome": outcome,
            "start_ns": 5,
            "duration_ns": 7,
            "trace_id": "",
            "parent_id": "",
            "format": "",
            "request_id": "r-1",
            "family": "ipv6",
        }
    ]


def test_a_line_that_is_being_written_is_left_for_later(tmp_path):
    (tmp_path / "truth").write_text('{"service":"a"}\n{"servi')
    assert read(tmp_path / "truth") == [{"service": "a"}]


def test_writers_do_not_mix_their_lines(tmp_path):
    truths = [Truth(str(tmp_path / "truth"), f"s{number}") for number in range(4)]

    def work(truth):
        for number in range(50):
            truth.write("server", f"/{number}", 200, 0, 0, {}, family="ipv4")

    threads = [threading.Thread(target=work, args=(truth,)) for truth in truths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for truth in truths:
        truth.close()
    assert len({(record["service"], record["path"]) for record in read(tmp_path / "truth")}) == 200
