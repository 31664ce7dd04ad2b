"""What is deleted of the kernel's connections, and who is shown it before; with the kernel in `live/test_program_sessions`."""

from __future__ import annotations

from socket import IPPROTO_TCP, IPPROTO_UDP

from clovisor_py.kernel import layout
from clovisor_py.kernel.sweep import clear

ADDRESSES = bytes(16), bytes(16)


class Maps:
    """Three connections of two interfaces; the cookie is the pod's port."""

    def __init__(self):
        self.held = dict(self._entry(*each) for each in ((7, 80, IPPROTO_TCP), (7, 53, IPPROTO_UDP), (8, 81, IPPROTO_TCP)))

    @staticmethod
    def _entry(ifindex, port, transport):
        value = port.to_bytes(8, "little") + bytes(layout.SESSION.size - 8)
        return layout.KEY.pack(ifindex, *ADDRESSES, port, 40000, transport, 0), value

    def sessions(self):
        yield from list(self.held.items())

    def delete_session(self, key):
        del self.held[key]

    def ports(self):
        return [layout.KEY.unpack(key)[3] for key in self.held]


def test_the_connections_of_one_interface_are_shown_and_deleted():
    maps, shown = Maps(), []
    clear(maps, 7, lambda place, fields, over: shown.append((place[0], place[3], fields[0], over, maps.ports())))
    assert shown == [(7, 80, 80, True, [80, 53, 81])]
    assert maps.ports() == [81]


def test_nobody_needs_to_look():
    maps = Maps()
    clear(maps, 7)
    assert maps.ports() == [81]
