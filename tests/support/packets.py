"""The layers that crafted packets are put together from: from the pod of `tests/support/kernel.py` to its peer."""

from __future__ import annotations

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import AH

from tests.support.kernel import PEER_IP, PEER_PORT, POD_IP, POD_PORT

POD6, PEER6 = "fd00::1:2", "2001:db8::9"
HELLO = b"GET / HTTP/1.1\r\n\r\n"
SEGMENT = TCP(sport=POD_PORT, dport=PEER_PORT, seq=77, ack=88, flags="PA", window=500) / HELLO
V4 = IP(src=POD_IP, dst=PEER_IP)
V6 = IPv6(src=POD6, dst=PEER6)
QUERY = bytes.fromhex("123401000001000000000000") + b"\1a\0\0\1\0\1"
AUTHENTICATION = AH(nh=6, payloadlen=4, spi=1, seq=1, icv=bytes(12))
