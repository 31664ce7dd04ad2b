"""A server and a client of gRPC for live tests, run as children: `live_web.module(…, "server")`, and `calls` for the other.

No protoc: handlers are generic and messages are bytes. What a method does, its name says (`kind_number`): the name tells one
call from another, so every call has its own. The client is a child, too, because gRPC opens its sockets in threads of its own,
which would stay in whatever network namespace they began in.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc

SERVICE: Final = "lab.Echo"
MESSAGES: Final = 7
"""Of each stream, in either direction."""
LARGE: Final = 700_000
"""Bytes that are captured at once, as far as the budget goes."""
HUGE: Final = 3_000_000
"""Bytes that are not."""
FAILURES: Final = tuple(code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK)
LONG_S: Final = 1.0
DEADLINE_S: Final = 0.1


class Service(grpc.GenericRpcHandler):
    """Every method of SERVICE, but those that are called `absent`."""

    def service(self, details: Any) -> Any:
        service, _, name = details.method.lstrip("/").partition("/")
        kind = name.split("_")[0]
        if service != SERVICE or kind == "absent":
            return None
        if kind == "collect":
            return grpc.stream_unary_rpc_method_handler(lambda items, context: b"%d" % sum(1 for _ in items))
        if kind in ("list", "endless"):
            return grpc.unary_stream_rpc_method_handler(_endless if kind == "endless" else _list)
        if kind == "chat":
            return grpc.stream_stream_rpc_method_handler(lambda items, context: iter(items))
        return grpc.unary_unary_rpc_method_handler(lambda message, context: _answer(name, message, context))


def _answer(name: str, message: bytes, context: grpc.ServicerContext) -> bytes:
    kind, _, rest = name.partition("_")
    if kind == "fail":
        context.abort(grpc.StatusCode[rest], f"as was asked: {message.decode()}")
    if kind == "sleep":
        time.sleep(LONG_S)
    context.set_trailing_metadata((("x-echo", message[:40].decode("latin-1").encode("ascii", "replace").decode()),))
    return message


def _list(message: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
    for _ in range(MESSAGES):
        time.sleep(0.005)
        yield message


def _endless(message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    while context.is_active():
        yield message
        time.sleep(0.01)


class Client:
    """Makes calls on one channel, and notes each."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", 2 * HUGE)])
        grpc.channel_ready_future(self.channel).result(10)
        self.calls: list[dict[str, Any]] = []

    def call(self, name: str, make: Callable[[str], Any], sent: int = 1, received: int = 1) -> None:
        method = f"/{SERVICE}/{name}"
        start, began = time.time_ns(), time.perf_counter_ns()
        try:
            make(method)
            status = "OK"
        except grpc.RpcError as error:
            status = error.code().name
            received = 0
        took = time.perf_counter_ns() - began
        told = {"method": method, "status": status, "start_ns": start, "duration_ns": took, "sent": sent, "received": received}
        self.calls.append(told)

    def unary(self, name: str, message: bytes = b"hello", **options: Any) -> None:
        self.call(name, lambda method: self.channel.unary_unary(method)(message, **options))

    def collect(self, name: str) -> None:
        items = [b"item"] * MESSAGES
        self.call(name, lambda method: self.channel.stream_unary(method)(iter(items)), sent=MESSAGES)

    def list(self, name: str) -> None:
        self.call(name, lambda method: list(self.channel.unary_stream(method)(b"item")), received=MESSAGES)

    def chat(self, name: str) -> None:
        items = [b"item"] * MESSAGES
        self.call(name, lambda method: list(self.channel.stream_stream(method)(iter(items))), sent=MESSAGES, received=MESSAGES)

    def cancel(self, name: str) -> None:
        """After some messages of a stream that has no end."""

        def make(method: str) -> None:
            stream = self.channel.unary_stream(method)(b"more")
            for number, _ in enumerate(stream):
                if number == MESSAGES:
                    stream.cancel()

        self.call(name, make)


def usual(client: Client) -> None:
    """All kinds, one after the other and some at once."""
    client.unary("unary_first")
    time.sleep(0.2)  # from here on it is known what the connection speaks
    for turn in range(100):
        client.unary(f"unary_{turn}")
    for turn in range(5):
        client.collect(f"collect_{turn}")
        client.list(f"list_{turn}")
        client.chat(f"chat_{turn}")
    with ThreadPoolExecutor(8) as pool:
        for turn in range(20):
            pool.submit(client.list, f"list_at_once_{turn}")
            pool.submit(client.unary, f"unary_at_once_{turn}")
    client.unary("unary_large", b"l" * LARGE)
    client.unary("unary_after_large")


def huge(client: Client) -> None:
    """More than the kernel captures at once, between two that are usual."""
    client.unary("unary_before_huge")
    time.sleep(0.2)
    client.unary("unary_huge", b"h" * HUGE)
    client.unary("unary_after_huge")


def failing(client: Client) -> None:
    """Every status that a server can answer, and what is no method; then ends that the client brings about."""
    client.unary("unary_then_failing")
    for name in FAILURES:
        client.unary(f"fail_{name}")
    client.unary("absent_method")
    client.unary("sleep_1", timeout=DEADLINE_S)
    client.cancel("endless_1")
    client.unary("unary_last", timeout=5)


def secret(client: Client) -> None:
    """The arguments are what nobody may see: metadata, authorization, message, and what an error says."""
    one, two, three, four = sys.argv[4:]
    client.unary("unary_1", three.encode(), metadata=(("x-token", one), ("authorization", f"Bearer {two}")))
    client.unary("fail_INTERNAL", four.encode())
    client.unary("unary_2", three.encode(), metadata=(("cookie", f"id={one}"), ("x-token-bin", two.encode())))


def calls(address: tuple[str, int], what: str, *arguments: str) -> list[dict[str, Any]]:
    """What the client did, in a process of its own in the caller's network namespace."""
    command = [sys.executable, "-m", "tests.support.live_grpc_peer", f"{address[0]}:{address[1]}", "client", what, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def main(where: str, role: str, *arguments: str) -> None:
    if role == "client":
        client = Client(where)
        {"usual": usual, "huge": huge, "failing": failing, "secret": secret}[arguments[0]](client)
        client.channel.close()
        sys.stdout.write("".join(json.dumps(call) + "\n" for call in client.calls))
        return
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 2 * HUGE)])
    server.add_generic_rpc_handlers((Service(),))
    server.add_insecure_port(f"0.0.0.0:{where}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
