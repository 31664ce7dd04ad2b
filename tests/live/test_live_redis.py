"""Redis as it is: a real server, redis-py in RESP2 and RESP3, bare sockets; what they did is what is shown, and no value."""

from __future__ import annotations

import inspect
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clovisor_py.kernel.layout import Counter
from tests.support.kernel import node
from tests.support.live_truth import Comparison, Truth, compare, settled
from tests.support.netns import pod
from tests.support.own_trace import OwnTrace, own_trace
from tests.support.secrets import Secrets
from tests.support.servers import Server, serving

redis = pytest.importorskip("redis", reason="needs redis (PyPI)")

pytestmark = pytest.mark.live

log = logging.getLogger(__name__)

BIG = 3 * 1024 * 1024
STATUS = "db.response.status_code"


@dataclass
class Scene:
    """One server, traced, for all tests of this file."""

    server: Server
    trace: OwnTrace
    secrets: Secrets
    total: Comparison = field(default_factory=Comparison)

    def connect(self, protocol: int = 2, **options: Any) -> Any:
        """A client of one connection that says nothing by itself but HELLO (RESP3)."""
        host, port = self.server.address
        own = {**quiet(), "decode_responses": True, "socket_timeout": 10, **options}
        client = redis.Redis(host, port, protocol=protocol, single_connection_client=True, **own)
        client.connection.connect()
        return client

    def raw(self) -> socket.socket:
        return socket.create_connection(self.server.address, timeout=10)

    def verify(self, truth: Truth) -> Comparison:
        comparison = compare(truth, settled(self.trace.sessions, truth))
        log.info("%s", comparison)
        self.total.add(comparison)
        comparison.check()
        return comparison


def quiet() -> dict[str, Any]:
    """Options without which redis-py introduces itself, by its version in other words."""
    known = inspect.signature(redis.Redis).parameters
    options: dict[str, Any] = {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}
    if "maint_notifications_config" in known:
        options["maint_notifications_config"] = redis.maint_notifications.MaintNotificationsConfig(enabled=False)
    return options


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("redis")
    with node(), pod("redis") as own, serving(own, "redis") as server, own_trace(folder, own) as trace:
        yield Scene(server, trace, Secrets())


def port_of(client: Any) -> int:
    """The client's port."""
    return int(client.connection._sock.getsockname()[1])


def resp(*words: str | bytes) -> bytes:
    """A command as it is on the wire."""
    data = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(data) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in data)


@pytest.mark.parametrize("protocol", [2, 3], ids=["RESP2", "RESP3"])
def test_commands(scene: Scene, protocol: int) -> None:
    truth = Truth()
    secret = scene.secrets.new(f"value in RESP{protocol}")
    client = scene.connect(protocol)
    who = port_of(client)
    if protocol == 3:
        truth.note(who, "HELLO", "3", "OK")

    def run(*words: Any) -> Any:
        name, *arguments = words
        key = str(arguments[0]) if arguments and name not in {"PING"} else ""
        with truth.call(who, name, key, "OK", request_bytes=len(resp(*map(str, words)))):
            return client.execute_command(*words)

    run("PING")
    for at in range(30):
        run("SET", f"key:{at}", f"{secret}{at}")
    for at in range(30):
        assert run("GET", f"key:{at}") == f"{secret}{at}"
    assert run("GET", "nothing") is None
    run("HSET", "hash", "field", secret, "other", "1")
    assert run("HGETALL", "hash") == {"field": secret, "other": "1"}
    run("RPUSH", "list", *[secret] * 10)
    assert run("LRANGE", "list", 0, -1) == [secret] * 10
    run("ZADD", "scores", 1.5, secret)
    run("ZRANGE", "scores", 0, -1, "WITHSCORES")
    assert run("INCR", "counter") == 1
    assert run("EXISTS", "key:1") == 1
    run("XADD", "stream", "*", "field", secret)
    run("EVAL", "return {1, {2, 'x'}, redis.call('GET', KEYS[1])}", 1, "key:2")
    truth.calls[-1].resource = "key:2"
    run("DEL", "counter")
    run("SELECT", 2)
    with truth.call(who, "SET", "key", "OK", attributes={"db.namespace": "2"}):
        client.set("key", secret)
    with truth.call(who, "CONFIG GET", "maxmemory", "OK"):
        client.config_get("maxmemory")
    with truth.call(who, "FLUSHALL", "", "OK"):
        client.flushall()
    client.close()
    scene.verify(truth)


def test_errors(scene: Scene) -> None:
    truth = Truth()
    secret = scene.secrets.new("value in an error")
    client = scene.connect()
    who = port_of(client)
    with truth.call(who, "SET", "text", "OK"):
        client.set("text", secret)
    mistakes = {
        ("INCR", "text"): "ERR",
        ("LPUSH", "text", secret): "WRONGTYPE",
        ("EVALSHA", "0" * 40, "1", "text"): "NOSCRIPT",
        ("NONSENSE", "text", secret): "ERR",
        ("GET",): "ERR",
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream", ">"): "NOGROUP",
    }
    for words, status in mistakes.items():
        odd = {"EVALSHA": "text", "XREADGROUP": "stream", "GET": "", "NONSENSE": ""}
        key = odd[words[0]] if words[0] in odd else words[1]
        failed = {"outcome": "error", "attributes": {STATUS: status}}
        with truth.call(who, words[0], key, status, **failed), pytest.raises(redis.ResponseError):
            client.execute_command(*words)
    with truth.call(who, "DEL", "text", "OK"):
        client.delete("text")
    client.close()
    scene.verify(truth)


@contextmanager
def password_required(client: Any, truth: Truth, password: str) -> Iterator[None]:
    """Of everybody but this client, until the block ends."""
    who = port_of(client)
    with truth.call(who, "CONFIG SET", "requirepass", "OK"):
        client.config_set("requirepass", password)
    try:
        yield
    finally:
        with truth.call(who, "CONFIG SET", "requirepass", "OK"):
            client.config_set("requirepass", "")


def test_logins(scene: Scene) -> None:
    truth = Truth()
    secrets = {name: scene.secrets.new(f"password of {name}") for name in ("default", "joe", "nobody", "stranger")}
    client = scene.connect()
    who = port_of(client)
    with truth.call(who, "ACL SETUSER", "", "OK"):
        client.execute_command("ACL SETUSER", "joe", "on", f">{secrets['joe']}", "~*", "+@all")
    with password_required(client, truth, secrets["default"]):
        with truth.call(who, "AUTH", "", "OK"):
            client.execute_command("AUTH", secrets["default"])
        with truth.call(who, "AUTH", "", "OK"):
            client.execute_command("AUTH", "joe", secrets["joe"])
        with scene.raw() as stranger:
            port = stranger.getsockname()[1]
            words = {
                ("GET", "key"): ("GET", "key", "NOAUTH"),
                ("AUTH", secrets["stranger"]): ("AUTH", "", "WRONGPASS"),
                ("AUTH", "nobody", secrets["nobody"]): ("AUTH", "", "WRONGPASS"),
                ("HELLO", "3", "AUTH", "joe", secrets["stranger"]): ("HELLO", "3", "WRONGPASS"),
                ("HELLO", "3", "AUTH", "joe", secrets["joe"]): ("HELLO", "3", "OK"),
                ("GET", "another"): ("GET", "another", "OK"),
            }
            for command, (operation, resource, status) in words.items():
                outcome = "ok" if status == "OK" else "error"
                with truth.call(port, operation, resource, status, outcome=outcome):
                    stranger.sendall(resp(*command))
                    stranger.recv(65536)
    client.close()
    scene.verify(truth)


def test_pipelines_and_transactions(scene: Scene) -> None:
    truth = Truth()
    secret = scene.secrets.new("value in a pipeline")
    client = scene.connect(max_connections=1)
    client.connection_pool.release(client.connection)  # pipelines take one from the pool: this one
    who = port_of(client)
    with client.pipeline(transaction=False) as pipeline:
        for at in range(200):
            pipeline.set(f"p{at}", secret)
            truth.note(who, "SET", f"p{at}", "OK")
            pipeline.get(f"p{at}")
            truth.note(who, "GET", f"p{at}", "OK")
        assert len(pipeline.execute()) == 400
    for failing in (False, True):
        truth.note(who, "MULTI", "", "OK")
        with client.pipeline(transaction=True) as pipeline:
            for at in range(5):
                pipeline.set(f"t{at}", secret)
                truth.note(who, "SET", f"t{at}", "QUEUED")
            if failing:
                pipeline.lpush("t0", secret)
                truth.note(who, "LPUSH", "t0", "QUEUED")
            pipeline.execute(raise_on_error=False)
        truth.note(who, "EXEC", "", "OK", attributes={"db.operation.batch.size": 6 if failing else 5})
    with truth.call(who, "MULTI", "", "OK"):
        client.execute_command("MULTI")
    with truth.call(who, "NONSENSE", None, "ERR", outcome="error"), pytest.raises(redis.ResponseError):
        client.execute_command("NONSENSE")
    with truth.call(who, "EXEC", "", "EXECABORT", outcome="error"), pytest.raises(redis.RedisError):
        client.execute_command("EXEC")
    client.close()
    scene.verify(truth)


@pytest.mark.parametrize("protocol", [2, 3], ids=["RESP2", "RESP3"])
def test_publish_and_subscribe(scene: Scene, protocol: int) -> None:
    truth = Truth()
    secret = scene.secrets.new(f"message in RESP{protocol}")
    publisher, client = scene.connect(protocol), scene.connect(protocol)
    subscriber = client.pubsub()
    subscriber.connection = client.connection
    who = port_of(client)
    if protocol == 3:
        for port in (port_of(publisher), who):
            truth.note(port, "HELLO", "3", "OK")
    subscriber.execute_command("SUBSCRIBE", "news", "sport")
    truth.note(who, "SUBSCRIBE", "news", "OK")
    subscriber.execute_command("PSUBSCRIBE", "w*")
    truth.note(who, "PSUBSCRIBE", "w*", "OK")
    heard = [subscriber.parse_response(block=True) for _ in range(3)]
    for at in range(10):
        with truth.call(port_of(publisher), "PUBLISH", "news", "OK"):
            publisher.publish("news", f"{secret}{at}")
        truth.note(who, "message", "news", "", outcome="one_way")
        heard.append(subscriber.parse_response(block=True))
    publisher.publish("weather", secret)
    truth.note(port_of(publisher), "PUBLISH", "weather", "OK")
    truth.note(who, "pmessage", "weather", "", outcome="one_way")
    heard.append(subscriber.parse_response(block=True))
    subscriber.execute_command("UNSUBSCRIBE", "news", "sport")
    truth.note(who, "UNSUBSCRIBE", "news", "OK")
    heard += [subscriber.parse_response(block=True) for _ in range(2)]
    assert [str(one[0]) for one in heard].count("message") == 10
    publisher.close()
    client.close()
    scene.verify(truth)


def test_monitor(scene: Scene) -> None:
    truth = Truth()
    secret = scene.secrets.new("value in a monitor")
    client = scene.connect()
    with scene.raw() as monitor, monitor.makefile("rb") as lines:
        who = monitor.getsockname()[1]
        with truth.call(who, "MONITOR", "", "OK"):
            monitor.sendall(resp("MONITOR"))
            assert lines.readline() == b"+OK\r\n"
        for at in range(10):
            with truth.call(port_of(client), "SET", f"m{at}", "OK"):
                client.set(f"m{at}", secret)
            assert secret.encode() in lines.readline()
            truth.note(who, "monitor", "", "", outcome="one_way")
    client.close()
    scene.verify(truth)


def test_inline_commands(scene: Scene) -> None:
    truth = Truth()
    secret = scene.secrets.new("value in a line")
    lines = {
        f"SET inline {secret}": ("SET", "inline", "OK"),
        "GET inline": ("GET", "inline", "OK"),
        f'HSET "in line" field "{secret} and more"': ("HSET", "in line", "OK"),
        "hgetall 'in line'": ("HGETALL", "in line", "OK"),
        "LPUSH inline 1": ("LPUSH", "inline", "WRONGTYPE"),
        "PING": ("PING", "", "OK"),
        f"AUTH {secret}": ("AUTH", "", "ERR"),
    }
    with scene.raw() as plain:
        who = plain.getsockname()[1]
        for line, (operation, resource, status) in lines.items():
            outcome = "ok" if status == "OK" else "error"
            with truth.call(who, operation, resource, status, outcome=outcome, request_bytes=len(line) + 2) as noted:
                plain.sendall(line.encode() + b"\r\n")
                noted.response_bytes = len(plain.recv(65536))
    scene.verify(truth)


def test_the_sizes_of_a_long_value_are_exact_though_only_its_head_was_captured(scene: Scene) -> None:
    truth = Truth()
    secret = scene.secrets.new("a long value").encode()
    value = secret * (BIG // len(secret))
    client = scene.connect(decode_responses=False)
    who = port_of(client)
    with truth.call(who, "PING", "", "OK"):
        client.ping()
    before = scene.trace.stats()
    for at in range(3):
        with truth.call(who, "SET", f"big{at}", "OK", request_bytes=len(resp("SET", f"big{at}", value)), response_bytes=5):
            client.set(f"big{at}", value)
        truth.calls[-1].duration_ns = 0  # what its library takes to copy so much is not the server's time
        size = len(b"$%d\r\n%s\r\n" % (len(value), value))
        with truth.call(who, "GET", f"big{at}", "OK", response_bytes=size):
            assert client.get(f"big{at}") == value
        truth.calls[-1].duration_ns = 0
    with truth.call(who, "DEL", "big0", "OK"):
        client.delete("big0", "big1", "big2")
    stats = scene.trace.stats().since(before)
    client.close()
    passed = stats[Counter.BYTES] + stats[Counter.BYTES_TO_POD]
    captured = stats[Counter.CAPTURED_BYTES]
    log.info("%d bytes passed, of which %d were captured", passed, captured)
    scene.verify(truth)
    assert passed >= 6 * len(value)
    assert captured < passed / 4


def test_the_times_are_the_clients_own(scene: Scene) -> None:
    """Of all tests above."""
    log.info("in all: %s", scene.total)
    scene.total.check_times()


def test_nothing_private_came_out(scene: Scene) -> None:
    """Behind all others: what they planted is in none of the outputs, the summary included."""
    scene.trace.stop()
    scene.secrets.check(scene.trace.outputs())


def test_with_redaction_off_the_search_finds_them(scene: Scene, tmp_path: Path) -> None:
    """So that the test above proves something; passwords stay out even so."""
    if scene.trace.process.poll() is None:
        scene.trace.stop()
    shown, hidden, truth = Secrets(), Secrets(), Truth()
    with own_trace(tmp_path, scene.server.pod, "--redact", "off") as trace:
        client = scene.connect()
        client.set("key", shown.new("value"))
        truth.note(port_of(client), "SET")
        truth.note(port_of(client), "AUTH")
        with pytest.raises(redis.RedisError):
            client.execute_command("AUTH", "joe", hidden.new("password"))
        client.close()
        settled(trace.sessions, truth)
        trace.stop()
        outputs = trace.outputs()
    assert {f"value in {where}" for where in ("console (line, wide, json)", "jsonl", "jaeger")} <= set(shown.found(outputs))
    hidden.check(outputs)
