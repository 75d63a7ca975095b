"""The PCnet's receiver: picks frames by their destination, and puts them into the buffers of the receive ring.

A frame is stored with its FCS, over as many buffers as it takes; one that finds no buffer is missed and counted. With
LAPPEN, frames begin at descriptors in which the driver has set STP only.
Not modelled: runts (virtual cables carry frames that senders did not pad: they are padded here), framing errors.
Source: AMD Am79C970A data sheet, "Receive Operation", "Receive Descriptors", CSR3 bit 5, CSR4 bit 10.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from hw.net.ethernet import (
    ADDRESS_BYTES,
    BROADCAST,
    DATA_MIN,
    FCS_BYTES,
    FRAME_MIN,
    GROUP,
    HEADER_BYTES,
    LENGTH_OFFSET,
    PADDING,
    fcs_of,
    hash_index,
    length_of,
    start_of,
)
from hw.net.pcnet_registers import Registers
from hw.net.pcnet_rings import SCAN_MAX, Descriptor, Ring, ring_length
from hw.net.pcnet_spec import MCNT, Csr, Csr0, Csr3, Csr4, Mode, Rmd
from hw.net.rings import scatter
from hw.net.wiring import Frame
from hw.wiring import GuestMemory

COUNTER_END = 0x10000
OWN, STP, ENP, ERR = int(Rmd.OWN), int(Rmd.STP), int(Rmd.ENP), int(Rmd.ERR)
STP_ENP = STP | ENP
ERRORS = int(Rmd.FRAM | Rmd.OFLO | Rmd.CRC | Rmd.BUFF | Rmd.BPE)
BAM, LAFM, PAM = int(Rmd.BAM), int(Rmd.LAFM), int(Rmd.PAM)
NO_BUFFER = int(Rmd.BUFF | Rmd.OFLO)
RINT, MISS, MFCO, LAPPEN = int(Csr0.RINT), int(Csr0.MISS), int(Csr4.MFCO), int(Csr3.LAPPEN)
ASTRP_RCV = int(Csr4.ASTRP_RCV)
PROM, DRCVBC, DRCVPA = int(Mode.PROM), int(Mode.DRCVBC), int(Mode.DRCVPA)


@dataclass(slots=True)
class ReceiveStats:
    """Counters; never saved."""

    frames: int = 0
    octets: int = 0
    filtered: int = 0
    missed: int = 0
    overlong: int = 0


class Receiver:
    """Methods raise RingfenceError where the guest names memory that is not there."""

    def __init__(self, registers: Registers, memory: GuestMemory) -> None:
        self.registers, self.memory = registers, memory
        self.stats = ReceiveStats()

    def receive(self, frame: Frame, damage: int = 0, fcs: bytes | None = None) -> bool:
        """A frame, if it is for us. False: there is no buffer. With `fcs` it is one that was looped, of any length."""
        length = length_of(frame)
        if not length or (match := self._match(start_of(frame, ADDRESS_BYTES))) is None:
            self.stats.filtered += 1
            return True
        pieces: list[memoryview | bytes] = list(frame)
        if length < FRAME_MIN and fcs is None:
            pieces.append(PADDING[length:])
            length = FRAME_MIN
        if length + FCS_BYTES > MCNT:
            self.stats.overlong += 1
            return True
        fcs = fcs_of(pieces) if fcs is None else fcs
        pieces.append(fcs)
        length += len(fcs)
        if self.registers.csr[Csr.FEATURES] & ASTRP_RCV:
            pieces, length = stripped(pieces, length)
        if not self._store(pieces, length, match | damage):
            return False
        self.stats.frames += 1
        self.stats.octets += length
        return True

    def _match(self, destination: bytes) -> int | None:
        """By which rules the address is ours: none of them (0) is enough when promiscuous."""
        registers = self.registers
        mode = int(registers.csr[Csr.MODE])
        found = 0
        if destination == BROADCAST and not mode & DRCVBC:
            found = BAM
        elif destination[0] & GROUP and registers.hashes >> hash_index(destination) & 1:
            found = LAFM
        if destination == registers.padr and not mode & DRCVPA:
            found |= PAM
        return found if found or mode & PROM else None

    def miss(self) -> None:
        """A frame is lost for want of a buffer. CSR112 counts, and says when it has gone around."""
        csr = self.registers.csr
        self.stats.missed += 1
        csr[Csr.STATUS] |= MISS
        csr[Csr.MISSED_FRAMES] = count = (csr[Csr.MISSED_FRAMES] + 1) % COUNTER_END
        if count == 0:
            csr[Csr.FEATURES] |= MFCO

    # the ring

    def _ring(self, held: ExitStack) -> tuple[Ring, int]:
        """And the position in it."""
        registers = self.registers
        length = ring_length(int(registers.csr[Csr.RCVRL]))
        ring = Ring(self.memory, held, registers.style, registers.dword(Csr.BADR), length, registers.high_address)
        return ring, (length - ring_length(int(registers.csr[Csr.RCVRC]))) % length

    def _store(self, pieces: list[memoryview | bytes], length: int, flags: int) -> bool:
        """False: the descriptor at the ring's position is the driver's."""
        look_ahead = self.registers.csr[Csr.INTERRUPT_MASK] & LAPPEN
        with ExitStack() as held:
            ring, index = self._ring(held)
            if look_ahead:
                index = find_start(ring, index)
            descriptor = ring.read(index)
            if not descriptor.status & OWN:
                self._moved(ring, index, descriptor)
                return False
            if length <= descriptor.length:
                with self.memory.dma(descriptor.address, length, True) as views:
                    scatter(pieces, views)
                status = flags | STP_ENP
            else:
                data = memoryview(b"".join(pieces))
                index, descriptor, status = self._chain(ring, index, descriptor, data, flags)
            if status & ENP:
                ring.write_misc(index, length)
            ring.give_back(index, status | ERR if status & ERRORS else status)
            index = ring.after(index)
            if look_ahead:
                index = find_start(ring, index)
            self._moved(ring, index, descriptor)
        self.registers.csr[Csr.STATUS] |= RINT
        self.registers.tell_sent()
        return True

    def _chain(
        self, ring: Ring, index: int, descriptor: Descriptor, data: memoryview, flags: int
    ) -> tuple[int, Descriptor, int]:
        """Fill buffer after buffer, and give back all but the last: which that is, and the status it gets."""
        first, status, at = index, STP, 0
        for _ in range(SCAN_MAX):
            piece = data[at : at + descriptor.length]
            with self.memory.dma(descriptor.address, len(piece), True) as views:
                scatter([piece], views)
            at += len(piece)
            if at == len(data):
                return index, descriptor, status | flags | ENP
            following = ring.after(index)
            if following == first or not (found := ring.read(following)).status & OWN:
                break
            ring.give_back(index, status)
            index, descriptor, status = following, found, 0
        return index, descriptor, status | NO_BUFFER

    def _moved(self, ring: Ring, index: int, last: Descriptor) -> None:
        """The ring's position; and the registers that show what was seen there."""
        registers = self.registers
        registers.csr[Csr.RCVRC] = ring.length - index
        registers.set_dword(Csr.CRDA, ring.address_of(index))
        registers.set_dword(Csr.NRDA, ring.address_of(ring.after(index)))
        registers.csr[Csr.CRBC] = -last.length & MCNT
        registers.csr[Csr.CRST] = last.status


def find_start(ring: Ring, index: int) -> int:
    """The next descriptor with STP, whoever owns it. Those of ours before it are given back unused. [CSR3, bit 5]"""
    for _ in range(min(ring.length, SCAN_MAX)):
        status = ring.read(index).status
        if status & STP:
            break
        if status & OWN:
            ring.give_back(index, status & ~OWN)
        index = ring.after(index)
    return index


def stripped(pieces: list[memoryview | bytes], length: int) -> tuple[list[memoryview | bytes], int]:
    """Without padding and FCS, where an IEEE 802.3 length field says that there is padding."""
    start = start_of(pieces, HEADER_BYTES)
    data_length = int.from_bytes(start[LENGTH_OFFSET:HEADER_BYTES], "big")
    kept = HEADER_BYTES + data_length
    if data_length >= DATA_MIN or kept > length - FCS_BYTES:
        return pieces, length
    return [b"".join(pieces)[:kept]], kept
