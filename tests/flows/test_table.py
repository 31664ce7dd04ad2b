"""FlowTable and Agenda: bounded, and never a scan."""

from __future__ import annotations

import pytest

from clovisor_py.flows.agenda import SLOT_BITS, STALE_SLACK, Agenda
from clovisor_py.flows.ledger import UNPARSED_PORTS, Ledger
from clovisor_py.flows.table import LINGER_NS, FlowTable, ip_text
from clovisor_py.model.session import Side
from tests.support.segments import Conversation, ipv4


def first(**how):
    return Conversation(**how).handshake().segments[0]


@pytest.mark.parametrize(
    ("ip", "text"),
    [(ipv4("10.1.2.3"), "10.1.2.3"), (bytes(15) + b"\x01", "::1"), (bytes.fromhex("fe80" + "00" * 13 + "07"), "fe80::7")],
)
def test_addresses_as_text(ip, text):
    assert ip_text(ip) == text


def test_a_flow_knows_its_ends():
    flow = FlowTable(Ledger()).open(first(pod_is_client=True, server_port=80))
    assert str(flow.pod) == "10.0.0.2:40000" and flow.server_end is flow.peer and not flow.mid_stream
    flow.server = 1
    assert (flow.side, flow.server_end, flow.client_first) == (Side.CLIENT, flow.peer, (0, 1))
    flow.server = 0
    assert (flow.side, flow.server_end, flow.client_first) == (Side.SERVER, flow.pod, (1, 0))


def test_closed_ids_linger():
    table = FlowTable(Ledger())
    flow = table.open(first())
    table.close(flow, 0)
    table.forget_closed(LINGER_NS - 1)
    assert table.is_closed("flow") and len(table) == 0
    table.forget_closed(LINGER_NS)
    assert not table.is_closed("flow")


def test_the_agenda_keeps_the_earliest_time_of_each():
    agenda = Agenda()
    agenda.add("a", 50)
    agenda.add("a", 30)
    agenda.add("a", 40)
    agenda.watch(5, "b", 20)
    assert agenda.pop_due(24) == [] and agenda.pop_due(60) == ["b", "a"]
    assert agenda.pop_due(99) == []


def test_the_agenda_is_exact_within_a_slot_of_time():
    agenda, slot = Agenda(), 1 << SLOT_BITS
    agenda.add("late", 10 * slot + 900)
    agenda.add("soon", 10 * slot + 800)
    agenda.add("late", 10 * slot + 850)
    agenda.add("next", 11 * slot)
    assert agenda.pop_due(10 * slot + 799) == []
    assert agenda.pop_due(10 * slot + 800) == ["soon"]
    assert agenda.pop_due(10 * slot + 849) == []
    assert agenda.pop_due(11 * slot - 1) == ["late"]
    assert agenda.pop_due(11 * slot) == ["next"]
    assert len(agenda) == 0


def test_the_agenda_stays_small_where_times_move():
    agenda = Agenda()
    for turn in range(3 * STALE_SLACK, 0, -1):
        agenda.add("flow", turn << SLOT_BITS)
    assert len(agenda) <= STALE_SLACK + 2
    assert agenda.pop_due(1 << SLOT_BITS) == ["flow"]


def test_the_agenda_forgets():
    agenda = Agenda()
    for number in range(3 * STALE_SLACK):
        agenda.add(number, number)
        agenda.forget(number)
    assert len(agenda) <= STALE_SLACK + 1
    assert agenda.pop_due(10**9) == []


def test_unparsed_ports_are_bounded():
    ledger = Ledger()
    for port in range(1, UNPARSED_PORTS + 50):
        ledger.count_unparsed(port, "why")
    assert len(ledger.unparsed) == UNPARSED_PORTS + 1 and ledger.unparsed[0, "why"] == 49
    assert ledger.as_dict()["flows_unparsed"] == UNPARSED_PORTS + 49
