"""The demo into a real Jaeger, read back by its query API: span for span what the demo's client and servers did.

Those who took part write down each call at both its ends (`demo.truth`), and Clovisor knows nothing of that. Each record is one
span, with that name, that trace, that parent, that duration and the attributes of the conventions; and there is no other span.
"""

from __future__ import annotations

import logging
import os
import shutil
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from clovisor_py.agent import Agent
from clovisor_py.demo.playground import CLIENT, Playground, Pod
from clovisor_py.demo.traffic import served
from clovisor_py.demo.truth import Record
from clovisor_py.exporters._fanout import open_urls
from clovisor_py.kernel import attach
from clovisor_py.kernel.targets import Veth
from tests.support.jaeger import Jaeger, jaeger
from tests.support.kernel import bench_settings, drop_pins, node
from tests.support.netns import ALONE, PRIVATE, require_namespaces
from tests.support.trace import CLOVISOR, wait_until
from tests.tracing.conventions import ALWAYS, HTTP, OWN, REGISTRY, VALUES, failed, name

pytestmark = pytest.mark.live
REQUESTS: Final = 120
RATE: Final = 60
DIFFERENCE_NS: Final = 1_000_000
"""What the median of the differences in duration must be below."""
SAME_CALL_NS: Final = 400_000_000
"""The same path is asked for again after 50 requests, which is twice that."""
ALL: Final = 5000
"""More traces of one service than there are."""
JAEGER: Final = "jaeger"
"""It traces itself, too: a question to its API is a span."""
OF_JAEGER: Final = frozenset(
    {"span.kind", "error", "otel.status_code", "otel.scope.name", "otel.scope.version", "internal.span.format"}
)
"""Tags that Jaeger makes of what OTLP and Thrift have fields for."""
OWN_FOLDERS: Final = (
    *ALONE,
    f'{PRIVATE} && mount -t bpf bpf /sys/fs/bpf && mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && exec "$@"',
    "sh",
)
"""With an own bpffs and own names of namespaces: another demo may run beside it, in another namespace."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What was recorded, and what Jaeger has."""

    truth: list[Record]
    spans: list[dict[str, Any]]
    pods: dict[str, Pod]

    def pairs(self) -> list[tuple[Record, dict[str, Any]]]:
        """Each record with its span: the same service, side, path and trace; those without a context in the same order."""
        return [
            pair
            for key, records in grouped(self.truth, of_record).items()
            for pair in zip(
                sorted(records, key=lambda record: record["start_ns"]),
                sorted(grouped(self.spans, self.of_span).get(key, []), key=lambda span: span["startTime"]),
                strict=True,
            )
        ]

    def of_span(self, span: dict[str, Any]) -> tuple[str, ...]:
        said = tags(span)
        own = f"{int(span['traceID'], 16):032x}" if "clovisor.trace_context" in said else ""
        return span["process"]["serviceName"], said["span.kind"], path_of(said), own


def of_record(record: Record) -> tuple[str, ...]:
    return record["service"], record["side"], record["path"], record["trace_id"]


def grouped(items: list[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    groups = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def tags(span: dict[str, Any]) -> dict[str, Any]:
    """No name may be there twice."""
    said = {tag["key"]: tag["value"] for tag in span["tags"]}
    assert len(said) == len(span["tags"])
    return said


def path_of(said: dict[str, Any]) -> str:
    """A client's span has it in the URL."""
    return said.get("url.path") or "/" + said["url.full"].split("/", 3)[3]


@pytest.fixture(scope="module", params=["jaeger://127.0.0.1", "otlp+grpc://127.0.0.1", "otlp+http://127.0.0.1"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """One run of the demo into a Jaeger of its own, on a node of its own."""
    require_namespaces()
    settings = bench_settings("-demo")
    try:
        with node(), jaeger() as store, Playground(f"d{os.getpid()}") as playground:
            with open_urls([request.param], queue_limit=8192) as fanout, Agent(settings, fanout) as agent:
                agent.attach([Veth(p.ifindex, p.veth, p.name, (p.ipv4, p.ipv6), "eth0") for p in playground.pods])
                playground.start_traffic(REQUESTS, rate=RATE)
                agent.run(lambda: playground.wait(0.01))
                agent.run(_soon())
                agent.finish()
                (ledger,) = fanout.close().values()
            truth = playground.truth()
            assert (ledger.offered, ledger.sent) == (len(truth), len(truth)), ledger
            yield Run(truth, stored(store, len(truth)), {pod.name: pod for pod in playground.pods})
    finally:
        drop_pins(settings.pins)


def _soon() -> Callable[[], bool]:
    rounds = iter(range(20))
    return lambda: next(rounds, None) is None


def stored(store: Jaeger, expected: int) -> list[dict[str, Any]]:
    """Every span of every service, as soon as there are that many, or at last."""

    def spans() -> dict[tuple[str, str], dict[str, Any]]:
        services = set(store.get("/api/services") or []) - {JAEGER}
        traces = [one for service in services for one in store.get(f"/api/traces?service={service}&limit={ALL}") or []]
        return {
            (span["traceID"], span["spanID"]): span | {"process": trace["processes"][span["processID"]]}
            for trace in traces
            for span in trace["spans"]
        }

    store.wait(lambda: len(spans()) >= expected)
    return list(spans().values())


@pytest.mark.jaeger
@pytest.mark.slow
class TestInJaeger:
    """Each test of each way there."""

    def test_there_is_a_span_for_each_end_of_each_call_and_no_other(self, run: Run) -> None:
        calls = served(REQUESTS).total()
        others = [span for span in run.spans if run.of_span(span) not in grouped(run.truth, of_record)]
        assert [(span["process"]["serviceName"], span["operationName"], tags(span)) for span in others] == []
        assert len(run.spans) == len(run.truth) == 2 * calls
        assert grouped(run.spans, run.of_span).keys() == grouped(run.truth, of_record).keys()
        assert len(run.pairs()) == 2 * calls
        for record, span in run.pairs():
            assert abs(span["startTime"] * 1000 - record["start_ns"]) < SAME_CALL_NS
            assert not {"clovisor.truncated", "clovisor.gap_bytes", "clovisor.mid_stream"} & tags(span).keys()

    def test_each_hangs_below_the_one_that_caused_it(self, run: Run) -> None:
        """With a context: one tree below the span that the client named. Without: the two ends of each call."""
        by_end = {(s["traceID"], s["process"]["serviceName"], tags(s)["span.kind"], path_of(tags(s))): s for s in run.spans}
        seen: dict[str, int] = defaultdict(int)
        for record, span in run.pairs():
            said = tags(span)
            assert said.get("clovisor.trace_context", "") == record["format"].removesuffix("multi")
            if record["side"] == "server":
                parent = by_end[span["traceID"], caller(record, run), "client", record["path"]]["spanID"]
            elif record["service"] == CLIENT:
                parent = record["parent_id"]
            elif record["trace_id"]:
                product = record["path"].rpartition("/")[2]
                parent = by_end[span["traceID"], record["service"], "server", f"/{record['service']}/{product}"]["spanID"]
            else:
                parent = ""
            assert [ref["spanID"] for ref in span["references"]] == ([parent] if parent else []), (record, span)
            began = record["service"] == CLIENT and record["trace_id"]
            assert said.get("clovisor.unlinked") == ("none" if began else None)
            seen[record["format"]] += 1
        assert min(seen[form] for form in ("traceparent", "b3", "b3multi", "")) > REQUESTS // 8

    def test_durations_are_those_of_who_was_there(self, run: Run) -> None:
        differences = defaultdict(list)
        for record, span in run.pairs():
            differences[record["service"], record["side"]].append(span["duration"] * 1000 - record["duration_ns"])
        medians = {who: statistics.median(map(abs, those)) for who, those in differences.items()}
        everything = [abs(one) for those in differences.values() for one in those]
        log.info(
            "%d spans: median difference %.3f ms, nine of ten below %.3f ms; by end: %s",
            len(everything),
            statistics.median(everything) / 1e6,
            statistics.quantiles(everything, n=10)[-1] / 1e6,
            ", ".join(f"{service} {side} {median / 1e6:.3f}" for (service, side), median in medians.items()),
        )
        assert max(medians.values()) < DIFFERENCE_NS

    def test_attributes_are_the_conventions_and_the_truth(self, run: Run) -> None:
        for record, span in run.pairs():
            said = {key: value for key, value in tags(span).items() if key not in OF_JAEGER}
            server = record["side"] == "server"
            required = ALWAYS | HTTP.always | HTTP.answered | (HTTP.server if server else HTTP.client)
            assert required <= said.keys()
            for key, value in said.items():
                assert key.startswith(OWN) or type(value) is REGISTRY[key], key
                assert value in VALUES.get(key, (value,)), key
            assert span["operationName"] == name("http", record["method"], said) == "GET"
            error = failed("http", server, said, str(record["status"]))
            assert tags(span).get("error", False) is error
            assert ("error.type" in said) is error
            assert said["http.response.status_code"] == record["status"]
            assert said["network.type"] == record["family"]
            check_ends(said, record, run)


def caller(record: Record, run: Run) -> str:
    """Who made the call that this service served; a service of the demo has one caller."""
    return next(one["service"] for one in run.truth if one["side"] == "client" and one["peer"] == record["service"])


def check_ends(said: dict[str, Any], record: Record, run: Run) -> None:
    """The addresses of both pods, and the URL."""
    ours = record["service"] if record["side"] == "server" else record["peer"]
    server, client = run.pods[ours], run.pods[caller(record, run) if record["side"] == "server" else record["service"]]
    address = server.ipv6 if record["family"] == "ipv6" else server.ipv4
    assert said["server.address"] == address
    assert said["server.port"] == 9080
    if record["side"] == "server":
        assert said["client.address"] == said["network.peer.address"]
        assert said["client.address"] == (client.ipv6 if record["family"] == "ipv6" else client.ipv4)
        assert (said["url.path"], said["url.scheme"]) == (record["path"], "http")
    else:
        assert said["network.peer.address"] == address
        host = f"[{address}]" if record["family"] == "ipv6" else address
        assert said["url.full"] == f"http://{host}:9080{record['path']}"


@contextmanager
def inside(process: subprocess.Popen[bytes], *folders: str) -> Iterator[list[Path]]:
    """These folders as the process sees them; they are there to be looked at when it has ended."""
    files = [os.open(f"/proc/{process.pid}/root{folder}", os.O_RDONLY | os.O_DIRECTORY) for folder in folders]
    try:
        yield [Path(f"/proc/self/fd/{file}") for file in files]
    finally:
        for file in files:
            os.close(file)


def ours(folder: Path) -> list[str]:
    """What is there; a bpffs has two files of the kernel's own."""
    return [path.name for path in folder.iterdir() if path.suffix != ".debug"]


@pytest.mark.parametrize("signal", [0, 2, 15])
def test_the_command_leaves_nothing_behind(signal: int, tmp_path: Path) -> None:
    require_namespaces()
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (Debian: util-linux)")
    out = tmp_path / "out"
    with node(), out.open("wb") as sink:
        process = subprocess.Popen([*OWN_FOLDERS, CLOVISOR, "demo", "--requests", "40"], stdout=sink, stderr=sink)
        try:
            wait_until(lambda: "/productpage/1" in out.read_text(), f"the first sessions: {out.read_text()}")
            with inside(process, "/run/netns", "/sys/fs/bpf") as folders:
                assert all(map(ours, folders))
                if signal:
                    process.send_signal(signal)
                assert process.wait(60) == (128 + signal if signal else 0)
                assert [ours(folder) for folder in folders] == [[], []]
        finally:
            process.kill()
            process.wait()
        assert attach.find_all() == []
    text = out.read_text()
    assert "client      → productpage" in text
    if not signal:
        assert "40 of 40 requests of the client seen, at both ends" in text
        assert "lost 0" in text
