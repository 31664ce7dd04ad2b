import threading

from clovisor_py.metrics import red as module
from clovisor_py.metrics.red import EDGES, OTHER, STATUS_CHARS, STATUSES, Red
from clovisor_py.model.session import Outcome, Side
from clovisor_py.model.workload import Endpoint
from tests.support.sessions import pod, session


def filled(*sessions):
    red = Red()
    for one in sessions:
        red.add(one)
    return red


def failed(status="503", **changes):
    return session(**({"status": status, "outcome": Outcome.ERROR} | changes))


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
