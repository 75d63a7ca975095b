"""The PCnet's transmitter: gathers frames from the buffers of the transmit ring, and sends or loops them.

A frame is complete when the port has taken it, not after its time on the wire. One that the port refuses stays in the
ring, with TDMD set, until the port is ready. Virtual cables carry no FCS: one that the driver made itself (DXMTFCS) is
checked and taken off, and a frame for which it is wrong is lost on the way, as every receiver would drop it.
TINT may tell of several frames: as soon as something else interrupts, CSR0 is read, half the ring has been sent, or
2 ms after, where a wire would take up to 1.2 ms for each. A driver that waits after each frame is told at once.
External loopback is that of a port with a loopback plug: the frame comes back, and reaches nobody else.
Not modelled: collisions, but for those that FCOLL forces; excessive deferral.
Source: AMD Am79C970A data sheet, "Transmit Operation", "Transmit Descriptors", "Loopback Operation".
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from hw.net.ethernet import FCS_BYTES, FRAME_MIN, fcs_of, padded
from hw.net.pcnet_receive import Receiver
from hw.net.pcnet_registers import Registers
from hw.net.pcnet_rings import SCAN_MAX, Descriptor, Ring, ring_length
from hw.net.pcnet_spec import BCNT, ILACC, Csr, Csr0, Csr3, Csr4, Csr5, Mode, Rmd, Tmd, TmdError
from hw.net.wiring import Port
from hw.wiring import GuestMemory

BABBLE = 1519  # bytes with the FCS
TOGETHER_MAX = 16  # frames of which one interrupt tells
LONGEST = 16384  # what is longer is not even offered to the port
MISC_NARROW_SHIFT = 16  # 16-bit structures have the upper half of the errors' word
TXON, TDMD, TINT, CERR, BABL = (int(bit) for bit in (Csr0.TXON, Csr0.TDMD, Csr0.TINT, Csr0.CERR, Csr0.BABL))
OWN, STP, ENP, ERR, DEF = (int(bit) for bit in (Tmd.OWN, Tmd.STP, Tmd.ENP, Tmd.ERR, Tmd.DEF))
WRITTEN = int(Tmd.OWN | Tmd.ERR | Tmd.MORE | Tmd.ONE | Tmd.DEF | Tmd.BPE)  # by the controller, at a frame's end
LCAR, UFLO = int(TmdError.LCAR), int(TmdError.UFLO)
BROKEN_CHAIN = int(TmdError.BUFF | TmdError.UFLO)
RETRIES_FAILED = int(TmdError.RTRY)
RXON, TXSTRT, APAD_XMT, DXSUFLO = int(Csr0.RXON), int(Csr4.TXSTRT), int(Csr4.APAD_XMT), int(Csr3.DXSUFLO)
LTINTEN, TOKINTD = int(Csr5.LTINTEN), int(Csr5.TOKINTD)
LOOP, LOOP_INTERNAL = int(Mode.LOOP), int(Mode.LOOP | Mode.INTL)
FCOLL, DXMTFCS = int(Mode.FCOLL), int(Mode.DXMTFCS)
ADD_FCS, LTINT, CRC_ERROR = int(Tmd.ADD_FCS), int(Tmd.MORE), int(Rmd.CRC)


@dataclass(slots=True)
class TransmitStats:
    """Counters; never saved."""

    frames: int = 0
    octets: int = 0
    refused: int = 0
    damaged: int = 0
    overlong: int = 0
    errors: int = 0
    looped: int = 0


class Gathered(NamedTuple):
    """A frame in the ring: how many descriptors it takes, its bytes, and its first and last descriptors."""

    descriptors: int
    views: list[memoryview]
    length: int
    first: Descriptor
    last: Descriptor
    whole: bool  # ENP was found before a descriptor that is the driver's


class Transmitter:
    """Methods raise RingfenceError where the guest names memory that is not there."""

    def __init__(self, registers: Registers, memory: GuestMemory, port: Port, receiver: Receiver) -> None:
        self.registers, self.memory, self.port, self.receiver = registers, memory, port, receiver
        self.stats = TransmitStats()

    def scan(self) -> None:
        """TXON is set: send what the ring holds, up to a number of descriptors. With more to do TDMD stays set."""
        registers = self.registers
        csr = registers.csr
        csr[Csr.STATUS] &= ~TDMD
        with ExitStack() as held:
            length = ring_length(int(csr[Csr.XMTRL]))
            ring = Ring(self.memory, held, registers.style, registers.dword(Csr.BADX), length, registers.high_address)
            index = (length - ring_length(int(csr[Csr.XMTRC]))) % length
            budget = SCAN_MAX
            while (descriptor := ring.read(index)).status & OWN and csr[Csr.STATUS] & TXON:
                one = self._frame if descriptor.status & STP else skip
                taken = one(ring, index, descriptor)
                index, budget = (index + taken) % length, budget - taken
                if not taken or budget <= 0:
                    csr[Csr.STATUS] |= TDMD
                    break
            self._moved(ring, index, descriptor)

    def _frame(self, ring: Ring, index: int, first: Descriptor) -> int:
        """Send a frame and give its descriptors back: how many there were. 0: the port is not ready."""
        state, csr = self.registers.state, self.registers.csr
        with ExitStack() as pinned:
            frame = self._gather(ring, index, first, pinned)
            error = self._send(frame) if frame.whole else BROKEN_CHAIN
        if error is None:
            state.deferred = 1
            self.stats.refused += 1
            return 0
        for _ in range(frame.descriptors - 1):
            ring.give_back(index, ring.read(index).status & ~OWN)
            index = ring.after(index)
        status = frame.last.status & ~WRITTEN
        if state.deferred:
            status |= DEF
            state.deferred = 0
        if error:
            status |= ERR
            self.stats.errors += 1
        ring.write_misc(index, error if ring.style.wide else error >> MISC_NARROW_SHIFT)
        ring.give_back(index, status)
        csr[Csr.FEATURES] |= TXSTRT
        if error & UFLO and not csr[Csr.INTERRUPT_MASK] & DXSUFLO:
            csr[Csr.STATUS] &= ~TXON
        if error:
            csr[Csr.STATUS] |= TINT
        elif self._interrupts(frame.last.status):
            self.registers.note_sent(min(ring.length // 2, TOGETHER_MAX))
        return frame.descriptors

    def _interrupts(self, status: int) -> bool:
        """Does a frame that was sent set TINT? [CSR5, bits 15:14]"""
        extended = int(self.registers.csr[Csr.EXTENDED])
        if extended & LTINTEN:
            return bool(status & LTINT)
        return not extended & TOKINTD

    def _gather(self, ring: Ring, index: int, first: Descriptor, pinned: ExitStack) -> Gathered:
        """From STP to ENP. A ring that is one endless frame ends where it began."""
        views: list[memoryview] = []
        at, descriptor, length, count, whole = index, first, 0, 0, False
        while True:
            count, length = count + 1, length + descriptor.length
            if length <= LONGEST:
                views += pinned.enter_context(self.memory.dma(descriptor.address, descriptor.length, False))
            if whole := bool(descriptor.status & ENP):
                break
            at = ring.after(at)
            if at == index or count == SCAN_MAX or not (found := ring.read(at)).status & OWN:
                break
            descriptor = found
        return Gathered(count, views, length, first, descriptor, whole)

    def _send(self, frame: Gathered) -> int | None:
        """Onto the cable, or around: the errors, as in TMD2. None: the port says not now."""
        csr = self.registers.csr
        mode = int(csr[Csr.MODE])
        looped, internal = mode & LOOP, mode & LOOP_INTERNAL == LOOP_INTERNAL
        if internal and mode & FCOLL:
            return RETRIES_FAILED
        if not internal and not self.registers.link_passes:
            csr[Csr.STATUS] |= CERR
            return LCAR
        views, length, makes_fcs = frame.views, frame.length, self._makes_fcs(frame, mode)
        if length + FCS_BYTES * makes_fcs >= BABBLE:
            csr[Csr.STATUS] |= BABL
        if length > LONGEST:
            self.stats.overlong += 1
            return 0
        if length < FRAME_MIN and csr[Csr.FEATURES] & APAD_XMT:
            views, length = padded(views, length), FRAME_MIN
        if looped:
            self._loop(views, makes_fcs=makes_fcs)
            return 0
        if not makes_fcs and (views := checked(views)) == []:
            self.stats.damaged += 1
            return 0
        if not self.port.transmit(views):
            return None
        self.stats.frames += 1
        self.stats.octets += length
        return 0

    def _makes_fcs(self, frame: Gathered, mode: int) -> bool:
        """[TMD1, bit 29; CSR4, bit 11, which overrides it and DXMTFCS]"""
        if self.registers.csr[Csr.FEATURES] & APAD_XMT:
            return True
        if self.registers.style_number == ILACC:
            return not mode & DXMTFCS and not frame.last.status & ADD_FCS
        return not mode & DXMTFCS or bool(frame.first.status & ADD_FCS)

    def _loop(self, views: list[memoryview], *, makes_fcs: bool) -> None:
        """To our own receiver, with a real FCS, if it is on. A frame that finds no buffer is missed, as any other."""
        self.stats.looped += 1
        if not self.registers.csr[Csr.STATUS] & RXON:
            return
        damage = 0
        if makes_fcs:
            fcs = fcs_of(views)
        else:
            data = b"".join(views)
            views, fcs = [memoryview(data)[:-FCS_BYTES]], data[-FCS_BYTES:]
            damage = 0 if fcs_of(views) == fcs else CRC_ERROR
        if not self.receiver.receive(views, damage, fcs):
            self.receiver.miss()

    def _moved(self, ring: Ring, index: int, descriptor: Descriptor) -> None:
        """The ring's position; and the registers that show what was seen there."""
        registers = self.registers
        registers.csr[Csr.XMTRC] = ring.length - index
        registers.set_dword(Csr.CXDA, ring.address_of(index))
        registers.set_dword(Csr.NXDA, ring.address_of(ring.after(index)))
        registers.csr[Csr.CXBC] = -descriptor.length & BCNT
        registers.csr[Csr.CXST] = descriptor.status


def skip(ring: Ring, index: int, descriptor: Descriptor) -> int:
    """A descriptor in which no frame begins, where one should, is given back unused: how many that is."""
    ring.give_back(index, descriptor.status & ~OWN)
    return 1


def checked(views: list[memoryview]) -> list[memoryview]:
    """Without the FCS that the driver put at the end; nothing, if it is wrong."""
    data = memoryview(b"".join(views))
    body, fcs = data[:-FCS_BYTES], data[-FCS_BYTES:]
    return [body] if len(body) and fcs_of([body]) == fcs else []
