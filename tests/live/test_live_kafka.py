"""Kafka as it is: a real broker, librdkafka; every request that it says it sent is what is shown, and no record's content.

librdkafka tells (`debug=protocol`) of each request its API, version, size and correlation, and of each response its size and
its own measurement of how long that took: a truth that nobody needs to reconstruct.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter as Count
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from clovisor_py.kernel.layout import Counter
from tests.support.kernel import node
from tests.support.live_truth import Call, Comparison, Truth, compare, nanoseconds, settled
from tests.support.netns import pod
from tests.support.own_trace import OwnTrace, own_trace
from tests.support.secrets import Secrets
from tests.support.servers import KAFKA_SASL_PORT, USER, Server, serving
from tests.support.trace import wait_until

kafka = pytest.importorskip("confluent_kafka", reason="needs confluent-kafka (PyPI)")
admin = pytest.importorskip("confluent_kafka.admin")

pytestmark = pytest.mark.live

log = logging.getLogger(__name__)

SENT: Final = re.compile(r"\]: (\S+): Sent (\w+)Request \(v(\d+), (\d+) bytes @ \d+, CorrId (\d+)\)")
RECEIVED: Final = re.compile(r"\]: (\S+): Received (\w+)Response \(v(\d+), (\d+) bytes, CorrId (\d+), rtt ([\d.]+)ms\)")
URL_SAFE: Final = str.maketrans("+/", "-_")
"""Kafka writes ids in base64 for URLs, librdkafka in the other."""
HEAD_BYTES: Final = 8
"""Size and correlation id of a response, which librdkafka does not count."""
NAMES: Final = {"ApiVersion": "ApiVersions"}
"""What librdkafka calls otherwise than Kafka."""
PARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LONG: Final = 900_000


class Diary(logging.Handler):
    """What a client's library says; `calls` is what it did."""

    def __init__(self, client: str) -> None:
        super().__init__()
        self.client = client
        self.lines: list[str] = []
        self.closed_ns = 0
        """When it was asked last for what it did; it does more by itself, in its own time."""
        self.logger = logging.Logger(client)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def drain(self, client: Any) -> None:
        """librdkafka's lines wait until its events are asked for."""
        before = -1
        while before != len(self.lines):
            before, self.closed_ns = len(self.lines), time.time_ns()
            client.poll(0.2)

    def calls(self, resources: Mapping[str, str], statuses: Mapping[str, str]) -> Iterator[Call]:
        """Each request; its resource and status are what the test says of its API (NONE, if nothing)."""
        answers = {(found[1], found[5]): found for line in self.lines if (found := RECEIVED.search(line))}
        for line in self.lines:
            if sent := SENT.search(line):
                operation = NAMES.get(sent[2], sent[2])
                yield self._call(operation, sent, answers.get((sent[1], sent[5])), resources, statuses.get(operation, "NONE"))

    def _call(
        self, operation: str, sent: re.Match[str], answer: re.Match[str] | None, resources: Mapping[str, str], status: str
    ) -> Call:
        call = Call((self.client, operation, int(sent[4])), operation, resources.get(operation), status or None)
        call.attributes = {"clovisor.kafka.api_version": int(sent[3])}
        if answer:
            call.response_bytes = int(answer[4]) + HEAD_BYTES
            call.duration_ns = round(float(answer[6]) * 1e6)
            call.outcome = "ok" if status == "NONE" else "error" if status else None
        else:  # asked for no answer, or ended before it came
            call.status = call.outcome = None
        return call


@dataclass
class Scene:
    """One broker, traced, for all tests of this file."""

    server: Server
    trace: OwnTrace
    secrets: Secrets
    diaries: dict[str, Diary] = field(default_factory=dict)
    total: Comparison = field(default_factory=Comparison)

    def options(self, client: str, **changes: Any) -> dict[str, Any]:
        host, port = self.server.address
        self.diaries[client] = Diary(client)
        own = {"bootstrap.servers": f"{host}:{port}", "client.id": client, "debug": "protocol"}
        return {**own, **{name.replace("_", "."): value for name, value in changes.items()}}

    def admin(self, client: str, **changes: Any) -> Any:
        return admin.AdminClient(self.options(client, **changes), logger=self.diaries[client].logger)

    def producer(self, client: str, **changes: Any) -> Any:
        return kafka.Producer(self.options(client, linger_ms=0, **changes), logger=self.diaries[client].logger)

    def consumer(self, client: str, **changes: Any) -> Any:
        own = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "group_id": f"group of {client}"}
        return kafka.Consumer(self.options(client, **{**own, **changes}), logger=self.diaries[client].logger)

    def create(self, topic: str) -> str:
        """Answers its id, which newer versions of Fetch say in place of its name."""
        maker = self.admin(f"maker of {topic}")
        for future in maker.create_topics([admin.NewTopic(topic, 1, 1)]).values():
            future.result()
        found: list[str] = []

        def known() -> bool:
            """A broker hears of a new topic a moment after its controller has made it."""
            (described,) = maker.describe_topics(kafka.TopicCollection([topic])).values()
            if described.exception() is None:
                found.append(str(described.result().topic_id).translate(URL_SAFE))
            return bool(found)

        wait_until(known, f"topic {topic}")
        return found[0]

    def close(self, client: str, consumer: Any) -> None:
        """What it says goodbye with, it tells; the answers to it, and the last requests, it does not."""
        self.diaries[client].closed_ns = time.time_ns()
        consumer.close()

    def verify(
        self, client: str, resources: Mapping[str, str], overloaded: bool = False, **statuses: str
    ) -> list[dict[str, Any]]:
        """The client's requests are its sessions; those that it made after its last word about them may be there, too.

        `overloaded`: the budget may have hidden answers; their sessions say so, and are compared no further.
        """
        truth = Truth(began_ns=0)
        truth.calls = list(self.diaries[client].calls(resources, statuses))
        settled(self.trace.sessions, truth, who)
        own = [session for session in self.trace.sessions() if who(session)[0] == client]
        sessions = without_surplus(truth, own, self.diaries[client].closed_ns)
        assert {who(session) for session in sessions} <= truth.connections
        for session in sessions[:]:
            unseen = session["attributes"].get("clovisor.response") == "not seen"
            assert not unseen or (overloaded and session["capture"]["truncated"]), "what was captured was not read"
            if not unseen and (not overloaded or session["operation"] != "FindCoordinator"):
                continue  # a young broker's coordinator may not be there yet, which is another test's subject
            sessions.remove(session)
            truth.calls.remove(next(call for call in truth.calls if call.who == who(session)))
        comparison = compare(truth, sessions, who)
        log.info("%s: %s", client, comparison)
        self.total.add(comparison)
        comparison.check()
        return sessions


def who(session: dict[str, Any]) -> tuple[Hashable, ...]:
    """A client may have several connections: what is compared are its requests of one API and size, in their order."""
    request = session["request"] or {}
    return session["attributes"].get("messaging.client.id"), session["operation"], request.get("bytes")


def without_surplus(truth: Truth, sessions: list[dict[str, Any]], closed_ns: int) -> list[dict[str, Any]]:
    told, kept = Count(call.who for call in truth.calls), []
    for session in sorted(sessions, key=lambda session: nanoseconds(session["start"])):
        told[who(session)] -= 1
        if told[who(session)] >= 0 or nanoseconds(session["start"]) < closed_ns:
            kept.append(session)
    return kept


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder, secrets = tmp_path_factory.mktemp("kafka"), Secrets()
    with (
        node(),
        pod("kafka") as own,
        serving(own, "kafka", password=secrets.new("SASL password")) as server,
        own_trace(folder, own) as trace,
    ):
        yield Scene(server, trace, secrets)


def count(sessions: list[dict[str, Any]], operation: str) -> int:
    """Records in all sessions of that API."""
    counts = (session["attributes"].get("messaging.batch.message_count", 0) for session in sessions)
    return sum(number for number, session in zip(counts, sessions, strict=True) if session["operation"] == operation)


def check_fetched(sessions: list[dict[str, Any]], topic: str, topic_id: str) -> None:
    """A Fetch says the topic's name where its own connection told which it is, else the id: names are not guessed."""
    fetched = [session["resource"] for session in sessions if session["operation"] == "Fetch"]
    log.info("%s: %d of %d named by their id", topic, fetched.count(topic_id), len(fetched))
    assert fetched
    assert set(fetched) <= {topic, topic_id}


def produce(producer: Any, topic: str, secret: str, number: int) -> None:
    """One at a time, so that each is a request."""
    for at in range(number):
        headers = {"traceparent": PARENT, "other": secret}
        producer.produce(topic, f"{secret}{at}", f"key {at}", headers=headers)
        producer.flush(10)


def consume(consumer: Any, number: int) -> None:
    deadline = time.monotonic() + 20
    while number:
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            number -= 1
        assert time.monotonic() < deadline, f"{number} messages did not come"


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_produce(scene: Scene, acks: str) -> None:
    topic, client = f"topic-{acks}", f"producer-{acks}"
    secret = scene.secrets.new(f"record with acks={acks}")
    scene.create(topic)
    producer = scene.producer(client, acks=acks)
    producer.list_topics(topic, timeout=10)
    produce(producer, topic, secret, 30)
    scene.diaries[client].drain(producer)
    sessions = scene.verify(client, {"Produce": topic})
    produced = [session for session in sessions if session["operation"] == "Produce"]
    assert count(sessions, "Produce") == len(produced) == 30
    assert {session["outcome"] for session in produced} == {"one_way" if acks == "0" else "ok"}
    contexts = {(session["trace"]["trace_id"], session["trace"]["parent_id"]) for session in produced}
    assert contexts == {tuple(PARENT.split("-")[1:3])}
    assert all(session["attributes"]["messaging.destination.name"] == topic for session in produced)


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4"])
def test_batches(scene: Scene, compression: str) -> None:
    topic, client = f"batches-{compression}", f"batcher-{compression}"
    secret = scene.secrets.new(f"record with {compression}")
    scene.create(topic)
    producer = kafka.Producer(
        scene.options(client, linger_ms=20, compression_type=compression), logger=scene.diaries[client].logger
    )
    for at in range(1000):
        producer.produce(topic, f"{secret}{at}")
    assert producer.flush(20) == 0
    scene.diaries[client].drain(producer)
    sessions = scene.verify(client, {"Produce": topic})
    assert count(sessions, "Produce") == 1000


def test_fetch_in_a_group(scene: Scene) -> None:
    topic, client, group = "orders", "reader", "group of reader"
    secret = scene.secrets.new("record that is read")
    topic_id = scene.create(topic)
    produce(scene.producer("writer"), topic, secret, 20)
    first = scene.consumer("first")  # the broker makes its own topic for groups when the first one comes
    first.subscribe([topic])
    consume(first, 20)
    first.close()
    consumer = scene.consumer(client)
    consumer.subscribe([topic])
    consume(consumer, 20)
    produce(scene.producer("writer again"), topic, secret, 5)
    consume(consumer, 5)
    consumer.commit(asynchronous=False)
    scene.close(client, consumer)
    topics = dict.fromkeys(("ListOffsets", "OffsetFetch", "OffsetCommit"), topic)
    groups = dict.fromkeys(("FindCoordinator", "JoinGroup", "SyncGroup", "Heartbeat", "LeaveGroup"), group)
    sessions = scene.verify(client, {**topics, **groups}, JoinGroup="")
    said = [session["operation"] for session in sessions]
    assert {"Metadata", "ApiVersions", "Fetch", *topics, *groups} <= set(said)
    check_fetched(sessions, topic, topic_id)
    assert [session["status"] for session in sessions if session["operation"] == "JoinGroup"] == ["MEMBER_ID_REQUIRED", "NONE"]
    assert count(sessions, "Fetch") == 25


def test_errors(scene: Scene) -> None:
    scene.create("twice")
    client = scene.admin("maker")
    (future,) = client.create_topics([admin.NewTopic("twice", 1, 1)]).values()
    with pytest.raises(kafka.KafkaException):
        future.result()
    scene.diaries["maker"].drain(client)
    scene.verify("maker", {"CreateTopics": "twice"}, CreateTopics="TOPIC_ALREADY_EXISTS")
    asker = scene.producer("asker")
    unknown = "UNKNOWN_TOPIC_OR_PARTITION"
    asker.list_topics("nowhere", timeout=10)
    scene.diaries["asker"].drain(asker)
    sessions = scene.verify("asker", {}, Metadata="")
    metadata = [(session["resource"], session["status"], session["outcome"]) for session in sessions]
    assert ("nowhere", unknown, "error") in metadata
    deleter = scene.admin("deleter")
    (future,) = deleter.delete_topics(["nowhere"]).values()
    with pytest.raises(kafka.KafkaException):
        future.result()
    scene.diaries["deleter"].drain(deleter)
    scene.verify("deleter", {"DeleteTopics": "nowhere"}, DeleteTopics=unknown)


def test_sasl_plain(scene: Scene) -> None:
    host, _ = scene.server.address
    own = {"bootstrap_servers": f"{host}:{KAFKA_SASL_PORT}", "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"}
    right = {"sasl_username": USER, "sasl_password": scene.secrets.planted["SASL password"]}
    good = scene.producer("with the password", **own, **right)
    good.list_topics(timeout=10)
    scene.diaries["with the password"].drain(good)
    sessions = scene.verify("with the password", {})
    assert {"SaslHandshake", "SaslAuthenticate", "Metadata"} <= {session["operation"] for session in sessions}
    wrong = {"sasl_username": USER, "sasl_password": scene.secrets.new("wrong SASL password")}
    bad = scene.producer("without it", **own, **wrong)
    with pytest.raises(kafka.KafkaException):
        bad.list_topics(timeout=1)
    scene.diaries["without it"].drain(bad)
    scene.verify("without it", {}, SaslAuthenticate="SASL_AUTHENTICATION_FAILED")


def test_the_sizes_of_long_records_are_exact_though_not_all_was_captured(scene: Scene) -> None:
    """How many records and whether errors are in what was not captured, nobody says."""
    topic = "long"
    secret = scene.secrets.new("a long record")
    topic_id = scene.create(topic)
    before = scene.trace.stats()
    producer = scene.producer("writer of long ones")
    for _ in range(10):
        producer.produce(topic, secret * (LONG // len(secret)))
        producer.flush(10)
    scene.diaries["writer of long ones"].drain(producer)
    sessions = scene.verify("writer of long ones", {"Produce": topic}, overloaded=True)
    produced = [session["request"]["bytes"] for session in sessions if session["operation"] == "Produce"]
    assert len(produced) == 10
    assert all(size > LONG for size in produced)
    consumer = scene.consumer("reader of long ones", fetch_max_bytes=8_000_000, max_partition_fetch_bytes=8_000_000)
    consumer.assign([kafka.TopicPartition(topic, 0, 0)])
    consume(consumer, 10)
    scene.close("reader of long ones", consumer)
    sessions = scene.verify("reader of long ones", {}, overloaded=True, Fetch="")
    check_fetched(sessions, topic, topic_id)
    assert {session["status"] for session in sessions if session["operation"] == "Fetch"} <= {"NONE", ""}
    stats = scene.trace.stats().since(before)
    passed, captured = stats[Counter.BYTES] + stats[Counter.BYTES_TO_POD], stats[Counter.CAPTURED_BYTES]
    log.info("%d bytes passed, of which %d were captured", passed, captured)
    assert passed > 20 * LONG
    assert captured < passed / 2


def test_the_times_are_the_clients_own(scene: Scene) -> None:
    """Of all tests above; librdkafka's clock begins when its `send` has returned, which is later than the first byte."""
    log.info("in all: %s", scene.total)
    scene.total.check_times()


def test_nothing_private_came_out(scene: Scene) -> None:
    """Behind all others: what they planted is in none of the outputs, the summary included."""
    scene.trace.stop()
    scene.secrets.check(scene.trace.outputs())


def test_with_redaction_off_the_search_finds_what_may_be_told(scene: Scene, tmp_path: Path) -> None:
    """So that the test above proves something: a client's name comes out; records and passwords do not even so."""
    if scene.trace.process.poll() is None:
        scene.trace.stop()
    shown = Secrets()
    name = shown.new("name")
    with own_trace(tmp_path, scene.server.pod, "--redact", "off") as trace:
        producer = scene.producer(name)
        truth = Truth()
        produce(producer, "topic-1", scene.secrets.new("record without redaction"), 1)
        truth.note((name, "Produce"), "Produce")
        settled(trace.sessions, truth, lambda session: who(session)[:2])
        trace.stop()
        outputs = trace.outputs()
    assert {f"name in {where}" for where in ("console (line, wide, json)", "jsonl", "jaeger")} <= set(shown.found(outputs))
    scene.secrets.check(outputs)
