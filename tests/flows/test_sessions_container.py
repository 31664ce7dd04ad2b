"""The cgroup of whoever sent from the pod comes out with the session, whenever it became known."""

from __future__ import annotations

import pytest

from clovisor_py.flows.pipeline import Pipeline
from tests.support.segments import Conversation

REQUEST, RESPONSE = b"GET /x HTTP/1.1\r\nHost: web\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CGROUP = 1 << 33 | 7


def sessions(talk):
    pipeline = Pipeline()
    found = pipeline.feed(talk.segments)
    return found + pipeline.close(talk.now)


def test_of_a_server_known_with_its_answer():
    [session] = sessions(Conversation().handshake().client(REQUEST).server(RESPONSE, cgroup_id=CGROUP))
    assert session.cgroup_id == CGROUP


def test_of_a_client_known_with_its_request():
    [session] = sessions(Conversation(pod_is_client=True).handshake().client(REQUEST, cgroup_id=CGROUP).server(RESPONSE))
    assert session.cgroup_id == CGROUP


def test_it_holds_for_all_that_follows_on_the_connection():
    talk = Conversation().handshake().client(REQUEST).server(RESPONSE, cgroup_id=CGROUP).client(REQUEST).server(RESPONSE)
    assert [session.cgroup_id for session in sessions(talk)] == [CGROUP, CGROUP]


def test_a_request_without_an_answer_has_it_too():
    [session] = sessions(Conversation(pod_is_client=True).handshake().client(REQUEST, cgroup_id=CGROUP))
    assert session.cgroup_id == CGROUP


@pytest.mark.parametrize("opening", [b"\x00\x01\x02nobody speaks this" * 300, b""])
def test_a_connection_that_nobody_can_read_has_it_too(opening):
    talk = Conversation(server_port=1234).handshake()
    talk.server(opening or b"\x01", cgroup_id=CGROUP)
    [session] = sessions(talk)
    assert session.connection and session.cgroup_id == CGROUP


def test_none_where_it_was_not_to_be_had():
    [session] = sessions(Conversation().handshake().client(REQUEST).server(RESPONSE))
    assert session.cgroup_id == 0
