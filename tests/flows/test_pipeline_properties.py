"""However a network treats a conversation, the same sessions come out; and whatever the bytes, none raise."""

from __future__ import annotations

from dataclasses import asdict

from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.segment import Segment
from tests.support.segments import EPOCH, MS, SECOND, Conversation, ipv4
from tests.support.toy_protocol import TOYS

TIMES = ("start_ns", "duration_ns", "ttfb_ns")


def engine_of(segments, batch=7):
    engine = Pipeline(protocols=TOYS)
    sessions = []
    for at in range(0, len(segments), batch):
        sessions += engine.feed(segments[at : at + batch])
        sessions += engine.tick(segments[at].time_ns)
    sessions += engine.close(segments[-1].time_ns if segments else EPOCH)
    book = engine.ledger
    assert book.payload == book.parsed + book.duplicates + book.opaque + book.late
    assert book.parser_crashes == 0 and engine.flows == 0
    return sessions, book


def facts(sessions):
    """All that a session says, save its times."""
    rows = [asdict(session) for session in sessions]
    for row in rows:
        for name in TIMES:
            row.pop(name)
        for part in ("request", "response"):
            row[part] = row[part] and row[part].bytes
    return rows


@st.composite
def exchanges(draw):
    """What a client and a server say in turn: [(client's bytes, server's bytes)], and how each is cut into segments."""
    turns = []
    for number in range(draw(st.integers(1, 4))):
        asks = draw(st.integers(1, 3))
        sizes = [draw(st.integers(0, 300)) for _ in range(2 * asks)]
        question = "".join(f"ask q{number}{i} {sizes[i]}\n" + "x" * sizes[i] for i in range(asks))
        answer = "".join(
            f"{draw(st.sampled_from(['ok', 'no']))} a{number}{i} {sizes[-i - 1]}\n" + "\n" * sizes[-i - 1] for i in range(asks)
        )
        cuts = st.lists(st.integers(1, 90), max_size=12)
        turns.append((question, draw(cuts), answer, draw(cuts)))
    return turns


def converse(turns, chunked, **how):
    talk = Conversation(**how).handshake()
    spans = []
    for question, cuts, answer, more_cuts in turns:
        for who, data, chunks in ((0, question, cuts), (1, answer, more_cuts)):
            begin = len(talk.segments)
            talk.say(who, data, chunks=chunks if chunked else None)
            spans.append((begin, len(talk.segments)))
    return talk, spans


@settings(max_examples=150, deadline=None)
@given(exchanges(), st.randoms(use_true_random=False), st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_chunks_reordering_and_copies_change_nothing(turns, random, seq, batch):
    plain, _ = converse(turns, False, client_seq=seq, server_seq=seq)
    talk, spans = converse(turns, True, client_seq=seq, server_seq=seq)
    for begin, end in reversed(spans):
        part = talk.segments[begin:end]
        part += random.choices(part, k=random.randint(0, 3))
        random.shuffle(part)
        talk.segments[begin:end] = part
    plain.close()
    talk.close()
    expected, _ = engine_of(plain.segments)
    found, book = engine_of(talk.segments, batch)
    assert facts(found) == facts(expected)
    assert len(found) == sum(turn[0].count("ask") for turn in turns)
    assert book.gap_bytes == 0
    assert all(session.duration_ns >= session.ttfb_ns >= 0 for session in found)


@settings(max_examples=150, deadline=None)
@given(exchanges(), st.randoms(use_true_random=False), st.floats(0, 0.5))
def test_losses_and_cuts_are_said_and_never_mispaired(turns, random, rate):
    talk, _ = converse(turns, True)
    kept = talk.segments[:2]
    for segment in talk.close().segments[2:]:
        fate = random.random()
        if fate < rate / 2:
            continue
        captured = random.randint(0, 40) if fate < rate else segment.length
        kept.append(segment._replace(data=segment.data[:captured]))
    sessions, book = engine_of(kept)
    assert book.sessions == len(sessions)
    for session in sessions:
        if session.connection or session.request is None:
            continue
        question, answer = session.attributes["toy.question"], session.attributes.get("toy.answer")
        assert answer is None or answer[1:] == question[1:]
        assert session.duration_ns >= 0 and session.outcome.value in ("ok", "error", "closed")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            Segment,
            time_ns=st.integers(EPOCH, EPOCH + 100 * SECOND),
            flow_id=st.integers(0, 2),
            interface=st.just(1),
            direction=st.integers(0, 1),
            transport=st.sampled_from([6, 17]),
            pod_ip=st.just(ipv4("10.0.0.1")),
            peer_ip=st.binary(min_size=16, max_size=16),
            pod_port=st.just(7000),
            peer_port=st.integers(0, 65535),
            seq=st.integers(0, 40) | st.integers(0, 2**32 - 1),
            ack=st.integers(0, 40) | st.integers(0, 2**32 - 1),
            tcp_flags=st.sampled_from([0, 1, 2, 4, 16, 16, 16, 16, 17, 18, 20]),
            window=st.just(1),
            flags=st.integers(0, 63),
            length=st.integers(0, 30),
            data=st.sampled_from([b"ask a\n", b"ok\n", b"ask b 20\n", b"#1 ask\n", b"#1 ok *\n", b"\x02QA", b"ok *\n"])
            | st.binary(max_size=30),
            turn_age_ns=st.integers(0, MS),
            lost=st.integers(0, 2),
        ),
        max_size=40,
    )
)
def test_any_segments_whatsoever(segments):
    engine_of([segment._replace(length=max(segment.length, len(segment.data))) for segment in segments], 3)
