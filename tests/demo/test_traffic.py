from collections import Counter

from clovisor_py.demo import traffic
from clovisor_py.demo.bookinfo import PRODUCTS
from clovisor_py.demo.traffic import plan, send, served
from clovisor_py.demo.truth import read, trace_of


def test_a_plan_is_made_of_its_number_and_nothing_else():
    assert plan(7, "a") == plan(7, "a")
    assert plan(6, "a").headers["traceparent"] != plan(6, "b").headers["traceparent"]


def test_the_mix():
    plans = [plan(number, "run") for number in range(180)]
    forms = Counter(trace_of(planned.headers)[2] for planned in plans)
    assert forms == {"traceparent": 60, "b3": 30, "b3multi": 30, "": 60}
    assert sum(planned.ipv6 for planned in plans) == 60
    assert sum(planned.fresh for planned in plans) == 18
    assert {(trace_of(planned.headers)[2], planned.ipv6) for planned in plans} >= {(form, True) for form in forms}
    ids = [trace_of(planned.headers)[0] for planned in plans]
    assert len(set(ids) - {""}) == 120


def test_what_each_service_serves():
    assert served(60) == {"productpage": 60, "details": 60, "reviews": 59, "ratings": 59}
    assert served(PRODUCTS * 4)["ratings"] == 196


class Recorder:
    def __init__(self):
        self.got = []

    def get(self, path, headers, *, fresh):
        self.got.append(headers["x-request-id"])


def test_every_request_is_sent_once():
    ipv4, ipv6 = Recorder(), Recorder()
    send(50, 10_000.0, "run", ipv4, ipv6)
    assert sorted(ipv4.got + ipv6.got) == sorted(f"run-{number}" for number in range(50))
    assert len(ipv6.got) == sum(plan(number, "run").ipv6 for number in range(50))


def test_nobody_there(tmp_path):
    traffic.main(["127.0.0.1", "--requests", "2", "--rate", "200", "--truth", str(tmp_path / "truth")])
    assert [record["outcome"] for record in read(tmp_path / "truth")] == ["failed", "failed"]
