import mmap
import random
import string
import threading
from pathlib import Path

import pytest

from clovisor_py.exporters._screen import status_of
from clovisor_py.metrics import red as module
from clovisor_py.metrics._edge import EDGE_ROWS, OTHER, OWN_STATUSES, STATUS_CHARS, STATUSES
from clovisor_py.metrics._examples import example
from clovisor_py.metrics.exposition import Exposition
from clovisor_py.metrics.red import EDGES, EXAMPLE_NS, IDLE_NS, REMEMBERED, ROWS, UNKNOWN, Red
from clovisor_py.metrics.red import STATUSES as ALL_STATUSES
from clovisor_py.metrics.routes import FANOUT
from clovisor_py.model.session import END, Outcome, Part, Side
from clovisor_py.model.workload import Endpoint
from clovisor_py.snapshot import Snapshot
from tests.support.sessions import pod, session


def filled(*sessions):
    red = Red()
    for one in sessions:
        red.add(one)
    return red


def failed(status="503", **changes):
    return session(**({"status": status, "outcome": Outcome.ERROR} | changes))


def test_who_asks_for_no_operations_gets_the_same_edges_in_one_row():
    apart, together = Red(), Red(by_operation=False)
    for index, status in enumerate(["200", "404", "500", "200"] * 10):
        one = session(resource=f"/page/{index}/x", status=status, outcome=Outcome.OK if status == "200" else Outcome.ERROR)
        apart.add(one)
        together.add(one)
    [edge], [other] = apart.edges(), together.edges()
    assert (edge.calls, edge.errors, edge.statuses) == (other.calls, other.errors, other.statuses) == (40, 20, other.statuses)
    assert edge.durations.quantile(0.5) == other.durations.quantile(0.5)
    assert edge.slowest is other.slowest
    [row] = other.rows().values()
    assert row.examples == {}
    assert len(edge.rows()) > 1
    assert together.routes.nodes == 0


def test_an_edge_is_who_called_whom_in_which_protocol():
    red = filled(
        session(client_workload=pod("web-1", "web"), server_workload=pod("cart-1", "cart")),
        session(client_workload=pod("web-2", "web"), server_workload=pod("cart-2", "cart")),
        session(client_workload=pod("web-2", "web"), server_workload=pod("cart-2", "cart"), protocol="redis"),
        session(client=Endpoint("10.0.0.9", 1)),
        session(client=Endpoint("10.0.0.9", 2)),
    )
    assert [(edge.client, edge.server, edge.protocol, edge.calls) for edge in red.edges()] == [
        ("web", "cart", "http", 2),
        ("10.0.0.9", "web", "http", 2),
        ("web", "cart", "redis", 1),
    ]


def test_namespaces_keep_equal_names_apart():
    blue, green = pod("web"), pod("web").__class__("web", namespace="green")
    red = filled(session(server_workload=blue), session(server_workload=green))
    assert sorted(edge.server_namespace for edge in red.edges()) == ["green", "shop"]


def test_errors_statuses_and_the_slowest():
    slow = failed(duration_ns=212_000_000)
    red = filled(session(), failed(), slow, session(status="", outcome=Outcome.TIMEOUT, duration_ns=1))
    [edge] = red.edges()
    assert (edge.calls, edge.errors) == (4, 3)
    assert edge.statuses == {"200": 1, "503": 2, "timeout": 1}
    assert edge.error_statuses == {"503": 2, "timeout": 1}
    assert edge.slowest is slow


def test_a_one_way_session_is_a_call_that_takes_no_time():
    [edge] = filled(session(outcome=Outcome.ONE_WAY, duration_ns=0, status="")).edges()
    assert (edge.calls, edge.errors, edge.durations.count, edge.statuses, edge.slowest) == (1, 0, 0, {}, None)


def test_what_passed_unseen_may_have_hidden_others():
    def hidden(**changes):
        return filled(session(), session(**changes)).total().hidden

    assert hidden() == hidden(truncated=True) == hidden(mid_stream=True) == 0, "these were seen, if not whole"
    assert hidden(gap_bytes=1) == 1
    assert hidden(truncated=True, attributes={"clovisor.response": "not seen"}) == 1
    assert hidden(mid_stream=True, attributes={"clovisor.request": "not seen"}) == 1
    assert hidden(connection=True, resource="not captured") == 1
    assert hidden(connection=True, resource="unknown protocol") == 0


def test_a_call_seen_at_both_ends_is_two_sessions_and_one_call():
    ends = {"client_workload": pod("a"), "server_workload": pod("b")}
    client, server = session(side=Side.CLIENT, **ends), session(side=Side.SERVER, **ends)
    red = filled(client, server)
    assert red.total().calls == 2
    assert [(edge.side, edge.calls) for edge in red.calls()] == [(Side.SERVER, 1)]
    red.add(client)
    assert [(edge.side, edge.calls) for edge in red.calls()] == [(Side.CLIENT, 2)]


def test_the_total_is_the_sum_of_the_edges():
    red = filled(session(), failed(protocol="redis", duration_ns=9_000_000_000), session(protocol="dns"))
    total = red.total()
    assert (total.calls, total.errors, total.durations.count) == (3, 1, 3)
    assert total.slowest.protocol == "redis"
    assert total.statuses == {"200": 2, "503": 1}
    assert Red().total().durations.quantile(0.5) == 0


def test_edges_are_bounded_and_the_rest_is_counted():
    red = filled(*(session(client=Endpoint(f"10.{i >> 8}.{i & 255}.1", 1)) for i in range(EDGES + 10)))
    edges = red.edges()
    assert len(edges) == EDGES + 1
    assert (edges[-1].client, edges[-1].protocol, edges[-1].calls) == (OTHER, OTHER, 10)
    assert red.overflowed == 10
    assert red.total().calls == EDGES + 10
    red.add(session(client=Endpoint("10.0.0.1", 7)))
    assert red.overflowed == 10


def test_statuses_come_from_the_wire_and_are_bounded():
    red = filled(*(failed(str(i) * 100) for i in range(STATUSES * 3)))
    [edge] = red.edges()
    for counts in (edge.statuses, edge.error_statuses, red.total().error_statuses):
        assert len(counts) == STATUSES + 1
        assert sum(counts.values()) == STATUSES * 3
        assert max(map(len, counts)) <= STATUS_CHARS


def test_another_thread_may_read_meanwhile():
    red, done = Red(), threading.Event()
    faults = []

    def read():
        while not done.is_set():
            try:
                red.total().durations.quantile(0.9)
                red.calls()
            except RuntimeError as error:
                faults.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for i in range(20_000):
        red.add(session(client=Endpoint(str(i % 900), 1), status=str(i % 60), duration_ns=i * i))
    done.set()
    thread.join()
    assert faults == []
    assert red.total().calls == 20_000


def test_adding_edges_by_hand():
    edges = filled(session(), session(protocol="dns")).edges()
    assert module.total(edges[:1]).calls == 1


def paths(*found, **changes):
    return [session(resource=path, attributes={"http.request.method": "GET", "url.path": path}, **changes) for path in found]


def test_rows_are_operations_and_classes_of_status():
    [edge] = filled(*paths("/users/1", "/users/2", "/health"), *paths("/users/3", status="500", outcome=Outcome.ERROR)).edges()
    assert {(what.title, what.code): (row.calls, row.errors) for what, row in edge.rows().items()} == {
        ("GET /users/{id}", "2xx"): (2, 0),
        ("GET /users/{id}", "5xx"): (1, 1),
        ("GET /health", "2xx"): (1, 0),
    }
    assert sum(row.durations.count for row in edge.rows().values()) == edge.durations.count == 4


def test_the_same_texts_may_end_in_different_ways():
    outcomes = [Outcome.OK, Outcome.ERROR, Outcome.ONE_WAY, Outcome.TIMEOUT, Outcome.RESET, Outcome.CLOSED] * 2
    [edge] = filled(*(session(status="", outcome=outcome) for outcome in outcomes)).edges()
    assert {what.code: row.calls for what, row in edge.rows().items()} == dict.fromkeys(
        ("ok", "error", "one_way", "timeout", "reset", "closed"), 2
    )
    [edge] = filled(session(), session(attributes={**session().attributes, END: "detached"}), session()).edges()
    assert {what.code: row.calls for what, row in edge.rows().items()} == {"2xx": 2, "open": 1}


def test_a_template_that_changes_takes_its_counts_along():
    words = [f"{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(FANOUT + 1)]
    red = filled(*paths(*(f"/shops/{word}" for word in words), duration_ns=1000))
    [edge] = red.edges()
    assert {what.title: row.calls for what, row in edge.rows().items()} == {"GET /shops/{name}": FANOUT + 1}
    assert (edge.durations.count, edge.durations.total_ns) == (FANOUT + 1, 1000 * (FANOUT + 1))
    for one in paths(*(f"/shops/{word}" for word in words)):
        red.add(one)
    assert len(edge.rows()) == 1
    assert edge.calls == 2 * (FANOUT + 1)


def test_who_is_idle_for_an_hour_makes_room():
    red = filled(*(session(client=Endpoint(f"c{i}", 1)) for i in range(EDGES)))
    busy, later = Endpoint("c0", 1), session().start_ns
    for hour in range(3):
        red.add(session(client=busy, start_ns=later + hour * IDLE_NS))
        red.add(session(client=Endpoint(f"new{hour}", 1), start_ns=later + hour * IDLE_NS + 1))
    names = [edge.client for edge in red.edges()]
    assert names == ["c0", "new1", "new2", OTHER]
    assert (red.forgotten, red.overflowed) == (EDGES - 1, 1)
    assert red._rows == sum(len(edge.rows()) for edge in red.edges()[:-1])


def test_the_edge_that_needs_room_stays():
    pairs = ROWS // EDGE_ROWS + 1
    red, start = Red(), session().start_ns

    def one(pair, operation, at):
        return session(protocol="toy", operation=operation, attributes={}, client=Endpoint(f"c{pair}", 1), start_ns=at)

    for pair in range(pairs):
        for number in range(EDGE_ROWS - 1):
            red.add(one(pair, f"op{number}", start))
    for number in range(ROWS):
        red.add(one(0, f"more{number}", start))  # the first look
        red.add(one("new", f"more{number}", start))
    before, calls = red.forgotten, red.total().calls
    red.add(one(1, "late", start + IDLE_NS))
    assert red.forgotten > before
    assert {edge.client: edge.calls for edge in red.edges()}["c1"] == EDGE_ROWS
    assert red.total().calls < calls


def test_operations_of_an_edge_are_bounded_and_the_rest_is_counted():
    red = filled(*(session(protocol="toy", operation=f"op{i}", attributes={}) for i in range(100)))
    [edge] = red.edges()
    assert len(edge.rows()) == EDGE_ROWS + 1
    assert {row.calls for what, row in edge.rows().items() if what.verb == OTHER} == {100 - EDGE_ROWS}
    assert red.merged == 100 - EDGE_ROWS
    assert edge.calls == 100


def test_rows_of_all_edges_together_are_bounded():
    pairs, each = ROWS // EDGE_ROWS + 2, EDGE_ROWS
    sessions = (
        session(protocol="toy", operation=f"op{i}", attributes={}, client=Endpoint(f"c{pair}", 1))
        for pair in range(pairs)
        for i in range(each)
    )
    red = filled(*sessions)
    assert sum(len(edge.rows()) for edge in red.edges()) <= ROWS + pairs
    assert red.total().calls == pairs * each
    assert red.merged == pairs * each - ROWS


def test_what_is_remembered_is_bounded():
    red = filled(*(session(resource=str(i) * 40) for i in range(2 * REMEMBERED)), session(resource="x" * 300))
    [edge] = red.edges()
    assert 0 < len(edge.rows_ok) <= REMEMBERED
    assert max(len(resource) for _, resource, _ in edge.rows_ok) <= 256
    red = filled(*(session(client=Endpoint(str(i), 1), client_workload=pod(f"p{i}", "web")) for i in range(2 * REMEMBERED)))
    assert 0 < len(red._pairs) <= REMEMBERED
    assert [edge.calls for edge in red.edges()] == [2 * REMEMBERED]


def test_addresses_are_no_names_where_they_become_time_series():
    red = Red(addresses=False)
    for i in range(EDGES * 2):
        red.add(session(client=Endpoint(f"10.{i >> 8}.{i & 255}.1", 1)))
    assert [(edge.client, edge.calls) for edge in red.edges()] == [(UNKNOWN, 2 * EDGES)]
    assert red.overflowed == 0


def test_sizes_by_their_number_of_bits():
    [edge] = filled(session(request=Part(0, 100), response=Part(0, 0)), session(request=Part(0, 127), response=None)).edges()
    assert (edge.request_sizes[7], sum(edge.request_sizes)) == (2, 2)
    assert (edge.response_sizes[0], sum(edge.response_sizes)) == (1, 1)
    assert sum(row.sent for row in edge.rows().values()) == 227


def test_who_is_only_looked_at_is_not_counted():
    red = Red()
    red.private = {7}
    red.add(session(interface=7))
    red.add(session(interface=8))
    assert red.total().calls == 1


def test_a_late_session_of_each_class_of_duration_is_an_example():
    start = session().start_ns
    slow, fast = session(duration_ns=10**9, start_ns=start + EXAMPLE_NS), session(duration_ns=1000)
    soon = session(duration_ns=1001, start_ns=start + EXAMPLE_NS - 1)
    [edge] = filled(session(duration_ns=10**9 + 5), fast, slow, soon).edges()
    [row] = edge.rows().values()
    assert list(row.examples.values()) == [example(slow), example(fast)]


def test_a_clock_that_was_set_back_leaves_no_example_for_long():
    back = session(start_ns=session().start_ns - EXAMPLE_NS)
    [edge] = filled(session(), back).edges()
    [row] = edge.rows().values()
    assert list(row.examples.values()) == [example(back)]


def test_statuses_of_all_edges_together_are_bounded():
    pairs = ALL_STATUSES // STATUSES + 3
    many = [failed(str(i), client=Endpoint(f"c{pair}", 1)) for pair in range(pairs) for i in range(STATUSES)]
    red = filled(*many, *many)
    edges = red.edges()
    told = [len(edge.statuses.keys() - {OTHER}) for edge in edges]
    assert ALL_STATUSES <= sum(told) == red._statuses <= ALL_STATUSES + OWN_STATUSES * len(edges)
    assert min(told) == OWN_STATUSES, "who comes late has its commonest ones"
    assert sum(sum(edge.statuses.values()) for edge in edges) == sum(sum(edge.error_statuses.values()) for edge in edges)
    assert sum(sum(edge.statuses.values()) for edge in edges) == 2 * len(many)
    assert all(edge.error_statuses.keys() <= edge.statuses.keys() for edge in edges)
    red.add(failed("new", client=Endpoint("c0", 1), start_ns=session().start_ns + IDLE_NS))
    red.add(failed("new", client=Endpoint("c0", 1), start_ns=session().start_ns + 2 * IDLE_NS))
    assert [edge.client for edge in red.edges()] == ["c0"]
    assert red._statuses == len(red.edges()[0].statuses.keys() - {OTHER})


def resident():
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.slow
def test_a_million_distinct_paths():
    """Of shapes that an API, a shop, a crawler and an attacker bring: under a thousand series, bounded memory, nothing lost."""
    chance, red = random.Random(6), Red(addresses=False)
    letters = string.ascii_lowercase

    def word():
        return "".join(chance.choices(letters, k=7))

    shapes = [
        lambda i: f"/users/{i}/orders/{chance.getrandbits(128):032x}",
        lambda i: f"/shop/{word()}/{word()}",
        lambda i: "/" + "/".join(word() for _ in range(chance.randrange(1, 12))),
        lambda i: f"/{i:x}{word()}?q={i}",
        lambda i: f"/static/{word()}.{i}.js",
    ]
    before = None
    for i in range(1_000_000):
        [one] = paths(shapes[i % 5](i))
        red.add(one)
        if i == 200_000:
            before = resident()
    grown = resident() - before
    page, _ = Exposition(lambda: red, Snapshot).render()
    series = [line for line in page.decode().splitlines() if not line.startswith("#")]
    assert len(series) < 1000
    assert red.total().calls == 1_000_000
    assert grown < 16 << 20


@pytest.mark.parametrize(
    ("status", "connection", "word"),
    [("200", False, "reset"), ("", False, "reset"), ("refused", True, "refused"), ("", True, "reset")],
)
def test_an_answer_that_was_broken_off_is_no_error_of_its_status(status, connection, word):
    """`200` among the errors would say that 200 is one; the terminal's line says the same word."""
    red, broken = Red(), session(status=status, outcome=Outcome.RESET, connection=connection)
    red.add(broken)
    [edge] = red.edges()
    assert (edge.statuses, edge.error_statuses) == ({word: 1}, {word: 1})
    assert status_of(broken) == word
