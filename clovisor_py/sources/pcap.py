"""Segments from a capture file, as the kernel would have sent them: pcap or pcapng, gzip'd or not, in constant memory.

Everything above the sources is the same for a file and for a node, so any trouble that was captured can be replayed, without
root. What a packet becomes is in `_capture_packets`, which connection it belongs to and who is the pod in `_capture_flows`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from types import TracebackType
from typing import Final

from clovisor_py.errors import CaptureBroken
from clovisor_py.model.segment import Segment
from clovisor_py.sources._capture_flows import MAX_OPEN
from clovisor_py.sources._capture_input import Input, Interface
from clovisor_py.sources._capture_links import LINKS
from clovisor_py.sources._capture_packets import ACKS, Decoder
from clovisor_py.sources._capture_pcap import HEADER, PcapReader, is_pcap
from clovisor_py.sources._capture_pcapng import PcapngReader, is_pcapng

__all__ = ["MAX_OPEN", "CaptureSource"]

MAGIC: Final = 4
INCOMPLETE: Final = "IP fragments without the rest"


class CaptureSource:
    """Opens `path` (`-` is standard input); `with` closes it. Raises CaptureBroken where it is no capture that can be read.

    Datagrams of `udp_ports`, at either end, are taken, as the kernel does; those of a file that `trace -w` wrote all are.
    """

    def __init__(self, path: str, udp_ports: Collection[int]) -> None:
        self._input = Input(path)
        try:
            self._reader = _reader(self._input)
        except CaptureBroken:
            self._input.close()
            raise
        self._decoder = Decoder(self._reader.interfaces, udp_ports)

    def batches(self) -> Iterator[list[Segment]]:
        """Segments in the file's order, a batch for each chunk that was read; once.

        Raises CaptureBroken where the file breaks off, is damaged, or had packets that nobody here can read; after all
        that could be read.
        """
        decode = self._decoder.segments
        for block in self._reader.blocks():
            yield decode(block)
        if self._decoder.unknown_links:
            kinds = ", ".join(map(str, sorted(self._decoder.unknown_links)))
            raise CaptureBroken(f"some packets are of link type {kinds}, which is not read here; the others are shown.")

    @property
    def interfaces(self) -> Sequence[Interface]:
        """Those that are known by now; a Segment's `interface` is an index."""
        return self._reader.interfaces

    @property
    def position(self) -> int:
        """Bytes of the file that have been read."""
        return self._input.position

    @property
    def size(self) -> int | None:
        """Bytes of the file; None for a pipe."""
        return self._input.size

    @property
    def packets(self) -> int:
        """How many there were."""
        return self._decoder.packets

    @property
    def lost(self) -> int:
        """Packets that the capturing machine says it did not write, in files that tell."""
        return self._reader.lost if isinstance(self._reader, PcapngReader) else 0

    def passed_over(self) -> dict[str, int]:
        """Packets that became no segment and were no bare acknowledgements, by reason."""
        counts = {reason: count for reason, count in self._decoder.counts.items() if count and reason != ACKS}
        if incomplete := self._decoder.fragments.waiting + self._decoder.fragments.dropped:
            counts[INCOMPLETE] = incomplete
        return counts

    def __enter__(self) -> CaptureSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._input.close()


def _reader(source: Input) -> PcapReader | PcapngReader:
    start = source.exactly(MAGIC)
    if not start:
        raise CaptureBroken("it is empty; capture again.")
    if is_pcapng(start):
        return PcapngReader(source, start)
    if not is_pcap(start):
        raise CaptureBroken("it is no capture; give a file in pcap or pcapng format, gzip'd or not.")
    reader = PcapReader(source, source.exactly(HEADER, start))
    link = reader.interfaces[0].link
    if link not in LINKS:
        raise CaptureBroken(f"its link type, {link}, is not read here; capture on an Ethernet, raw IP or 'any' interface.")
    return reader
