from clovisor_py.flows.sessions import ONE_DIRECTION, SEEN
from clovisor_py.kernel.connections import Open
from clovisor_py.metrics import by_pod as module
from clovisor_py.metrics.by_pod import OTHER, PODS, PORTS, WORDS, ByPod, with_open
from clovisor_py.model.session import Outcome, Side
from clovisor_py.model.workload import Endpoint
from tests.support.sessions import session


def filled(*sessions):
    pods = ByPod()
    for one in sessions:
        pods.add(one)
    return pods.of(7)


def unread(reason="encrypted", **changes):
    return session(connection=True, protocol="tcp", resource=reason, attributes={}, **changes)


def test_by_side_and_port():
    pod = filled(
        session(),
        session(outcome=Outcome.ERROR),
        session(protocol="grpc"),
        session(side=Side.CLIENT, server=Endpoint("10.0.0.3", 5432), protocol="postgresql", mid_stream=True),
    )
    assert pod.outcomes == {"ok": 3, "error": 1}
    client, server = pod.facts()
    assert (server.port, server.side, server.protocols, server.sessions) == (80, "server", ("http", "grpc"), 3)
    assert (client.port, client.side, client.protocols, client.mid_stream) == (5432, "client", ("postgresql",), 1)


def test_what_could_not_be_read():
    hello = session(protocol="tls", attributes={"tls.protocol.name": "tls", "server.address": "pay.shop"})
    [port] = filled(hello, unread(), unread(), unread("unknown protocol")).facts()
    assert (port.sessions, port.unread, port.server_names) == (1, {"encrypted": 2, "unknown protocol": 1}, ("pay.shop",))


def test_an_address_is_a_server_name_in_a_handshake_only():
    [port] = filled(session(attributes={"server.address": "web"})).facts()
    assert port.server_names == ()


def test_one_direction():
    [port] = filled(session(attributes={SEEN: ONE_DIRECTION})).facts()
    assert port.one_direction == 1


def test_nothing_grows_without_bound(monkeypatch):
    pods = ByPod()
    for port in range(PORTS + 5):
        pods.add(session(server=Endpoint("10.0.0.2", port + 1)))
    for number in range(WORDS + 5):
        pods.add(unread(f"reason {number}", server=Endpoint("10.0.0.2", 1)))
    rest, first, *others = pods.of(7).facts()
    assert (rest.port, rest.sessions, len(others)) == (0, 5, PORTS - 1)
    assert (first.port, first.unread[OTHER], len(first.unread)) == (1, 5, WORDS + 1)
    monkeypatch.setattr(module, "PODS", 3)
    for interface in range(100, 104):
        pods.add(session(interface=interface))
    assert pods.of(7).outcomes == {}
    assert pods.of(103).outcomes == {"ok": 1}
    assert PODS >= 512


def test_open_connections_are_added():
    [http] = filled(session()).facts()
    now = {("server", 80): Open(3, 1, 1), ("client", 9092): Open(2, 2)}
    kafka, web = with_open([http], now)
    assert (web.sessions, web.open, web.older, web.one_direction) == (1, 3, 1, 1)
    assert (kafka.side, kafka.port, kafka.open, kafka.older, kafka.sessions) == ("client", 9092, 2, 2, 0)
    many = with_open([http], {("server", port): Open(1) for port in range(1000, 1000 + PORTS)})
    assert (len(many), many[0].port, many[0].open, sum(port.open for port in many)) == (PORTS + 1, 0, 1, PORTS)


def test_a_number_that_comes_again_is_another_pod():
    pods = ByPod()
    pods.add(session())
    pods.remove(7)
    pods.remove(8)
    assert pods.of(7).facts() == ()
