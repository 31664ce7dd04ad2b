"""Detector: which protocol a flow speaks, and who of the two is the client.

Evidence in the order of DESIGN: the operator's hint for the server's port; then what every protocol says of the first bytes
of both directions; the well-known port only settles what the bytes leave open. Nobody is asked twice who said no, and one
yes among noes is enough: a request that is never answered is shown too.

A hint settles what is open, it does not blind: where the protocol that it names says no to the first bytes of both directions
of a connection that is seen from its beginning, the hint is given up, and the bytes decide. Where it says no to the one
direction that spoke, it is heeded all the same, unless the bytes are clearly another's. A protocol that has no recogniser is
what its hint says.

Of a flow that is first seen in its middle the first bytes may lie inside a message, so each turn gets a fresh look.
What came before the verdict is kept (bounded) and handed to the parser afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from clovisor_py.errors import UsageError
from clovisor_py.flows.connection import NOT_AS_HINTED, UNDECIDED
from clovisor_py.flows.crash import describe
from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.stream import Piece
from clovisor_py.protocols._api import Evidence, Protocol, recognises_nothing

DETECT_BYTES: Final = 4096
"""Bytes of one direction that recognisers look at: no protocol needs more to be told from the others."""
DETECT_TOTAL: Final = 64 * 1024
"""Bytes of one direction after which a flow is given up undetected; the kernel captures no more of it (clovisor.h)."""
SETTLE_TURNS: Final = 3
"""A request and its answer are complete when the third turn begins: who is left then is taken."""
MID_STREAM_TURNS: Final = 8
"""Turns of a flow first seen in its middle that may match nothing before it is given up."""

_NO, _MORE = Evidence.NO, Evidence.MORE  # looking up a member costs more than a call
_TELLING = (Evidence.REQUEST, Evidence.RESPONSE)
_SURE = (*_TELLING, Evidence.EITHER)


class Ports(NamedTuple):
    """The two ports by direction (the port of who sends in it), and who opened the connection (-1: not seen)."""

    by_direction: tuple[int, int]
    opener: int

    def servers(self) -> list[int]:
        """Directions whose sender may be the server: one if the opener is known; the peer first, as pods call out too."""
        return [1, 0] if self.opener < 0 else [1 - self.opener]


class Verdict(NamedTuple):
    """`protocol` None: nobody can read this flow. `aligned[d]`: the bytes kept of direction `d` begin a message."""

    protocol: Protocol | None
    client: int = 0
    aligned: tuple[bool, bool] = (True, True)


UNKNOWN: Final = Verdict(None)


def by_any_name(protocols: Iterable[Protocol]) -> dict[str, Protocol]:
    """Every name that somebody may call a protocol by; what rides on another is read by its carrier."""
    own = {protocol.name: protocol for protocol in protocols}
    return {name: own.get(p.over, p) for p in own.values() for name in (*p.hints, p.name)}


def resolve(hints: Mapping[int, str], protocols: Mapping[str, Protocol]) -> dict[int, Protocol]:
    """Port to protocol. Raises UsageError for a name that no protocol has."""
    names = by_any_name(protocols.values())
    for port, name in hints.items():
        if name not in names:
            raise UsageError(f"port {port} is hinted to be '{name}', which is no protocol; known here: {', '.join(protocols)}.")
    return {port: names[name] for port, name in hints.items()}


class Detector:
    """Collects evidence about one flow until there is a verdict."""

    __slots__ = (
        "_evidence",
        "_hints",
        "_ledger",
        "_looks",
        "_mid",
        "_ports",
        "_protocols",
        "_totals",
        "_turned",
        "_turns",
        "_udp",
        "_whole",
        "pieces",
        "refuted",
        "waiting",
    )

    def __init__(
        self,
        protocols: Iterable[Protocol],
        hints: Mapping[int, Protocol],
        ports: Ports,
        mid_stream: bool,
        udp: bool = False,
        ledger: Ledger | None = None,
    ) -> None:
        self._ledger = Ledger() if ledger is None else ledger
        self._protocols = tuple(protocols)
        self._hints = hints
        self._ports = ports
        self._mid = mid_stream
        self._udp = udp
        self._looks = (bytearray(), bytearray())
        self._evidence: tuple[dict[str, Evidence], dict[str, Evidence]] = ({}, {})
        self._totals = [0, 0]
        self._turns = 0
        self._whole = [True, True]
        """Nothing is missing in this direction's look so far; beyond a hole nobody can recognise anything."""
        self._turned = [False, False]
        """The look of this direction began with a turn, not with whatever came first."""
        self.pieces: list[tuple[int, Piece]] = []
        """(direction, piece), as they came: what the parser has to be given."""
        self.refuted: Protocol | None = None
        """What the operator's hint says, and the bytes do not."""
        self.waiting = False
        """Time may settle it: bytes came since `settle` was last asked."""

    def offer(self, direction: int, piece: Piece, turn: bool) -> Verdict | None:
        """Look at more bytes; `turn`: the other direction spoke last. None: no verdict yet."""
        if turn:
            early = self._begin_turn(direction)
            if early is not None:
                self.pieces.append((direction, piece))
                return early
        self.pieces.append((direction, piece))
        self._totals[direction] += piece.length
        if not piece.data:
            self._mid = True  # lost or left out: what follows may lie inside a message
        self.waiting = True
        hinted = self.hinted
        look = self._looks[direction]
        cut = len(piece.data) < piece.length
        if self._whole[direction] and piece.data and len(look) < DETECT_BYTES:
            look += piece.data[: DETECT_BYTES - len(look)]
            self._ask(direction, hinted)
        if cut:
            self._whole[direction] = False
        return self._weigh(direction, cut) if hinted is None else self._heed(hinted, direction, cut)

    def settle(self) -> Verdict | None:
        """Decide with what is there: who accepted, or of several, or of those in doubt, the one whose port it is."""
        self.waiting = False
        accepted, doubtful = self._standing()
        if len(accepted) != 1:
            servers = {self._ports.by_direction[d] for d in self._ports.servers()}
            accepted = [p for p in accepted or doubtful if servers.intersection(p.ports)]
        hinted = self.hinted
        if hinted is not None and accepted != [hinted]:
            if len(accepted) != 1:
                return self._verdict(hinted)
            self._refute(hinted)
        return self._verdict(accepted[0]) if len(accepted) == 1 else None

    def _heed(self, hinted: Protocol, direction: int, cut: bool) -> Verdict | None:
        """The operator's word, unless the bytes say no. None: the other direction has not spoken yet."""
        said = [evidence.get(hinted.name) for evidence in self._evidence]
        if self._mid or any(one not in (None, _NO) for one in said) or self._recogniser(hinted) is None:
            return self._verdict(hinted)
        if said == [_NO, _NO]:
            self._refute(hinted)
            return self._weigh(direction, cut)
        return self.settle() if cut or self._totals[direction] >= DETECT_BYTES else None

    @property
    def unread(self) -> str:
        """Why, where the verdict is that nobody can read it."""
        return UNDECIDED if self.refuted is None else NOT_AS_HINTED.format(self.refuted.name)

    def _refute(self, hinted: Protocol) -> None:
        self.refuted = hinted
        self._ledger.hints_refuted += 1

    def _begin_turn(self, direction: int) -> Verdict | None:
        self._turns += 1
        if not self._mid:
            return self.settle() if self._turns == SETTLE_TURNS else None
        if self._turns > MID_STREAM_TURNS:
            return self.settle() or UNKNOWN
        self._looks[direction].clear()
        self._evidence[direction].clear()
        self._turned[direction] = self._turns > 1
        self._totals[direction] = 0
        self._whole[direction] = True
        self._drop(direction)
        return None

    def _ask(self, direction: int, only: Protocol | None) -> None:
        """Ask everybody who has not made up his mind about this direction."""
        evidence, look = self._evidence[direction], bytes(self._looks[direction])
        for protocol in self._protocols if only is None else (only,):
            if evidence.get(protocol.name, _MORE) is _MORE:
                evidence[protocol.name] = self._said(protocol, look)
        if only is not None and evidence[only.name] is _NO:
            self._ask(direction, None)

    def _said(self, protocol: Protocol, look: bytes) -> Evidence:
        """A recogniser may be somebody's code: one that fails has nothing to say, and costs the others nothing."""
        recognise = self._recogniser(protocol)
        try:
            return _NO if recognise is None else recognise(look)
        except Exception as error:  # noqa: BLE001 counted, with its place
            self._ledger.count_crash(describe(protocol.name, error))
            return _NO

    def _recogniser(self, protocol: Protocol) -> Callable[[bytes], Evidence] | None:
        """None: it tells nothing by its bytes."""
        recognise = protocol.recognise_datagram if self._udp else protocol.recognise
        return None if recognise is recognises_nothing else recognise

    def _weigh(self, direction: int, cut: bool) -> Verdict | None:
        accepted, doubtful = self._standing()
        if len(accepted) == 1 and not doubtful:
            return self._verdict(accepted[0])
        if not accepted and not doubtful:
            if not self._mid and self._evidence[direction]:
                return UNKNOWN
            self._drop(direction)  # the middle of a message: wait for a turn
        if self._totals[direction] >= DETECT_TOTAL:
            return self.settle() or self._tire(direction)
        if cut or len(self._looks[direction]) >= DETECT_BYTES:
            return self.settle() or (UNKNOWN if self._exhausted(1 - direction) else None)
        return None

    def _tire(self, direction: int) -> Verdict | None:
        """So much of one direction, and no verdict. A flow in its middle gets another chance with the next turn."""
        if not self._mid:
            return UNKNOWN
        self._evidence[direction].clear()
        self._whole[direction] = False
        self._drop(direction)
        return None

    def _exhausted(self, other: int) -> bool:
        """The other direction has nothing to add: it shows its limit, or does not speak."""
        return not self._mid and (not self._totals[other] or len(self._looks[other]) >= DETECT_BYTES)

    def _standing(self) -> tuple[list[Protocol], list[Protocol]]:
        """Who accepted, and who is in doubt. A no about either direction is final, except in the middle of a flow."""
        accepted, doubtful = [], []
        first, second = self._evidence
        for protocol in self._protocols:
            one, other = first.get(protocol.name), second.get(protocol.name)
            if (one is _NO or other is _NO) and not self._mid:
                continue
            if one in _SURE or other in _SURE:
                accepted.append(protocol)
            elif one is _MORE or other is _MORE:
                doubtful.append(protocol)
        return accepted, doubtful

    @property
    def hinted(self) -> Protocol | None:
        """What somebody said that it is, unless the bytes have refuted it."""
        if self.refuted is not None:
            return None
        for direction in self._ports.servers():
            if (protocol := self._hints.get(self._ports.by_direction[direction])) is not None:
                return protocol
        return None

    def _verdict(self, protocol: Protocol) -> Verdict:
        said = [evidence.get(protocol.name) for evidence in self._evidence]
        first, second = (not self._mid or said[d] in _SURE or self._turned[d] for d in (0, 1))
        spoke = {direction for direction, _ in self.pieces}
        return Verdict(protocol, self._client(protocol, said), (first or 0 not in spoke, second or 1 not in spoke))

    def _client(self, protocol: Protocol, said: list[Evidence | None]) -> int:
        """The direction in which the client sends."""
        if self._ports.opener >= 0:
            return self._ports.opener
        servers = self._ports.servers()
        for direction in servers:
            if self._hints.get(self._ports.by_direction[direction]) is protocol:
                return 1 - direction
        for direction in servers:
            if said[direction] in _TELLING:
                return direction if said[direction] is Evidence.REQUEST else 1 - direction
        for direction in servers:
            if self._ports.by_direction[direction] in protocol.ports:
                return 1 - direction
        return self.pieces[0][0] if self.pieces else 0

    def _drop(self, direction: int) -> None:
        self.pieces = [kept for kept in self.pieces if kept[0] != direction]
