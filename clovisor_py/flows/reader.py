"""Reader: one direction of one flow as its parser sees it: unread bytes, a pending skip, and what was not seen.

Bytes come in through `run` (see `loop`), `step` or `read`, and what nobody saw through `unseen`; `over`, `quiet` and `finish`
say that no more will come of a turn or of the direction.

A reader is READING, or BLIND (unseen bytes hid where messages begin; only counts, until the turn is over), or SEEKING (a
new turn: the parser is asked where in its bytes a message begins), or STALLED (the rest of a message is still to come that was
told already: it is BLIND from the next byte on, whoever speaks before that).
"""

from __future__ import annotations

from clovisor_py.errors import ProtocolError
from clovisor_py.flows.loop import BLIND, READING, SEEKING, STALLED, Loop
from clovisor_py.model.session import Outcome
from clovisor_py.protocols._api import Parser


class Reader(Loop):
    """`run` may be called while `fast`, `step` for less than `skip` bytes, otherwise `read` and `unseen`."""

    __slots__ = ()

    def begin(self, mid_stream: bool, aligned: bool) -> None:
        """Before the first byte: whether it may lie in the middle of the flow, and whether a message begins with it."""
        self.fresh = mid_stream
        self.state = READING if aligned else SEEKING
        self.fast = aligned and not mid_stream

    @property
    def parser(self) -> Parser:
        """Both directions of a flow have the same one."""
        return self._parser

    def go_on_with(self, parser: Parser) -> None:
        """One that stands where this one's stood."""
        self._parser = parser

    # ---- bytes ----

    def step(self, length: int, data: bytes, time_ns: int) -> None:
        """Pass `length` bytes of a segment, the beginning of which is `data`; less than the pending skip."""
        self.end += length
        self.skip -= length
        self.open.pass_seen(data, 0, len(data), time_ns)
        if length > len(data):
            self.open.pass_unseen(0, time_ns, False)

    def read(self, data: bytes, time_ns: int, seq: int, turn_age_ns: int = 0) -> None:
        """Take the next bytes in order, whatever the state."""
        self._wake()
        base = self.end
        self._origin = seq - base
        self.end += len(data)
        if self.state == STALLED:
            self._go_on_blind(base, time_ns)
        if self.state == BLIND:
            self.open.latest_ns = max(self.open.latest_ns, time_ns)
            return
        if self.state == SEEKING:
            self.open.only_mark(base, time_ns)
            self._age_ns = turn_age_ns
            self._seek(data)
            self._rest()
            return
        skipped = min(self.skip, len(data))
        if skipped:
            self.skip -= skipped
            self.open.pass_seen(data, 0, skipped, time_ns)
            if self.skip:
                return
        if self._buffer:
            self.open.mark(base, time_ns)
            self._buffer += data
            self._parse(self._buffer, 0)
        else:
            if not self.open.start_ns:
                self._age_ns = turn_age_ns
            self.open.only_mark(base, time_ns)
            self._parse(data, skipped)
        self._rest()

    def unseen(self, size: int, time_ns: int, seq: int, lost: bool) -> None:
        """Take `size` bytes that will never be seen, lost or left out on purpose."""
        self._wake()
        self._origin = seq - self.end
        if self.state == STALLED:
            self._go_on_blind(self.end, time_ns)
        if self.state == SEEKING:
            self._miss(self.end, time_ns)
            self.end += size
            return
        covered = min(self.skip, size)
        if covered:
            self.skip -= covered
            self.end += covered
            self.open.pass_unseen(covered, time_ns, lost)
            if not self.skip:
                self.open.only_mark(self.end, time_ns)
                self._parse(b"", 0)
        if size > covered:
            self._step_over(size - covered, time_ns, lost)
        self._rest()

    # ---- turns and ends ----

    def over(self, now_ns: int) -> None:
        """The other direction speaks: this turn is over, and with it what could not be seen of it."""
        if self.state == STALLED:
            return
        self._lose(now_ns)
        self._missed = False
        self.state = SEEKING

    def quiet(self, now_ns: int, alone: bool) -> None:
        """Nothing came for a while: report what is open and unseen. The turn may still go on, unless nobody answers."""
        self._lose(now_ns)
        if alone:
            self.state = SEEKING

    def stall(self, now_ns: int) -> None:
        """The open message does not go on: what is known of it is told now, and the rest of its turn is passed over.

        Also where the other direction speaks before that comes: it would be taken for the answer to what that says.
        """
        if self.state == READING and self.open.start_ns:
            self.open.latest_ns = max(self.open.latest_ns, now_ns)  # so long somebody has waited for its end
            self._end(Outcome.TIMEOUT)
            self._blind()
            self.state = STALLED

    def _go_on_blind(self, offset: int, time_ns: int) -> None:
        """What stalled goes on; where it ends nobody can see, but it is over when it falls silent."""
        self.state = BLIND
        self.open.begin(offset, time_ns)

    def blindfold(self, time_ns: int) -> None:
        """Read no more of this turn: whom it answers is not known."""
        if self.state != BLIND:
            self._wake()
            self._open_unread(time_ns)
            self._blind()

    def finish(self, outcome: Outcome, now_ns: int) -> None:
        """No byte will follow. A message that this cuts short ends as `outcome`, unless it was cut short by us."""
        self._wake()
        if self.state == READING:
            self._end(outcome)
        else:
            self._lose(now_ns)
        self._reset()
        self._rest()

    def settle(self) -> None:
        """A datagram is over, and with it every message in it."""
        if not self.fast:
            self._wake()
            if self.open.start_ns or self._buffer:
                self._end()
            self._reset()
            self.fast = not self.fresh
            self._rest()
        self.end = 0

    # ---- what was not seen ----

    def _lose(self, now_ns: int) -> None:
        """Report what is open, and that there may have been more."""
        if self.state == BLIND:
            hidden_ns = self.open.latest_ns
            self._pairing.lose(self.sender, hidden_ns, now_ns, self._end())
        elif self._missed:
            self._pairing.lose(self.sender, now_ns, now_ns, 0)

    def _step_over(self, size: int, time_ns: int, lost: bool) -> None:
        """Unseen bytes that no skip covers: the parser can do without them, or this direction goes blind."""
        self._open_unread(time_ns)
        if self.state == READING and not self._parser.gap(self.sender, size):
            if not self._pairing.in_order:
                self._seek_on(size, time_ns, lost)
                return
            self._blind()
        self._drop_unread()
        self.end += size
        self.open.pass_unseen(size, time_ns, lost)
        self.fast = False
        if self.state == READING:  # the message's last byte may have been among them: nobody else would ask before the next one
            self.open.only_mark(self.end, time_ns)
            self._parse(b"", 0)

    def _seek_on(self, size: int, time_ns: int, lost: bool) -> None:
        """By id nothing that follows depends on what was missed: look for the next message at once, not at the next turn."""
        self.open.pass_unseen(size, time_ns, lost)
        self.end += size
        self._pairing.lose(self.sender, time_ns, time_ns, self._end())
        self._drop_unread()
        self._missed = True
        self.state, self.fast, self.skip = SEEKING, False, 0

    def _end(self, broken: Outcome | None = None) -> int:
        """Make the parser give up the open message, and pass it on if it is worth telling: else, bytes that were lost."""
        if self._buffer:
            self._open_unread(0)
            self.open.begin(0, self.open.marks[-1][1])
        try:
            message = self._parser.end(self.sender)
        except ProtocolError:
            self._ledger.violations += 1
            message = None
        gap = self.open.gap
        if message is not None:
            if broken is Outcome.TIMEOUT:
                message.incomplete = True  # also one that ends with its connection: that has not ended
            self._complete(message, self.end, broken if message.incomplete else None)
            gap = 0
        else:
            self._ledger.unread_bytes += len(self._buffer)
        self.open.forget()
        return gap

    def _reset(self) -> None:
        self._drop_unread()
        self.open.forget()
        self.state, self.skip, self._missed = READING, 0, False
