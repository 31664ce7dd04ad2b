"""Our datagrams against what jaeger-client's own agent client writes."""

import pytest
from jaeger_client import thrift
from jaeger_client.thrift_gen.agent import Agent
from jaeger_client.thrift_gen.jaeger import ttypes
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.transport.TTransport import TMemoryBuffer

from clovisor_py.exporters import _compact


class Loop:
    def spawn_callback(self, callback):
        """Its reading half, which UDP has no use for."""


class Transport(TMemoryBuffer):
    io_loop = Loop()


class Factory:
    def getProtocol(self, transport):
        return TCompactProtocol(transport)


PROCESS = thrift.make_process("web", {"hostname": "n1", "n": 3, "on": True, "f": 0.5}, 100)


def span(i):
    tags = thrift.make_tags(
        {"http.request.method": "GET", "n": -i, "big": 1 << 62, "yes": True, "f": 1.5, "ü": "日\0"}, 100, 100
    )
    return ttypes.Span(i, -i, 1 << 40, 0, "GET", None, 1, 1_700_000_000_000_000, i, tags, [])


@pytest.mark.parametrize("count", [0, 1, 14, 15, 127, 128, 300])
def test_the_same_bytes_as_jaeger_clients_own(count):
    spans = [span(i) for i in range(count)]
    transport = Transport()
    client = Agent.Client(transport, Factory())
    client._seqid = -1  # ours is always 0: nobody answers a oneway call
    client.emitBatch(ttypes.Batch(process=PROCESS, spans=spans))
    ours = _compact.message(_compact.beginning(PROCESS), [_compact.encode(one) for one in spans])
    assert ours == transport.getvalue()


def test_the_same_bytes_without_thrifts_extension(monkeypatch):
    fast = [_compact.encode(span(i)) for i in range(5)], _compact.beginning(PROCESS)
    monkeypatch.setattr(_compact, "fastbinary", None)
    assert ([_compact.encode(span(i)) for i in range(5)], _compact.beginning(PROCESS)) == fast
