"""An API server on loopback that can be told to misbehave: lists in pages, watches, bookmarks, 410, refusals, drops, delays.

`with ApiServer() as api:` serves `api.kubeconfig(folder)`. `put` and `delete` change objects as a cluster would; `faults` is a
queue of answers for the next requests that match. What was asked is in `api.requests`.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

Json = dict[str, Any]


@dataclass
class Fault:
    """What the next request of a verb (`list`, `watch`, `POST`…) meets, once per `times`."""

    verb: str
    status: int = 0
    """Answered with it, when not 0."""
    body: bytes = b""
    delay_s: float = 0.0
    drop: bool = False
    """The connection is closed without an answer."""
    event: Json | None = None
    """A watch's first and last event."""
    raw: bytes = b""
    """Sent in a watch's stream, which then breaks off."""
    only_continued: bool = False
    """Only pages after the first."""
    times: int = 1


@dataclass
class Request:
    verb: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any = None


@dataclass
class ApiServer:
    version: int = 100
    objects: dict[str, dict[tuple[str, str], Json]] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)
    bookmark_s: float = 0.0
    """Seconds of silence after which a watch gets a bookmark; 0: none."""
    answers: Callable[[Request], Json] | None = None
    """What a write gets; None: itself."""
    deaf: bool = False
    """Watches get no events (a partition)."""

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._history: list[tuple[int, str, str, Json]] = []
        self._oldest = 0
        self._lost: dict[str, int] = {}
        """The last version of each kind that was compacted: an open watch that has not sent it is too old as well."""
        self._epoch = 0
        self._clean_end = False
        self._stopping = False
        self._sockets: set[socket.socket] = set()

    def __enter__(self) -> ApiServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, port: int = 0) -> None:
        """Listen (again, on the same port, when told which)."""
        self._stopping = False
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, and break every connection."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        for one in list(self._sockets):
            _shut(one)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self, folder: Path) -> Path:
        return write_kubeconfig(folder / "kubeconfig", self.url)

    def put(self, plural: str, obj: Mapping[str, Any]) -> Json:
        """Create or change an object."""
        with self._changed:
            self.version += 1
            meta = {"namespace": "", **obj.get("metadata", {}), "resourceVersion": str(self.version)}
            new = {**obj, "metadata": meta}
            known = self.objects.setdefault(plural, {})
            key = (meta["namespace"], meta["name"])
            self._history.append((self.version, plural, "MODIFIED" if key in known else "ADDED", new))
            known[key] = new
            self._changed.notify_all()
            return new

    def delete(self, plural: str, name: str, namespace: str = "") -> None:
        with self._changed:
            self.version += 1
            old = self.objects[plural].pop((namespace, name))
            meta = {**old["metadata"], "resourceVersion": str(self.version)}
            self._history.append((self.version, plural, "DELETED", {**old, "metadata": meta}))
            self._changed.notify_all()

    def compact(self) -> None:
        """What came before now is forgotten: going on from there answers 410."""
        with self._changed:
            self.version += 1
            self._oldest = self.version
            self._lost |= {plural: number for number, plural, _, _ in self._history}
            self._history.clear()

    def end_watches(self, *, clean: bool = True) -> None:
        """All that are open: as at their time-out, or in the middle of an event."""
        with self._changed:
            self._epoch += 1
            self._clean_end = clean
            self._changed.notify_all()

    def wake(self) -> None:
        """Let watches look again, after `deaf`."""
        with self._changed:
            self._changed.notify_all()

    def asked(self, verb: str) -> list[Request]:
        return [one for one in list(self.requests) if one.verb == verb]

    # What handlers use.

    def fault_for(self, verb: str, continued: bool) -> Fault | None:
        with self._changed:
            for fault in self.faults:
                if fault.verb == verb and (continued or not fault.only_continued):
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None

    def page(self, plural: str, limit: int, token: str, selector: str = "") -> Json:
        with self._changed:
            items = [self.objects.get(plural, {})[key] for key in sorted(self.objects.get(plural, {}))]
            items = [one for one in items if _selected(one, selector)]
            begin = int(token or 0)
            end = begin + limit if limit else len(items)
            rest = str(end) if end < len(items) else ""
            meta = {"resourceVersion": str(self.version), "continue": rest}
            return {"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items[begin:end]}

    def stream(self, plural: str, after: int, timeout_s: float, send: Callable[[bytes], None], selector: str = "") -> bool:
        """Events to `send`, until an end; says whether that is a clean one."""
        with self._changed:
            epoch, oldest = self._epoch, self._oldest
        until = time.monotonic() + timeout_s
        while True:
            with self._changed:
                too_old = after < max(oldest, self._lost.get(plural, 0))
                newer = bisect_right(self._history, after, key=lambda one: one[0])
                events = [one for one in self._history[newer:] if one[1] == plural and not self.deaf]
                if not events and not too_old:
                    left = until - time.monotonic()
                    if self._epoch != epoch or self._stopping:
                        return self._clean_end and not self._stopping
                    if left <= 0:
                        return True
                    woken = self._changed.wait(min(left, self.bookmark_s or 0.2))
                    bookmark = bool(self.bookmark_s) and not woken
                    version = self.version
            if too_old:
                send(_line("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"}))
                return True
            if events:
                for number, _, kind, obj in events:
                    if _selected(obj, selector):
                        send(_line(kind, obj))
                    after = number
            elif bookmark:
                after = version
                send(_line("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(version)}}))


def write_kubeconfig(path: Path, server: str, **cluster: Any) -> Path:
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "lab",
                "clusters": [{"name": "lab", "cluster": {"server": server, **cluster}}],
                "users": [{"name": "me", "user": {"token": "a-token"}}],
                "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
            }
        )
    )
    return path


def _line(kind: str, obj: Json) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def _selected(obj: Json, selector: str) -> bool:
    """The one field that is selected by is a pod's node, which never changes; objects that do not say it are all selected."""
    field, _, wanted = selector.partition("=")
    return field != "spec.nodeName" or obj.get("spec", {}).get("nodeName", wanted) == wanted


def _shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


def _handler(api: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            api._sockets.add(self.connection)

        def finish(self) -> None:
            api._sockets.discard(self.connection)
            try:
                super().finish()
            except OSError:
                return  # the client went first

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                return

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            query = self._query()
            verb = "watch" if query.get("watch") else "list"
            plural = urlsplit(self.path).path.rpartition("/")[2]
            self._note(verb, query, None)
            fault = api.fault_for(verb, bool(query.get("continue")))
            if fault is not None and self._misbehave(fault):
                return
            if verb == "watch":
                self._watch(plural, query)
            else:
                token, selector = query.get("continue", ""), query.get("fieldSelector", "")
                self._json(200, api.page(plural, int(query.get("limit", 0)), token, selector))

        def do_POST(self) -> None:
            self._write("POST", 201)

        def do_PATCH(self) -> None:
            self._write("PATCH", 200)

        def _write(self, verb: str, status: int) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._note(verb, self._query(), body)
            fault = api.fault_for(verb, False)
            if fault is None or not self._misbehave(fault):
                self._json(status, body if api.answers is None else api.answers(api.requests[-1]))

        def _query(self) -> dict[str, str]:
            return {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}

        def _note(self, verb: str, query: Mapping[str, str], body: Any) -> None:
            path = urlsplit(self.path).path
            headers = {key.lower(): value for key, value in self.headers.items()}
            api.requests.append(Request(verb, path, query, headers, body))

        def _misbehave(self, fault: Fault) -> bool:
            """Whether that was all."""
            time.sleep(fault.delay_s)
            if fault.drop:
                self.close_connection = True
                _shut(self.connection)
            elif fault.event is not None or fault.raw:
                self._begin_stream()
                self._chunk(fault.raw or json.dumps(fault.event).encode() + b"\n")
                if fault.raw:
                    self.close_connection = True
                    _shut(self.connection)
                else:
                    self._chunk(b"")
            elif fault.status:
                if fault.body:
                    self._raw(fault.status, fault.body)
                else:
                    self._json(fault.status, {"kind": "Status", "code": fault.status, "message": f"no ({fault.status})"})
            else:
                return False
            return True

        def _watch(self, plural: str, query: Mapping[str, str]) -> None:
            self._begin_stream()
            after, timeout = int(query["resourceVersion"]), float(query["timeoutSeconds"])
            if api.stream(plural, after, timeout, self._chunk, query.get("fieldSelector", "")):
                self._chunk(b"")
            else:
                self.close_connection = True
                self.wfile.write(b'40\r\n{"type": "ADDED"')
                _shut(self.connection)

        def _begin_stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

        def _json(self, status: int, body: Any) -> None:
            self._raw(status, orjson.dumps(body))

        def _raw(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
