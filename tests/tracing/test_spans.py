import pytest
from hypothesis import given

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.session import Outcome, Side, TraceContext
from clovisor_py.model.workload import Endpoint, Workload
from clovisor_py.tracing import ids
from clovisor_py.tracing.spans import span_of
from tests.support.segments import Conversation
from tests.support.sessions import ANY_SESSION, START, pod, session

CONTEXT = TraceContext(trace_id=0xABC, parent_id=0xDEF, format="traceparent", sampled=True)


def http(code, **changes):
    attributes = {"http.request.method": "GET", "url.path": "/x", "http.response.status_code": code}
    outcome = Outcome.ERROR if code >= 400 else Outcome.OK
    return session(**({"attributes": attributes, "status": str(code), "outcome": outcome} | changes))


def test_an_ordinary_span():
    span = span_of(session())
    assert (span.service, span.name, span.side) == ("web", "GET", Side.SERVER)
    assert (span.start_ns, span.duration_ns, span.error, span.parent_id, span.sampled) == (START, 4_100_000, False, 0, True)
    assert span.attributes == {
        "network.transport": "tcp",
        "network.type": "ipv4",
        "network.protocol.name": "http",
        "network.peer.address": "10.0.0.9",
        "network.peer.port": 41122,
        "server.address": "10.0.0.2",
        "server.port": 80,
        "client.address": "10.0.0.9",
        "client.port": 41122,
        "service.instance.id": "web",
        "http.request.method": "GET",
        "url.path": "/reviews/0",
        "http.response.status_code": 200,
        "clovisor.outcome": "ok",
        "clovisor.ttfb_ns": 3_900_000,
    }


@pytest.mark.parametrize(
    ("side", "own", "other", "service"),
    [
        (Side.SERVER, pod("web-1", "web"), pod("cart-7", "cart"), "web"),
        (Side.CLIENT, pod("web-1", "web"), pod("cart-7", "cart"), "web"),
        (Side.CLIENT, pod("web-1"), None, "web-1"),
        (Side.SERVER, Workload("ns1"), None, "ns1"),
    ],
)
def test_the_observed_pod_tells_the_span(side, own, other, service):
    ends = (own, other) if side is Side.CLIENT else (other, own)
    span = span_of(session(side=side, client_workload=ends[0], server_workload=ends[1]))
    assert span.service == service
    assert span.attributes.get("service.peer.name") == (other and other.service)
    assert span.attributes.get("service.peer.namespace") == (other and other.namespace)
    assert span.attributes.get("k8s.pod.name") == (own.name if own.namespace else None)
    assert ("client.address" in span.attributes) == (side is Side.SERVER)


def test_the_container_where_it_is_known():
    web = Workload("web-1", "shop", kind="pod", container="nginx")
    assert span_of(session(server_workload=web)).attributes["k8s.container.name"] == "nginx"
    assert "k8s.container.name" not in span_of(session(server_workload=pod("web-1"))).attributes


def test_a_pod_that_nobody_knows_is_its_address():
    assert span_of(session(server_workload=None)).service == "10.0.0.2"
    assert span_of(session(side=Side.CLIENT)).service == "10.0.0.9"


@pytest.mark.parametrize(
    ("operation", "attributes", "name"),
    [
        ("GET", {"http.request.method": "GET", "url.path": "/secret/1"}, "GET"),
        ("GET", {"http.request.method": "GET", "http.route": "/secret/{id}"}, "GET /secret/{id}"),
        ("BREW", {"http.request.method": "_OTHER"}, "HTTP"),
        ("SELECT", {"db.collection.name": "users"}, "SELECT users"),
        ("SELECT", {"db.query.summary": "SELECT users JOIN orders"}, "SELECT users JOIN orders"),
        ("Produce", {"messaging.destination.name": "orders"}, "Produce orders"),
        ("POST", {"http.request.method": "POST", "rpc.method": "shop.Cart/Add"}, "shop.Cart/Add"),
        ("Produce", {"messaging.operation.name": "send", "messaging.destination.name": "orders"}, "send orders"),
        ("CALL", {"db.stored_procedure.name": "refund"}, "CALL refund"),
        ("connect", {"db.namespace": "/reviews/0"}, "connect /reviews/0"),
        ("GET", {"db.namespace": "0"}, "GET"),
        ("HSET", {}, "HSET"),
        ("", {}, "tcp"),
    ],
)
def test_names_are_few_and_never_a_raw_path(operation, attributes, name):
    assert span_of(session(protocol="tcp", operation=operation, attributes=attributes)).name == name


def test_without_a_context_both_ends_meet_in_one_trace():
    client = span_of(session(side=Side.CLIENT, peer_traced=True))
    server = span_of(session(side=Side.SERVER, peer_traced=True))
    assert client.trace_id == server.trace_id
    assert (client.parent_id, server.parent_id) == (0, client.span_id)


def test_with_a_context_the_spans_hang_below_the_caller():
    client = span_of(session(side=Side.CLIENT, peer_traced=True, trace=CONTEXT))
    server = span_of(session(side=Side.SERVER, peer_traced=True, trace=CONTEXT))
    assert client.trace_id == server.trace_id == 0xABC
    assert (client.parent_id, server.parent_id) == (0xDEF, client.span_id)
    assert span_of(session(trace=CONTEXT)).parent_id == 0xDEF
    assert client.attributes["clovisor.trace_context"] == "traceparent"


def test_a_context_that_nobody_read_yet_is_read():
    headers = {"b3": f"{5:032x}-{6:016x}-0"}
    span = span_of(session(propagation=headers))
    assert (span.trace_id, span.parent_id, span.sampled) == (5, 6, False)


def test_a_call_hangs_below_the_request_that_it_was_made_for():
    assert span_of(session(side=Side.CLIENT, trace=CONTEXT, caller_span=0x77)).parent_id == 0x77
    assert span_of(session(side=Side.CLIENT, trace=CONTEXT, unlinked="several")).parent_id == 0xDEF


def test_tracestate_is_handed_on_and_skywalkings_own_id_is_told():
    headers = {"traceparent": f"00-{5:032x}-{6:016x}-01", "tracestate": "a=1"}
    assert span_of(session(propagation=headers)).trace_state == "a=1"
    own = span_of(session(trace=TraceContext(1, 2, "sw8", True, "abc.12.3")))
    assert (own.trace_state, own.attributes["clovisor.sw8.trace_id"]) == ("", "abc.12.3")
    assert span_of(session()).trace_state == ""


def test_a_context_that_could_not_be_read_is_remarked():
    span = span_of(session(propagation={"traceparent": "void", "b3": f"{5:032x}-{6:016x}-1"}))
    assert span.attributes["clovisor.trace_context.malformed"] == ["traceparent"]
    assert span.attributes["clovisor.trace_context"] == "b3"
    assert "clovisor.trace_context.malformed" not in span_of(session(propagation={"b3": "0"})).attributes


def test_a_span_that_the_other_end_cannot_name_is_nobodys_parent():
    assert span_of(session(peer_traced=True, head=b"")).parent_id == 0


@pytest.mark.parametrize(
    ("code", "server", "client"),
    [(200, False, False), (302, False, False), (404, False, True), (499, False, True), (503, True, True)],
)
def test_http_errors_depend_on_the_side(code, server, client):
    for side, error in ((Side.SERVER, server), (Side.CLIENT, client)):
        span = span_of(http(code, side=side))
        assert span.error is error
        assert span.attributes.get("error.type") == (str(code) if error else None)


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.RESET, Outcome.CLOSED])
def test_no_answer_is_always_an_error(outcome):
    for one in (session(outcome=outcome, status=""), http(200, outcome=outcome)):
        span = span_of(one)
        assert span.error
        assert span.attributes["error.type"] == outcome.value


@pytest.mark.parametrize("code", [200, 404])
@pytest.mark.parametrize(("status", "server"), [("INTERNAL_ERROR", True), ("REFUSED_STREAM", True), ("CANCEL", False)])
def test_what_is_broken_off_after_its_status_is_an_error(code, status, server):
    """Save at the server what its client called off."""
    for side, error in ((Side.SERVER, server), (Side.CLIENT, True)):
        span = span_of(http(code, side=side, status=status, outcome=Outcome.ERROR))
        assert span.error is error
        assert span.attributes.get("error.type") == (status if error else None)
    assert span_of(session(attributes={"http.request.method": "GET"}, status=status, outcome=Outcome.ERROR)).error is server
    assert span_of(session(protocol="own", attributes={}, status=status, outcome=Outcome.ERROR)).error


def test_an_rpc_is_judged_by_its_own_status():
    attributes = {"rpc.method": "a/b", "http.request.method": "POST", "http.response.status_code": 200}
    span = span_of(session(attributes=attributes, outcome=Outcome.ERROR, status="UNAVAILABLE"))
    assert span.error
    assert span.attributes["error.type"] == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("status", "server"),
    [("NOT_FOUND", False), ("INVALID_ARGUMENT", False), ("CANCELLED", False), ("INTERNAL", True), ("DEADLINE_EXCEEDED", True)],
)
def test_of_a_grpc_call_the_callers_mistakes_are_no_errors_of_the_server(status, server):
    attributes = {"rpc.system.name": "grpc", "rpc.method": "a/b", "rpc.response.status_code": status, "error.type": status}
    for side, error in ((Side.SERVER, server), (Side.CLIENT, True)):
        span = span_of(session(protocol="grpc", attributes=attributes, outcome=Outcome.ERROR, status=status, side=side))
        assert span.error is error
        assert span.attributes.get("error.type") == (status if error else None)
    assert span_of(session(attributes=attributes, outcome=Outcome.RESET, status="")).error


def test_a_protocol_knows_its_own_error_type_and_host_better():
    attributes = {"error.type": "WRONGTYPE", "server.address": "redis.shop"}
    span = span_of(session(attributes=attributes, outcome=Outcome.ERROR, status="error"))
    assert span.attributes["error.type"] == "WRONGTYPE"
    assert span.attributes["server.address"] == "redis.shop"


@pytest.mark.parametrize(
    ("server", "attributes", "url"),
    [
        (Endpoint("10.0.0.2", 80), {"url.path": "/x?token=1"}, "http://10.0.0.2/x"),
        (Endpoint("10.0.0.2", 8080), {"url.path": "/x"}, "http://10.0.0.2:8080/x"),
        (Endpoint("10.0.0.2", 443), {"url.path": "/", "url.scheme": "https"}, "https://10.0.0.2/"),
        (Endpoint("fd00::1", 80), {"url.path": "/x"}, "http://[fd00::1]/x"),
        (Endpoint("10.0.0.2", 80), {"url.path": "/x", "server.address": "shop", "server.port": 81}, "http://shop:81/x"),
        (Endpoint("10.0.0.2", 80), {"url.path": "/x", "url.query": "q=1"}, "http://10.0.0.2/x?q=1"),
        (Endpoint("10.0.0.2", 80), {"url.path": "*"}, None),
        (Endpoint("10.0.0.2", 80), {}, None),
        (Endpoint("10.0.0.2", 80), {"url.path": "/x", "url.full": "given"}, "given"),
    ],
)
def test_a_client_says_the_url_with_the_query_that_may_be_told(server, attributes, url):
    attributes = {"http.request.method": "GET"} | attributes
    assert span_of(session(side=Side.CLIENT, server=server, attributes=attributes)).attributes.get("url.full") == url
    if url != "given":
        assert "url.full" not in span_of(session(server=server, attributes=attributes)).attributes


def test_what_was_not_seen_is_said_and_nothing_on_the_wire_can_hide_it():
    forged = {"clovisor.truncated": False, "clovisor.outcome": "ok"}
    span = span_of(session(truncated=True, gap_bytes=9, mid_stream=True, outcome=Outcome.RESET, attributes=forged))
    remarks = {key: value for key, value in span.attributes.items() if key.startswith("clovisor.")}
    assert remarks == {
        "clovisor.outcome": "reset",
        "clovisor.ttfb_ns": 3_900_000,
        "clovisor.truncated": True,
        "clovisor.gap_bytes": 9,
        "clovisor.mid_stream": True,
    }


def test_one_direction_and_what_the_pod_lost_are_said():
    talk = Conversation()
    talk.client("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").client("GET /y HTTP/1.1\r\nHost: x\r\n\r\n", ack=9)
    engine = Pipeline()
    engine.feed(talk.segments)
    told = [span_of(one).attributes for one in engine.close(talk.now) if one.operation == "GET"]
    assert told and all(attributes["clovisor.seen"] == "one direction" for attributes in told)
    assert span_of(session(pod_lost=3)).attributes["clovisor.pod.lost_segments"] == 3
    assert "clovisor.pod.lost_segments" not in span_of(session()).attributes


@given(ANY_SESSION)
def test_any_session_has_a_span_and_stays_as_it_was(one):
    before = repr(one)
    span = span_of(one)
    assert repr(one) == before
    assert span.name
    assert span.service
    assert span.duration_ns >= 0
    assert span.span_id == ids.span_id(one, one.side)
    assert span_of(one).attributes.keys() == span.attributes.keys()


def test_what_the_session_says_itself_of_its_service_stays():
    assert span_of(session()).attributes["service.instance.id"] == "web"
    assert span_of(session(attributes={"service.instance.id": "own"})).attributes["service.instance.id"] == "own"


def test_the_service_is_an_attribute_and_no_name():
    web = Workload("web-1", "shop", owner="deployment/web", service="front", kind="pod", service_version="1.2")
    span = span_of(session(server_workload=web))
    assert (span.service, span.attributes["k8s.service.name"], span.attributes["service.version"]) == ("web", "front", "1.2")
